//! Processes among processes: what they share, what they inherit, and what is left when one is
//! killed. Tests that count run in a child of their own, where no other test disturbs them.

mod common;

use std::fs;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_os::process::Pidfd;
use manyhands_process::{Limits, ParentProcess, Process, SpawnError, StartMethod, Zygote, current};
use manyhands_shm::Shared;
use manyhands_sync::Event;

use common::{
    alone, only_zygote_and_spare_are_left, wait_ends, wait_for_ever, wait_state, zygote_and_spare,
};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const LONG: Duration = Duration::from_secs(60);

#[test]
fn shared_objects_in_arguments_are_the_same_there() {
    for method in METHODS {
        let counter = Shared::new(AtomicU32::new(5)).expect("space");
        let mut process = Process::builder()
            .start_method(method)
            .spawn(
                |counter: Shared<AtomicU32>| counter.fetch_add(1, SeqCst),
                (counter.clone(),),
            )
            .expect("it starts");
        assert_eq!(process.join().expect("a value"), 5);
        assert_eq!(counter.load(SeqCst), 6);
    }
}

#[test]
fn shared_object_made_by_a_child_outlives_it() {
    fn make() -> Shared<AtomicU32> {
        Shared::new(AtomicU32::new(7)).expect("space")
    }
    let mut process = Process::spawn(make, ()).expect("it starts");
    let counter = process.join().expect("a value");
    assert!(!process.is_alive());
    assert_eq!(counter.load(SeqCst), 7);
}

#[test]
fn argument_dropped_after_the_spawn_is_still_the_childs() {
    let gate = Shared::new(Event::new()).expect("space");
    let counter = Shared::new(AtomicU32::new(5)).expect("space");
    let read = |gate: Shared<Event>, counter: Shared<AtomicU32>| {
        gate.wait();
        counter.load(SeqCst)
    };
    let mut process = Process::spawn(read, (gate.clone(), counter)).expect("it starts");
    gate.set();
    assert_eq!(process.join().expect("a value"), 5);
}

/// Starts a grandchild, tells its id and that of the zygote, and waits for its own death.
fn middle(pids: Shared<[AtomicU32; 2]>, ready: Shared<Event>, by_exec: bool) {
    let method = METHODS[usize::from(!by_exec)];
    let builder = Process::builder().start_method(method);
    let grandchild = builder.spawn(wait_for_ever, ()).expect("a grandchild");
    pids[0].store(grandchild.id(), SeqCst);
    pids[1].store(Zygote::id().unwrap_or(0), SeqCst);
    ready.set();
    wait_for_ever();
}

#[test]
fn grandchildren_and_zygotes_die_with_a_killed_parent() {
    for method in METHODS {
        let pids = Shared::new([AtomicU32::new(0), AtomicU32::new(0)]).expect("space");
        let ready = Shared::new(Event::new()).expect("space");
        let by_exec = method == StartMethod::Exec;
        let child = Process::builder()
            .start_method(method)
            .spawn(middle, (pids.clone(), ready.clone(), by_exec))
            .expect("it starts");
        assert!(ready.wait_timeout(LONG), "the grandchild never came");
        let orphans: Vec<Pidfd> = pids
            .iter()
            .map(|pid| pid.load(SeqCst))
            .filter(|pid| *pid != 0)
            .map(|pid| Pidfd::open(pid).expect("it runs"))
            .collect();
        assert_eq!(orphans.len(), if by_exec { 1 } else { 2 });
        assert!(orphans.iter().all(|orphan| !orphan.has_ended()));
        child.kill().expect("it is sent");
        for orphan in orphans {
            let status = orphan.wait(Deadline::after(LONG)).expect("wait");
            assert!(status.is_some(), "it outlived its parent");
        }
    }
}

/// What a process says of itself.
type Said = (String, u32, u32, Option<ParentProcess>);

fn say() -> Said {
    let here = current();
    (here.name, here.id, here.generation, here.parent)
}

#[test]
fn process_01_and_05_each_process_knows_itself_and_its_parent() {
    fn first(by_exec: bool) -> (Said, Said, u32) {
        let method = METHODS[usize::from(!by_exec)];
        let mut second = Process::builder()
            .start_method(method)
            .spawn(say, ())
            .expect("it starts");
        let id = second.id();
        (say(), second.join().expect("a value"), id)
    }
    assert_eq!(say(), ("main".to_owned(), std::process::id(), 0, None));
    for method in METHODS {
        let builder = Process::builder().name("first").start_method(method);
        let by_exec = method == StartMethod::Exec;
        let mut process = builder.spawn(first, (by_exec,)).expect("it starts");
        let (child, grandchild, id) = process.join().expect("a value");
        assert_eq!(
            (child.0.as_str(), child.1, child.2),
            ("first", process.id(), 1)
        );
        let parent = child.3.expect("it has one");
        assert_eq!(
            (parent.name.as_str(), parent.id),
            ("main", std::process::id())
        );
        assert_eq!(
            (grandchild.0.as_str(), grandchild.1, grandchild.2),
            ("main", id, 2)
        );
        let parent = grandchild.3.expect("it has one");
        assert_eq!((parent.name.as_str(), parent.id), ("first", process.id()));
    }
}

#[test]
fn killed_zygote_is_replaced() {
    fn body() {
        let mut killed = Vec::new();
        for n in 0..20_u32 {
            let mut process = Process::spawn(|n: u32| n + 1, (n,)).expect("it starts");
            assert_eq!(process.join().expect("a value"), n + 1);
            let pid = Zygote::id().expect("it runs");
            assert!(killed.iter().all(|(former, _)| *former != pid));
            let zygote = Pidfd::open(pid).expect("it runs");
            zygote.signal(9).expect("kill");
            wait_ends([&zygote].into_iter());
            killed.push((pid, zygote));
        }
        only_zygote_and_spare_are_left();
    }
    alone(body);
}

#[test]
fn zygotes_killed_at_any_time_lose_and_double_no_call() {
    fn body() {
        let calls = Shared::new(AtomicU32::new(0)).expect("space");
        let stop = Shared::new(AtomicU32::new(0)).expect("space");
        let killer = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut pause = 1_u64;
                while stop.load(Relaxed) == 0 {
                    if let Some(pidfd) = Zygote::id().and_then(|pid| Pidfd::open(pid).ok()) {
                        let _ = pidfd.signal(9);
                    }
                    pause = pause * 7 % 1999;
                    let nobody = Event::new();
                    let _ = nobody.wait_timeout(Duration::from_micros(pause));
                }
            }
        });
        let (mut value_count, mut refused) = (0, 0);
        for _ in 0..150 {
            let count = |calls: Shared<AtomicU32>| calls.fetch_add(1, SeqCst);
            match Process::spawn(count, (calls.clone(),)) {
                Ok(mut process) => {
                    process.join().expect("only zygotes are killed");
                    value_count += 1;
                }
                // Three zygotes in a row were killed.
                Err(SpawnError::ZygoteDied(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(1, Relaxed);
        killer.join().expect("no panic");
        assert_eq!(calls.load(SeqCst), value_count, "refused: {refused}");
        only_zygote_and_spare_are_left();
    }
    alone(body);
}

#[test]
fn children_see_the_directory_of_now_and_the_environment() {
    fn body() {
        type Variables = Vec<(String, String)>;
        fn look() -> (String, Variables) {
            let directory = std::env::current_dir().expect("a directory");
            (directory.display().to_string(), std::env::vars().collect())
        }
        for method in METHODS {
            for directory in ["/", "/proc", "/"] {
                std::env::set_current_dir(directory).expect("it is there");
                let builder = Process::builder().start_method(method);
                let mut process = builder.spawn(look, ()).expect("it starts");
                let seen = process.join().expect("a value");
                assert_eq!(seen, (directory.to_owned(), std::env::vars().collect()));
            }
        }
    }
    alone(body);
}

#[test]
fn children_are_not_marked_and_treat_signals_as_usual() {
    fn look() -> (Vec<String>, u64) {
        let ours = std::env::vars()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("MANYHANDS") || name == "LD_PRELOAD")
            .collect();
        let status = fs::read_to_string("/proc/self/status").expect("/proc");
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .expect("there");
        // Signals above 31 are the C library's own affair.
        let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number");
        (ours, ignored & 0x7fff_ffff)
    }
    let mine = look();
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let mut process = builder.spawn(look, ()).expect("it starts");
        let theirs = process.join().expect("a value");
        assert_eq!(theirs, mine, "{method:?}");
    }
}

#[test]
fn stopped_zygote_is_an_error_after_the_start_timeout() {
    fn body() {
        drop(Process::spawn(|| (), ()).expect("it starts").join());
        let [zygote, spare] = zygote_and_spare();
        // After the fork it answers, and then sleeps.
        wait_state(zygote, 'S');
        let zygote = Pidfd::open(zygote).expect("it runs");
        const SIGSTOP: i32 = 19;
        zygote.signal(SIGSTOP).expect("it is sent");
        // That one was forked before.
        let mut process = Process::spawn(|| (), ()).expect("it starts");
        assert_eq!(process.id(), spare);
        process.join().expect("a value");
        let builder = Process::builder().start_timeout(Duration::from_millis(50));
        let refused = builder.spawn(|| (), ());
        assert!(matches!(refused, Err(SpawnError::TimedOut)), "{refused:?}");
        drop(Process::spawn(|| (), ()).expect("the next zygote").join());
    }
    alone(body);
}

/// A zygote's answer once brought two descriptors. When there was no room for them it was lost, the
/// start waited for five seconds, and the zygote was given up.
#[test]
fn shortage_of_descriptors_is_told_and_the_zygote_goes_on() {
    const EMFILE: i32 = 24;
    fn body() {
        drop(Process::spawn(|| (), ()).expect("it starts").join());
        let [zygote, _] = zygote_and_spare();
        let mut kept = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            kept.push(file);
        }
        let (mut started, mut refused) = (0, 0);
        for _ in 0..8 {
            for _ in 0..3 {
                match Process::spawn(|n: u32| n, (started,)) {
                    Ok(mut process) => {
                        assert_eq!(process.join().expect("a value"), started);
                        started += 1;
                    }
                    Err(SpawnError::Os(error)) => {
                        assert_eq!(error.source.raw_os_error(), Some(EMFILE), "{error}");
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(Zygote::id(), Some(zygote));
            kept.pop();
        }
        assert!(started > 0 && refused > 0, "{started}, {refused}");
        drop(kept);
        drop(Process::spawn(|| (), ()).expect("there is room").join());
        assert_eq!(zygote_and_spare()[0], zygote);
        only_zygote_and_spare_are_left();
    }
    let limits = Limits {
        descriptors: Some(64),
        ..Limits::default()
    };
    let mut process = Process::builder()
        .limits(limits)
        .spawn(body, ())
        .expect("it starts");
    if let Err(error) = process.join() {
        panic!("{error}");
    }
}
