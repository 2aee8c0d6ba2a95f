//! The victim: a traced child that makes one operation, instruction by instruction, and dies.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::Outcome;
use super::Subject;
use crate::place::Place;
use crate::system::{self, Ticks};

/// Which of the subject's functions the victim runs under the knife.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Subject::before`], then [`Subject::act`] under the knife.
    Act,
    /// [`Subject::peer`] under the knife: the second death of a pair.
    Peer,
}

/// Where the stepping ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// At the boundary that was asked for.
    Boundary,
    /// The operation was finished before it.
    Done,
    /// The victim fell asleep before it.
    Asleep,
}

/// How long a victim may take to come to its operation.
const WARMING: Duration = Duration::from_secs(30);

/// A victim that stands still and waits for its next instruction.
#[derive(Debug)]
pub struct Victim {
    process: Pid,
    done: &'static AtomicU32,
    is_reaped: bool,
}

impl Victim {
    /// Forks the victim; it stands before its operation. The caller must have one thread only.
    ///
    /// # Panics
    ///
    /// Panics when the kernel refuses to fork or to trace.
    pub fn fork(subject: &dyn Subject, part: Part, places: [Place; 3]) -> Victim {
        let [place, spare, mark] = places;
        let done: &'static AtomicU32 = mark.at();
        done.store(0, Release);
        // SAFETY: the caller has one thread, so the child may run any Rust code.
        let child = match unsafe { fork() }.expect("fork a victim") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => live(subject, part, place, spare, done),
        };
        let victim = Victim {
            process: child,
            done,
            is_reaped: false,
        };
        victim.wait_for_stop();
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(child, options).expect("the victim is stopped");
        victim
    }

    /// Waits until the victim stands before its operation; other signals it gets as they come.
    fn wait_for_stop(&self) {
        let deadline = Instant::now() + WARMING;
        let _ticks = Ticks::start();
        loop {
            assert!(
                Instant::now() < deadline,
                "the victim comes to its operation in time"
            );
            match waitpid(self.process, None) {
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => return,
                Ok(WaitStatus::Stopped(_, signal)) => {
                    ptrace::cont(self.process, signal).expect("the victim is stopped");
                }
                Err(Errno::EINTR) => {}
                other => panic!("the victim did not stop before its operation: {other:?}"),
            }
        }
    }

    /// Whether the operation is finished.
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release store in `live`.
        self.done.load(Acquire) != 0
    }

    /// Where the next instruction is, and its bytes, in hexadecimal.
    pub fn position(&self) -> String {
        let Some(address) = program_counter(self.process) else {
            return "unknown".to_owned();
        };
        let bytes = ptrace::read(self.process, address as ptrace::AddressType).unwrap_or(0);
        format!(
            "{} [{:016x}]",
            system::name_of_code(address),
            bytes.swap_bytes()
        )
    }

    /// Where the next instruction is.
    pub fn address(&self) -> Option<usize> {
        program_counter(self.process)
    }

    /// The process.
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Whether the next instruction is a system call.
    pub fn is_at_system_call(&self) -> bool {
        let Some(address) = program_counter(self.process) else {
            return false;
        };
        let bytes = ptrace::read(self.process, address as ptrace::AddressType).unwrap_or(0);
        if cfg!(target_arch = "x86_64") {
            bytes & 0xffff == 0x050f
        } else {
            bytes & 0xffff_ffff == 0xd400_0001
        }
    }

    /// Lets the victim execute `count`instructions.
    ///
    /// # Panics
    ///
    /// Panics when the victim ends or is hit by a signal: the operation itself is broken.
    pub fn step(&mut self, count: u32) -> Reached {
        let mut left = count;
        self.walk(|_| {
            let is_far_enough = left == 0;
            left = left.saturating_sub(1);
            is_far_enough
        })
    }

    /// Lets the victim execute instructions until `is_far_enough`, asked before each, says so.
    ///
    /// # Panics
    ///
    /// As [`Victim::step`].
    pub fn walk(&mut self, mut is_far_enough: impl FnMut(&Victim) -> bool) -> Reached {
        let _ticks = Ticks::start();
        loop {
            if self.is_done() {
                return Reached::Done;
            }
            if is_far_enough(self) {
                return Reached::Boundary;
            }
            ptrace::step(self.process, None).expect("the victim is stopped");
            if !self.wait_for_trap() {
                return Reached::Asleep;
            }
        }
    }

    /// Lets the victim run to the first instruction at `address`, or until it finishes or sleeps.
    ///
    /// # Panics
    ///
    /// As [`Victim::step`].
    pub fn run_to(&mut self, address: usize) -> Reached {
        break_at(self.process, Some(address));
        let _ticks = Ticks::start();
        let mut switches_before = None;
        ptrace::syscall(self.process, None).expect("the victim is stopped");
        loop {
            match waitpid(self.process, None) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => break,
                Ok(WaitStatus::PtraceSyscall(_)) if self.is_done() => return Reached::Done,
                Ok(WaitStatus::PtraceSyscall(_)) => {
                    ptrace::syscall(self.process, None).expect("the victim is stopped");
                }
                Err(Errno::EINTR) if self.sleeps_on(&mut switches_before) => {
                    return Reached::Asleep;
                }
                Err(Errno::EINTR) => {}
                other => panic!(
                    "the run of the victim to {} ended with {other:?}",
                    system::name_of_code(address)
                ),
            }
        }
        break_at(self.process, None);
        Reached::Boundary
    }

    /// Waits for the trap after a step. False: the step was a system call, and the victim sleeps.
    fn wait_for_trap(&self) -> bool {
        let mut switches_before = None;
        loop {
            match waitpid(self.process, None) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return true,
                Err(Errno::EINTR) => {}
                other => panic!("a step of the victim ended with {other:?}"),
            }
            if self.sleeps_on(&mut switches_before) {
                return false;
            }
        }
    }

    /// At a tick: twice asleep without having run in between is asleep.
    fn sleeps_on(&self, before: &mut Option<u64>) -> bool {
        let switches = system::sleeps_in(self.process).and(system::switches(self.process));
        let is_asleep = switches.is_some() && switches == *before;
        *before = switches;
        is_asleep
    }

    /// Lets the victim run until it sleeps in a futex; it will stop at the end of that system call.
    ///
    /// # Errors
    ///
    /// Says so when the victim finishes, or does not sleep in time.
    pub fn run_until_asleep(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        ptrace::syscall(self.process, None).map_err(|error| format!("ptrace: {error}"))?;
        loop {
            match waitpid(self.process, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if self.is_asleep_and_not_stopped() => return Ok(()),
                Ok(WaitStatus::StillAlive) => {}
                Ok(WaitStatus::PtraceSyscall(_)) if !self.is_done() => {
                    ptrace::syscall(self.process, None).map_err(|error| error.to_string())?;
                }
                other => return Err(format!("the victim did not sleep: {other:?}")),
            }
            if Instant::now() > deadline {
                return Err("the victim neither slept nor finished in time".to_owned());
            }
        }
    }

    /// A victim that stops at the entry of the system call looks as if it slept in it. If it has
    /// not stopped even after the look, it did sleep.
    fn is_asleep_and_not_stopped(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        system::sleeps_in(self.process).is_some()
            && waitid(Id::Pid(self.process), flags | WaitPidFlag::WNOWAIT)
                == Ok(WaitStatus::StillAlive)
    }

    /// Waits until the sleeping victim was woken; it then stands behind its system call.
    ///
    /// # Errors
    ///
    /// Says so when nobody wakes it in time.
    pub fn wait_woken(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let _ticks = Ticks::start();
        loop {
            match waitpid(self.process, None) {
                Ok(WaitStatus::PtraceSyscall(_)) => return Ok(()),
                Err(Errno::EINTR) => {}
                other => return Err(format!("the sleeping victim ended with {other:?}")),
            }
            if Instant::now() > deadline {
                return Err("nobody woke the victim".to_owned());
            }
        }
    }

    /// Sends SIGKILL.
    pub fn strike(&self) {
        // It is our child and not reaped, so the id is still its own.
        let _ = kill(self.process, Signal::SIGKILL);
    }

    /// Waits until the victim is gone; the kernel has then walked its robust list.
    pub fn reap(mut self) {
        self.end();
    }

    fn end(&mut self) {
        while !self.is_reaped {
            match waitpid(self.process, None) {
                Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(Errno::ECHILD) => {
                    self.is_reaped = true;
                }
                _ => self.strike(),
            }
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.strike();
            self.end();
        }
    }
}

fn live(subject: &dyn Subject, part: Part, place: Place, spare: Place, done: &AtomicU32) -> ! {
    system::die_with_parent();
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        if subject.victim_arrives() {
            subject.arrive();
            subject.warm(spare);
        }
        ptrace::traceme().expect("the parent traces");
        if part == Part::Act {
            subject.before(place);
        }
        system::stop_here();
        match part {
            Part::Act => subject.act(place),
            Part::Peer => {
                let _seen: Outcome = subject.peer(place);
            }
        }
        // Release: pairs with the Acquire load in `is_done`.
        done.store(1, Release);
        // A system call, for a tracer that stops at those.
        system::thread_id();
    }));
    // SAFETY: ends the process without running what the tracer registered to run at its exit.
    unsafe { libc::_exit(101) }
}

/// Has the processor stop the traced thread before it executes what is at `address`, or nowhere. Its
/// process has a second thread, which knows no tracer: an instruction put there would kill both.
#[cfg(target_arch = "x86_64")]
fn break_at(thread: Pid, address: Option<usize>) {
    const REGISTERS: usize = std::mem::offset_of!(libc::user, u_debugreg);
    const CONTROL: usize = REGISTERS + 7 * size_of::<u64>();
    // The first of four, for this thread, when executed.
    let (control, address) = (i64::from(address.is_some()), address.unwrap_or(0));
    for (register, value) in [(REGISTERS, address as i64), (CONTROL, control)] {
        let written = ptrace::write_user(thread, register as ptrace::AddressType, value);
        written.expect("the victim is stopped");
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn break_at(_: Pid, _: Option<usize>) {
    unreachable!("everything is stepped here");
}

#[cfg(target_arch = "x86_64")]
fn program_counter(process: Pid) -> Option<usize> {
    ptrace::getregs(process)
        .ok()
        .and_then(|registers| usize::try_from(registers.rip).ok())
}

#[cfg(not(target_arch = "x86_64"))]
fn program_counter(process: Pid) -> Option<usize> {
    let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(process).ok()?;
    usize::try_from(registers.pc).ok()
}
