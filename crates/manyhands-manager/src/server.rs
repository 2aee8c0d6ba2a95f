//! The process that owns the objects.
//!
//! One thread does everything: it takes up new clients, runs their requests one after the other,
//! and sends the results. So what a function does to an object is atomic, and a function that does
//! not return stops the manager. It never waits for one client: what a client does not take is
//! kept until it does, and meanwhile no further request of that client is read.
//!
//! Nothing here is in shared memory but the rings. What a client holds is counted per client, so a
//! client that is killed is forgotten exactly.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use manyhands_channel::Doorbell;
use manyhands_channel::ring::{Consumer, Producer, Progress, RecvError};
use manyhands_os::Deadline;
use manyhands_process::{CallError, Code, Trampoline, run_caught};
use manyhands_shm::Shared;
use manyhands_shm::arena::Participant;
use manyhands_shm::handoff::{self, Holds, Parcel};

use crate::protocol::{
    Answer, CallNumber, Failure, GREETING, ObjectNumber, Reply, Request, Wish, frame, open,
};
use crate::reception::Reception;

/// How many requests of one client are run before the next one has its turn.
const TURN: usize = 64;
/// How often a client that does not take its results is looked at.
const RETRY: Duration = Duration::from_millis(2);
/// How long the last results may take to be taken when the manager ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until it is told to end.
pub(crate) fn serve(reception: Shared<Reception>, bell: Doorbell) {
    let mut server = Server {
        objects: Objects::default(),
        clients: Vec::new(),
        ended: false,
    };
    while !server.ended {
        let seen = bell.seen();
        server.welcome(&reception);
        if !server.work() && !server.ended {
            let deadline = server.next_look();
            bell.wait(seen, &server.lives(), deadline);
        }
    }
    let deadline = Deadline::after(FAREWELL);
    while server.has_unsent() && !deadline.has_passed() {
        bell.wait(bell.seen(), &[], Deadline::after(RETRY).earlier(deadline));
        server.flush();
    }
}

struct Server {
    objects: Objects,
    clients: Vec<Client>,
    ended: bool,
}

/// A client, as the server sees it.
struct Client {
    requests: Consumer,
    replies: Producer,
    who: Option<Participant>,
    /// What was not taken yet, and how far the first of it got.
    unsent: VecDeque<Vec<u8>>,
    progress: Progress,
    /// What keeps handles in results alive until the client has unpacked them.
    holds: HashMap<CallNumber, Holds>,
    /// How often it has each object.
    references: HashMap<ObjectNumber, u64>,
    gone: bool,
}

impl Server {
    /// Takes up new clients.
    fn welcome(&mut self, reception: &Reception) {
        for letter in reception.collect() {
            match handoff::unpack::<(Consumer, Producer)>(&letter) {
                Ok((requests, replies)) => {
                    let mut client = Client::new(requests, replies);
                    client.reply(GREETING, Answer::Done, &[]);
                    self.clients.push(client);
                }
                // The client died, or has given up.
                Err(error) => tracing::debug!(%error, "a letter came from nobody"),
            }
        }
    }

    /// Runs what is there, up to a turn of each client; whether there was anything.
    fn work(&mut self) -> bool {
        let mut busy = false;
        let Self {
            objects,
            clients,
            ended,
        } = self;
        for client in clients.iter_mut() {
            for _ in 0..TURN {
                if *ended || !client.flush() || !client.serve_one(objects, ended) {
                    break;
                }
                busy = true;
            }
        }
        self.forget_the_gone();
        busy
    }

    fn forget_the_gone(&mut self) {
        let Self {
            objects, clients, ..
        } = self;
        clients.retain_mut(|client| {
            if client.gone {
                tracing::debug!(client = ?client.who, "a client has left");
                for (object, count) in client.references.drain() {
                    objects.release(object, count);
                }
            }
            !client.gone
        });
    }

    fn lives(&self) -> Vec<Participant> {
        self.clients
            .iter()
            .filter_map(|client| client.who)
            .collect()
    }

    fn next_look(&self) -> Deadline {
        if self.has_unsent() {
            Deadline::after(RETRY)
        } else {
            Deadline::NEVER
        }
    }

    fn has_unsent(&self) -> bool {
        self.clients
            .iter()
            .any(|client| !client.gone && !client.unsent.is_empty())
    }

    fn flush(&mut self) {
        for client in &mut self.clients {
            client.flush();
        }
    }
}

impl Client {
    fn new(requests: Consumer, replies: Producer) -> Self {
        Self {
            who: requests.peer(),
            requests,
            replies,
            unsent: VecDeque::new(),
            progress: Progress::default(),
            holds: HashMap::new(),
            references: HashMap::new(),
            gone: false,
        }
    }

    /// Runs one request; false when there is none.
    fn serve_one(&mut self, objects: &mut Objects, ended: &mut bool) -> bool {
        let mut message = Vec::new();
        match self.requests.try_recv(&mut message) {
            Ok(()) => {}
            Err(RecvError::Empty) => return false,
            Err(_) => {
                self.gone = true;
                return false;
            }
        }
        match open::<Request>(&message) {
            Ok((request, body)) => {
                *ended |= request.wish == Wish::ShutDown;
                self.fulfil(request, body, objects);
            }
            Err(error) => {
                tracing::warn!(%error, client = ?self.who, "a client is not understood");
                self.gone = true;
            }
        }
        true
    }

    fn fulfil(&mut self, request: Request, body: &[u8], objects: &mut Objects) {
        let call = request.call;
        match request.wish {
            Wish::Make { maker } => {
                let made = objects.make(maker, body);
                if let Ok(object) = made {
                    *self.references.entry(object).or_default() += 1;
                }
                let answer = made.map(|object| Answer::Made { object });
                self.reply(call, answer.unwrap_or_else(Answer::Failed), &[]);
            }
            Wish::Call { object, method } => match objects.call(object, method, body) {
                Ok(Parcel { bytes, holds }) => {
                    let held = !holds.is_empty();
                    if held {
                        self.holds.insert(call, holds);
                    }
                    self.reply(call, Answer::Returned { held }, &bytes);
                }
                Err(failure) => self.reply(call, Answer::Failed(failure), &[]),
            },
            Wish::Retain { object } => {
                let answer = if objects.retain(object) {
                    *self.references.entry(object).or_default() += 1;
                    Answer::Done
                } else {
                    Answer::Failed(Failure::NoSuchObject)
                };
                self.reply(call, answer, &[]);
            }
            Wish::Release { object } => self.release(object, objects),
            Wish::Unpacked { call } => drop(self.holds.remove(&call)),
            Wish::Count => {
                let objects = objects.living.len() as u64;
                self.reply(call, Answer::Counted { objects }, &[]);
            }
            Wish::ShutDown => self.reply(call, Answer::Done, &[]),
        }
    }

    fn release(&mut self, object: ObjectNumber, objects: &mut Objects) {
        // A client gives back what it has, or nothing.
        if let Some(count) = self.references.get_mut(&object) {
            *count -= 1;
            if *count == 0 {
                self.references.remove(&object);
            }
            objects.release(object, 1);
        }
    }

    fn reply(&mut self, call: CallNumber, answer: Answer, body: &[u8]) {
        let mut message = Vec::new();
        match frame(&Reply { call, answer }, body, &mut message) {
            Ok(()) => self.unsent.push_back(message),
            Err(error) => {
                tracing::warn!(%error, "an answer cannot be encoded");
                self.gone = true;
            }
        }
        self.flush();
    }

    /// Sends what the client takes now; whether that was all.
    fn flush(&mut self) -> bool {
        while let Some(message) = self.unsent.front() {
            match self.replies.push(message, &mut self.progress) {
                Ok(true) => {
                    self.progress = Progress::default();
                    self.unsent.pop_front();
                }
                Ok(false) => return false,
                Err(_) => {
                    self.gone = true;
                    self.unsent.clear();
                }
            }
        }
        true
    }
}

/// The objects, and who refers to them.
#[derive(Default)]
struct Objects {
    last: ObjectNumber,
    living: HashMap<ObjectNumber, Object>,
    /// Functions that were looked up before.
    functions: HashMap<Code, Trampoline>,
}

struct Object {
    state: Box<dyn Any>,
    references: u64,
}

impl Objects {
    fn make(&mut self, maker: Code, arguments: &[u8]) -> Result<ObjectNumber, Failure> {
        let maker = self.function(maker)?;
        let made = run_caught(|| maker.make(arguments)).map_err(Failure::Panicked)?;
        let state = made.map_err(refused)?;
        self.last += 1;
        let object = Object {
            state,
            references: 1,
        };
        self.living.insert(self.last, object);
        Ok(self.last)
    }

    fn call(
        &mut self,
        object: ObjectNumber,
        method: Code,
        arguments: &[u8],
    ) -> Result<Parcel, Failure> {
        let method = self.function(method)?;
        let object = self.living.get_mut(&object).ok_or(Failure::NoSuchObject)?;
        let called = run_caught(|| method.call(&mut *object.state, arguments));
        called.map_err(Failure::Panicked)?.map_err(refused)
    }

    fn retain(&mut self, object: ObjectNumber) -> bool {
        match self.living.get_mut(&object) {
            Some(object) => {
                object.references += 1;
                true
            }
            None => false,
        }
    }

    fn release(&mut self, number: ObjectNumber, count: u64) {
        let Some(object) = self.living.get_mut(&number) else {
            return;
        };
        object.references = object.references.saturating_sub(count);
        if object.references == 0
            && let Some(object) = self.living.remove(&number)
            && let Err(panic) = run_caught(|| drop(object.state))
        {
            tracing::warn!(%panic, "an object panicked while it was dropped");
        }
    }

    fn function(&mut self, code: Code) -> Result<Trampoline, Failure> {
        if let Some(function) = self.functions.get(&code) {
            return Ok(*function);
        }
        let function = code.resolve().map_err(|error| Failure::WrongFunction {
            reason: error.to_string(),
        })?;
        self.functions.insert(code, function);
        Ok(function)
    }
}

fn refused(error: CallError) -> Failure {
    match error {
        CallError::Undecodable(source) => Failure::Undecodable {
            reason: source.to_string(),
        },
        CallError::Unencodable(source) => Failure::Unencodable {
            reason: source.to_string(),
        },
        other => Failure::WrongFunction {
            reason: other.to_string(),
        },
    }
}
