//! What zygotes do before they start processes, and what is told when it goes wrong.

mod common;

use std::io::read_to_string;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, PreloadError, Process, SpawnError, StartMethod, Stdio, Zygote};

use common::{alone, wait_for_ever};

#[test]
fn preloaded_state_is_there_in_each_child() {
    static LOADED: AtomicU32 = AtomicU32::new(0);
    fn body() {
        Zygote::preload(|| {
            LOADED.fetch_add(1, SeqCst);
        })
        .expect("nothing was started");
        for _ in 0..3 {
            let mut process =
                Process::spawn(|| LOADED.fetch_add(1, SeqCst), ()).expect("it starts");
            assert_eq!(process.join().expect("a value"), 1);
        }
        assert_eq!(LOADED.load(SeqCst), 0);
        assert_eq!(Zygote::preload(|| ()), Err(PreloadError));
    }
    alone(body);
}

#[test]
fn bad_preloads_are_told_at_the_spawn() {
    fn panics() {
        Zygote::preload(|| panic!("cannot load")).expect("nothing was started");
        let Err(SpawnError::Preload { reason }) = Process::spawn(|| (), ()) else {
            panic!("it must not start");
        };
        assert!(reason.contains("cannot load"), "{reason}");
    }
    fn leaves_a_thread() {
        Zygote::preload(|| drop(std::thread::spawn(wait_for_ever))).expect("nothing was started");
        let refused = Process::spawn(|| (), ());
        assert!(
            matches!(refused, Err(SpawnError::Preload { .. })),
            "{refused:?}"
        );
    }
    fn spawns() {
        Zygote::preload(|| {
            let refused = Process::spawn(|| (), ());
            assert!(
                matches!(refused, Err(SpawnError::InsideStartingChild)),
                "{refused:?}"
            );
        })
        .expect("nothing was started");
        assert!(Process::spawn(|| (), ()).is_ok());
    }
    alone(panics);
    alone(leaves_a_thread);
    alone(spawns);
}

/// The status of a zygote that ended before it answered was left to others, and the child, which
/// there never was, said to have ended.
#[test]
fn zygote_that_ends_before_it_answers_is_told_with_its_end() {
    fn exits() {
        Zygote::preload(|| std::process::exit(7)).expect("nothing was started");
        let refused = Process::spawn(|| (), ());
        assert!(
            matches!(refused, Err(SpawnError::ZygoteDied(Exit::Exited(7)))),
            "{refused:?}"
        );
    }
    fn is_killed() {
        fn kill_itself() {
            let myself = Pidfd::open(std::process::id()).expect("it runs");
            myself.signal(9).expect("it is sent");
        }
        Zygote::preload(kill_itself).expect("nothing was started");
        let refused = Process::spawn(|| (), ());
        let Err(SpawnError::ZygoteDied(exit)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            matches!(
                exit,
                Exit::Signaled {
                    signal: 9,
                    by_us: false,
                    ..
                }
            ),
            "{exit}"
        );
    }
    alone(exits);
    alone(is_killed);
}

#[test]
fn process_35_what_is_printed_while_preloading_is_printed_once() {
    fn body() {
        Zygote::preload(|| print!("once")).expect("nothing was started");
        for _ in 0..3 {
            Process::spawn(|| (), ())
                .expect("it starts")
                .join()
                .expect("a value");
        }
    }
    let builder = Process::builder()
        .start_method(StartMethod::Exec)
        .stdout(Stdio::Captured);
    let mut process = builder.spawn(body, ()).expect("it starts");
    let output = process.take_stdout().expect("captured");
    assert_eq!(read_to_string(output).expect("until the end"), "once");
    process.join().expect("no panic");
}
