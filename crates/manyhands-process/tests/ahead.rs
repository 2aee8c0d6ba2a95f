//! The process that is forked ahead, killed before it is needed, while it gets ready, and when it has just
//! been given its order.

mod common;

use std::fs;
use std::hint::spin_loop;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, Process, ProcessError, SpawnError, Stdio, Zygote};
use manyhands_shm::arena;
use manyhands_sync::Event;

use common::{alone, only_zygote_and_spare_are_left, wait_ends, wait_state, zygote_and_spare};

#[test]
fn killed_process_that_was_forked_ahead_is_replaced() {
    fn body() {
        drop(Process::spawn(|| (), ()).expect("it starts").join());
        for n in 0..20_u32 {
            let [zygote, spare] = zygote_and_spare();
            let killed = Pidfd::open(spare).expect("it runs");
            killed.signal(9).expect("kill");
            wait_ends([&killed].into_iter());
            let mut process = Process::spawn(|n: u32| n + 1, (n,)).expect("another starts");
            assert_ne!(process.id(), spare);
            assert_eq!(process.join().expect("a value"), n + 1);
            assert_eq!(zygote_and_spare()[0], zygote);
        }
        only_zygote_and_spare_are_left();
    }
    alone(body);
}

/// What a stopped fork did not receive, and who is started next.
#[test]
fn descriptors_of_an_order_that_nobody_took_reach_nobody_else() {
    const SIGSTOP: i32 = 19;
    fn body() {
        drop(Process::spawn(|| (), ()).expect("it starts").join());
        for n in 0..5_u32 {
            let builder = Process::builder().stdout(Stdio::Captured);
            let [_, spare] = zygote_and_spare();
            let descriptors = descriptor_count();
            let stopped = Pidfd::open(spare).expect("it runs");
            stopped.signal(SIGSTOP).expect("it is sent");
            wait_state(spare, 'T');
            let hurried = builder.clone().start_timeout(Duration::from_millis(20));
            let late = hurried
                .spawn(print, (1000 + n,))
                .expect_err("it is stopped");
            assert!(matches!(late, SpawnError::TimedOut), "{late}");
            wait_ends([&stopped].into_iter());

            let mut process = builder.spawn(print, (n,)).expect("another starts");
            let mut output = String::new();
            let stdout = process.take_stdout();
            stdout
                .expect("it is captured")
                .read_to_string(&mut output)
                .expect("text");
            assert_eq!(output, format!("{n}\n"));
            process.join().expect("a value");
            drop((process, stopped));
            assert_eq!(descriptor_count(), descriptors);
        }
        only_zygote_and_spare_are_left();
    }
    alone(body);
}

#[expect(clippy::print_stdout, reason = "is what is captured")]
fn print(number: u32) {
    println!("{number}");
}

/// The order was given to the dead, whose death was told as that of the child.
#[test]
fn process_that_is_killed_with_its_order_unread_is_replaced() {
    const SIGSTOP: i32 = 19;
    fn body() {
        drop(Process::spawn(|| (), ()).expect("it starts").join());
        for n in 0..20_u32 {
            let [_, spare] = zygote_and_spare();
            // What is stopped reads nothing, also if it has not come so far yet.
            let stopped = Pidfd::open(spare).expect("it runs");
            stopped.signal(SIGSTOP).expect("it is sent");
            wait_state(spare, 'T');
            let killer = std::thread::spawn(move || {
                while Zygote::spare() == Some(spare) {
                    std::thread::yield_now();
                }
                // It was taken; whether it has its order by now or not, nobody has read it.
                let _ = Event::new().wait_timeout(Duration::from_micros(u64::from(n) * 20));
                stopped.signal(9).expect("it is sent");
            });
            let mut process = Process::spawn(|n: u32| n + 1, (n,)).expect("another starts");
            assert_ne!(process.id(), spare);
            assert_eq!(process.join().expect("a value"), n + 1);
            killer.join().expect("no panic");
        }
        only_zygote_and_spare_are_left();
    }
    alone(body);
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Kills each fork after a time in which it gets ready, waits, or runs already.
fn kill_forks(kills: &AtomicU32, most: u32) {
    let (mut numbers, mut last) = (Numbers(1), None);
    while kills.load(Relaxed) < most {
        let fork = Zygote::spare();
        if fork == last {
            std::thread::yield_now();
            continue;
        }
        last = fork;
        let begin = Instant::now();
        let Some(pidfd) = fork.and_then(|pid| Pidfd::open(pid).ok()) else {
            continue;
        };
        let delay = Duration::from_micros(numbers.below(800));
        while begin.elapsed() < delay {
            spin_loop();
        }
        if !pidfd.has_ended() && pidfd.signal(9).is_ok() {
            kills.fetch_add(1, Relaxed);
        }
    }
}

/// Whether it brought its value; otherwise it was told that it was killed.
fn has_value(number: u32) -> bool {
    const KILLED: fn(&Exit) -> bool = |exit| matches!(exit, Exit::Signaled { signal: 9, .. });
    // Descriptors come another way than the rest of an order.
    let builder = match number % 2 {
        0 => Process::builder(),
        _ => Process::builder().stdout(Stdio::Captured),
    };
    match builder.spawn(|n: u32| n + 1, (number,)) {
        Ok(mut process) => match process.join() {
            Ok(value) => value == number + 1 || panic!("{value}"),
            Err(ProcessError::Ended { exit, .. }) if KILLED(&exit) => false,
            Err(error) => panic!("{error}"),
        },
        Err(SpawnError::Died(exit)) if KILLED(&exit) => false,
        Err(error) => panic!("{error}"),
    }
}

fn descriptor_count() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn process_that_is_forked_ahead_may_be_killed_at_any_moment() {
    const KILLS: u32 = 500;
    fn body() {
        assert!(has_value(0));
        let [zygote, _] = zygote_and_spare();
        let descriptors = descriptor_count();
        let kills = Arc::new(AtomicU32::new(0));
        let killer = std::thread::spawn({
            let kills = Arc::clone(&kills);
            move || kill_forks(&kills, KILLS)
        });
        let (mut numbers, mut values, mut told) = (Numbers(2), 0, 0);
        while kills.load(Relaxed) < KILLS {
            match has_value(values) {
                true => values += 1,
                false => told += 1,
            }
            let pause = Duration::from_micros(numbers.below(600));
            let _ = Event::new().wait_timeout(pause);
        }
        killer.join().expect("no panic");
        assert!(values > 0 && told > 0, "{values}, {told}");
        // The last one that was killed may take the next order, and die with it.
        while !has_value(values) {}
        assert_eq!(zygote_and_spare()[0], zygote);
        assert_eq!(descriptor_count(), descriptors);
        only_zygote_and_spare_are_left();
        let classes = arena::stats().expect("an arena").classes;
        let in_use: Vec<_> = classes
            .iter()
            .map(|class| class.owned + class.given)
            .collect();
        assert!(in_use.iter().all(|count| *count == 0), "{in_use:?}");
        eprintln!("{values} values, {told} told");
    }
    alone(body);
}
