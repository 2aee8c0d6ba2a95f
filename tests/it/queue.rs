//! Queues between processes, and what is in them when producers and consumers are killed.

mod holding;
mod leases;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use manyhands_channel::{GetError, JoinError, PutError, Queue, TaskDoneError};
use manyhands_process::Process;
use manyhands_shm::{Shareable, Shared};
use manyhands_tests::storm::Random;

use crate::{LONG, until};

/// Gets all there is, to the end, and tells how many and their sum.
fn add_up(queue: Queue<u64>) -> (u64, u64) {
    let (mut count, mut sum) = (0, 0);
    loop {
        match queue.get_timeout(LONG) {
            Ok(value) => {
                count += 1;
                sum += value;
            }
            Err(GetError::Closed) => return (count, sum),
            Err(error) => panic!("{error}"),
        }
    }
}

fn put_all(queue: Queue<u64>, from: u64, to: u64) {
    for value in from..to {
        queue.put_timeout(&value, LONG).expect("it is open");
    }
}

/// Passes the queue on, as processes do.
fn put_by_a_grandchild(queue: Queue<u64>, value: u64) {
    queue.put(&value).expect("it is open");
    let mut child = Process::spawn(put_all, (queue, value + 1, value + 2)).expect("a grandchild");
    child.join().expect("it returns");
}

#[test]
fn mpqueue_many_processes_put_and_get_and_nothing_is_lost_or_doubled() {
    const EACH: u64 = 5_000;
    for items in [1, 1 << 20] {
        let queue = Queue::bounded(items).expect("room");
        let consumers =
            [(); 3].map(|()| Process::spawn(add_up, (queue.clone(),)).expect("a child"));
        let producers = [0, 1, 2].map(|number| {
            let range = (queue.clone(), number * EACH, (number + 1) * EACH);
            Process::spawn(put_all, range).expect("a child")
        });
        for mut producer in producers {
            producer.join().expect("it returns");
        }
        queue.close();
        let mut all = (0, 0);
        for mut consumer in consumers {
            let (count, sum) = consumer.join().expect("it returns");
            all = (all.0 + count, all.1 + sum);
        }
        assert_eq!(all, (3 * EACH, 3 * EACH * (3 * EACH - 1) / 2));
    }
}

#[test]
fn mpqueue_01_02_bounded_one_is_full_until_a_child_has_taken_all() {
    let queue = Queue::bounded(6).expect("room");
    put_all(queue.clone(), 0, 6);
    assert!(matches!(queue.try_put(&6), Err(PutError::Full)));
    queue.close();
    let mut child = Process::spawn(add_up, (queue.clone(),)).expect("a child");
    assert_eq!(child.join().expect("it returns"), (6, 15));
    assert!(queue.is_empty() && queue.stats().most_items == 6);
}

fn work(queue: Queue<u64>) {
    while queue.get_timeout(LONG).is_ok() {
        queue.task_done().expect("one was taken");
    }
}

#[test]
fn mpqueue_07_join_returns_when_four_processes_have_done_ten_values() {
    let queue = Queue::bounded(3).expect("room");
    let workers = [(); 4].map(|()| Process::spawn(work, (queue.clone(),)).expect("a child"));
    put_all(queue.clone(), 0, 10);
    queue.join_timeout(LONG).expect("they work");
    let stats = queue.stats();
    assert_eq!((stats.items, stats.unfinished), (0, 0));
    queue.close();
    for mut worker in workers {
        worker.join().expect("it returns");
    }
}

fn take_and_wait(queue: Queue<u64>, more: Queue<u64>) {
    assert_eq!(queue.get().expect("a value"), 1);
    drop(more.get());
}

#[test]
fn value_whose_taker_was_killed_stays_unfinished_until_somebody_else_reports_it() {
    let (queue, more) = (Queue::new().expect("room"), Queue::new().expect("room"));
    queue.put(&1).expect("room");
    let mut child = Process::spawn(take_and_wait, (queue.clone(), more)).expect("a child");
    until(|| queue.stats().in_hand == 1);
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    let joined = queue.join_timeout(Duration::from_millis(5));
    assert!(matches!(joined, Err(JoinError::TimedOut { values: 1 })));
    let in_hand = queue.stats().in_hand;
    (0..in_hand).for_each(|_| queue.task_done().expect("one was taken"));
    queue.join().expect("nothing is left");
}

#[test]
fn mpqueue_15_queue_that_a_child_passes_on_to_a_grandchild_is_the_same() {
    let queue = Queue::new().expect("room");
    let mut child = Process::spawn(put_by_a_grandchild, (queue.clone(), 7)).expect("a child");
    child.join().expect("it returns");
    assert_eq!((queue.get().ok(), queue.get().ok()), (Some(7), Some(8)));
}

/// How many values a producer puts at most; then its storm has blown over.
const MOST: usize = 4096;

/// How many values are put, or taken, at once at most.
const AT_ONCE: u64 = 7;

/// What is known of one producer, in memory that outlives it: how many of its `put` have returned,
/// and then which of its values were got, a bit each, and of which the lease was committed.
type Producer = [AtomicU64; 1 + 2 * MOST / 64];

/// What all processes of the storm see.
#[derive(Shareable)]
struct Storm {
    is_over: AtomicU64,
    /// Values that came twice, not whole, or behind a later one of the same producer.
    wrong: [AtomicU64; 3],
    /// Values that somebody had leased and worked on before.
    again: AtomicU64,
}

type Value = Vec<u64>;

/// The bytes tell whose it is, which, and whether it is whole; lengths differ, and one in 16 is too long
/// for the queue itself.
fn value(producer: usize, number: u64) -> Value {
    let word = (producer as u64) << 32 | number;
    let length = if number % 16 == 7 { 400 } else { number % 40 };
    vec![word; 1 + length as usize]
}

fn produce(
    queue: Queue<Value>,
    producers: Shared<[Producer]>,
    storm: Shared<Storm>,
    producer: usize,
) {
    let mut number = 0;
    while number < MOST as u64 && storm.is_over.load(Relaxed) == 0 {
        let many = (1 + number % AT_ONCE).min(MOST as u64 - number);
        let next = number + many;
        let values: Vec<Value> = (number..next).map(|n| value(producer, n)).collect();
        match &values[..] {
            [one] => queue.put(one).expect("it is open"),
            all => queue.put_many(all).expect("it is open"),
        }
        number = next;
        // Release: pairs with the Acquire of the driver.
        producers[producer][0].store(number, Release);
    }
}

fn consume(queue: Queue<Value>, producers: Shared<[Producer]>, storm: Shared<Storm>) {
    let mut last = BTreeMap::new();
    for round in 0.. {
        let some = match round % AT_ONCE {
            0 => queue.get().map(|value| vec![value]),
            most => queue.get_many(most as usize).map_err(|error| error.error),
        };
        let some = match some {
            Ok(some) => some,
            Err(GetError::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        for words in &some {
            note(words, &producers, &storm, &mut last);
        }
        for _ in &some {
            queue.task_done().expect("it was taken");
        }
    }
}

/// Takes note of a value that was got; `last` is what came before from each producer.
fn note(words: &[u64], producers: &[Producer], storm: &Storm, last: &mut BTreeMap<usize, u64>) {
    let word = words.first().copied().unwrap_or(u64::MAX);
    let (producer, number) = ((word >> 32) as usize, word & 0xffff_ffff);
    let is_whole = producer < producers.len() && words == value(producer, number);
    if !is_whole {
        storm.wrong[1].fetch_add(1, Relaxed);
        return;
    }
    let bit = 1 << (number % 64);
    let got = &producers[producer][1 + number as usize / 64];
    if got.fetch_or(bit, Relaxed) & bit != 0 {
        storm.wrong[0].fetch_add(1, Relaxed);
    }
    if last.insert(producer, number) > Some(number) {
        storm.wrong[2].fetch_add(1, Relaxed);
    }
}

/// The processes of the storm, and what they share.
struct Crowd {
    queue: Queue<Value>,
    producers: Shared<[Producer]>,
    storm: Shared<Storm>,
    with_leases: bool,
    /// The next producer's number.
    next: usize,
    putting: Vec<Process<()>>,
    getting: Vec<Process<()>>,
}

impl Crowd {
    fn gather(most: usize, with_leases: bool) -> Self {
        let queue = Queue::builder().items(50).bytes(8192).build();
        let storm = Storm {
            is_over: AtomicU64::new(0),
            wrong: [const { AtomicU64::new(0) }; 3],
            again: AtomicU64::new(0),
        };
        let none = |_| [const { AtomicU64::new(0) }; _];
        let mut crowd = Self {
            queue: queue.expect("room"),
            producers: Shared::<[Producer]>::from_fn(most, none).expect("room"),
            storm: Shared::new(storm).expect("room"),
            with_leases,
            next: 0,
            putting: Vec::new(),
            getting: Vec::new(),
        };
        for _ in 0..4 {
            let producer = crowd.producer();
            crowd.putting.push(producer);
            let consumer = crowd.consumer();
            crowd.getting.push(consumer);
        }
        crowd
    }

    fn producer(&mut self) -> Process<()> {
        let (queue, producers) = (self.queue.clone(), self.producers.clone());
        let arguments = (queue, producers, self.storm.clone(), self.next);
        self.next += 1;
        Process::spawn(produce, arguments).expect("a child")
    }

    fn consumer(&self) -> Process<()> {
        let (queue, producers) = (self.queue.clone(), self.producers.clone());
        let arguments = (queue, producers, self.storm.clone());
        match self.with_leases {
            true => Process::spawn(leases::work_off, arguments),
            false => Process::spawn(consume, arguments),
        }
        .expect("a child")
    }

    /// Kills the process after a moment, unless it has put all it may; and replaces it.
    fn replace(&mut self, victim: usize, pause: Duration) {
        let process = match victim.checked_sub(4) {
            None => &mut self.putting[victim],
            Some(victim) => &mut self.getting[victim],
        };
        match process.join_timeout(pause) {
            Ok(None) => process.kill().expect("it is ours"),
            Ok(Some(())) => {}
            Err(error) => panic!("{error}"),
        }
        // By the kill, or with its value taken before.
        drop(process.join());
        match victim.checked_sub(4) {
            None => self.putting[victim] = self.producer(),
            Some(victim) => self.getting[victim] = self.consumer(),
        }
    }

    /// Lets all come to their end.
    fn send_home(&mut self) {
        self.storm.is_over.store(1, Relaxed);
        let joined = |process: &mut Process<()>| process.join_timeout(LONG).expect("it returns");
        assert!(self.putting.iter_mut().map(joined).all(|end| end.is_some()));
        self.queue.close();
        assert!(self.getting.iter_mut().map(joined).all(|end| end.is_some()));
        assert!(self.queue.is_empty());
    }

    /// Reports what the killed had in hand, and joins; how many that were.
    fn settle(&self) -> u64 {
        let in_hand = self.queue.stats().in_hand;
        assert_eq!(self.queue.try_join().is_ok(), in_hand == 0);
        let reports = (0..in_hand).map(|_| self.queue.task_done());
        assert!(reports.into_iter().all(|report| report.is_ok()));
        self.queue.join_timeout(LONG).expect("all is reported");
        assert!(matches!(
            self.queue.task_done(),
            Err(TaskDoneError::TooMany)
        ));
        in_hand as u64
    }

    /// How many values were put by calls that returned, and how many of these nobody got.
    fn put_and_lost(&self) -> (u64, u64) {
        let (mut put, mut lost) = (0, 0);
        for [returned, got @ ..] in self.producers.iter() {
            // Acquire: pairs with the Release of the producer, which is gone.
            let returned = returned.load(Acquire);
            let word = |number: u64| got[number as usize / 64].load(Relaxed);
            let is_got = |number: &u64| word(*number) >> (number % 64) & 1 != 0;
            put += returned;
            lost += (0..returned).filter(|number| !is_got(number)).count() as u64;
            // Some more may have been put by a call that did not return, and no others.
            let other = (returned + AT_ONCE..MOST as u64).find(is_got);
            assert_eq!(other, None);
        }
        (put, lost)
    }
}

/// Eight processes on one queue, one of them killed every millisecond or two.
#[test]
fn queue_loses_at_most_what_killed_consumers_had_taken() {
    let long = std::env::var_os("MANYHANDS_LONG").is_some();
    let kills = if long { 10_000 } else { 500 };
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut crowd = Crowd::gather(kills + 8, false);
    let mut killed_consumers = 0;
    for _ in 0..kills {
        let victim = random.below(8) as usize;
        killed_consumers += u64::from(victim >= 4);
        crowd.replace(victim, Duration::from_micros(random.below(2_000)));
    }
    crowd.send_home();
    let (put, lost) = crowd.put_and_lost();
    let in_hand = crowd.settle();
    let wrong = crowd
        .storm
        .wrong
        .each_ref()
        .map(|count| count.load(Relaxed));
    assert_eq!(wrong, [0; 3], "doubled, torn, out of order");
    assert!(
        lost <= in_hand && in_hand <= AT_ONCE * killed_consumers && put > 1000,
        "{put} put, {lost} lost, {in_hand} in hand"
    );
    println!(
        "{kills} kills, {put} put, {lost} lost of {in_hand} that {killed_consumers} killed consumers had"
    );
}
