//! This process as a client of a manager: one pair of rings, used by all of its threads.

use std::sync::{Arc, Weak};
use std::time::Duration;

use manyhands_channel::ring::{Consumer, Producer, RecvError, SendError, ring};
use manyhands_os::Deadline;
use manyhands_shm::arena::{self, Participant};
use manyhands_shm::handoff::{self, Holds, Parcel};
use manyhands_sync::{Lock, LockGuard, TryLockError};

use crate::error::{CallError, ConnectError};
use crate::pending::{Outcome, Pending, Waiting};
use crate::protocol::{Answer, ObjectNumber, Reply, Request, Wish, frame, open};
use crate::reception::{Address, Unposted};

/// The bytes of each of the two rings.
const RING: usize = 64 << 10;
/// How long a server may be busy with something else before we give up connecting to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often we look whether the server lives while it has not taken our rings yet.
const SLICE: Duration = Duration::from_millis(5);
/// How long the drop of a proxy may wait for room in the ring.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// A connection to a manager.
#[derive(Debug)]
pub(crate) struct Client {
    address: Address,
    sending: Lock<Sending>,
    replies: Lock<Consumer>,
    pending: Pending,
}

#[derive(Debug)]
struct Sending {
    requests: Producer,
    /// The message being sent; kept for its memory.
    buffer: Vec<u8>,
}

/// The connections of this process. Taken for the whole of a connect, so that there is one each.
static CLIENTS: Lock<Vec<(Participant, Weak<Client>)>> = Lock::new(Vec::new());

impl Client {
    /// The connection to the manager at `address`; made if there is none.
    pub(crate) fn of(address: &Address) -> Result<Arc<Self>, ConnectError> {
        let mut clients = locked(&CLIENTS);
        clients.retain(|(_, client)| client.strong_count() > 0);
        let known = clients.iter().find(|(server, _)| *server == address.server);
        if let Some(client) = known.and_then(|(_, client)| client.upgrade()) {
            return Ok(client);
        }
        let client = Arc::new(Self::connect(address)?);
        clients.push((address.server, Arc::downgrade(&client)));
        Ok(client)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks the server for something and waits for its answer.
    pub(crate) fn ask(&self, wish: Wish, body: &[u8]) -> Result<Answer, CallError> {
        Ok(self.ask_until(wish, body, Deadline::NEVER)?.0)
    }

    /// As [`ask`](Self::ask), up to a deadline; with what came behind the answer.
    pub(crate) fn ask_until(
        &self,
        wish: Wish,
        body: &[u8],
        deadline: Deadline,
    ) -> Result<(Answer, Vec<u8>), CallError> {
        let waiting = self.pending.register().ok_or(CallError::ManagerGone)?;
        let request = Request {
            call: waiting.call,
            wish,
        };
        let outcome = self
            .send(request, body, deadline)
            .and_then(|()| self.wait(&waiting, deadline));
        self.pending.leave(waiting.call);
        match outcome? {
            Outcome::Answer(Answer::Failed(failure), _) => Err(failure.into()),
            Outcome::Answer(answer, body) => Ok((answer, body)),
            Outcome::Gone => Err(CallError::ManagerGone),
        }
    }

    /// Runs a method on an object. The holds of the arguments are kept until it has run.
    pub(crate) fn invoke<R>(&self, wish: Wish, arguments: Parcel) -> Result<R, CallError>
    where
        R: serde::de::DeserializeOwned,
    {
        let waiting = self.pending.register().ok_or(CallError::ManagerGone)?;
        let call = waiting.call;
        let request = Request { call, wish };
        let outcome = self
            .send(request, &arguments.bytes, Deadline::NEVER)
            .and_then(|()| self.wait(&waiting, Deadline::NEVER));
        self.pending.leave(call);
        drop(arguments.holds);
        match outcome? {
            Outcome::Answer(Answer::Returned { held }, body) => {
                let result = handoff::unpack(&body).map_err(CallError::ResultUndecodable);
                if held {
                    self.tell(Wish::Unpacked { call });
                }
                result
            }
            Outcome::Answer(Answer::Failed(failure), _) => Err(failure.into()),
            Outcome::Answer(..) => Err(CallError::Confused),
            Outcome::Gone => Err(CallError::ManagerGone),
        }
    }

    /// Takes a reference back, as well as it goes: it is called by the drop of a proxy.
    pub(crate) fn release(&self, object: ObjectNumber) {
        self.tell(Wish::Release { object });
    }

    /// Says something that is not answered.
    fn tell(&self, wish: Wish) {
        let request = Request { call: 0, wish };
        // A server that is gone, or that has taken nothing for so long, will not miss it: what it
        // keeps for us it gives up when our rings close.
        let _ = self.send(request, &[], Deadline::after(RELEASE_PATIENCE));
    }

    fn send(&self, request: Request, body: &[u8], deadline: Deadline) -> Result<(), CallError> {
        if self.pending.is_gone() {
            return Err(CallError::ManagerGone);
        }
        let mut sending = locked(&self.sending);
        let Sending { requests, buffer } = &mut *sending;
        buffer.clear();
        frame(&request, body, buffer).map_err(CallError::ArgumentsUnencodable)?;
        let sent = match deadline.remaining() {
            Some(left) => requests.send_timeout(buffer, left),
            None => requests.send(buffer),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(SendError::TimedOut) => Err(CallError::TimedOut),
            // Closed, dead or broken: nothing will ever come from there.
            Err(_) => Err(CallError::ManagerGone),
        }
    }

    /// Waits for the outcome of a call; leads when nobody else does. See `pending.rs`.
    fn wait(&self, waiting: &Waiting, deadline: Deadline) -> Result<Outcome, CallError> {
        loop {
            if let Some(outcome) = waiting.take() {
                return Ok(outcome);
            }
            if deadline.has_passed() {
                return Err(CallError::TimedOut);
            }
            match self.replies.try_lock() {
                Ok(mut replies) => self.lead(&mut replies, waiting, deadline),
                Err(TryLockError::WouldBlock) => waiting.sleep(deadline),
                Err(_) => return Err(CallError::ManagerGone),
            }
        }
    }

    /// Receives for all until there is an outcome for `waiting`, or until the deadline.
    fn lead(&self, replies: &mut Consumer, waiting: &Waiting, deadline: Deadline) {
        let mut message = Vec::new();
        while !waiting.is_answered() {
            let received = match deadline.remaining() {
                Some(left) => replies.recv_timeout(&mut message, left),
                None => replies.recv(&mut message),
            };
            match received {
                Ok(()) => self.deliver(&message),
                Err(RecvError::TimedOut) => return,
                Err(_) => return self.pending.fail_all(),
            }
        }
    }

    fn deliver(&self, message: &[u8]) {
        match open::<Reply>(message) {
            Ok((reply, body)) => {
                let held = matches!(reply.answer, Answer::Returned { held: true });
                let taken = self.pending.deliver(reply.call, reply.answer, body);
                if held && !taken {
                    // Its call has timed out; nobody will unpack it.
                    self.tell(Wish::Unpacked { call: reply.call });
                }
            }
            // Both ends run the same code: the ring is broken, and so is everything behind it.
            Err(_) => self.pending.fail_all(),
        }
    }

    fn connect(address: &Address) -> Result<Self, ConnectError> {
        if arena::family()?.me() == address.server {
            return Err(ConnectError::Itself);
        }
        let (mut requests, orders) = ring(RING)?;
        let (results, mut replies) = ring(RING)?;
        requests.attach_doorbell(&address.bell);
        let letter = handoff::pack(&(orders, results))?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            match address.reception.post(&letter.bytes) {
                Ok(()) => break,
                // Nothing can come yet: this is only a way to wait.
                Err(Unposted::Full) => await_greeting(address, &mut replies, SLICE, deadline)?,
                Err(Unposted::TooLarge) => return Err(ConnectError::Confused),
            };
        }
        address.bell.ring();
        while !await_greeting(address, &mut replies, SLICE, deadline)? {}
        // The server has unpacked its ends, or it could not greet us.
        let _: Holds = letter.holds;
        Ok(Self {
            address: address.clone(),
            sending: Lock::new(Sending {
                requests,
                buffer: Vec::new(),
            }),
            replies: Lock::new(replies),
            pending: Pending::new(),
        })
    }
}

/// Waits for the first message of a new server for a short time; whether it came.
///
/// Until then the other end of the ring is ours, so its owner's life says nothing of the server's.
fn await_greeting(
    address: &Address,
    replies: &mut Consumer,
    slice: Duration,
    deadline: Deadline,
) -> Result<bool, ConnectError> {
    address.bell.ring();
    match replies.recv_timeout(&mut Vec::new(), slice) {
        Ok(()) => Ok(true),
        Err(RecvError::TimedOut) if !address.server.is_alive() => Err(ConnectError::ManagerGone),
        Err(RecvError::TimedOut) if deadline.has_passed() => {
            Err(ConnectError::Busy { waited: PATIENCE })
        }
        Err(RecvError::TimedOut) => Ok(false),
        Err(_) => Err(ConnectError::ManagerGone),
    }
}

/// Locks something of this process.
pub(crate) fn locked<T>(lock: &Lock<T>) -> LockGuard<'_, T> {
    lock.lock().unwrap_or_else(|error| {
        let guard = error.into_guard();
        guard.expect("a lock that is not shared is not counted")
    })
}
