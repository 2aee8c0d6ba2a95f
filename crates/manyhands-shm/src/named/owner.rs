//! Who made a segment, and whether it still lives.

use std::fmt;
use std::sync::OnceLock;

use manyhands_os::names;
use manyhands_os::process::Identity;

/// The process that made a segment, among all processes of all boots and namespaces.
///
/// A process id alone is used again; so it is never decided by that alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub(super) boot: u128,
    pub(super) namespace: u64,
    pub(super) process: Identity,
}

impl Owner {
    /// The calling process.
    pub(super) fn current() -> Owner {
        let (boot, namespace) = place();
        Owner {
            boot,
            namespace,
            process: Identity::current(),
        }
    }

    /// The process, by number and start time.
    pub fn process(&self) -> Identity {
        self.process
    }

    /// Whether the owner is known to have ended. That of another process namespace, whose numbers
    /// mean nothing here, is taken for living.
    pub fn has_ended(&self) -> bool {
        let (boot, namespace) = place();
        // Zero: this process cannot read its own place, so it cannot judge others.
        if boot == 0 || self.boot == 0 {
            return false;
        }
        self.boot != boot || (self.namespace == namespace && self.process.has_ended())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.process.fmt(f)
    }
}

/// The boot, and the namespace of process ids; zeros where there is no `/proc` to tell them.
///
/// Read once: the boot does not change, and a process stays in its namespaces (those that it has
/// moved to are for its children).
pub(super) fn place() -> (u128, u64) {
    static PLACE: OnceLock<(u128, u64)> = OnceLock::new();
    *PLACE.get_or_init(|| match (names::boot(), names::namespace()) {
        (Some(boot), Some(namespace)) => (boot, namespace),
        _ => (0, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_judged_by_boot_namespace_number_and_start() {
        let me = Owner::current();
        assert!(!me.has_ended());
        let gone = Identity {
            start_time: 1,
            ..me.process
        };
        let same_number = Owner {
            process: gone,
            ..me
        };
        assert!(same_number.has_ended());
        let boot = me.boot ^ 1;
        assert!(Owner { boot, ..me }.has_ended());
        let namespace = me.namespace ^ 1;
        let elsewhere = Owner {
            namespace,
            ..same_number
        };
        assert!(!elsewhere.has_ended());
    }
}
