//! How processes end, and what their parents learn of it.

use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_process::{
    CappedAllocator, Exit, Limits, Process, ProcessError, StartMethod, Thread,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[global_allocator]
static ALLOCATOR: CappedAllocator = CappedAllocator;

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

/// How a function without arguments ends in a child, by both start methods.
fn ends<R: Serialize + DeserializeOwned>(f: fn(StartMethod) -> Process<R>) -> Exit {
    let [exec, zygote] = METHODS.map(|method| {
        let mut process = f(method);
        let error = process.join().err().expect("it brings no value");
        let exit = error.exit().expect("it is about the end").clone();
        assert_eq!(process.exit(), Some(exit.clone()));
        assert!(!process.is_alive());
        // It can be asked again.
        assert!(process.join().is_err());
        exit
    });
    assert_eq!(exec, zygote);
    exec
}

fn start<F>(method: StartMethod, f: F) -> Process<F::Output>
where
    F: manyhands_process::Callable<()>,
    F::Output: Serialize + DeserializeOwned,
{
    let builder = Process::builder().start_method(method).limits(no_core());
    // The calls that lead to a panic are others by each method.
    let builder = builder.env("RUST_BACKTRACE", "0");
    builder.spawn(f, ()).expect("it starts")
}

fn no_core() -> Limits {
    Limits {
        core: Some(0),
        ..Limits::default()
    }
}

fn by_signal(exit: &Exit) -> Option<i32> {
    match exit {
        Exit::Signaled {
            signal,
            by_us: false,
            ..
        } => Some(*signal),
        _ => None,
    }
}

#[test]
fn panic_is_reported_with_message_place_and_thread() {
    fn panics() -> u8 {
        panic!("number {} is unlucky", 13)
    }
    let Exit::Panicked(panic) = ends(|method| start(method, panics)) else {
        panic!("not a panic");
    };
    assert_eq!(panic.message, "number 13 is unlucky");
    let location = panic.location.expect("a place");
    assert!(location.contains("ending.rs:"), "{location}");
}

#[test]
fn long_panic_messages_are_not_cut() {
    let mut process = start(StartMethod::Zygote, || -> u8 {
        panic!("{}", "x".repeat(100_000))
    });
    let error = process.join().expect_err("it panics");
    assert_eq!(error.panic().expect("a panic").message.len(), 100_000);
}

#[test]
fn panic_bears_the_name_of_its_process() {
    let mut process = Process::builder()
        .name("parser")
        .spawn(|| -> u8 { panic!("no") }, ())
        .expect("it starts");
    let error = process.join().expect_err("it panics");
    assert_eq!(error.panic().expect("a panic").thread, "parser");
}

#[test]
fn panic_that_cannot_unwind_is_reported_too() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("second");
        }
    }
    fn panics_twice() -> u8 {
        let _bomb = PanicsInDrop;
        panic!("first")
    }
    let exit = ends(|method| start(method, panics_twice));
    let Exit::PanicAborted(panic) = exit else {
        panic!("{exit}");
    };
    assert_eq!(panic.message, "second");
    assert!(panic.location.expect("a place").contains("ending.rs:"));
}

#[test]
fn caught_panic_does_not_explain_a_later_abort() {
    fn aborts() -> u8 {
        let caught = std::panic::catch_unwind(|| panic!("harmless"));
        assert!(caught.is_err());
        std::process::abort()
    }
    assert_eq!(by_signal(&ends(|method| start(method, aborts))), Some(6));
}

#[test]
fn exit_inside_the_function_is_no_value_whatever_the_code() {
    fn exits_with_three() -> u8 {
        std::process::exit(3)
    }
    fn exits_with_zero() -> u8 {
        std::process::exit(0)
    }
    assert_eq!(
        ends(|method| start(method, exits_with_three)),
        Exit::Exited(3)
    );
    assert_eq!(
        ends(|method| start(method, exits_with_zero)),
        Exit::Exited(0)
    );
}

#[allow(unconditional_recursion, reason = "the overflow is what is tested")]
fn down(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 128]);
    down(depth + 1) + page[7]
}

#[test]
fn endless_recursion_is_a_stack_overflow() {
    fn recurses() -> u64 {
        down(std::hint::black_box(0))
    }
    assert_eq!(ends(|method| start(method, recurses)), Exit::StackOverflow);
}

#[test]
fn endless_recursion_in_a_thread_is_a_stack_overflow_too() {
    fn recurses_elsewhere() -> u64 {
        let thread = Thread::spawn(|| down(std::hint::black_box(0))).expect("it starts");
        thread.join().expect("it does not return")
    }
    let exit = ends(|method| start(method, recurses_elsewhere));
    assert_eq!(exit, Exit::StackOverflow);
}

#[test]
fn thread_of_the_standard_library_that_overflows_is_told_as_a_fault() {
    fn faults_elsewhere() -> u64 {
        let thread = std::thread::spawn(|| down(std::hint::black_box(0)));
        thread.join().expect("it does not return")
    }
    let exit = ends(|method| start(method, faults_elsewhere));
    assert_eq!(by_signal(&exit), Some(11));
}

#[test]
fn fault_signal_sent_by_somebody_ends_the_process_too() {
    fn sends_itself_a_fault() -> u8 {
        let myself = Pidfd::open(std::process::id()).expect("it runs");
        myself.signal(7).expect("it is sent");
        waits_for_ever()
    }
    let exit = ends(|method| start(method, sends_itself_a_fault));
    assert_eq!(by_signal(&exit), Some(7));
}

#[test]
fn allocation_above_the_memory_limit_is_told_with_its_size() {
    fn allocates(bytes: usize) -> u8 {
        std::hint::black_box(vec![1_u8; bytes])[bytes / 2]
    }
    for method in METHODS {
        let limits = Limits {
            memory: Some(32 << 20),
            ..no_core()
        };
        let builder = Process::builder().start_method(method).limits(limits);
        let mut process = builder.spawn(allocates, (1 << 30,)).expect("it starts");
        let error = process.join().expect_err("it is too much");
        let expected = Exit::MemoryLimit {
            asked: Some(1 << 30),
            allowed: 32 << 20,
        };
        assert_eq!(error.exit(), Some(&expected));
        let mut modest = builder.spawn(allocates, (1 << 20,)).expect("it starts");
        assert_eq!(modest.join().expect("it fits"), 1);
    }
}

#[test]
fn memory_that_grows_slowly_meets_the_limit_too() {
    fn grows() -> usize {
        let mut pieces = Vec::new();
        loop {
            pieces.push(std::hint::black_box(vec![1_u8; 100_000]));
            if pieces.len() == 1_000_000 {
                return pieces.len();
            }
        }
    }
    let limits = Limits {
        memory: Some(32 << 20),
        ..no_core()
    };
    let builder = Process::builder().limits(limits);
    let mut process = builder.spawn(grows, ()).expect("it starts");
    let error = process.join().expect_err("it is too much");
    let exit = error.exit().expect("it ended");
    assert!(
        matches!(
            exit,
            Exit::MemoryLimit {
                allowed: 0x200_0000,
                asked: Some(_)
            }
        ),
        "{exit}"
    );
}

#[test]
fn processor_time_above_the_limit_ends_the_process() {
    fn spins() -> u64 {
        let mut n = 0_u64;
        loop {
            n = std::hint::black_box(n.wrapping_add(1));
        }
    }
    let limits = Limits {
        processor_time: Some(Duration::from_millis(10)),
        ..no_core()
    };
    for method in METHODS {
        let builder = Process::builder().start_method(method).limits(limits);
        let mut process = builder.spawn(spins, ()).expect("it starts");
        let error = process.join().expect_err("it never returns");
        let allowed = Duration::from_secs(1);
        assert_eq!(error.exit(), Some(&Exit::ProcessorLimit { allowed }));
    }
}

#[test]
fn signal_of_the_processor_limit_from_elsewhere_is_a_signal() {
    let limits = Limits {
        processor_time: Some(Duration::from_secs(1000)),
        ..no_core()
    };
    let builder = Process::builder().limits(limits);
    let mut process = builder.spawn(waits_for_ever, ()).expect("it starts");
    let pidfd = Pidfd::open(process.id()).expect("it runs");
    pidfd.signal(24).expect("it is sent");
    let error = process.join().expect_err("it was ended");
    assert_eq!(by_signal(error.exit().expect("it ended")), Some(24));
}

fn waits_for_ever() -> u8 {
    loop {
        std::thread::park();
    }
}

#[test]
fn terminate_and_kill_end_the_process_and_are_known_to_be_ours() {
    for method in METHODS {
        for (signal, send) in [
            (15, Process::terminate as fn(&Process<u8>) -> _),
            (9, Process::kill),
        ] {
            let mut process = start(method, waits_for_ever);
            send(&process).expect("it is sent");
            let expected = Exit::Signaled {
                signal,
                code: None,
                address: None,
                core_dumped: false,
                by_us: true,
            };
            let error = process.join().expect_err("it was ended");
            assert_eq!(error.exit(), Some(&expected));
            send(&process).expect("nothing happens to the dead");
        }
    }
}

#[test]
fn kill_from_elsewhere_is_known_not_to_be_ours() {
    let mut process = start(StartMethod::Zygote, waits_for_ever);
    let pidfd = Pidfd::open(process.id()).expect("it runs");
    pidfd.signal(9).expect("it is sent");
    let error = process.join().expect_err("it was ended");
    assert_eq!(by_signal(error.exit().expect("it ended")), Some(9));
}

/// The signal was noted before it was sent, so that whoever asked the dead to end had killed them.
#[test]
fn signal_to_the_dead_is_not_ours() {
    use manyhands_os::Deadline;
    use manyhands_os::descriptor::poll_readable;
    for method in METHODS {
        let mut process = start(method, waits_for_ever);
        let pidfd = Pidfd::open(process.id()).expect("it runs");
        pidfd.signal(15).expect("it is sent");
        let later = Deadline::after(Duration::from_secs(30));
        let ended = poll_readable(&[process.sentinel()], later).expect("poll");
        assert_eq!(ended, [true]);
        process.terminate().expect("nothing happens to the dead");
        let error = process.join().expect_err("it was ended");
        assert_eq!(by_signal(error.exit().expect("it ended")), Some(15));
    }
}

#[test]
fn sentinel_becomes_readable_at_the_end() {
    use manyhands_os::Deadline;
    use manyhands_os::descriptor::poll_readable;
    let process = start(StartMethod::Zygote, waits_for_ever);
    let now = poll_readable(&[process.sentinel()], Deadline::now()).expect("poll");
    assert_eq!(now, [false]);
    process.kill().expect("it is sent");
    let later = Deadline::after(Duration::from_secs(30));
    assert_eq!(
        poll_readable(&[process.sentinel()], later).expect("poll"),
        [true]
    );
    assert!(matches!(
        process.exit(),
        Some(Exit::Signaled { by_us: true, .. })
    ));
}

#[test]
fn printing_child_leaves_nothing_unflushed_and_errors_read_as_sentences() {
    let mut process = start(StartMethod::Zygote, || -> u8 {
        print!("printed by a child, without a newline at its end: ");
        std::process::exit(4)
    });
    let error: ProcessError = process.join().expect_err("it exits");
    let text = error.to_string();
    assert!(
        text.ends_with("exited with code 4 before it returned"),
        "{text}"
    );
}
