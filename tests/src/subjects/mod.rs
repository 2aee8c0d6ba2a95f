//! The objects under test, and the controls that must fail.

pub mod arena;
pub mod condition_control;
pub mod data;
pub mod event;
pub mod family;
pub mod flag_queue;
pub mod hurry;
pub mod life;
pub mod lock;
pub mod memory;
pub mod mutual;
pub mod named;
pub mod once;
pub mod pipe;
pub mod plain_futex;
pub mod plain_robust;
pub mod posix_lock;
pub mod pthread_mutex;
pub mod queue;
pub mod relock;
pub mod ring;
pub mod shares;
pub mod slot_ring;

use crate::step::Subject;

/// Every subject, controls first.
pub fn all() -> Vec<&'static dyn Subject> {
    [
        plain_futex::subjects(),
        flag_queue::subjects(),
        plain_robust::subjects(),
        pthread_mutex::subjects(),
        slot_ring::subjects(),
        condition_control::subjects(),
        lock::subjects(),
        relock::subjects(),
        posix_lock::subjects(),
        once::subjects(),
        event::subjects(),
        life::subjects(),
        arena::subjects(),
        ring::subjects(),
        pipe::subjects(),
        queue::subjects(),
        shares::subjects(),
        named::subjects(),
        hurry::subjects(),
    ]
    .concat()
}
