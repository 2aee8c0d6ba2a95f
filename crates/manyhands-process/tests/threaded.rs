//! A parent whose many threads hold locks of the C library and of std at any instant: a child that was
//! forked from it would find some of them locked for ever. Children come from a zygote, or are new.

use std::env;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use manyhands_process::{Process, StartMethod};

const THREADS: usize = 64;
const LONG: Duration = Duration::from_secs(60);

static LOCK: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Takes each lock that the threads of the parent take.
fn take_all(number: usize) -> usize {
    let text = vec![b'x'; number % 5000];
    io::stderr().lock().flush().expect("it is there");
    io::stdout().lock().flush().expect("it is there");
    let path = env::var("PATH").map_or(0, |path| path.len());
    let mut kept = LOCK.lock().expect("nobody panics");
    kept.clear();
    kept.extend_from_slice(&text);
    black_box(path);
    kept.len()
}

#[test]
fn children_of_a_parent_with_64_busy_threads_all_return() {
    let is_long = env::var_os("MANYHANDS_LONG").is_some();
    let count = if is_long { 5000 } else { 300 };
    // Relaxed: a wish to stop, which publishes nothing.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    take_all(number * 77);
                }
            });
        }
        let mut wrong = Vec::new();
        for number in 0..count {
            // Mostly the method that forks.
            let method = match number % 10 {
                0 => StartMethod::Exec,
                _ => StartMethod::Zygote,
            };
            let builder = Process::builder().start_method(method).start_timeout(LONG);
            let outcome = builder
                .spawn(take_all, (number,))
                .map_err(|e| e.to_string())
                .and_then(|mut process| {
                    let value = process.join_timeout(LONG).map_err(|e| e.to_string());
                    // One that hangs must not outlive the test.
                    let _ = process.kill();
                    value
                });
            if outcome != Ok(Some(number % 5000)) {
                wrong.push((number, outcome));
                break;
            }
        }
        stop.store(true, Relaxed);
        assert_eq!(wrong, []);
    });
}
