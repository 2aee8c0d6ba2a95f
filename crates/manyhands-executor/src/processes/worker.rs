//! The loop of a worker process: take a task, call it, send what came of it.
//!
//! Each step is posted on the [`Board`] before it is taken, so a death at any instruction has a
//! phase. A panic is caught and sent; the process goes on. What ends the loop is the order to
//! stop, or the end of the owner.

use manyhands_channel::Doorbell;
use manyhands_channel::ring::{Consumer, Producer};
use manyhands_process::{CallError, run_caught};
use manyhands_shm::handoff::{self, Holds, Parcel};

use super::board::{Board, Step};
use super::frame::{self, Kind, Order};

/// Runs tasks until told to stop. This is the function that a worker process is started with.
pub(super) fn worker_main(
    orders: Consumer,
    mut results: Producer,
    doorbell: Doorbell,
    board: Board,
    output_limit: Option<u64>,
) {
    results.attach_doorbell(&doorbell);
    board.post(0, Step::Ready);
    doorbell.ring();
    let mut worker = Worker {
        orders,
        results,
        doorbell,
        board,
        output_limit,
        kept: None,
    };
    let mut message = Vec::new();
    while let Some((number, body)) = worker.next_task(&mut message) {
        if !worker.run(number, &body) {
            break;
        }
    }
}

struct Worker {
    orders: Consumer,
    results: Producer,
    doorbell: Doorbell,
    board: Board,
    output_limit: Option<u64>,
    /// What the last result refers to: the owner has it in its own hands before it sends more.
    kept: Option<Holds>,
}

impl Worker {
    /// Waits for a task; `None` when there will be none.
    fn next_task(&mut self, message: &mut Vec<u8>) -> Option<(u64, Vec<u8>)> {
        let (number, total, mut body) = {
            self.orders.recv(message).ok()?;
            self.kept = None;
            match frame::read_order(message)? {
                Order::Begin {
                    number,
                    total,
                    part,
                } => {
                    self.board.post(number, Step::Receiving);
                    let mut body = Vec::with_capacity(usize::try_from(total).ok()?);
                    body.extend_from_slice(part);
                    (number, total, body)
                }
                Order::More { .. } | Order::Stop => return None,
            }
        };
        while (body.len() as u64) < total {
            // The owner sends a part when the one before is gone, and waits at the doorbell.
            self.doorbell.ring();
            self.orders.recv(message).ok()?;
            match frame::read_order(message)? {
                Order::More { part } => body.extend_from_slice(part),
                Order::Begin { .. } | Order::Stop => return None,
            }
        }
        Some((number, body))
    }

    /// Runs one task and sends its outcome; false when nobody takes it.
    fn run(&mut self, number: u64, body: &[u8]) -> bool {
        self.board.post(number, Step::Running);
        let outcome = run_caught(|| call(body));
        self.board.post(number, Step::Returned);
        let (kind, payload) = match outcome {
            Ok(Ok(parcel)) => self.weigh(parcel),
            Ok(Err(error)) => complaint(error),
            Err(panic) => match handoff::pack(&panic) {
                Ok(parcel) => (Kind::Panicked, parcel.bytes),
                Err(error) => (Kind::Unencodable, error.to_string().into_bytes()),
            },
        };
        let mut message = Vec::new();
        frame::write_outcome(&mut message, number, kind, &payload);
        self.results.send(&message).is_ok()
    }

    fn weigh(&mut self, parcel: Parcel) -> (Kind, Vec<u8>) {
        let size = parcel.bytes.len() as u64;
        if self.output_limit.is_some_and(|allowed| size > allowed) {
            return (Kind::OutputLimit, size.to_le_bytes().to_vec());
        }
        if parcel.holds.is_empty() {
            return (Kind::Value, parcel.bytes);
        }
        self.kept = Some(parcel.holds);
        (Kind::ValueWithHandles, parcel.bytes)
    }
}

enum Refused {
    Body(String),
    Call(CallError),
}

fn call(body: &[u8]) -> Result<Parcel, Refused> {
    let (code, arguments) =
        frame::split_body(body).map_err(|error| Refused::Body(error.to_string()))?;
    let trampoline = code
        .resolve()
        .map_err(|error| Refused::Body(error.to_string()))?;
    trampoline.call(&mut (), arguments).map_err(Refused::Call)
}

fn complaint(refused: Refused) -> (Kind, Vec<u8>) {
    match refused {
        Refused::Body(reason) => (Kind::Undecodable, reason.into_bytes()),
        Refused::Call(error @ CallError::Unencodable(_)) => {
            (Kind::Unencodable, error.to_string().into_bytes())
        }
        Refused::Call(error) => (Kind::Undecodable, error.to_string().into_bytes()),
    }
}
