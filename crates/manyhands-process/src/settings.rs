//! What a child sets in itself before it does anything else, while it has one thread of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicU32;

use manyhands_os::setup::{self, Stream};
use manyhands_os::{OsError, signals};
use serde::{Deserialize, Serialize};

use crate::entry;
use crate::orphan::OnParentDeath;

/// One change of the environment; they are made in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

impl Change {
    /// Whether the system could take it: `name=value`, ended by a zero byte.
    pub(crate) fn is_possible(&self) -> bool {
        let has = |text: &OsStr, byte| text.as_bytes().contains(&byte);
        let is_name = |name: &OsStr| !name.is_empty() && !has(name, b'=') && !has(name, 0);
        match self {
            Self::Set(name, value) => is_name(name) && !has(value, 0),
            Self::Remove(name) => is_name(name),
            Self::Clear => true,
        }
    }
}

/// Makes the changes in a list of variables.
pub(crate) fn change(variables: &mut Vec<(OsString, OsString)>, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Set(name, value) => {
                variables.retain(|(other, _)| other != name);
                variables.push((name.clone(), value.clone()));
            }
            Change::Remove(name) => variables.retain(|(other, _)| other != name),
            Change::Clear => variables.clear(),
        }
    }
}

/// Where a standard stream of a child comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    #[default]
    Parent,
    Null,
    /// A descriptor that comes with the order.
    Given,
}

/// What a process does on an interrupt (`SIGINT`), which the keyboard sends to all processes of the
/// terminal's foreground group at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnInterrupt {
    /// Nothing, unless its parent sends it, by [`Process::interrupt`](crate::Process::interrupt): the
    /// parent gets what the keyboard sends too, and decides. If this is the parent's end, it is the
    /// child's.
    ///
    /// Programs that the process starts have the default action, and end.
    #[default]
    LeaveToParent,
    /// It ends at once, whoever sends it: the system's default action.
    End,
}

impl OnInterrupt {
    /// Sees to it, in a process whose parent sets `asked` before it sends an interrupt.
    pub(crate) fn apply(self, asked: &'static AtomicU32) -> Result<(), OsError> {
        if self == Self::LeaveToParent {
            signals::leave_interrupts_to_parent(asked)?;
        }
        // Blocked since the start of this process, or of the zygote.
        signals::unblock_interrupts();
        Ok(())
    }
}

/// The settings; none of them if default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Nothing for a fresh image, which was started with them.
    pub(crate) environment: Vec<Change>,
    pub(crate) directory: Option<OsString>,
    pub(crate) nice: Option<i32>,
    pub(crate) processors: Option<Vec<u32>>,
    pub(crate) group: Option<u32>,
    pub(crate) streams: [Source; 3],
    pub(crate) on_parent_death: OnParentDeath,
    pub(crate) on_interrupt: OnInterrupt,
    /// The most verbose level of the events that are to be sent; then the first descriptor after the
    /// streams' is where to.
    pub(crate) log_level: Option<u8>,
}

const STREAMS: [Stream; 3] = [Stream::Input, Stream::Output, Stream::Error];

impl Settings {
    /// Sets all in the calling process, which has one thread. Takes the descriptors of the streams out of
    /// those that came, and returns the others.
    pub(crate) fn apply(self, descriptors: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, String> {
        entry::change_environment(&self.environment)?;
        let rest = replace_streams(self.streams, descriptors)?;
        if let Some(directory) = self.directory {
            std::env::set_current_dir(&directory)
                .map_err(|e| format!("chdir({}): {e}", directory.display()))?;
        }
        if let Some(group) = self.group {
            setup::enter_group(group).map_err(text)?;
        }
        if let Some(steps) = self.nice {
            setup::lower_priority(steps).map_err(text)?;
        }
        if let Some(processors) = self.processors {
            setup::run_on(&processors).map_err(text)?;
        }
        Ok(rest)
    }
}

fn replace_streams(
    sources: [Source; 3],
    descriptors: Vec<OwnedFd>,
) -> Result<Vec<OwnedFd>, String> {
    // None of them may be lost by taking the place of a stream.
    let moved: Result<Vec<_>, _> = descriptors.into_iter().map(setup::above_streams).collect();
    let mut moved = moved.map_err(text)?.into_iter();
    for (stream, source) in STREAMS.into_iter().zip(sources) {
        let descriptor = match source {
            Source::Parent => continue,
            Source::Null => null()?,
            Source::Given => moved.next().ok_or("a stream did not come")?,
        };
        setup::replace_stream(stream, descriptor).map_err(text)?;
    }
    Ok(moved.collect())
}

fn null() -> Result<OwnedFd, String> {
    let file = File::options().read(true).write(true).open("/dev/null");
    let file = file.map_err(|e| format!("open(/dev/null): {e}"))?;
    setup::above_streams(file.into()).map_err(text)
}

fn text(error: OsError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_environment_are_made_in_their_order() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let mut variables = vec![pair("A", "1"), pair("B", "2")];
        change(&mut variables, &[Change::Remove("A".into())]);
        assert_eq!(variables, [pair("B", "2")]);
        let again = Change::Set("B".into(), "3".into());
        change(&mut variables, &[again.clone(), again.clone()]);
        assert_eq!(variables, [pair("B", "3")]);
        change(&mut variables, &[again, Change::Clear]);
        assert_eq!(variables, []);
    }

    #[test]
    fn names_and_values_that_the_system_cannot_take_are_known() {
        let possible =
            |name: &str, value: &str| Change::Set(name.into(), value.into()).is_possible();
        assert!(possible("A", "") && possible("A", "b=c"));
        assert!(!possible("", "1") && !possible("A=B", "1"));
        assert!(!possible("A\0", "1") && !possible("A", "1\0"));
        assert!(!Change::Remove(OsString::new()).is_possible());
    }
}
