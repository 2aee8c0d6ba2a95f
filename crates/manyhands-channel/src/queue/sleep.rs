//! Lying down at a place, and waking who sleeps there; `raw.rs` tells how they work together.

use std::sync::atomic::Ordering::Relaxed;

use super::ground;
use super::layout::Notice;

/// Notes that somebody is going to sleep; inside of the section of who will wake.
pub(super) fn lie_down(notice: &Notice) -> u32 {
    // Relaxed: both are changed in this section only.
    notice.waiting.store(1, Relaxed);
    notice.sequence.load(Relaxed)
}

/// Wakes who sleeps; inside of the section, before the change is committed.
pub(super) fn rouse(notice: &Notice) {
    // Relaxed: the kernel compares it. Added, since that of `items` is changed in both sections.
    notice.sequence.fetch_add(1, Relaxed);
    ground::wake_all(notice);
}

/// Wakes those who said that they wait for what is about to be committed; one more time than is
/// needed, if this is killed before the commit.
pub(super) fn rouse_waiting(notice: &Notice) {
    // Relaxed: changed in this section only.
    if notice.waiting.load(Relaxed) != 0 {
        rouse(notice);
    }
}
