//! Events of children, as a subscriber of their parent hears them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, fs};

use manyhands_process::{Process, ProcessBuilder, StartMethod, Stdio};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Level, Metadata, Subscriber, dispatcher};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const LONG: Duration = Duration::from_secs(60);

/// One event: its level and fields as text.
#[derive(Clone, Debug, Default)]
struct Heard {
    level: String,
    text: String,
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text += &format!("{}={value:?};", field.name());
    }
}

/// Sends on what it hears; waits before each event if it is told to.
struct Ear {
    sender: Sender<Heard>,
    gate: Option<Arc<Event>>,
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        let mut heard = Heard {
            level: event.metadata().level().to_string(),
            ..Heard::default()
        };
        event.record(&mut heard);
        let _ = self.sender.send(heard);
    }
}

/// Runs a test with what its children's events come to.
fn listening(gate: Option<Arc<Event>>, test: impl Fn(ProcessBuilder, &Receiver<Heard>)) {
    for method in METHODS {
        let (sender, heard) = channel();
        let gate = gate.clone();
        let ear = Dispatch::new(Ear { sender, gate });
        let builder = Process::builder().name("worker").start_method(method);
        dispatcher::with_default(&ear, || test(builder.forward_logs(), &heard));
    }
}

/// The tests are about one subscriber at a time.
static ONE: Mutex<()> = Mutex::new(());

fn speak(number: u32) {
    let outer = tracing::info_span!("outer", number);
    let _outer = outer.enter();
    let inner = tracing::info_span!("inner", late = tracing::field::Empty);
    inner.record("late", 5);
    inner.in_scope(|| tracing::warn!(target: "pump", water = 3, "no {}", "pressure"));
    tracing::debug!("nobody listens to this");
    tracing::info!("out");
}

#[test]
fn events_of_a_child_come_with_their_spans_and_who_it_is() {
    let _one = ONE.lock();
    listening(None, |builder, heard| {
        let builder = builder.stdout(Stdio::Captured).stderr(Stdio::Captured);
        let mut process = builder.spawn(speak, (7,)).expect("it starts");
        let pid = process.id();
        let warning = heard.recv_timeout(LONG).expect("it comes");
        assert_eq!(warning.level, "WARN");
        let expected = format!(
            "message=no pressure;pid={pid};process=\"worker\";origin=pump;\
             spans=outer{{number=7}}:inner{{late=5}};fields=water=3;"
        );
        assert_eq!(warning.text, expected);
        let info = heard.recv_timeout(LONG).expect("it comes");
        assert_eq!(info.level, "INFO");
        assert!(
            info.text.contains("spans=outer{number=7};"),
            "{}",
            info.text
        );
        process.join().expect("a value");
        // Nothing was written to the streams.
        for stream in [process.take_stdout(), process.take_stderr()] {
            assert_eq!(
                std::io::read_to_string(stream.expect("captured")).expect("text"),
                ""
            );
        }
    });
}

#[test]
fn killed_child_has_told_what_came_before() {
    fn speak_until_killed() {
        for number in 0.. {
            tracing::info!(number, "on");
        }
    }
    let _one = ONE.lock();
    listening(None, |builder, heard| {
        let process = builder.spawn(speak_until_killed, ()).expect("it starts");
        let first = heard.recv_timeout(LONG).expect("it comes");
        process.kill().expect("it is sent");
        drop(process);
        let end = Instant::now() + LONG;
        while listeners() > 0 {
            assert!(Instant::now() < end, "it waits for a dead child");
            std::thread::yield_now();
        }
        let (mut told, mut lost) = (Vec::new(), 0);
        for heard in std::iter::once(first).chain(heard.try_iter()) {
            match value(&heard, "number=") {
                Some(number) => told.push(number),
                None => lost += value(&heard, "count=").expect("a warning"),
            }
        }
        assert!(told.is_sorted());
        let last = told.last().expect("the first one");
        assert_eq!(told[0], 0);
        assert!(
            told.len() as u64 + lost > *last,
            "{} and {lost} of {last}",
            told.len()
        );
    });
}

/// The number behind a name that comes last in the text.
fn value(heard: &Heard, name: &str) -> Option<u64> {
    let rest = heard.text.split(name).nth(1)?;
    Some(rest.trim_end_matches(';').parse().expect("a number"))
}

/// How many threads of this process listen to children.
fn listeners() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name == "manyhands-logs\n").count()
}

#[test]
fn parent_that_does_not_listen_holds_no_child_up_and_learns_what_it_missed() {
    const COUNT: u64 = 20_000;
    fn speak_much(done: Shared<Event>) {
        for number in 0..COUNT {
            tracing::info!(number, "on");
        }
        done.set();
    }
    let _one = ONE.lock();
    let gate = Arc::new(Event::new());
    listening(Some(Arc::clone(&gate)), |builder, heard| {
        gate.clear();
        let done = Shared::new(Event::new()).expect("space");
        let process = builder.spawn(speak_much, (done.clone(),));
        let mut process = process.expect("it starts");
        assert!(done.wait_timeout(LONG), "it waits for its parent");
        process.join().expect("a value");
        gate.set();
        let mut sum = 0;
        while sum < COUNT {
            let heard = heard.recv_timeout(LONG).expect("all are told, or counted");
            sum += value(&heard, "count=").unwrap_or(1);
        }
        assert_eq!(sum, COUNT);
    });
}
