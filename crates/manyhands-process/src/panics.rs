//! Panics as values: caught, with their message and the place where they happened.
//!
//! Only a panic hook learns the place, so one is installed at first use. It asks the hook that was
//! there before for every panic that is not to be caught here.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::{Once, OnceLock};
use std::{fmt, thread};

use serde::{Deserialize, Serialize};

use crate::backtrace::Backtrace;
use crate::child;

/// A panic, as it is told to another thread or process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Panic {
    /// The message; for a payload that is no text, a sentence that says so.
    pub message: String,
    /// `file:line:column`, `None` when the panic was resumed and not begun here.
    pub location: Option<String>,
    /// The name of the thread.
    pub thread: String,
    /// The calls that led to it, if its process was asked for them by `RUST_BACKTRACE`; never for a
    /// [`PanicAborted`](crate::Exit::PanicAborted). Shown by `{:#}`, not by `{}`.
    pub backtrace: Option<Box<Backtrace>>,
}

impl Panic {
    /// A panic of which nothing is known.
    pub(crate) fn lost() -> Self {
        Self {
            message: "the message was lost".to_owned(),
            location: None,
            thread: String::new(),
            backtrace: None,
        }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread '{}' panicked", self.thread)?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.backtrace {
            Some(backtrace) if f.alternate() => write!(f, "\n{backtrace}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Panic {}

const NO_TEXT: &str = "the payload is no text";

thread_local! {
    /// How many [`run_caught`] this thread is inside of, and the last panic there.
    static CAUGHT: RefCell<Caught> = const { RefCell::new(Caught { depth: 0, last: None }) };
}

struct Caught {
    depth: u32,
    last: Option<Panic>,
}

/// Told of each panic before it unwinds; for a process that reports panics it may die of.
static WITNESS: OnceLock<fn(&Panic)> = OnceLock::new();

/// Runs `f` and returns its value, or the panic that ended it.
///
/// Nothing is printed for a panic that is returned; set `MANYHANDS_PANICS=1` to see it all the
/// same, with whatever the hook that was there before prints.
///
/// # Errors
///
/// The panic.
///
/// # Examples
///
/// ```
/// use manyhands_process::run_caught;
///
/// assert_eq!(run_caught(|| 6 * 7), Ok(42));
/// let panic = run_caught(|| -> u32 { panic!("out of {}", "luck") }).unwrap_err();
/// assert_eq!(panic.message, "out of luck");
/// ```
pub fn run_caught<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    install_hook();
    CAUGHT.with_borrow_mut(|caught| {
        caught.depth += 1;
        caught.last = None;
    });
    let result = catch_unwind(AssertUnwindSafe(f));
    let noted = CAUGHT.with_borrow_mut(|caught| {
        caught.depth -= 1;
        caught.last.take()
    });
    result.map_err(|payload| {
        let message = payload_text(payload.as_ref());
        // The note may be of an earlier panic that `f` caught itself.
        let panic = noted.filter(|noted| noted.message == message);
        discard(payload);
        panic.unwrap_or_else(|| Panic {
            message,
            location: None,
            thread: thread_name(),
            backtrace: None,
        })
    })
}

/// Makes each panic of this process known to `witness`, caught or not.
pub(crate) fn tell(witness: fn(&Panic)) {
    WITNESS.get_or_init(|| witness);
    install_hook();
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let is_loud = std::env::var_os("MANYHANDS_PANICS").is_some_and(|value| value == "1");
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_caught = note(info);
            if !is_caught || is_loud {
                former(info);
            }
        }));
    });
}

/// Notes a panic; returns whether it will be caught.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let panic = Panic {
        message: info.payload_as_str().unwrap_or(NO_TEXT).to_owned(),
        location: info.location().map(ToString::to_string),
        thread: thread_name(),
        backtrace: None,
    };
    if let Some(witness) = WITNESS.get()
        && !is_about_another(info)
    {
        witness(&panic);
    }
    CAUGHT
        .try_with(|caught| match caught.try_borrow_mut() {
            Ok(mut caught) if caught.depth > 0 => {
                let backtrace = Backtrace::capture().map(Box::new);
                caught.last = Some(Panic { backtrace, ..panic });
                true
            }
            _ => false,
        })
        .unwrap_or(false)
}

/// Whether it is the core library's own panic about one that cannot unwind, which came before it and
/// tells more.
fn is_about_another(info: &PanicHookInfo<'_>) -> bool {
    const OWN: [&str; 2] = [
        "panic in a destructor during cleanup",
        "panic in a function that cannot unwind",
    ];
    let is_core = |place: &Location<'_>| place.file().ends_with("core/src/panicking.rs");
    info.location().is_some_and(is_core)
        && info
            .payload_as_str()
            .is_some_and(|text| OWN.contains(&text))
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or(NO_TEXT).to_owned()
}

/// Drops a payload, whose own destructor may panic too.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // A third one would be malice; forget it.
        std::mem::forget(second);
    }
}

fn thread_name() -> String {
    let thread = thread::current();
    let name = thread.name().or(child::first_thread_name());
    name.unwrap_or("<unnamed>").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_panic_has_message_place_and_thread() {
        let panic = run_caught(|| panic!("number {}", 7)).expect_err("it panics");
        assert_eq!(panic.message, "number 7");
        let location = panic.location.expect("a place");
        assert!(location.contains("panics.rs:"), "{location}");
        assert!(panic.thread.contains("caught_panic"), "{}", panic.thread);
    }

    #[test]
    fn panic_that_the_function_caught_itself_is_not_the_one_reported() {
        let value = run_caught(|| {
            let inner = catch_unwind(|| panic!("inner"));
            assert!(inner.is_err());
            1
        });
        assert_eq!(value, Ok(1));
        let panic = run_caught(|| {
            let _inner = catch_unwind(|| panic!("inner"));
            std::panic::resume_unwind(Box::new("outer"));
        })
        .expect_err("it unwinds");
        assert_eq!((panic.message.as_str(), panic.location), ("outer", None));
    }

    #[test]
    fn nested_catching_keeps_the_levels_apart() {
        let outer = run_caught(|| {
            let inner = run_caught(|| panic!("inner")).expect_err("it panics");
            assert_eq!(inner.message, "inner");
            panic!("outer");
        });
        assert_eq!(outer.expect_err("it panics").message, "outer");
    }

    #[test]
    fn payload_that_is_no_text_is_said_to_be_none() {
        let panic = run_caught(|| std::panic::panic_any(5_u32)).expect_err("it panics");
        assert_eq!(panic.message, NO_TEXT);
        assert!(panic.location.is_some());
    }
}
