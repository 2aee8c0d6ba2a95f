//! Bytes, or a value, which programs find by a name.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;

use super::attached::{Attached, Kind};
use super::bytes::Bytes;
use super::error::{AttachError, CreateError, OpenError, UnlinkError};
use super::header;
use super::owner::Owner;
use super::portable::Portable;

/// Shared bytes, which programs find by a name.
///
/// Dropping it leaves the name: [`unlink`](Self::unlink) removes it. When the process that made the
/// segment is gone without doing so, and nobody has it open any more, [`sweep`](super::sweep())
/// removes it. The bytes are zero at first; all access is by [`Bytes`].
///
/// # Examples
///
/// ```
/// use std::sync::atomic::Ordering::Relaxed;
/// use manyhands_shm::named::Segment;
///
/// # let name = format!("mh-doc-segment-{}", std::process::id());
/// let segment = Segment::create(&name, 4096)?;
/// segment.write_at(100, b"hello")?;
///
/// // In another program of the same user:
/// let same = Segment::open(&name)?;
/// let mut text = [0; 5];
/// same.read_at(100, &mut text)?;
/// assert_eq!(&text, b"hello");
/// same.atomic_u64(8)?.fetch_add(1, Relaxed);
///
/// segment.unlink()?; // whoever has it keeps it; nobody new finds it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Segment {
    attached: Attached,
}

/// The kind of plain bytes.
fn plain(len: usize) -> Kind {
    Kind {
        shape: 0,
        start: header::BYTES,
        len,
    }
}

impl Segment {
    /// Makes a segment of `len` zeroed bytes.
    ///
    /// # Errors
    ///
    /// [`CreateError::AlreadyExists`], [`CreateError::NoSpace`] and others; nothing is left then.
    pub fn create(name: &str, len: usize) -> Result<Segment, CreateError> {
        Segment::create_with(name, len, |_| {})
    }

    /// Makes a segment that `fill` fills in before anybody sees it; those who open it meanwhile
    /// wait, and are told if this process dies.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_with(
        name: &str,
        len: usize,
        fill: impl FnOnce(&Bytes),
    ) -> Result<Segment, CreateError> {
        let attached = Attached::create(name, plain(len), &mut once(fill))?;
        Ok(Segment { attached })
    }

    /// Opens a segment; waits while its creator lives and fills it in.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`], [`OpenError::CreatorDied`] and others.
    pub fn open(name: &str) -> Result<Segment, OpenError> {
        Segment::open_until(name, Deadline::NEVER)
    }

    /// Opens a segment if it is ready.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn try_open(name: &str) -> Result<Segment, OpenError> {
        Segment::open_until(name, Deadline::now())
    }

    /// Opens a segment; waits as [`open`](Self::open) does, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn open_timeout(name: &str, timeout: Duration) -> Result<Segment, OpenError> {
        Segment::open_until(name, Deadline::after(timeout))
    }

    /// Opens a segment; waits as [`open`](Self::open) does, but no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn open_deadline(name: &str, deadline: Instant) -> Result<Segment, OpenError> {
        Segment::open_until(name, Deadline::at(deadline))
    }

    fn open_until(name: &str, deadline: Deadline) -> Result<Segment, OpenError> {
        let attached = Attached::open(name, 0, deadline)?;
        Ok(Segment { attached })
    }

    /// Opens a segment, or makes it when there is none, or only the remains of one whose creator
    /// died over it. Its [`len`](Bytes::len) is that of the one that exists, at least `len`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), and [`OpenError::TooShort`].
    pub fn attach_or_create(name: &str, len: usize) -> Result<Segment, AttachError> {
        Segment::attach_or_create_until(name, len, Deadline::NEVER)
    }

    /// The same without waiting for another creator.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn try_attach_or_create(name: &str, len: usize) -> Result<Segment, AttachError> {
        Segment::attach_or_create_until(name, len, Deadline::now())
    }

    /// The same; waits for another creator no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn attach_or_create_timeout(
        name: &str,
        len: usize,
        timeout: Duration,
    ) -> Result<Segment, AttachError> {
        Segment::attach_or_create_until(name, len, Deadline::after(timeout))
    }

    /// The same; waits for another creator no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn attach_or_create_deadline(
        name: &str,
        len: usize,
        deadline: Instant,
    ) -> Result<Segment, AttachError> {
        Segment::attach_or_create_until(name, len, Deadline::at(deadline))
    }

    fn attach_or_create_until(
        name: &str,
        len: usize,
        deadline: Deadline,
    ) -> Result<Segment, AttachError> {
        let attached = Attached::attach_or_create(name, plain(len), &mut |_| {}, deadline)?;
        Ok(Segment { attached })
    }
}

impl Deref for Segment {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.attached.bytes
    }
}

/// A value that programs find by a name: a struct of atomics, the same in every build.
///
/// As [`Segment`], with the [shape](Portable::SHAPE) of the type in the header: who opens it as
/// another type is refused.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
/// use manyhands_shm::{Shareable, named::{OpenError, SegmentOf}, portable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Board {
///     turn: AtomicU64,
///     scores: [AtomicU32; 8],
/// }
/// portable!(Board { turn: AtomicU64, scores: [AtomicU32; 8] });
///
/// # let name = format!("mh-doc-typed-{}", std::process::id());
/// // The bytes are zeros before they are filled in.
/// let board = SegmentOf::<Board>::create(&name, |board| board.turn.store(1, Relaxed))?;
///
/// let same = SegmentOf::<Board>::open(&name)?; // in another program
/// same.scores[3].fetch_add(10, Relaxed);
/// assert_eq!((same.turn.load(Relaxed), board.scores[3].load(Relaxed)), (1, 10));
///
/// let other = SegmentOf::<[AtomicU64; 2]>::open(&name);
/// assert!(matches!(other, Err(OpenError::Shape { .. })));
/// board.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentOf<T: Portable> {
    attached: Attached,
    holds: PhantomData<T>,
}

impl<T: Portable> SegmentOf<T> {
    const KIND: Kind = {
        const MOST: usize = 4096;
        assert!(align_of::<T>() <= MOST, "maps begin at any page");
        let start = if align_of::<T>() > header::BYTES {
            align_of::<T>()
        } else {
            header::BYTES
        };
        Kind {
            shape: T::SHAPE,
            start,
            len: size_of::<T>(),
        }
    };

    /// Makes a segment; `fill` gets the value made of zeros, before anybody else sees it.
    ///
    /// # Errors
    ///
    /// As [`Segment::create`].
    pub fn create(name: &str, fill: impl FnOnce(&T)) -> Result<SegmentOf<T>, CreateError> {
        let mut fill = once(|bytes: &Bytes| fill(Self::value(bytes)));
        Ok(Self::of(Attached::create(name, Self::KIND, &mut fill)?))
    }

    /// Opens a segment; waits while its creator lives and fills it in.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`], and [`OpenError::Shape`].
    pub fn open(name: &str) -> Result<SegmentOf<T>, OpenError> {
        Self::open_until(name, Deadline::NEVER)
    }

    /// Opens a segment if it is ready.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn try_open(name: &str) -> Result<SegmentOf<T>, OpenError> {
        Self::open_until(name, Deadline::now())
    }

    /// Opens a segment; waits as [`open`](Self::open) does, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn open_timeout(name: &str, timeout: Duration) -> Result<SegmentOf<T>, OpenError> {
        Self::open_until(name, Deadline::after(timeout))
    }

    /// Opens a segment; waits as [`open`](Self::open) does, but no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`OpenError::NotReady`].
    pub fn open_deadline(name: &str, deadline: Instant) -> Result<SegmentOf<T>, OpenError> {
        Self::open_until(name, Deadline::at(deadline))
    }

    fn open_until(name: &str, deadline: Deadline) -> Result<SegmentOf<T>, OpenError> {
        let attached = Attached::open(name, T::SHAPE, deadline)?;
        // The length is not part of the shape that a liar would have to get right.
        let (found, asked) = (attached.bytes.len(), size_of::<T>());
        if found < asked || !attached.bytes.as_ptr().cast::<T>().is_aligned() {
            let name = name.into();
            return Err(OpenError::TooShort { name, found, asked });
        }
        Ok(Self::of(attached))
    }

    /// Opens a segment, or makes it and has it filled in, when there is none, or only the remains of
    /// one whose creator died over it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn attach_or_create(
        name: &str,
        fill: impl FnOnce(&T),
    ) -> Result<SegmentOf<T>, AttachError> {
        Self::attach_or_create_until(name, fill, Deadline::NEVER)
    }

    /// The same without waiting for another creator.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn try_attach_or_create(
        name: &str,
        fill: impl FnOnce(&T),
    ) -> Result<SegmentOf<T>, AttachError> {
        Self::attach_or_create_until(name, fill, Deadline::now())
    }

    /// The same; waits for another creator no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn attach_or_create_timeout(
        name: &str,
        fill: impl FnOnce(&T),
        timeout: Duration,
    ) -> Result<SegmentOf<T>, AttachError> {
        Self::attach_or_create_until(name, fill, Deadline::after(timeout))
    }

    /// The same; waits for another creator no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`attach_or_create`](Self::attach_or_create), and [`OpenError::NotReady`].
    pub fn attach_or_create_deadline(
        name: &str,
        fill: impl FnOnce(&T),
        deadline: Instant,
    ) -> Result<SegmentOf<T>, AttachError> {
        Self::attach_or_create_until(name, fill, Deadline::at(deadline))
    }

    fn attach_or_create_until(
        name: &str,
        fill: impl FnOnce(&T),
        deadline: Deadline,
    ) -> Result<SegmentOf<T>, AttachError> {
        let mut fill = once(|bytes: &Bytes| fill(Self::value(bytes)));
        let attached = Attached::attach_or_create(name, Self::KIND, &mut fill, deadline)?;
        Ok(Self::of(attached))
    }

    fn of(attached: Attached) -> SegmentOf<T> {
        SegmentOf {
            attached,
            holds: PhantomData,
        }
    }

    /// The value in bytes of a segment of this kind.
    fn value(bytes: &Bytes) -> &T {
        let value = bytes.as_ptr().cast::<T>();
        assert!(bytes.len() >= size_of::<T>() && value.is_aligned());
        // SAFETY: a reference needs a valid, aligned value for its life.
        // - where: both were checked above; the bytes are borrowed, and mapped as long.
        // - who: others write, and `T: Portable` is sound under that.
        // - what: any bytes are a `T: Portable`.
        unsafe { &*value }
    }
}

impl<T: Portable> Deref for SegmentOf<T> {
    type Target = T;

    fn deref(&self) -> &T {
        Self::value(&self.attached.bytes)
    }
}

/// What both kinds can be asked.
macro_rules! common {
    () => {
        /// The name, as given.
        pub fn name(&self) -> &str {
            self.attached.name()
        }

        /// The name of the file, a hash of the user and the name: for those who look into the
        /// folder.
        pub fn file_name(&self) -> &str {
            self.attached.file_name()
        }

        /// The process that made it.
        pub fn owner(&self) -> Owner {
            self.attached.owner()
        }

        /// Removes the name. Whoever has the segment keeps it, and its memory goes with the last of
        /// them; the name is free for another one.
        ///
        /// # Errors
        ///
        /// [`UnlinkError::NotFound`] when the name does not stand for this segment any more, and
        /// others.
        pub fn unlink(&self) -> Result<(), UnlinkError> {
            self.attached.unlink()
        }

        /// Lets it outlive its owner: no sweeper removes it, somebody has to unlink it.
        pub fn keep(&self) {
            self.attached.keep();
        }
    };
}

impl Segment {
    common!();
}

impl<T: Portable> SegmentOf<T> {
    common!();
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Segment", &self.attached)
    }
}

impl<T: Portable> fmt::Debug for SegmentOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "SegmentOf", &self.attached)
    }
}

fn describe(f: &mut fmt::Formatter<'_>, what: &str, attached: &Attached) -> fmt::Result {
    f.debug_struct(what)
        .field("name", &attached.name())
        .field("len", &attached.bytes.len())
        .field("owner", &attached.owner().process().pid)
        .finish()
}

/// A function that is called at most once, in the form that a loop can take.
fn once(fill: impl FnOnce(&Bytes)) -> impl FnMut(&Bytes) {
    let mut fill = Some(fill);
    move |bytes| {
        if let Some(fill) = fill.take() {
            fill(bytes);
        }
    }
}
