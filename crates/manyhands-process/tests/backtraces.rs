//! The calls that led to a panic in a child, named by its parent.

use manyhands_process::{Process, StartMethod, run_caught};

fn outer_call(depth: u32) -> u32 {
    if depth == 0 {
        inner_call()
    } else {
        std::hint::black_box(outer_call(depth - 1))
    }
}

#[inline(never)]
fn inner_call() -> u32 {
    panic!("deep down")
}

#[test]
fn panic_has_the_calls_of_the_child_if_asked_for() {
    for method in [StartMethod::Exec, StartMethod::Zygote] {
        let builder = Process::builder().start_method(method);
        let silent = builder.clone().env("RUST_BACKTRACE", "0");
        let error = silent.spawn(outer_call, (3,)).expect("it starts").join();
        let error = error.expect_err("it panics");
        assert_eq!(error.panic().expect("it did").backtrace, None);

        let asked = builder.env("RUST_BACKTRACE", "1");
        let error = asked.spawn(outer_call, (3,)).expect("it starts").join();
        let error = error.expect_err("it panics");
        assert!(!error.to_string().contains("inner_call"), "{error}");
        let panic = error.panic().expect("it did");
        let text = format!("{panic:#}");
        let first = text.lines().nth(1).expect("a call");
        assert!(first.contains("inner_call"), "{text}");
        assert!(text.contains("tests/backtraces.rs:"), "{text}");
        assert_eq!(text.matches("outer_call").count(), 4, "{text}");
        // Neither the panic's own calls nor those of the library.
        assert!(
            !text.contains("panicking") && !text.contains("manyhands_process"),
            "{text}"
        );
    }
}

#[test]
fn panic_of_this_process_has_its_calls_too() {
    let mut process = Process::builder().env("RUST_BACKTRACE", "1").spawn(
        || {
            let panic = run_caught(|| outer_call(1)).expect_err("it panics");
            let short = format!("{:?}", panic.backtrace);
            (short, format!("{:#?}", panic.backtrace))
        },
        (),
    );
    let process = process.as_mut().expect("it starts");
    let (short, long) = process.join().expect("a value");
    assert!(
        short.starts_with("Some(Backtrace(") && short.ends_with(" calls))"),
        "{short}"
    );
    assert_eq!(long.matches("outer_call").count(), 2, "{long}");
}
