//! Taking memory that other processes can see, and giving it back.

use std::hint::black_box;
use std::time::Instant;

use manyhands_os::memory::{Map, Memfd};
use manyhands_shm::Region;

use crate::{Contender, Role, Scenario};

const SIZES: [usize; 2] = [256, 64 << 10];

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let [small, large] = SIZES;
    vec![
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
