//! Removing what the dead have left.
//!
//! A segment is removed when its owner has ended and nobody has it open. The first is decided by
//! boot, namespace, process id and start time, never by the id alone; the second by a lock that
//! everybody holds who has it open, and that the kernel takes away from the dead. The name is
//! removed under a second lock, after a look that it still stands for the file that was judged: two
//! sweepers, or a sweeper and somebody who makes the segment anew, cannot hit the wrong one.

use manyhands_os::OsError;
use manyhands_os::names::{self, Hold, NamedFile};
use manyhands_os::process::Identity;

use super::backing::{self, ATTACHED};
use super::header::{self, Header};
use super::name;
use super::record::{self, Record};

/// What a [`sweep`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// The names of the segments and of the [owned](super::SharedMemory::create_owned) shared memory
    /// that were removed; those of segments are cut off after 128 bytes.
    pub removed: Vec<String>,
    /// How many files were removed whose makers died before they had a name.
    pub unfinished: usize,
    /// How many segments of dead owners stay, because others have them open.
    pub in_use: usize,
}

/// Removes the segments of this user whose owners have ended, and that nobody has open.
///
/// Call it when a program starts that may have been killed the last time. What is alive is never
/// touched, whoever sweeps at the same time; nor are segments that are [kept](super::Segment::keep),
/// and [`SharedMemory`](super::SharedMemory) without an owner.
///
/// # Errors
///
/// When the folder of names cannot be read. What happens to single names in between (another
/// sweeper is quicker, say) is no error.
///
/// # Examples
///
/// ```
/// use manyhands_shm::named::{self, Segment};
///
/// # let name = format!("mh-doc-sweep-{}", std::process::id());
/// let segment = Segment::create(&name, 4096)?;
/// named::sweep()?; // others' remains only: we live
/// assert!(Segment::open(&name).is_ok());
/// segment.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sweep() -> Result<Swept, OsError> {
    let mut swept = Swept::default();
    for file_name in names::all()? {
        if let Some(maker) = name::maker_of(&file_name) {
            swept.unfinished += usize::from(remove_unfinished(&file_name, maker));
        } else if name::is_segment(&file_name) {
            match remove_dead(&file_name) {
                Ok(Outcome::Removed(name)) => swept.removed.push(name),
                Ok(Outcome::InUse) => swept.in_use += 1,
                Ok(Outcome::Gone | Outcome::Stays) | Err(_) => {}
            }
        }
    }
    Ok(swept)
}

/// Removes a file whose maker died before it had its name. The name is the maker's alone, so nothing
/// of another process can be under it.
fn remove_unfinished(file_name: &str, maker: Identity) -> bool {
    let is_ours = || match names::facts_of(file_name) {
        Ok(Some(facts)) => facts.owner == names::user(),
        _ => false,
    };
    maker.has_ended() && is_ours() && names::unlink(file_name).is_ok()
}

/// What became of one name.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was removed; the name that it, or the memory that it was the record of, was made with.
    Removed(String),
    /// It is gone, or stands for something else now.
    Gone,
    /// The owner has ended, and others have it open.
    InUse,
    /// The owner lives, or it is kept, or it is none of ours.
    Stays,
}

impl Outcome {
    /// Whether the name is free, or was for a moment.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Outcome::Removed(_) | Outcome::Gone)
    }
}

/// Removes a segment, if its owner has ended and nobody has it open.
pub(super) fn remove_dead(file_name: &str) -> Result<Outcome, OsError> {
    let file = match NamedFile::open(file_name) {
        Ok(file) => file,
        Err(refused) if refused.source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Outcome::Gone);
        }
        Err(refused) => return Err(refused),
    };
    let facts = file.facts()?;
    if !facts.is_plain || facts.owner != names::user() {
        return Ok(Outcome::Stays);
    }
    if dead(&file)?.is_none_or(|header| header.kept) {
        return Ok(Outcome::Stays);
    }
    // From here on nobody new gets it; both locks end with this opening.
    if !file.try_lock(ATTACHED, Hold::Alone)? || !backing::try_lock_name(&file)? {
        return Ok(Outcome::InUse);
    }
    // Again: the last one who had it open may have kept it.
    let Some(header) = dead(&file)?.filter(|header| !header.kept) else {
        return Ok(Outcome::Stays);
    };
    let mut told = header.told_name();
    if header.shape == record::SHAPE
        && let Some(record) = Record::read(&file)?
    {
        if !record.remove()? {
            return Ok(Outcome::InUse);
        }
        told = record.name;
    }
    match backing::remove(&file, file_name)? {
        true => Ok(Outcome::Removed(told)),
        false => Ok(Outcome::Gone),
    }
}

/// The header, if it is one and the owner has ended.
fn dead(file: &NamedFile) -> Result<Option<Header>, OsError> {
    let mut bytes = [0; header::BYTES];
    if file.read_start(&mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let header = Header::parse(&bytes).ok();
    Ok(header.filter(|header| header.owner.has_ended()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use manyhands_os::Deadline;

    use super::super::{Segment, SharedMemory, UnlinkError};
    use super::*;

    fn name(what: &str) -> String {
        format!("mh-sweep-{what}-{}", std::process::id())
    }

    /// Makes a segment look as if a process that has ended had made it, and closes it.
    fn bury(segment: Segment) {
        let file = SharedMemory::open(segment.file_name()).expect("it is there");
        let gone = Identity {
            start_time: 1,
            ..Identity::current()
        };
        let owner = file.atomic_u64(64).expect("inside");
        assert_eq!(owner.swap(gone.pack(), Relaxed), Identity::current().pack());
    }

    #[test]
    fn sweeper_that_was_slow_does_not_remove_what_came_after() {
        let name = name("slow");
        let first = Segment::create(&name, 8).expect("room");
        let file_name = first.file_name().to_owned();
        // It has judged the segment, and holds no lock yet.
        let slow = NamedFile::open(&file_name).expect("it is there");
        bury(first);
        assert!(dead(&slow).expect("read").is_some());
        // A sweep of other tests may hold the locks for a moment, or be quicker.
        while !remove_dead(&file_name).expect("no fault").is_gone() {
            std::thread::yield_now();
        }
        let second = Segment::create(&name, 8).expect("the name is free");
        while !slow.try_lock(ATTACHED, Hold::Alone).expect("lock") {
            std::thread::yield_now();
        }
        while !backing::try_lock_name(&slow).expect("lock") {
            std::thread::yield_now();
        }
        assert!(!backing::remove(&slow, &file_name).expect("stat"));
        second.unlink().expect("it still has its name");
    }

    #[test]
    fn segment_of_the_dead_stays_while_it_is_open_or_kept() {
        let name = name("open");
        let segment = Segment::create(&name, 8).expect("room");
        let file_name = segment.file_name().to_owned();
        let other = Segment::open(&name).expect("ready");
        bury(segment);
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::InUse)));
        other.keep();
        drop(other);
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::Stays)));
        let kept = Segment::open(&name).expect("what the dead left can be opened");
        assert!(kept.owner().has_ended());
        kept.unlink().expect("it has its name");
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::Gone)));
    }

    #[test]
    fn segment_being_removed_is_busy_for_those_who_open_it() {
        let name = name("busy");
        let segment = Segment::create(&name, 8).expect("room");
        let file_name = segment.file_name().to_owned();
        drop(segment);
        let sweeper = NamedFile::open(&file_name).expect("it is there");
        assert!(sweeper.try_lock(ATTACHED, Hold::Alone).expect("lock"));
        let busy = Segment::try_open(&name).expect_err("locked");
        assert!(
            matches!(busy, super::super::OpenError::Busy { .. }),
            "{busy}"
        );
        drop(sweeper);
        let again = Segment::try_open(&name).expect("free again");
        again.unlink().expect("it has its name");
    }

    #[test]
    fn name_that_another_one_is_removing_is_left_to_that_one() {
        let name = name("other");
        let segment = Segment::create(&name, 8).expect("room");
        let file_name = segment.file_name().to_owned();
        let other = NamedFile::open(&file_name).expect("it is there");
        assert!(backing::try_lock_name(&other).expect("lock"));
        let mine = NamedFile::open(&file_name).expect("it is there");
        let unlink = || backing::unlink_until(&name, &mine, &file_name, Deadline::now());
        assert!(matches!(unlink(), Err(UnlinkError::Busy { .. })));
        bury(segment);
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::InUse)));
        assert!(backing::remove(&other, &file_name).expect("no fault"));
        assert!(matches!(unlink(), Err(UnlinkError::NotFound { .. })));
    }

    #[test]
    fn what_is_no_segment_of_ours_stays() {
        let name = name("alien");
        let segment = Segment::create(&name, 8).expect("room");
        let file_name = segment.file_name().to_owned();
        let file = SharedMemory::open(&file_name).expect("it is there");
        file.write_at(0, b"not our magic").expect("inside");
        bury(segment);
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::Stays)));
        file.unlink().expect("it has its name");
        let tiny = SharedMemory::create(&file_name, 8).expect("room");
        assert!(matches!(remove_dead(&file_name), Ok(Outcome::Stays)));
        tiny.unlink().expect("it has its name");
    }

    #[test]
    fn unfinished_file_of_the_dead_is_removed_and_that_of_the_living_is_not() {
        let mine = name::unfinished();
        let gone = Identity {
            pid: 1 << 21 | 77,
            start_time: u64::from(std::process::id()),
        };
        let own = Identity::current().pack();
        let theirs = mine.replace(&format!("{own:016x}"), &format!("{:016x}", gone.pack()));
        let (mine, theirs) = (
            SharedMemory::create(&mine, 8).expect("room"),
            SharedMemory::create(&theirs, 8).expect("room"),
        );
        let remove = |name| remove_unfinished(name, name::maker_of(name).expect("a maker"));
        assert!(!remove(mine.name()));
        // Or a sweep of other tests was quicker.
        assert!(remove(theirs.name()) || SharedMemory::open(theirs.name()).is_err());
        assert!(SharedMemory::open(theirs.name()).is_err());
        mine.unlink().expect("it still has its name");
    }
}
