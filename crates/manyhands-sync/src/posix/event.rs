//! raw_sync's traits for our event.

use std::error::Error;
use std::ptr::NonNull;

use manyhands_os::Deadline;
use raw_sync::Timeout;
use raw_sync::events::{EventImpl, EventInit, EventState};

use super::error::{EventTimedOut, NotAnEvent};
use crate::{LastPlace, Shareable};

/// Our [`Event`](crate::Event) with the interface of `raw_sync::events::Event`: whoever uses that
/// one changes a `use`.
///
/// The value is a handle to an event in memory which the two functions of `EventInit` were given.
/// What differs from raw_sync's:
///
/// * Whoever is killed while it waits or sets takes nobody's wake-up along.
/// * Time-outs of any length work, on the monotonic clock; they tell [`EventTimedOut`].
/// * One that was made with `auto_reset` gives each `set` to one waiter, whatever was killed; one
///   that was not wakes also those waiters whose `set` was cleared before they could look.
/// * raw_sync's own event does not understand the memory, nor this one raw_sync's: `from_existing`
///   then tells [`NotAnEvent`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use manyhands_sync::posix::Event; // was: use raw_sync::events::Event;
/// use raw_sync::Timeout;
/// use raw_sync::events::{EventImpl, EventInit, EventState};
///
/// // Stands for shared memory.
/// let mut memory = [0_u64; 8];
/// let memory = memory.as_mut_ptr().cast();
/// assert!(Event::size_of(Some(memory)) <= 64);
/// // SAFETY: the memory is large enough, and outlives both handles.
/// let (event, _) = unsafe { Event::new(memory, true)? };
/// // SAFETY: as above.
/// let (same, _) = unsafe { Event::from_existing(memory)? };
/// event.set(EventState::Signaled)?;
/// same.wait(Timeout::Infinite)?;
/// assert!(same.wait(Timeout::Val(Duration::from_millis(5))).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Event {
    at: NonNull<crate::Event>,
}

impl Event {
    /// The event at `memory`, rounded up.
    ///
    /// # Safety
    ///
    /// [`size_of`](EventInit::size_of) bytes from `memory` on must be mapped and writable, and stay
    /// so as long as the handle is used.
    unsafe fn locate(memory: *mut u8) -> Self {
        // SAFETY: within the bytes that the caller vouches for.
        let at = unsafe { memory.add(padding(memory)) };
        // SAFETY: mapped memory is not at null.
        let at = unsafe { NonNull::new_unchecked(at.cast()) };
        Self { at }
    }

    fn event(&self) -> &crate::Event {
        // SAFETY: whoever made the handle vouches for the memory, which is aligned, and all bytes
        // are atomics.
        unsafe { self.at.as_ref() }
    }
}

impl EventInit for Event {
    fn size_of(memory: Option<*mut u8>) -> usize {
        memory.map_or(0, padding) + size_of::<crate::Event>()
    }

    unsafe fn new(
        memory: *mut u8,
        auto_reset: bool,
    ) -> Result<(Box<dyn EventImpl>, usize), Box<dyn Error>> {
        // SAFETY: as raw_sync asks of its callers.
        let handle = unsafe { Self::locate(memory) };
        // SAFETY: the place is aligned and writable, and nobody uses it before this returns.
        unsafe { handle.at.write(crate::Event::new()) };
        // SAFETY: raw_sync asks of its callers that the memory stays; an event is never held.
        handle.event().placed(unsafe { LastPlace::new() });
        if auto_reset {
            handle.event().clear_by_itself();
        }
        Ok((Box::new(handle), Self::size_of(Some(memory))))
    }

    unsafe fn from_existing(
        memory: *mut u8,
    ) -> Result<(Box<dyn EventImpl>, usize), Box<dyn Error>> {
        // SAFETY: as raw_sync asks of its callers.
        let handle = unsafe { Self::locate(memory) };
        if !handle.event().is_sound() {
            return Err(NotAnEvent.into());
        }
        Ok((Box::new(handle), Self::size_of(Some(memory))))
    }
}

impl EventImpl for Event {
    fn wait(&self, timeout: Timeout) -> Result<(), Box<dyn Error>> {
        EventImpl::wait(self.event(), timeout)
    }

    fn set(&self, state: EventState) -> Result<(), Box<dyn Error>> {
        EventImpl::set(self.event(), state)
    }
}

/// For code that is generic over the trait; [`posix::Event`](Event) is the one to swap in, since
/// here `Event::new()` is another function.
impl EventInit for crate::Event {
    fn size_of(memory: Option<*mut u8>) -> usize {
        Event::size_of(memory)
    }

    unsafe fn new(
        memory: *mut u8,
        auto_reset: bool,
    ) -> Result<(Box<dyn EventImpl>, usize), Box<dyn Error>> {
        // SAFETY: passed on.
        unsafe { <Event as EventInit>::new(memory, auto_reset) }
    }

    unsafe fn from_existing(
        memory: *mut u8,
    ) -> Result<(Box<dyn EventImpl>, usize), Box<dyn Error>> {
        // SAFETY: passed on.
        unsafe { Event::from_existing(memory) }
    }
}

/// For events that are ours from the start, wherever they lie.
impl EventImpl for crate::Event {
    fn wait(&self, timeout: Timeout) -> Result<(), Box<dyn Error>> {
        let deadline = match timeout {
            Timeout::Infinite => Deadline::NEVER,
            Timeout::Val(time) => Deadline::after(time),
        };
        if self.pass_until(deadline) {
            Ok(())
        } else {
            Err(EventTimedOut.into())
        }
    }

    fn set(&self, state: EventState) -> Result<(), Box<dyn Error>> {
        match state {
            EventState::Clear => self.clear(),
            EventState::Signaled => self.set(),
        }
        Ok(())
    }
}

fn padding(memory: *mut u8) -> usize {
    memory.align_offset(align_of::<crate::Event>())
}
