//! Control: a robust word whose unlock forgets the sleepers, as glibc's does.
//!
//! The owner is entered in `list_op_pending` of the thread's robust list, so a death inside is
//! noticed. But unlock stores 0, and with the owner it removes the mark that others sleep: the one
//! who is woken has to set it again. If he dies before that, and a newcomer has taken the lock
//! meanwhile, the newcomer's unlock wakes nobody.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;

use super::data::Data;
use super::mutual::{Leaving, Mutual, Taking};
use crate::place::Placed;
use crate::step::{Scene, Subject};
use crate::system;

const WAITERS: u32 = 1 << 31;
const OWNER_DIED: u32 = 1 << 30;
const OWNER: u32 = OWNER_DIED - 1;

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    list: usize,
    futex_offset: isize,
    pending: usize,
}

#[repr(C)]
struct PlainRobust {
    word: AtomicU32,
    data: Data,
}

// SAFETY: atomics only; zero is free; nothing to drop.
unsafe impl Placed for PlainRobust {}

fn head() -> *mut Head {
    let mut head: *mut Head = ptr::null_mut();
    let mut len = 0_usize;
    // SAFETY: writes the calling thread's head and its length into two locals.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    assert!(
        !head.is_null() && len == size_of::<Head>(),
        "glibc has registered a robust list"
    );
    head
}

impl PlainRobust {
    /// Tells the kernel which word this thread is about to take or to give back; none: null.
    fn set_pending(&self, is_pending: bool) {
        let head = head();
        // SAFETY: reads a field of the thread's own head, which lives as long as the thread.
        let offset = unsafe { (*head).futex_offset };
        let entry = match is_pending {
            true => self.word.as_ptr().addr().wrapping_sub_signed(offset),
            false => 0,
        };
        // SAFETY: the address of a field of the thread's own head, which lives as long as it.
        let pending = unsafe { &raw mut (*head).pending };
        compiler_fence(SeqCst);
        // SAFETY: writes that field; only the kernel reads it, at our death.
        unsafe { ptr::write_volatile(pending, entry) };
        compiler_fence(SeqCst);
    }

    /// True: the owner before us died.
    fn lock(&self) -> bool {
        self.set_pending(true);
        let me = system::thread_id();
        let mut others = 0;
        loop {
            let seen = self.word.load(Relaxed);
            if seen & OWNER == 0 {
                let mine = me | others | (seen & WAITERS);
                if self
                    .word
                    .compare_exchange(seen, mine, Acquire, Relaxed)
                    .is_ok()
                {
                    return seen & OWNER_DIED != 0;
                }
            } else {
                let marked = seen | WAITERS;
                if seen == marked
                    || self
                        .word
                        .compare_exchange(seen, marked, Relaxed, Relaxed)
                        .is_ok()
                {
                    system::futex_wait(&self.word, marked, None);
                    others = WAITERS;
                }
            }
        }
    }

    fn unlock(&self) {
        if self.word.swap(0, AcqRel) & WAITERS != 0 {
            system::futex_wake(&self.word, 1);
        }
        self.set_pending(false);
    }
}

impl Mutual for PlainRobust {
    const NAME: &'static str = "control: non-sticky word";
    const TAKING_SCENES: &'static [Scene] = &[
        Scene::Alone,
        Scene::Woken,
        Scene::WokenByDeath,
        Scene::Robbed,
    ];
    const TAKING_MUST_HANG: &'static [Scene] = &[Scene::Robbed];
    const LEAVING_SCENES: &'static [Scene] = &[Scene::Watched];

    fn take(&self) -> bool {
        self.lock()
    }

    fn leave(&self) {
        self.unlock();
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![Taking::<PlainRobust>::NEW, Leaving::<PlainRobust>::NEW]
}
