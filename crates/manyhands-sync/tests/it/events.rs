//! Events, for both placements.

use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::Event;

use crate::{LONG, SOON, each_placement};

#[test]
fn event_07_wait_ends_when_it_is_set_and_not_before() {
    each_placement(Event::new, |event| {
        assert!(!event.wait_timeout(Duration::ZERO) && !event.wait_timeout(SOON));
        assert!(!event.wait_deadline(Instant::now()));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| event.wait());
            }
            event.set();
        });
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
        event.clear();
        assert!(!event.is_set() && !event.wait_timeout(SOON));
    });
}

#[test]
fn event_04_set_followed_by_clear_wakes_all_earlier_waiters() {
    each_placement(Event::new, |event| {
        for _ in 0..50 {
            let ready = Barrier::new(4);
            let woken = AtomicU32::new(0);
            thread::scope(|threads| {
                let (event, ready, woken) = (&event, &ready, &woken);
                for _ in 0..3 {
                    threads.spawn(move || {
                        ready.wait();
                        // Who came too late for one `set` waits for another.
                        assert!(event.wait_timeout(LONG));
                        woken.fetch_add(1, SeqCst);
                    });
                }
                ready.wait();
                while woken.load(SeqCst) != 3 {
                    event.set();
                    event.clear();
                }
            });
            assert!(!event.is_set());
        }
    });
}

#[test]
fn event_05_debug_text_tells_the_state() {
    each_placement(Event::new, |event| {
        assert!(format!("{event:?}").contains("unset"));
        event.set();
        assert!(format!("{event:?}").contains("\"set\""));
        event.set();
        assert_eq!((event.inspect().set, event.inspect().times), (true, 1));
        event.clear();
        event.set();
        assert_eq!((event.inspect().set, event.inspect().times), (true, 2));
    });
}
