//! How long a family outlives its first process, whatever that dies of and whatever they do.
//!
//! The first process is this test program, started again by its name: nothing of this library is its
//! parent, so nobody but its zygote, its children's keepers and the kernel sees to their end. Times are printed.

use std::env;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, limits};
use manyhands_process::{Process, StartMethod, Zygote};
use manyhands_shm::Shared;
use manyhands_sync::Lock;
use serde::{Deserialize, Serialize};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const ENDS: [&str; 3] = ["exit", "abort", "kill"];
/// It aborts, and its zygote was killed before; nobody has its place, or another one.
const WITHOUT_ZYGOTE: [&str; 2] = ["alone", "replaced"];
const ROUNDS: usize = 5;
/// What is asked of any machine, however loaded; the figures that are printed are smaller.
const MOST: Duration = Duration::from_secs(2);

/// The variable that makes this program a first process: how it ends, and how it starts others.
const FIRST: &str = "MANYHANDS_TEST_FIRST";
const NAME: &str = "family_is_gone_soon_after_its_first_process";

/// What somebody does when the end comes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Work {
    Computes,
    WaitsForLock,
    Sleeps,
}

const WORKS: [Work; 3] = [Work::Computes, Work::WaitsForLock, Work::Sleeps];

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn say_id(id: u32) {
    let line = format!("member {id}\n");
    io::stdout().write_all(line.as_bytes()).expect("it is open");
    io::stdout().flush().expect("it is open");
}

/// A child, which has children itself as long as there are generations left.
fn member(work: Work, generations: u32, by_exec: bool, lock: Shared<Lock<u32>>) {
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    if generations > 0 {
        let arguments = (work, generations - 1, by_exec, lock.clone());
        drop(builder.spawn(member, arguments).expect("it starts"));
        Zygote::id().into_iter().for_each(say_id);
        Zygote::spare().into_iter().for_each(say_id);
    }
    say_id(std::process::id());
    match work {
        Work::Computes => loop {
            black_box(black_box(1_u64).wrapping_mul(3));
        },
        Work::WaitsForLock => drop(lock.lock().expect("its holder does not die before")),
        Work::Sleeps => {}
    }
    wait_for_ever()
}

/// The first process: it starts the others, and ends when it is told to.
fn first(how: &str, by_exec: bool) -> ! {
    limits::limit_core(0).expect("less is allowed");
    let lock = Shared::new(Lock::new(0)).expect("space");
    let _guard = lock.lock().expect("it is free");
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let start = |work| {
        let arguments = (work, 1, by_exec, lock.clone());
        builder.spawn(member, arguments).expect("it starts")
    };
    let _children = WORKS.map(start);
    Zygote::id().into_iter().for_each(say_id);
    Zygote::spare().into_iter().for_each(say_id);
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("it is open");
    match how {
        "exit" => std::process::exit(0),
        "abort" => std::process::abort(),
        "alone" => kill_zygote(),
        "replaced" => {
            kill_zygote();
            let mut next = builder.spawn(|| (), ()).expect("another one forks it");
            next.join().expect("it ends well");
        }
        _ => wait_for_ever(),
    }
    std::process::abort()
}

fn kill_zygote() {
    const SIGKILL: i32 = 9;
    let zygote = Pidfd::open(Zygote::id().expect("there is one")).expect("it runs");
    zygote.signal(SIGKILL).expect("it is ours");
    assert!(zygote.wait_end(Deadline::NEVER).expect("poll"));
}

/// Starts a first process, and waits until its whole family is there.
fn family(how: &str, method: StartMethod) -> (Child, Vec<Pidfd>) {
    let by_exec = method == StartMethod::Exec;
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", NAME, "--nocapture"])
        .env(FIRST, format!("{how} {by_exec}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Three children with a child each, and who forked them.
    let count = if by_exec { 6 } else { 6 + 4 };
    let output = BufReader::new(child.stdout.as_mut().expect("piped"));
    let ids = output.lines().map(|line| line.expect("text"));
    // The first line may begin with what the test program says of the test.
    let ids = ids.filter_map(|line| line.rsplit_once("member ")?.1.parse().ok());
    let members = ids.take(count).map(|id| Pidfd::open(id).expect("it runs"));
    let members: Vec<Pidfd> = members.collect();
    assert_eq!(members.len(), count, "it ended before");
    (child, members)
}

/// How much longer the last member lived than the first process.
fn outlived(how: &str, method: StartMethod) -> Duration {
    let (mut child, members) = family(how, method);
    assert!(members.iter().all(|member| !member.has_ended()));
    let first = Pidfd::open(child.id()).expect("it runs");
    if how == "kill" {
        child.kill().expect("it is ours");
    } else {
        let mut input = child.stdin.take().expect("piped");
        input.write_all(b"end\n").expect("it listens");
    }
    let long = Deadline::after(Duration::from_secs(60));
    assert!(poll_readable(&[first.as_fd()], long).expect("poll")[0]);
    let death = Instant::now();
    for member in &members {
        let ended = poll_readable(&[member.as_fd()], long).expect("poll");
        assert!(ended[0], "{member:?} outlived its family");
    }
    let time = death.elapsed();
    // Whoever is left would have the stream open.
    let mut rest = Vec::new();
    let mut output = child.stdout.take().expect("piped");
    output.read_to_end(&mut rest).expect("until the end");
    child.wait().expect("it is ours");
    time
}

#[test]
fn family_is_gone_soon_after_its_first_process() {
    if let Ok(first_of) = env::var(FIRST) {
        let (how, by_exec) = first_of.split_once(' ').expect("both");
        first(how, by_exec == "true");
    }
    let ends = METHODS.map(|method| ENDS.map(|how| (method, how)));
    let without = WITHOUT_ZYGOTE.map(|how| (StartMethod::Zygote, how));
    for (method, how) in ends.into_iter().flatten().chain(without) {
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| outlived(how, method)).collect();
        times.sort_unstable();
        let (median, most) = (times[ROUNDS / 2], times[ROUNDS - 1]);
        println!("{method:?}, {how}: median {median:?}, most {most:?}");
        assert!(most < MOST, "{method:?}, {how}: {most:?}");
    }
}
