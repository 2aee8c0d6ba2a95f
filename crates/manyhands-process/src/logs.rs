//! Events of `tracing` in a child, told again in its parent.
//!
//! The child's subscriber sends each event, with the names and fields of the spans around it, as one
//! message of a socket that never blocks it: what has no room is counted in the shared page. In the
//! parent one thread for each such child tells the events to the subscriber that was in force at the
//! spawn, until the child and the socket are gone. A killed child loses what it had not sent yet, which
//! is one event of each thread. Nothing is written to the standard streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use manyhands_os::descriptor::{receive, send};
use manyhands_os::{OsError, signals};
use manyhands_shm::handoff;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};

use crate::page::Page;

/// No event is longer when it is sent; longer texts of one are cut.
const LONGEST: usize = 16 << 10;
/// The bytes that are kept of each of an event's four texts.
const LONGEST_TEXT: usize = 2 << 10;

/// The levels by number; zero is none.
const LEVELS: [Level; 5] = [
    Level::ERROR,
    Level::WARN,
    Level::INFO,
    Level::DEBUG,
    Level::TRACE,
];

/// The most verbose level that anybody in this process listens to, by number.
pub(crate) fn level_here() -> u8 {
    let most = LevelFilter::current();
    LEVELS.iter().filter(|level| **level <= most).count() as u8
}

/// An event on its way.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Told {
    level: u8,
    target: String,
    message: String,
    /// `name=value`, with spaces between.
    fields: String,
    /// `outer{a=1}:inner`.
    spans: String,
}

/// Makes this process, a child, send its events.
pub(crate) fn install(socket: OwnedFd, level: u8, page: &'static Page) -> Result<(), String> {
    let socket = UnixDatagram::from(socket);
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let forwarder = Forwarder {
        socket: socket.into(),
        level,
        page,
        spans: Mutex::default(),
        last: AtomicU64::new(0),
    };
    tracing::subscriber::set_global_default(forwarder)
        .map_err(|_| "a subscriber of tracing is there already".to_owned())
}

/// The subscriber of a child.
struct Forwarder {
    socket: OwnedFd,
    level: u8,
    page: &'static Page,
    spans: Mutex<HashMap<u64, Span>>,
    last: AtomicU64,
}

struct Span {
    name: &'static str,
    fields: String,
    parent: Option<u64>,
    /// How many handles there are.
    handles: usize,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Forwarder {
    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans from the outermost to this one.
    fn path(&self, innermost: Option<u64>) -> String {
        let spans = self.spans();
        let span = |id: &u64| spans.get(id);
        let chain = std::iter::successors(innermost, |id| span(id)?.parent);
        let names: Vec<String> = chain.filter_map(|id| span(&id)).map(shown).collect();
        let outermost_first: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        outermost_first.join(":")
    }
}

fn shown(span: &Span) -> String {
    match span.fields.as_str() {
        "" => span.name.to_owned(),
        fields => format!("{}{{{fields}}}", span.name),
    }
}

fn innermost() -> Option<u64> {
    INSIDE
        .try_with(|inside| inside.borrow().last().copied())
        .ok()?
}

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        LEVELS[..usize::from(self.level)].contains(metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let most = LEVELS[..usize::from(self.level)].last();
        Some(most.map_or(LevelFilter::OFF, |level| LevelFilter::from_level(*level)))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut texts = Texts::default();
        attributes.record(&mut texts);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => innermost().filter(|_| attributes.is_contextual()),
        };
        let span = Span {
            name: attributes.metadata().name(),
            fields: texts.fields,
            parent,
            handles: 1,
        };
        // Relaxed: only the numbers must differ.
        let id = self.last.fetch_add(1, Relaxed) + 1;
        self.spans().insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut texts = Texts::default();
        values.record(&mut texts);
        if let Some(span) = self.spans().get_mut(&id.into_u64()) {
            let gap = if span.fields.is_empty() { "" } else { " " };
            span.fields = format!("{}{gap}{}", span.fields, texts.fields);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let span = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => innermost().filter(|_| event.is_contextual()),
        };
        let metadata = event.metadata();
        let level = LEVELS.iter().position(|level| level == metadata.level());
        let told = Told {
            level: level.map_or(0, |place| place as u8 + 1),
            target: cut(metadata.target().to_owned()),
            message: cut(texts.message),
            fields: cut(texts.fields),
            spans: cut(self.path(span)),
        };
        let is_sent = handoff::pack(&told)
            .is_ok_and(|parcel| send(self.socket.as_fd(), &parcel.bytes, &[]).is_ok());
        if !is_sent {
            // Relaxed: a count; nothing is published by it.
            self.page.words().lost_logs.fetch_add(1, Relaxed);
        }
    }

    fn enter(&self, id: &Id) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        let leave = |inside: &RefCell<Vec<u64>>| {
            let mut inside = inside.borrow_mut();
            if let Some(place) = inside.iter().rposition(|inner| *inner == id.into_u64()) {
                inside.remove(place);
            }
        };
        let _ = INSIDE.try_with(leave);
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(span) = self.spans().get_mut(&id.into_u64()) {
            span.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans();
        let Some(span) = spans.get_mut(&id.into_u64()) else {
            return false;
        };
        span.handles -= 1;
        let is_last = span.handles == 0;
        if is_last {
            spans.remove(&id.into_u64());
        }
        is_last
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

/// What an event or a span says, as text.
#[derive(Default)]
struct Texts {
    message: String,
    fields: String,
}

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes whatever comes.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            let gap = if self.fields.is_empty() { "" } else { " " };
            write!(self.fields, "{gap}{}={value:?}", field.name())
        };
    }
}

/// Who the events of a socket are of.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) pid: u32,
    pub(crate) name: Option<String>,
    pub(crate) page: Page,
}

/// Tells the events of a child to the subscriber of the calling thread, in a thread of its own.
pub(crate) fn receive_from(origin: Origin, socket: OwnedFd) -> Result<(), OsError> {
    let dispatch = dispatcher::get_default(Dispatch::clone);
    let builder = thread::Builder::new().name("manyhands-logs".into());
    let serve = move || dispatcher::with_default(&dispatch, || origin.serve(&socket));
    let started = signals::blocked(|| builder.spawn(serve));
    started.map(drop).map_err(|e| OsError::new("clone", e))
}

impl Origin {
    fn serve(&self, socket: &OwnedFd) {
        let mut buffer = vec![0; LONGEST];
        let mut told_lost = 0;
        loop {
            let len = receive(socket.as_fd(), &mut buffer).map_or(0, |(len, _)| len);
            // Relaxed: a count.
            let lost = self.page.words().lost_logs.load(Relaxed);
            if lost != told_lost {
                let count = lost - told_lost;
                let (pid, process) = (self.pid, self.name.as_deref().unwrap_or(""));
                tracing::warn!(target: "manyhands::child", pid, process, count, "events were lost");
                told_lost = lost;
            }
            if len == 0 {
                return;
            }
            if let Ok(told) = handoff::unpack::<Told>(&buffer[..len]) {
                self.tell(&told);
            }
        }
    }

    fn tell(&self, told: &Told) {
        let (pid, process) = (self.pid, self.name.as_deref().unwrap_or(""));
        let Told {
            target,
            message,
            fields,
            spans,
            ..
        } = told;
        macro_rules! tell {
            ($level:expr) => {
                tracing::event!(
                    target: "manyhands::child", $level, pid, process, origin = %target, spans = %spans,
                    fields = %fields, "{message}"
                )
            };
        }
        // A level is part of the static description of an event.
        match told.level {
            1 => tell!(Level::ERROR),
            2 => tell!(Level::WARN),
            3 => tell!(Level::INFO),
            4 => tell!(Level::DEBUG),
            _ => tell!(Level::TRACE),
        }
    }
}
