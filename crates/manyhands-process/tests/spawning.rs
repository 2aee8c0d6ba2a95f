//! Starting processes and getting their values back.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use manyhands_os::process::Identity;
use manyhands_process::{Process, ProcessError, SpawnError, StartMethod, in_child, task};
use manyhands_shm::Shared;
use serde::{Deserialize, Serialize};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

fn describe(number: i32, text: &str) -> String {
    format!("{number} {text}")
}

fn largest<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    lines: Vec<String>,
    total: u64,
}

#[test]
fn value_comes_back_by_both_start_methods() {
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let mut process = builder.spawn(describe, (7, "worker")).expect("it starts");
        assert_ne!(process.id(), std::process::id());
        assert_eq!(process.join().expect("a value"), "7 worker");
        assert!(!process.is_alive());
    }
}

#[test]
fn closures_generics_and_methods_can_be_called() {
    let mut square = Process::spawn(|x: u64| x * x, (12,)).expect("closure");
    let mut largest = Process::spawn(largest::<f64>, (1.5, 2.5)).expect("generic");
    let mut bytes = Process::spawn(String::into_bytes, ("ab".to_owned(),)).expect("method");
    assert_eq!(square.join().expect("a value"), 144);
    assert_eq!(largest.join().expect("a value"), 2.5);
    assert_eq!(bytes.join().expect("a value"), b"ab");
}

#[test]
fn task_carries_what_it_lists_by_both_start_methods() {
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let (factor, table, name) = (3_i64, vec![1_u8; 100_000], String::from("ann"));
        let task = task!([factor, table, name] |x: i64, text: &str| {
            format!("{name}: {} {text}", x * factor + table.len() as i64)
        });
        assert!(format!("{task:?}").contains("ann"));
        let mut process = builder.spawn(task, (14, "in all")).expect("it starts");
        assert_eq!(process.join().expect("a value"), "ann: 100042 in all");
        // One that carries nothing, and one whose arguments are inferred.
        assert_eq!(
            builder
                .spawn(task!([] || 5), ())
                .expect("it starts")
                .join()
                .expect("a value"),
            5
        );
        let sum = task!([factor] | a, b | a + b + factor);
        let value = builder
            .spawn(sum, (1_i64, 2_i64))
            .expect("it starts")
            .join();
        assert_eq!(value.expect("a value"), 6);
    }
}

#[test]
fn shared_object_that_a_task_carries_is_the_same_there() {
    let counter = Shared::new(AtomicU32::new(5)).expect("space");
    let ours = counter.clone();
    let mut process = Process::spawn(task!([counter] |n: u32| counter.fetch_add(n, SeqCst)), (2,))
        .expect("it starts");
    assert_eq!(process.join().expect("a value"), 5);
    assert_eq!(ours.load(SeqCst), 7);
}

#[test]
fn text_that_is_borrowed_here_can_be_an_argument_there() {
    let text = String::from("borrowed");
    let mut process = Process::spawn(describe, (1, text.as_str())).expect("it starts");
    drop(text);
    assert_eq!(process.join().expect("a value"), "1 borrowed");
}

#[test]
fn large_arguments_and_results_cross() {
    let numbers: Vec<u64> = (0..500_000).collect();
    let total = numbers.iter().sum();
    let mut process = Process::spawn(
        |numbers: Vec<u64>| Report {
            lines: vec!["x".repeat(1_000_000)],
            total: numbers.iter().sum(),
        },
        (numbers,),
    )
    .expect("it starts");
    let report = process.join().expect("a value");
    assert_eq!((report.total, report.lines[0].len()), (total, 1_000_000));
}

#[test]
fn value_is_taken_once() {
    let mut process = Process::spawn(|| 1, ()).expect("it starts");
    assert_eq!(process.join().expect("a value"), 1);
    assert!(matches!(process.join(), Err(ProcessError::Taken { .. })));
}

#[test]
fn join_with_a_time_out_leaves_the_process_joinable() {
    // It waits for a signal that never comes by itself.
    let mut process = Process::spawn(wait_for_ever, ()).expect("it starts");
    assert!(process.try_join().expect("no error").is_none());
    let soon = process.join_timeout(Duration::from_millis(5));
    assert!(soon.expect("no error").is_none());
    assert!(
        process
            .join_deadline(Instant::now())
            .expect("no error")
            .is_none()
    );
    assert!(process.is_alive());
    assert_eq!(process.exit(), None);
    process.kill().expect("kill");
    assert!(process.join().is_err());
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

#[test]
fn children_have_children() {
    fn depth(levels: u32) -> u32 {
        if levels == 0 {
            return u32::from(in_child());
        }
        let mut process = Process::spawn(depth, (levels - 1,)).expect("a grandchild");
        process.join().expect("a value") + 1
    }
    let mut process = Process::spawn(depth, (3,)).expect("a child");
    assert_eq!(process.join().expect("a value"), 4);
}

#[test]
fn generations_are_bounded() {
    fn descend(level: u32) -> (u32, String) {
        match Process::spawn(descend, (level + 1,)) {
            Ok(mut process) => process.join().expect("a value"),
            Err(error) => (level, error.to_string()),
        }
    }
    let mut process = Process::spawn(descend, (1,)).expect("a child");
    let (level, error) = process.join().expect("a value");
    assert_eq!(
        (level, error.as_str()),
        (8, "8 generations of processes are the most")
    );
}

#[test]
fn threads_can_start_processes_at_once() {
    let threads: Vec<_> = (0..8_u64)
        .map(|n| {
            std::thread::spawn(move || {
                let method = METHODS[n as usize % 2];
                (0..4_u64)
                    .map(|m| {
                        let builder = Process::builder().start_method(method);
                        let mut process = builder
                            .spawn(|n: u64, m: u64| n * 10 + m, (n, m))
                            .expect("it starts");
                        process.join().expect("a value")
                    })
                    .sum::<u64>()
            })
        })
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().expect("no panic"), n as u64 * 40 + 6);
    }
}

#[derive(Debug, Serialize)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("not in the mood"))
    }
}

#[derive(Debug)]
struct Faulty;

impl Serialize for Faulty {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

impl<'de> Deserialize<'de> for Faulty {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Faulty)
    }
}

#[test]
fn arguments_that_cannot_cross_are_errors_of_the_spawn() {
    let refused = Process::spawn(|_: Picky| (), (Picky,));
    assert!(
        matches!(refused, Err(SpawnError::Undecodable { .. })),
        "{refused:?}"
    );
    let refused = Process::spawn(|_: Faulty| (), (Faulty,));
    assert!(
        matches!(refused, Err(SpawnError::Unencodable(_))),
        "{refused:?}"
    );
}

#[test]
fn results_that_cannot_cross_are_errors_of_the_join() {
    let mut process = Process::spawn(|| Picky, ()).expect("it starts");
    assert!(matches!(
        process.join(),
        Err(ProcessError::Undecodable { .. })
    ));
    let mut process = Process::spawn(|| Faulty, ()).expect("it starts");
    assert!(matches!(
        process.join(),
        Err(ProcessError::Unencodable { .. })
    ));
}

#[test]
fn panic_while_decoding_arguments_is_a_death_before_the_function() {
    #[derive(Debug, Serialize)]
    struct Bomb;
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("in the decoder")
        }
    }
    let Err(SpawnError::Died(exit)) = Process::spawn(|_: Bomb| (), (Bomb,)) else {
        panic!("it must not start");
    };
    assert!(exit.to_string().contains("in the decoder"), "{exit}");
}

/// Runs this test program as somebody might who has a child's marks by accident.
fn run_with_marks(mark: &str, arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().expect("a path"))
        .env("MANYHANDS_CHILD", mark)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs")
}

#[test]
fn process_with_a_childs_variable_is_ordinary_but_starts_nothing() {
    if std::env::var_os("MANYHANDS_CHILD").is_some() {
        assert!(!in_child());
        let refused = Process::spawn(|| (), ());
        assert!(
            matches!(refused, Err(SpawnError::InsideStartingChild)),
            "{refused:?}"
        );
        return;
    }
    let name = "process_with_a_childs_variable_is_ordinary_but_starts_nothing";
    let output = run_with_marks("child:1:0", &[name, "--exact"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
}

#[test]
fn process_with_a_childs_marks_but_no_parent_ends_at_once() {
    for mark in ["child:1:0", "zygote:1:0", "nonsense", ""] {
        let output = run_with_marks(mark, &["--manyhands-child"]);
        let code = output.status.code().expect("it exits");
        assert!(
            code == 78 || (mark.starts_with("zygote") && code == 0),
            "{mark}: {output:?}"
        );
        assert!(output.stdout.is_empty(), "it ran tests: {output:?}");
    }
}

#[test]
fn every_process_knows_its_identity_as_the_system_tells_it() {
    // A fork reckons it from the clock where it can, and a start falls into any part of a tick.
    for method in METHODS.into_iter().chain([StartMethod::Zygote; 60]) {
        let look = || {
            let told = Identity::of(std::process::id());
            (Identity::current().pack(), told.map(Identity::pack))
        };
        let mut process = Process::builder()
            .start_method(method)
            .spawn(look, ())
            .expect("it starts");
        let (own, told) = process.join().expect("a value");
        assert_eq!(Some(own), told);
    }
}
