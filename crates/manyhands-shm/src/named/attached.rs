//! A segment that this process has, whatever lies in it: making it, waiting for it, both at once.
//!
//! The steps of the creator, and what others see when it is killed after each:
//!
//! 1. A file under a name that tells its maker. Others see nothing; the sweeper knows whose it is.
//! 2. Pages, the header with the owner and the state `MAKING`, the lock of those who have it.
//! 3. The name is given to it. Others find it, wait, and learn of the death from the owner.
//! 4. The bytes are filled; then the state `READY` is stored, and sleepers are woken. Others see all
//!    of it, or wait and learn of the death.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use manyhands_os::names::Hold;
use manyhands_os::{Deadline, futex};

use super::backing::{self, ATTACHED, Backing};
use super::bytes::Bytes;
use super::error::{AttachError, CreateError, OpenError, UnlinkError};
use super::header::{self, Fault, GIVEN_UP, Header, MAKING, READY};
use super::name;
use super::owner::Owner;
use super::sweep;

/// A creator that dies wakes nobody, so sleepers look so often whether it lives.
const SLICE: Duration = Duration::from_millis(20);

/// What a segment is to hold.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The type, zero for plain bytes.
    pub(super) shape: u64,
    /// Where the bytes begin.
    pub(super) start: usize,
    /// How many there are.
    pub(super) len: usize,
}

/// A segment that is ready.
#[derive(Debug)]
pub(super) struct Attached {
    name: String,
    file_name: String,
    owner: Owner,
    /// The part behind the header.
    pub(super) bytes: Bytes,
    backing: Backing,
}

impl Attached {
    /// Makes a segment; `fill` runs once nobody else can make it, and before anybody can see it.
    pub(super) fn create(
        name: &str,
        kind: Kind,
        fill: &mut dyn FnMut(&Bytes),
    ) -> Result<Attached, CreateError> {
        let file_name = name::file_of(name)?;
        let header = Header::new(name, kind.shape, kind.start, kind.len);
        // A length that cannot be is refused as too long.
        let size = kind.start.saturating_add(kind.len);
        let backing = Backing::create(name, &file_name, size, |backing| {
            header
                .write(&backing.bytes())
                .expect("a header fits, since the bytes begin after it");
            // Nobody else knows the file, so nobody holds a lock.
            backing.file.try_lock(ATTACHED, Hold::Shared)?;
            Ok(())
        })?;
        let made = Attached {
            name: name.into(),
            file_name,
            owner: header.owner,
            bytes: backing.part(kind.start, kind.len),
            backing,
        };
        let making = Making(&made);
        fill(&made.bytes);
        std::mem::forget(making);
        made.set_state(READY);
        Ok(made)
    }

    /// Opens a segment that is ready, or gets so before the deadline.
    pub(super) fn open(name: &str, shape: u64, deadline: Deadline) -> Result<Attached, OpenError> {
        let file_name = name::file_of(name)?;
        loop {
            let backing = Backing::open(name, &file_name, true, deadline)?;
            let header = read(name, &backing, shape)?;
            if !wait_ready(name, &backing, &header, deadline)? {
                // Given up and unlinked: there is nothing now, or another one.
                continue;
            }
            return Ok(Attached {
                name: name.into(),
                file_name,
                owner: header.owner,
                bytes: backing.part(header.start, header.len),
                backing,
            });
        }
    }

    /// Opens a segment, or makes it; and makes it again when its creator died over it.
    pub(super) fn attach_or_create(
        name: &str,
        kind: Kind,
        fill: &mut dyn FnMut(&Bytes),
        deadline: Deadline,
    ) -> Result<Attached, AttachError> {
        loop {
            let died = match Attached::open(name, kind.shape, deadline) {
                Ok(found) => return Ok(found.check_len(kind.len)?),
                Err(OpenError::NotFound { .. }) => {
                    match Attached::create(name, kind, fill) {
                        Err(CreateError::AlreadyExists { .. }) => {}
                        done => return Ok(done?),
                    }
                    continue;
                }
                Err(died @ OpenError::CreatorDied { .. }) => died,
                Err(other) => return Err(other.into()),
            };
            let outcome = sweep::remove_dead(&name::file_of(name).map_err(OpenError::from)?);
            let removed = outcome.map_err(OpenError::from)?.is_gone();
            // Others may have it open, who are about to learn the same.
            if !removed && !backing::pause(deadline) {
                return Err(died.into());
            }
        }
    }

    fn check_len(self, asked: usize) -> Result<Attached, OpenError> {
        let found = self.bytes.len();
        if found >= asked {
            return Ok(self);
        }
        let name = self.name;
        Err(OpenError::TooShort { name, found, asked })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn unlink(&self) -> Result<(), UnlinkError> {
        backing::unlink(&self.name, &self.backing.file, &self.file_name)
    }

    pub(super) fn keep(&self) {
        let bytes = self.backing.bytes();
        let kept = header::kept(&bytes).expect("a segment has a header");
        // Release: no order is needed, the word stands for itself; sweepers read it by a call.
        kept.store(1, Release);
    }

    fn set_state(&self, state: u32) {
        let bytes = self.backing.bytes();
        let word = header::state(&bytes).expect("a segment has a header");
        // Release: pairs with the Acquire loads in `wait_ready`; publishes what was filled in.
        word.store(state, Release);
        futex::wake_all(word, futex::Scope::Shared);
    }
}

/// A creator that panics over filling it in takes it back; the name goes first, so that whoever is
/// told finds none or another one.
struct Making<'a>(&'a Attached);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        // If it fails, those who wait learn it when this process has ended.
        let _ = self.0.unlink();
        self.0.set_state(GIVEN_UP);
    }
}

/// Reads the header and refuses what is not ours or not what was asked for.
fn read(name: &str, backing: &Backing, shape: u64) -> Result<Header, OpenError> {
    let told = || name.to_owned();
    let header = Header::read(&backing.bytes()).map_err(|fault| match fault {
        Fault::Foreign => OpenError::NotASegment { name: told() },
        Fault::Version(found) => OpenError::Version {
            name: told(),
            found,
            expected: header::VERSION,
        },
    })?;
    if !header.is_named(name) {
        let other = header.told_name();
        return Err(OpenError::Collision {
            name: told(),
            other,
        });
    }
    if header.shape != shape {
        return Err(OpenError::Shape {
            name: told(),
            found: header.shape,
            expected: shape,
        });
    }
    let end = header.start.checked_add(header.len);
    match end.is_some_and(|end| end <= backing.len()) {
        true => Ok(header),
        false => Err(OpenError::NotASegment { name: told() }),
    }
}

/// Waits until the segment is ready, or is not going to be; `false` when its creator gave it up.
fn wait_ready(
    name: &str,
    backing: &Backing,
    header: &Header,
    deadline: Deadline,
) -> Result<bool, OpenError> {
    let (bytes, owner) = (backing.bytes(), header.owner);
    let state = header::state(&bytes).expect("a segment has a header");
    loop {
        // Before the look at the state: who stored `READY` and then ended has finished.
        let ended = owner.has_ended();
        // Acquire: pairs with the Release store in `set_state`; what was filled in is visible.
        match state.load(Acquire) {
            READY => return Ok(true),
            GIVEN_UP => return Ok(false),
            MAKING => {}
            _ => return Err(OpenError::NotASegment { name: name.into() }),
        }
        if ended {
            let name = name.into();
            return Err(OpenError::CreatorDied { name, owner });
        }
        if deadline.has_passed() {
            let name = name.into();
            return Err(OpenError::NotReady { name, owner });
        }
        let slice = Deadline::after(SLICE).earlier(deadline);
        futex::wait(state, MAKING, futex::Scope::Shared, slice);
    }
}
