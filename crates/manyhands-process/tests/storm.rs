//! Children killed at random instants, from before they reach their function to after they have
//! handed the result over. The only test of its program: it kills every child there is.

use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, Process, ProcessError, SpawnError, StartMethod, Zygote};
use manyhands_shm::{Shared, arena};
use manyhands_sync::Event;

mod common;

use common::{renewed_zygote_and_spare, zygote_and_spare};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const ROUNDS: u32 = 400;

/// The ids of this process's children, the zygote and the dead among them.
fn children() -> Vec<u32> {
    let me = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        after_name.split_ascii_whitespace().nth(1) == Some(&me)
    })
    .collect()
}

/// Kills children, also one that was forked ahead, and sometimes the zygote too, until it is told to stop.
fn kill_at_random(stop: &AtomicBool) -> u32 {
    let (mut seed, mut killed) = (1_u64, 0);
    while !stop.load(Relaxed) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = Event::new();
        let _ = pause.wait_timeout(Duration::from_micros((seed >> 33) % 1500));
        let zygote = Zygote::id();
        for pid in children() {
            if Some(pid) == zygote && (seed >> 40) % 8 != 0 {
                continue;
            }
            if let Ok(pidfd) = Pidfd::open(pid) {
                killed += u32::from(pidfd.signal(9).is_ok());
            }
        }
    }
    killed
}

#[derive(Debug, Default)]
struct Tally {
    values: u32,
    killed: u32,
    not_started: u32,
}

fn one_round(round: u32, calls: &Shared<AtomicU32>, tally: &mut Tally) {
    let builder = Process::builder().start_method(METHODS[(round % 2) as usize]);
    let work = |calls: Shared<AtomicU32>, round: u32| {
        calls.fetch_add(1, SeqCst);
        (vec![round; 5000], calls)
    };
    let mut process = match builder.spawn(work, (calls.clone(), round)) {
        Ok(process) => process,
        Err(SpawnError::Died(_) | SpawnError::ZygoteDied(_)) => return tally.not_started += 1,
        Err(error) => panic!("{error}"),
    };
    match process.join() {
        Ok((list, calls)) => {
            assert!(list.len() == 5000 && list.iter().all(|item| *item == round));
            assert!(calls.load(SeqCst) > 0);
            tally.values += 1;
        }
        Err(ProcessError::Ended { exit, .. }) => {
            let expected = Exit::Signaled {
                code: None,
                address: None,
                signal: 9,
                core_dumped: false,
                by_us: false,
            };
            assert_eq!(exit, expected);
            tally.killed += 1;
        }
        // It was killed after its report, and with it went what the result refers to.
        Err(ProcessError::Undecodable { .. }) => tally.killed += 1,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn children_killed_at_random_hang_nobody_and_leave_nothing() {
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    let calls = Shared::new(AtomicU32::new(0)).expect("space");
    let arena = arena::family().expect("an arena");
    let stop = Arc::new(AtomicBool::new(false));
    let killer = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || kill_at_random(&stop)
    });
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        one_round(round, &calls, &mut tally);
    }
    stop.store(true, Relaxed);
    let kills = killer.join().expect("no panic");
    assert_eq!(tally.values + tally.killed + tally.not_started, ROUNDS);
    let ran = calls.load(SeqCst);
    assert!(
        ran >= tally.values && ran <= tally.values + tally.killed,
        "{ran} {tally:?}"
    );
    assert!(kills > 0, "nothing was tested");

    let kept = renewed_zygote_and_spare();
    for pid in children() {
        if !kept.contains(&pid)
            && let Ok(pidfd) = Pidfd::open(pid)
        {
            let long = Deadline::after(Duration::from_secs(60));
            assert!(poll_readable(&[pidfd.as_fd()], long).expect("poll")[0]);
        }
    }
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        drop(builder.spawn(|| (), ()).expect("it starts").join());
    }
    let kept = zygote_and_spare();
    let left = children();
    assert_eq!(left.len(), 2, "{left:?} for {kept:?}");
    assert!(left.iter().all(|pid| kept.contains(pid)), "{left:?}");
    let in_use: Vec<_> = arena
        .stats()
        .classes
        .iter()
        .map(|class| class.owned + class.given)
        .collect();
    assert!(in_use.iter().all(|count| *count == 0), "{in_use:?}");
    eprintln!("{tally:?}, {kills} kills, {ran} calls");
}
