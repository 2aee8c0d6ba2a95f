//! The hook for panics of threads, which is one for the whole process.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use manyhands_process::{Panic, Thread, ThreadError, Timer, reset_thread_hook, set_thread_hook};

const LONG: Duration = Duration::from_secs(60);

fn fail(word: &'static str) -> Thread<()> {
    let builder = Thread::builder().name("faulty");
    builder.spawn(move || panic!("{word}")).expect("it starts")
}

fn message(outcome: Result<(), ThreadError>) -> String {
    match outcome {
        Err(ThreadError::Panicked(panic)) => panic.message,
        other => unreachable!("{other:?}"),
    }
}

/// THREAD-21 too, as far as it holds: the process goes on, but nothing is printed.
#[test]
fn thread_23_hook_hears_of_each_panic_and_can_fail_and_be_removed() {
    let (sender, heard) = mpsc::channel::<(Panic, Option<String>)>();
    set_thread_hook(move |panic| {
        // It runs in the thread itself.
        let name = thread::current().name().map(str::to_owned);
        sender.send((panic.clone(), name)).expect("it is received");
    });
    // The hook has run when the thread can be joined; who does not join hears of it too.
    let thread = fail("first");
    assert_eq!(message(thread.join()), "first");
    let (panic, name) = heard.try_recv().expect("it was told");
    assert_eq!(panic.message, "first");
    assert_eq!(
        (panic.thread.as_str(), name.as_deref()),
        ("faulty", Some("faulty"))
    );
    assert!(
        panic
            .location
            .is_some_and(|place| place.contains("hooks.rs"))
    );
    drop(fail("second"));
    assert_eq!(
        heard.recv_timeout(LONG).expect("it is told").0.message,
        "second"
    );
    let timer = Timer::after(Duration::ZERO, || panic!("third")).expect("it starts");
    let _: Result<Option<()>, _> = timer.join();
    assert_eq!(
        heard.recv_timeout(LONG).expect("it is told").0.message,
        "third"
    );
    // Who returns, or catches a panic himself, is no news.
    let quiet = Thread::spawn(|| std::panic::catch_unwind(|| panic!("caught")).is_err());
    assert_eq!(quiet.expect("it starts").join(), Ok(true));
    assert!(heard.try_recv().is_err());

    set_thread_hook(|panic| panic!("no hook for {panic}"));
    assert_eq!(message(fail("fourth").join()), "fourth");
    set_thread_hook(|_| reset_thread_hook());
    assert_eq!(message(fail("fifth").join()), "fifth");
    assert_eq!(message(fail("sixth").join()), "sixth");
    assert!(heard.recv().is_err(), "the first hook is gone");
}
