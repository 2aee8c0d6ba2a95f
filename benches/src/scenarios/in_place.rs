//! Large messages that are written and read in the ring itself, and copied.

use std::time::Instant;

use manyhands_channel::ring::{Consumer, Producer, ring};
use manyhands_process::Process;

use super::rings::judged;
use crate::{Contender, Role, Scenario};

/// A ring has room for so many messages of its scenario and their heads, less one: what is compared is
/// the size, and not how far one end may be ahead of the other.
const MESSAGES: usize = 16;
const LARGE: usize = 1 << 20;
const SMALL: usize = 64 << 10;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "message one way, 1 MiB x 2k, 2 processes",
        count: 2_000,
        rounds: 15,
        contenders: vec![
            one_way("in place", Role::Ours, LARGE, Way::InPlace),
            one_way("in place, 64 KiB", Role::Peer, SMALL, Way::InPlace),
            one_way("by copy", Role::Peer, LARGE, Way::Copy),
        ],
        limit: None,
    }]
}

/// How a message gets into the ring and out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    InPlace,
    Copy,
}

/// A process that takes messages; each has its number at both ends, and nothing else is written.
fn one_way(name: &'static str, role: Role, size: usize, way: Way) -> Contender {
    Contender::new(name, role, move |count| {
        let (mut producer, take) = ring(MESSAGES * size).map_err(|error| error.to_string())?;
        let (answer, mut done) = ring(64).map_err(|error| error.to_string())?;
        let arguments = (take, answer, way == Way::InPlace, count);
        let mut process = Process::spawn(receive, arguments).map_err(|error| error.to_string())?;
        let mut word = Vec::new();
        done.recv(&mut word).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; size];
        let start = Instant::now();
        for number in 0..count {
            let sent = match way {
                Way::Copy => {
                    mark(&mut buffer, number);
                    producer.send(&buffer)
                }
                Way::InPlace => producer.reserve(size).map(|mut slot| {
                    mark(&mut slot, number);
                    slot.commit();
                }),
            };
            sent.map_err(|error| error.to_string())?;
        }
        done.recv(&mut word).map_err(|error| error.to_string())?;
        let took = start.elapsed();
        process.join().map_err(|error| error.to_string())?;
        judged(took, word == [1])
    })
}

fn receive(mut take: Consumer, mut answer: Producer, is_in_place: bool, count: u64) {
    answer.send(&[0]).expect("the other end lives");
    let mut buffer = Vec::new();
    let in_order = (0..count).all(|number| {
        if is_in_place {
            let message = take.recv_ref().expect("the other end lives");
            return is_marked(&message, number);
        }
        take.recv(&mut buffer).expect("the other end lives");
        is_marked(&buffer, number)
    });
    answer
        .send(&[u8::from(in_order)])
        .expect("the other end lives");
}

fn mark(message: &mut [u8], number: u64) {
    let number = number.to_ne_bytes();
    let end = message.len() - 8;
    message[..8].copy_from_slice(&number);
    message[end..].copy_from_slice(&number);
}

fn is_marked(message: &[u8], number: u64) -> bool {
    let number = number.to_ne_bytes();
    message.starts_with(&number) && message.ends_with(&number)
}
