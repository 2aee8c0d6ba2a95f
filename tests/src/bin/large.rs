//! Sends one large slice to four workers and back, and then many small ones: `large MIB BUFFERS`;
//! exit code 1 when something is copied, or when something grows.
//!
//! A program of its own, so that the numbers of descriptors and blocks are those of this alone.

#![allow(clippy::print_stdout, reason = "printing the result is its job")]

use std::process::ExitCode;
use std::time::Instant;

use manyhands_channel::{Connection, Pipe};
use manyhands_process::Process;
use manyhands_shm::{Shared, arena};
use manyhands_tests::system;
use serde::{Deserialize, Serialize};

const WORKERS: usize = 4;
/// Every page has a number in its first item.
const PAGE: usize = 4096 / size_of::<f32>();
/// How many small slices are on their way to each worker, at most.
const AT_ONCE: usize = 25;
/// What a process needs besides what it shares.
const PRIVATE: u64 = 32 << 20;

/// A slice, and whether to tell what it costs.
type Question = (Shared<[f32]>, bool);
/// The slice, the sum of what its pages have, and what it costs.
type Answer = (Shared<[f32]>, f64, Option<Account>);

/// What a process has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Account {
    descriptors: usize,
    /// Bytes of its own, and bytes that it shares and has touched.
    private: u64,
    shared: u64,
}

impl Account {
    fn of_this_process() -> Account {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("a folder");
        Account {
            descriptors: descriptors.count(),
            private: bytes_of("/proc/self/status", "RssAnon:"),
            shared: bytes_of("/proc/self/status", "RssShmem:"),
        }
    }
}

/// A number of kilobytes from one of the kernel's tables.
fn bytes_of(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("it is always there");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    1024 * number
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number")
}

fn sum(items: &[f32]) -> f64 {
    items
        .iter()
        .step_by(PAGE)
        .map(|item| f64::from(*item))
        .sum()
}

fn answer(mut connection: Connection<Answer, Question>) {
    while let Ok((items, is_asked)) = connection.recv() {
        let sum = sum(&items);
        let account = is_asked.then(Account::of_this_process);
        let sent = connection.send(&(items, sum, account));
        sent.expect("the other side listens");
    }
}

struct Worker {
    child: Process<()>,
    connection: Connection<Question, Answer>,
}

impl Worker {
    fn start() -> Worker {
        let (connection, there) = Pipe::duplex().expect("room");
        let child = Process::spawn(answer, (there,)).expect("a child");
        Worker { child, connection }
    }

    fn ask(&mut self, items: &Shared<[f32]>, is_asked: bool) {
        let question = (items.clone(), is_asked);
        self.connection.send(&question).expect("it listens");
    }

    fn hear(&mut self, items: &Shared<[f32]>) -> (f64, Option<Account>) {
        let (same, sum, account) = self.connection.recv().expect("it answers");
        assert!(Shared::ptr_eq(&same, items), "another one comes back");
        (sum, account)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index)?.parse::<usize>().ok();
    let (Some(size), Some(buffers)) = (number(0), number(1)) else {
        println!("usage: large MIB BUFFERS");
        return ExitCode::from(2);
    };
    let (len, most) = ((size << 20) / size_of::<f32>(), (size as u64) << 20);
    if bytes_of("/proc/meminfo", "MemAvailable:") < 3 * most {
        println!("skipped: there is not three times {size} MiB of memory");
        return ExitCode::SUCCESS;
    }
    // Whatever happens, somebody hears of it.
    system::end_after(600);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start()).collect();
    let base = arena::family().expect("an arena").stats();
    send_large(&mut workers, len, base.resident_bytes);
    send_many(&mut workers, buffers, base.used_blocks());
    for mut worker in workers {
        drop(worker.connection);
        worker.child.join().expect("it ends");
    }
    let family = arena::family().expect("an arena");
    family.reap_dead();
    family.trim();
    let stats = family.stats();
    let small: u64 = stats
        .classes
        .iter()
        .map(|class| class.free_warm * class.block_size)
        .sum();
    // The pages of small blocks stay, and what is known of each.
    assert!(
        stats.resident_bytes < base.resident_bytes + small + (1 << 20),
        "{stats:?}"
    );
    ExitCode::SUCCESS
}

/// A slice that all look at and that nobody copies.
fn send_large(workers: &mut [Worker], len: usize, base: u64) {
    let bytes = (len * size_of::<f32>()) as u64;
    let mut items = Shared::<[f32]>::zeroed(len).expect("room");
    let pages = Shared::get_mut(&mut items).expect("nobody else has it");
    for (number, page) in pages.chunks_mut(PAGE).enumerate() {
        page[0] = (number % 1000) as f32;
    }
    let (expected, started) = (sum(&items), Instant::now());
    workers
        .iter_mut()
        .for_each(|worker| worker.ask(&items, true));
    for worker in workers.iter_mut() {
        let (sum, account) = worker.hear(&items);
        let account = account.expect("it was asked");
        assert!(
            sum.total_cmp(&expected).is_eq(),
            "{sum} instead of {expected}"
        );
        assert!(account.private < PRIVATE, "{account:?}");
        assert!(
            account.shared >= bytes,
            "it has seen all pages: {account:?}"
        );
    }
    let resident = arena::family().expect("an arena").stats().resident_bytes;
    assert!(
        resident < base + bytes + PRIVATE,
        "{resident} bytes of memory"
    );
    println!(
        "{} MiB to {WORKERS} workers and back, each page looked at: {:.3} s, {} MiB more memory",
        bytes >> 20,
        started.elapsed().as_secs_f64(),
        (resident - base) >> 20,
    );
}

/// Slices that come and go; descriptors and blocks stay as many.
fn send_many(workers: &mut [Worker], buffers: usize, base: u64) {
    let ours = || Account::of_this_process().descriptors;
    let (before, started) = (ours(), Instant::now());
    let theirs = |workers: &mut [Worker]| -> Vec<usize> {
        let items = Shared::<[f32]>::zeroed(1).expect("room");
        let accounts = workers.iter_mut().map(|worker| {
            worker.ask(&items, true);
            worker.hear(&items).1.expect("it was asked").descriptors
        });
        accounts.collect()
    };
    let theirs_before = theirs(workers);
    let rounds = buffers / (WORKERS * AT_ONCE);
    let mut most_blocks = 0;
    for round in 0..rounds {
        let of_round = |index| (round * AT_ONCE + index) as f32;
        let make = |index| Shared::<[f32]>::copy_of(&[of_round(index); PAGE]).expect("room");
        for worker in workers.iter_mut() {
            let sent: Vec<_> = (0..AT_ONCE).map(make).collect();
            sent.iter().for_each(|items| worker.ask(items, false));
            for (index, items) in sent.iter().enumerate() {
                let (sum, _) = worker.hear(items);
                assert!(sum.total_cmp(&f64::from(of_round(index))).is_eq(), "{sum}");
            }
        }
        if round.is_multiple_of(100) {
            let blocks = arena::family().expect("an arena").stats().used_blocks();
            most_blocks = blocks.max(most_blocks);
        }
    }
    assert_eq!(
        (ours(), theirs(workers)),
        (before, theirs_before),
        "descriptors"
    );
    // The last of each worker may still be kept by those who sent it: there, and back. Each message has
    // a block that would keep it, too, should its sender be killed.
    let kept = 3 * (WORKERS * AT_ONCE) as u64;
    assert!(
        most_blocks <= base + kept,
        "{most_blocks} blocks, {base} before"
    );
    println!(
        "{} buffers there and back: {:.3} s, {before} descriptors, at most {most_blocks} blocks, \
         {base} before",
        rounds * WORKERS * AT_ONCE,
        started.elapsed().as_secs_f64(),
    );
}
