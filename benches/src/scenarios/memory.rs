//! Taking memory that other processes can see, and giving it back.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use manyhands_os::memory::{Map, Memfd};
use manyhands_shm::{Region, Shared, arena};

use crate::{Contender, Role, Scenario};

const SIZES: [usize; 2] = [256, 64 << 10];

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let [small, large] = SIZES;
    vec![
        Scenario {
            name: "block taken and given back, 256 B x 200k",
            count: 200_000,
            rounds: 15,
            contenders: vec![block(small), heap(small)],
            // 60 ns, where malloc needs 10: there are two locks and an exchange of a shared word.
            limit: Some(6.0),
        },
        Scenario {
            name: "shared value made and dropped, u64 x 20k",
            count: 20_000,
            rounds: 15,
            contenders: vec![shared(), file(size_of::<u64>()), counted()],
            limit: Some(0.05),
        },
        Scenario {
            name: "shared memory taken and given back, 256 B x 20k",
            count: 20_000,
            rounds: 15,
            contenders: vec![region(small), file(small), malloc(small)],
            limit: None,
        },
        Scenario {
            name: "shared memory taken and given back, 64 KiB x 5k",
            count: 5_000,
            rounds: 15,
            contenders: vec![region(large), file(large), malloc(large)],
            limit: None,
        },
    ]
}

fn block(size: usize) -> Contender {
    Contender::new("Block", Role::Ours, move |count| {
        let arena = arena::family().map_err(|error| error.to_string())?;
        let start = Instant::now();
        for _ in 0..count {
            let block = arena.allocate(size).map_err(|error| error.to_string())?;
            if black_box(&block).len() < size {
                return Err("gave less than was asked for".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

/// Memory of one process only, with whatever is in it.
fn heap(size: usize) -> Contender {
    Contender::new("malloc", Role::Peer, move |count| {
        let start = Instant::now();
        for _ in 0..count {
            black_box(Vec::<u8>::with_capacity(size));
        }
        Ok(start.elapsed())
    })
}

fn shared() -> Contender {
    Contender::new("Shared", Role::Ours, move |count| {
        let start = Instant::now();
        for number in 0..count {
            let shared = Shared::new(AtomicU64::new(number)).map_err(|error| error.to_string())?;
            if black_box(&shared).load(Relaxed) != number {
                return Err("holds another value".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

/// A value of one process only, with a count of its holders.
fn counted() -> Contender {
    Contender::new("Arc", Role::Floor, move |count| {
        let start = Instant::now();
        for number in 0..count {
            let value = Arc::new(AtomicU64::new(number));
            if black_box(&value).load(Relaxed) != number {
                return Err("holds another value".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

fn region(size: usize) -> Contender {
    Contender::new("Region", Role::Ours, move |count| {
        let start = Instant::now();
        for _ in 0..count {
            let region = Region::new(size).map_err(|error| error.to_string())?;
            if black_box(&region).len() < size {
                return Err("gave less than was asked for".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

/// What one does without an arena: a memory file for each object, mapped.
fn file(size: usize) -> Contender {
    Contender::new("memfd and map", Role::Peer, move |count| {
        let start = Instant::now();
        for _ in 0..count {
            let file = Memfd::create("bench", size as u64).map_err(|error| error.to_string())?;
            let map = Map::shared(&file).map_err(|error| error.to_string())?;
            if black_box(&map).len() < size {
                return Err("mapped less than was asked for".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

/// Memory of one process only.
fn malloc(size: usize) -> Contender {
    Contender::new("malloc, zeroed", Role::Floor, move |count| {
        let start = Instant::now();
        for _ in 0..count {
            black_box(vec![0_u8; size]);
        }
        Ok(start.elapsed())
    })
}
