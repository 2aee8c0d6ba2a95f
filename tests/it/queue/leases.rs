//! Leases whose holders are killed.

use manyhands_channel::GetError;

use super::*;

/// Tells how often the value came back before, and has it until it is killed.
fn lease_and_wait(queue: Queue<u64>, told: Queue<u32>, never: Queue<u32>) {
    let lease = queue.lease().expect("a value");
    told.put(&lease.redeliveries()).expect("room");
    drop(never.get());
}

/// Who waits while the holder dies gets what it had, and is told how often that has happened.
#[test]
fn value_whose_holders_are_killed_comes_again_and_tells_how_often() {
    let queue = Queue::new().expect("room");
    let [told, never] = [(); 2].map(|()| Queue::new().expect("room"));
    queue.put(&7).expect("room");
    queue.close();
    let holder = || {
        let arguments = (queue.clone(), told.clone(), never.clone());
        Process::spawn(lease_and_wait, arguments).expect("a child")
    };
    for times in 0..3 {
        let mut holder = holder();
        assert_eq!(told.get_timeout(LONG).expect("it says so"), 2 * times);
        assert!(matches!(queue.try_lease(), Err(GetError::Empty)));
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| queue.lease_timeout(LONG).expect("it comes"));
            until(|| queue.stats().consumers_wait);
            holder.kill().expect("it lives");
            let lease = waiting.join().expect("no panic");
            assert_eq!((*lease, lease.redeliveries()), (7, 2 * times + 1));
        });
        assert!(holder.join().is_err());
    }
    let lease = queue.lease().expect("it is there");
    assert_eq!(lease.redeliveries(), 6);
    lease.commit().expect("it is ours");
    assert!(matches!(queue.lease(), Err(GetError::Closed)));
    queue.join().expect("nobody reports for the dead");
}

/// Leases all there is; gives some of it back.
pub(super) fn work_off(queue: Queue<Value>, producers: Shared<[Producer]>, storm: Shared<Storm>) {
    let mut last = BTreeMap::new();
    for round in 1.. {
        let lease = match queue.lease() {
            Ok(lease) => lease,
            Err(GetError::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        if round % 16 == 0 {
            lease.give_back();
            continue;
        }
        let [producer, number] = [lease[0] >> 32, lease[0] & 0xffff_ffff].map(|n| n as usize);
        let is_whole = producer < producers.len() && *lease == value(producer, number as u64);
        if !is_whole {
            storm.wrong[1].fetch_add(1, Relaxed);
            continue;
        }
        let is_first = lease.redeliveries() == 0;
        if is_first && last.insert(producer, number) > Some(number) {
            storm.wrong[2].fetch_add(1, Relaxed);
        }
        let bit = 1 << (number % 64);
        let [begun, done] = [0, MOST / 64].map(|from| {
            let word = 1 + from + number / 64;
            &producers[producer][word]
        });
        // Begun before, and nobody has died; or done before.
        let is_again = begun.fetch_or(bit, Relaxed) & bit != 0;
        if is_again && is_first || done.load(Relaxed) & bit != 0 {
            storm.wrong[0].fetch_add(1, Relaxed);
        }
        if is_again {
            storm.again.fetch_add(1, Relaxed);
        }
        lease.commit().expect("it is ours");
        // Relaxed: whoever gets it again comes through the queue.
        done.fetch_or(bit, Relaxed);
    }
}

/// Eight processes on one queue, one of them killed every millisecond or two.
#[test]
fn queue_with_leases_loses_nothing_and_doubles_only_what_the_killed_had() {
    let long = std::env::var_os("MANYHANDS_LONG").is_some();
    let kills = if long { 10_000 } else { 500 };
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut crowd = Crowd::gather(kills + 8, true);
    let mut killed_consumers = 0;
    for _ in 0..kills {
        let victim = random.below(8) as usize;
        killed_consumers += u64::from(victim >= 4);
        crowd.replace(victim, Duration::from_micros(random.below(2_000)));
    }
    crowd.send_home();
    let (put, lost) = crowd.put_and_lost();
    let again = crowd.storm.again.load(Relaxed);
    let wrong = crowd
        .storm
        .wrong
        .each_ref()
        .map(|count| count.load(Relaxed));
    assert_eq!(wrong, [0; 3], "doubled, torn, out of order");
    assert!(
        lost == 0 && again <= killed_consumers && put > 1000,
        "{put} put, {lost} lost, {again} begun again, {killed_consumers} killed consumers"
    );
    // Nobody reports for the dead.
    let stats = crowd.queue.stats();
    assert_eq!((stats.items, stats.leased, stats.unfinished), (0, 0, 0));
    crowd.queue.try_join().expect("all is done");
    println!("{kills} kills, {put} put, {again} begun again");
}
