//! The floor of a start: a zygote that forks on request, and children that answer a number.
//!
//! It does what the kernel needs for it and nothing more: no seat, no checks, no life, no word about
//! how a child died. The request is a message of eight bytes, the value comes through shared memory,
//! and the child's descriptor through the socket.

#![allow(
    unsafe_code,
    reason = "the floor forks, and reads memory that it shares"
)]

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_os::descriptor::{receive, send, seqpacket_pair};
use manyhands_os::futex::{self, Scope};
use manyhands_os::memory::{Map, Memfd};
use manyhands_os::process::{Pidfd, Status};
use manyhands_os::start::{self, Fork};
use manyhands_os::{Deadline, OsError};

/// The environment variable by which a process is this zygote, and no bench.
const MARKER: &str = "MANYHANDS_BARE_ZYGOTE";

/// Before `main`, which is that of the benches or of their tests.
#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: extern "C" fn() = hook;

extern "C" fn hook() {
    if std::env::var_os(MARKER).is_some() {
        let served = serve();
        start::exit_at_once(i32::from(served.is_err()));
    }
}

const LEN: u64 = 4096;

#[derive(Debug)]
#[repr(C)]
struct Words {
    is_there: AtomicU32,
    value: AtomicU64,
}

/// A zygote and the memory that it shares with the process that started it.
#[derive(Debug)]
pub struct BareZygote {
    socket: OwnedFd,
    words: &'static Words,
    process: Child,
}

fn words(file: &Memfd) -> Result<&'static Words, OsError> {
    let map = Map::shared(file)?.leak();
    // SAFETY: a page that is mapped for ever, zeroed at first, of which all write atomics only.
    Ok(unsafe { &*map.as_ptr().cast::<Words>() })
}

impl BareZygote {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        let (socket, theirs) = seqpacket_pair()?;
        let file = Memfd::create("bare", LEN)?;
        send(socket.as_fd(), b"memory", &[file.as_fd()])?;
        let process = Command::new("/proc/self/exe")
            .env(MARKER, "1")
            .stdin(theirs)
            .spawn()?;
        Ok(Self {
            socket,
            words: words(&file)?,
            process,
        })
    }

    /// Has a child add one to `number`; gives its answer after its end.
    ///
    /// # Errors
    ///
    /// When the system refuses, or the child ended in another way.
    pub fn add_one(&self, number: u64) -> Result<u64, Box<dyn Error>> {
        self.words.is_there.store(0, Relaxed);
        send(self.socket.as_fd(), &number.to_ne_bytes(), &[])?;
        let (_, descriptors) = receive(self.socket.as_fd(), &mut [0; 8])?;
        let pidfd = descriptors.into_iter().next().ok_or("no descriptor came")?;
        while self.words.is_there.load(Acquire) == 0 {
            let _ = futex::wait(&self.words.is_there, 0, Scope::Shared, Deadline::NEVER);
        }
        let value = self.words.value.load(Relaxed);
        match Pidfd::from_fd(pidfd).wait(Deadline::NEVER)? {
            Some(Status::Exited(0)) => Ok(value),
            other => Err(format!("{other:?}").into()),
        }
    }
}

impl Drop for BareZygote {
    fn drop(&mut self) {
        // It would end with the socket too, but that is closed later.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the zygote does, until its socket ends.
fn serve() -> Result<(), Box<dyn Error>> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let (_, descriptors) = receive(socket.as_fd(), &mut [0; 8])?;
    let file = descriptors.into_iter().next().ok_or("no descriptor came")?;
    let words = words(&Memfd::from_fd(file)?)?;
    let mut number = [0; 8];
    while receive(socket.as_fd(), &mut number)?.0 == number.len() {
        // SAFETY: called before `main`, when there is no other thread.
        match unsafe { start::fork_sibling(&AtomicU32::new(0)) }? {
            Fork::New => {
                words.value.store(u64::from_ne_bytes(number) + 1, Relaxed);
                words.is_there.store(1, Release);
                futex::wake_all(&words.is_there, Scope::Shared);
                start::exit_at_once(0);
            }
            Fork::Original { pid } => {
                send(socket.as_fd(), b"child", &[Pidfd::open(pid)?.as_fd()])?;
            }
        }
    }
    Ok(())
}
