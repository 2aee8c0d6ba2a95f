//! The way into a child: a constructor that takes over before `main`.
//!
//! A child is this program's own file, started again. The constructor runs in every process of the
//! program; in an ordinary one it looks for one environment variable, finds none, and returns. In
//! a child it never returns: it runs what the parent asked for and exits, so `main` does not run,
//! and there is no `init()` to forget.
//!
//! No process ever starts itself without end. A parent starts children only when the constructor ran
//! in it (else the linker has dropped it, and a child would run `main`), only when it is not
//! itself still being started, and only to a depth of [`MOST_GENERATIONS`]. And a child is known by
//! its first argument too, so that a program that parses arguments stops rather than goes on
//! if all else fails.

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

use manyhands_os::image::{self, Constructor};
use manyhands_os::{OsError, reload, start};

use crate::exit::SpawnError;
use crate::settings::{self, Change};
use crate::{child, zygote};

/// How deep children may have children.
pub(crate) const MOST_GENERATIONS: u32 = 8;

/// The environment variable that makes a process a child: `role:generation:preload`.
const MARKER: &str = "MANYHANDS_CHILD";
/// What `LD_PRELOAD` was before it was set to bring the constructor into a foreign program.
const FORMER_PRELOAD: &str = "MANYHANDS_FORMER_PRELOAD";
const PRELOAD: &str = "LD_PRELOAD";
/// The first argument of each child.
const ARGUMENT: &str = "--manyhands-child";

/// The exit code of a child that could not even tell its parent what is wrong.
pub(crate) const LOST: i32 = 78;

// Relaxed everywhere: set before `main`, or before the function of a child runs, by the only
// thread there is then; threads that come later see it.
static HOOK_RAN: AtomicBool = AtomicBool::new(false);
static STAGE: AtomicU32 = AtomicU32::new(ORDINARY);
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Not started by this library.
const ORDINARY: u32 = 0;
/// A child or a zygote before it runs the function that it was started for.
const STARTING: u32 = 1;
/// A child that runs its function.
const RUNNING: u32 = 2;

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = hook;

/// What a process was started to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs one function.
    Child,
    /// Forks children on demand.
    Zygote,
}

extern "C" fn hook(
    count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    HOOK_RAN.store(true, Relaxed);
    let Some(marker) = env::var_os(MARKER) else {
        return;
    };
    if !has_argument() {
        return;
    }
    STAGE.store(STARTING, Relaxed);
    let Some(task) = Task::parse(&marker) else {
        start::exit_at_once(LOST);
    };
    clear_environment(&task);
    GENERATION.store(task.generation, Relaxed);
    start::ignore_broken_pipes();
    // SAFETY: this is the constructor that is named, called by the loader with these arguments,
    // and none of the ways below returns.
    unsafe { image::run_later_constructors(HOOK, count, arguments, environment) };
    // SAFETY: the parent gave the descriptor under this number, and this program has opened nothing yet that could
    // own it.
    let Ok(socket) = (unsafe { start::take_inherited(start::INHERITED) }) else {
        start::exit_at_once(LOST);
    };
    match task.role {
        Role::Child => child::start_as_image(socket),
        Role::Zygote => zygote::server::main(socket),
    }
}

/// Whether the first argument is that of a child. Not every C library passes arguments to
/// constructors, and the standard library may not have them yet.
fn has_argument() -> bool {
    let line = fs::read("/proc/self/cmdline").unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(ARGUMENT.as_bytes())
}

/// What the marker says.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    role: Role,
    generation: u32,
    has_preload: bool,
}

impl Task {
    fn parse(marker: &OsStr) -> Option<Self> {
        let mut parts = marker.to_str()?.split(':');
        let role = match parts.next()? {
            "child" => Role::Child,
            "zygote" => Role::Zygote,
            _ => return None,
        };
        Some(Self {
            role,
            generation: parts.next()?.parse().ok()?,
            has_preload: parts.next()? == "1",
        })
    }

    fn marker(&self) -> String {
        let role = match self.role {
            Role::Child => "child",
            Role::Zygote => "zygote",
        };
        let preload = u8::from(self.has_preload);
        format!("{role}:{}:{preload}", self.generation)
    }
}

/// Leaves the environment as the parent's was, so that programs which the child starts are not
/// taken for children.
fn clear_environment(task: &Task) {
    let former = env::var_os(FORMER_PRELOAD);
    // SAFETY: changing the environment needs that no other thread reads it: this is a constructor,
    // before `main`, and the program's later ones have not run.
    unsafe { env::remove_var(MARKER) };
    if !task.has_preload {
        return;
    }
    // SAFETY: as above.
    unsafe { env::remove_var(FORMER_PRELOAD) };
    match former {
        // SAFETY: as above.
        Some(former) => unsafe { env::set_var(PRELOAD, former) },
        // SAFETY: as above.
        None => unsafe { env::remove_var(PRELOAD) },
    }
}

/// Changes the environment of a child that has one thread.
pub(crate) fn change_environment(changes: &[Change]) -> Result<(), String> {
    if changes.is_empty() {
        return Ok(());
    }
    // A fork of the zygote has no others; what the program's constructors start, it has not.
    if start::thread_count() != Some(1) {
        return Err("the environment cannot be changed beside other threads".to_owned());
    }
    for change in changes {
        match change {
            Change::Clear => {
                for (name, _) in env::vars_os() {
                    // SAFETY: changing the environment needs that no other thread reads it: this is
                    // the only one.
                    unsafe { env::remove_var(name) };
                }
            }
            // SAFETY: as above.
            Change::Remove(name) => unsafe { env::remove_var(name) },
            // SAFETY: as above.
            Change::Set(name, value) => unsafe { env::set_var(name, value) },
        }
    }
    Ok(())
}

/// Whether this process may start others now.
pub(crate) fn check() -> Result<(), SpawnError> {
    if !HOOK_RAN.load(Relaxed) {
        return Err(SpawnError::HookDidNotRun);
    }
    let is_starting = STAGE.load(Relaxed) == STARTING;
    if is_starting || env::var_os(MARKER).is_some() {
        return Err(SpawnError::InsideStartingChild);
    }
    let generation = GENERATION.load(Relaxed);
    if generation >= MOST_GENERATIONS {
        return Err(SpawnError::TooDeep { generation });
    }
    Ok(())
}

/// Ends the time in which this process may not start others.
pub(crate) fn set_running() {
    STAGE.store(RUNNING, Relaxed);
}

/// How many parents this process has.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Whether this process was started by this library to run a function.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, in_child};
///
/// assert!(!in_child());
/// assert!(Process::spawn(in_child, ())?.join()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn in_child() -> bool {
    STAGE.load(Relaxed) != ORDINARY
}

/// Starts this program's file again in a role, with a descriptor, and with this environment after
/// some changes. Returns the process id.
pub(crate) fn start_image(
    role: Role,
    descriptor: BorrowedFd<'_>,
    changes: &[Change],
) -> Result<u32, SpawnError> {
    let library = image::library_of(HOOK as *const ());
    if let Some(library) = &library {
        // Otherwise the child would be the other program, and run its `main`.
        reload::check(library, HOOK as *const ())?;
    }
    let task = Task {
        role,
        generation: GENERATION.load(Relaxed) + 1,
        has_preload: library.is_some(),
    };
    let mut environment: Vec<CString> = Vec::new();
    let mut variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    settings::change(&mut variables, changes);
    let is_preload = |(name, _): &&(OsString, OsString)| name == PRELOAD;
    let former = variables.iter().find(is_preload).map(|(_, value)| value);
    for (name, value) in &variables {
        if name == MARKER || name == FORMER_PRELOAD || (library.is_some() && name == PRELOAD) {
            continue;
        }
        environment.extend(variable(name, value));
    }
    environment.extend(variable(OsStr::new(MARKER), OsStr::new(&task.marker())));
    if let Some(library) = library {
        let mut value = OsString::from(library);
        if let Some(former) = former {
            environment.extend(variable(OsStr::new(FORMER_PRELOAD), former));
            value.push(":");
            value.push(former);
        }
        environment.extend(variable(OsStr::new(PRELOAD), &value));
    }
    let program = env::args_os().next().unwrap_or_default();
    let arguments: Vec<CString> = [program, OsString::from(ARGUMENT)]
        .into_iter()
        .filter_map(|argument| CString::new(argument.into_vec()).ok())
        .collect();
    Ok(start::start_own_image(
        &arguments,
        &environment,
        descriptor,
    )?)
}

/// A line of the environment; `None` for one that no process could have been given.
fn variable(name: &OsStr, value: &OsStr) -> Option<CString> {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
}

/// The socket of a child and that of its parent.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), OsError> {
    manyhands_os::descriptor::seqpacket_pair()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_is_read_as_it_was_written() {
        let task = Task {
            role: Role::Zygote,
            generation: 3,
            has_preload: true,
        };
        assert_eq!(Task::parse(OsStr::new(&task.marker())), Some(task));
        for broken in ["", "child", "child:1", "child:x:1", "parent:1:0"] {
            assert_eq!(Task::parse(OsStr::new(broken)), None, "{broken}");
        }
    }

    #[test]
    fn hook_ran_in_this_test_and_left_it_alone() {
        assert!(check().is_ok());
        assert!(!in_child());
    }
}
