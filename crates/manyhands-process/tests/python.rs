//! What CPython's own tests ask of processes, by the numbers in `docs/python-map.md`; others bear their
//! number in the file of their subject.

use std::env;
use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, Process, StartMethod, cpu_count};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

#[test]
fn process_15_hundred_at_once_end_well_and_hundred_end_when_told_at_once() {
    let builder = Process::builder();
    let start = |number: u32| builder.spawn(|n: u32| n, (number,)).expect("it starts");
    let mut all: Vec<Process<u32>> = (0..100).map(start).collect();
    let values = all
        .iter_mut()
        .map(|process| process.join().expect("a value"));
    assert!(values.eq(0..100));
    let sleep = |_| builder.spawn(wait_for_ever, ()).expect("it starts");
    let all: Vec<Process<()>> = (0..100).map(sleep).collect();
    for process in &all {
        process.terminate().expect("it is sent");
    }
    for mut process in all {
        let error = process.join().expect_err("it was ended");
        let exit = error.exit();
        assert!(
            matches!(
                exit,
                Some(Exit::Signaled {
                    signal: 15,
                    by_us: true,
                    ..
                })
            ),
            "{error}"
        );
    }
}

#[test]
fn process_16_parents_copies_of_the_arguments_are_gone_when_the_function_runs() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    #[derive(Debug, Serialize, Deserialize)]
    struct Counted(u32);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    for (before, method) in (0..).zip(METHODS) {
        let release = Shared::new(Event::new()).expect("space");
        let wait = |counted: Counted, release: Shared<Event>| {
            release.wait();
            counted.0
        };
        let builder = Process::builder().start_method(method);
        let arguments = (Counted(7), release.clone());
        let mut process = builder.spawn(wait, arguments).expect("it starts");
        assert_eq!(DROPPED.load(Relaxed), before + 1);
        release.set();
        assert_eq!(process.join().expect("a value"), 7);
    }
}

#[test]
fn process_18_open_descriptor_of_the_parent_is_not_open_in_the_child() {
    let file = fs::File::open("/proc/self/comm").expect("it is there");
    // As C code opens files.
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("it is open");
    let has = |number: i32| {
        let target = fs::read_link(format!("/proc/self/fd/{number}"));
        target.is_ok_and(|target| target.ends_with("comm"))
    };
    assert!(has(file.as_raw_fd()));
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let mut process = builder.spawn(has, (file.as_raw_fd(),)).expect("it starts");
        assert!(!process.join().expect("a value"), "{method:?}");
    }
}

/// The process in the middle has a handler for interrupts, which leaves them to its parent.
#[test]
fn process_27_join_survives_signals() {
    fn join_one(is_there: Shared<Event>, release: Shared<Event>) -> u32 {
        let wait = |release: Shared<Event>| {
            release.wait();
            7
        };
        let mut process = Process::spawn(wait, (release,)).expect("it starts");
        is_there.set();
        process.join().expect("a value")
    }
    let event = || Shared::new(Event::new()).expect("space");
    let (is_there, release) = (event(), event());
    let arguments = (is_there.clone(), release.clone());
    let mut process = Process::spawn(join_one, arguments).expect("it starts");
    is_there.wait();
    let pidfd = Pidfd::open(process.id()).expect("it runs");
    for _ in 0..500 {
        pidfd.signal(2).expect("it is sent");
        thread::yield_now();
    }
    release.set();
    assert_eq!(process.join().expect("a value"), 7);
}

#[test]
fn process_37_grandchildren_have_environment_and_arguments_of_their_parents() {
    type Place = (Option<String>, Vec<String>);
    fn place() -> Place {
        let variable = env::var("MANYHANDS_TEST_FLAG").ok();
        (variable, env::args().take(1).collect())
    }
    fn ask_child(by_exec: bool) -> Place {
        let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
        let mut process = builder.spawn(place, ()).expect("it starts");
        process.join().expect("a value")
    }
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let builder = builder.env("MANYHANDS_TEST_FLAG", "on");
        let by_exec = method == StartMethod::Exec;
        let mut process = builder.spawn(ask_child, (by_exec,)).expect("it starts");
        let (flag, program) = process.join().expect("a value");
        assert_eq!((flag.as_deref(), program), (Some("on"), place().1));
    }
}

#[test]
fn thread_27_sixteen_threads_that_each_start_a_process_and_wait_for_it() {
    let start = |number: u32| {
        let method = METHODS[number as usize % 2];
        let builder = Process::builder().start_method(method);
        let mut process = builder.spawn(|n: u32| n + 1, (number,)).expect("it starts");
        assert_eq!(process.join().expect("a value"), number + 1);
    };
    thread::scope(|threads| {
        for number in 0..16 {
            threads.spawn(move || start(number));
        }
    });
}

#[test]
fn process_17_descriptors_of_a_child_do_not_grow_with_its_siblings() {
    fn count() -> usize {
        fs::read_dir("/proc/self/fd")
            .expect("/proc is there")
            .count()
    }
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let mut alone = builder.spawn(count, ()).expect("it starts");
        let alone = alone.join().expect("a value");
        let siblings: Vec<Process<()>> = (0..10)
            .map(|_| builder.spawn(wait_for_ever, ()).expect("it starts"))
            .collect();
        let mut last = builder.spawn(count, ()).expect("it starts");
        assert_eq!(last.join().expect("a value"), alone);
        siblings
            .iter()
            .for_each(|sibling| sibling.kill().expect("it is sent"));
    }
}

/// Counts processors in a mount namespace of its own, where these files stand for the system's;
/// `None` where the system allows no such thing.
fn count_under(tree: String) -> Option<(usize, usize)> {
    let none: Option<&str> = None;
    let before = cpu_count();
    unshare(CloneFlags::CLONE_NEWNS).ok()?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
    let bind = |from: &str, to: &str| {
        let from = format!("{tree}/{from}");
        mount(Some(from.as_str()), to, none, MsFlags::MS_BIND, none)
    };
    bind("groups", "/sys/fs/cgroup").ok()?;
    bind("mine", "/proc/self/cgroup").ok()?;
    Some((before, cpu_count()))
}

/// Real files in place of the system's: quotas of any depth, where no group has to be made.
#[test]
fn process_11_processors_are_bounded_by_the_least_quota_of_nested_groups() {
    let machine = cpu_count();
    // The files of version 2, by group, and what they leave of the machine's processors.
    let cases: [(&[(&str, &str)], usize); 6] = [
        (&[("a/b", "100000 100000")], 1),
        (&[("a", "100000 100000"), ("a/b", "max 100000")], 1),
        (&[("a", "max 100000"), ("a/b", "50000 100000")], 1),
        (&[("a", "100000 100000"), ("a/b", "900000 100000")], 1),
        (&[("a", "max 100000"), ("a/b", "max 100000")], machine),
        (&[], machine),
    ];
    for (quotas, expected) in cases {
        let name = format!("manyhands-{}-quotas", std::process::id());
        let tree = std::env::temp_dir().join(name);
        fs::create_dir_all(tree.join("groups/a/b")).expect("a folder");
        fs::write(tree.join("groups/a/b/cgroup.controllers"), "cpu\n").expect("a file");
        fs::write(tree.join("mine"), "0::/a/b\n").expect("a file");
        for (group, quota) in quotas {
            let file = tree.join("groups").join(group).join("cpu.max");
            fs::write(file, format!("{quota}\n")).expect("a file");
        }
        let mut process = Process::spawn(count_under, (tree.display().to_string(),));
        let counted = process
            .as_mut()
            .expect("it starts")
            .join()
            .expect("a value");
        fs::remove_dir_all(&tree).expect("nobody has it open");
        match counted {
            Some(counted) => assert_eq!(counted, (machine, expected), "{quotas:?}"),
            None => return eprintln!("left out: no mounts of our own are allowed here"),
        }
    }
}
