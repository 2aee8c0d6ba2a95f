//! Where a panic came from, as addresses that another process of the same build can read.
//!
//! Finding names and lines for addresses means reading the program's debug information: a tenth of a
//! second and more. So who panics sends the places of the calls, and the names are looked for by
//! who shows them.

use std::cell::Cell;
use std::env;
use std::ffi::c_void;
use std::fmt;

use manyhands_os::image::{self, Place};
use serde::{Deserialize, Serialize};

/// How many calls are kept, the innermost ones.
const MOST: usize = 128;

/// The calls that led to a panic.
///
/// It is taken if the variable `RUST_BACKTRACE` of the panicking process is set to anything but zero, for
/// a child by [`ProcessBuilder::env`](crate::ProcessBuilder::env) too. `Display` finds the names and
/// lines, in each process of this program; what has none is shown as its place in its file.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backtrace {
    /// The innermost first.
    frames: Vec<Frame>,
}

/// A module, an offset in it and a hash of the code there; see [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Frame {
    module: u64,
    offset: u64,
    hash: u64,
}

impl Backtrace {
    /// The calls of this thread, `None` if nobody asks for them.
    pub(crate) fn capture() -> Option<Self> {
        let is_asked = env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
        is_asked.then(Self::of_this_thread)
    }

    fn of_this_thread() -> Self {
        let mut frames = Vec::new();
        backtrace::trace(|frame| {
            // Less one: the address is that of the return, which may be another function's.
            let address = frame.ip().cast::<()>().wrapping_byte_sub(1);
            // Code that no file holds has been made by the program.
            frames.extend(image::place_of(address).map(Frame::from));
            frames.len() < MOST
        });
        Self { frames }
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none: the program cannot be unwound.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl From<Place> for Frame {
    fn from(place: Place) -> Self {
        Self {
            module: place.module,
            offset: place.offset,
            hash: place.hash,
        }
    }
}

impl Frame {
    fn address(self) -> Option<*mut c_void> {
        let place = Place {
            module: self.module,
            offset: self.offset,
            hash: self.hash,
        };
        let address = image::address_of(place).ok()?;
        Some(address.cast_mut().cast())
    }

    /// Calls `show` for each function that was called here: one, and those that were inlined into it.
    fn resolve(self, mut show: impl FnMut(&str, &str)) {
        let was_named = Cell::new(false);
        if let Some(address) = self.address() {
            backtrace::resolve(address, |symbol| {
                let Some(name) = symbol.name() else {
                    return;
                };
                was_named.set(true);
                let place = match (symbol.filename(), symbol.lineno()) {
                    (Some(file), Some(line)) => format!("{}:{line}", file.display()),
                    _ => String::new(),
                };
                // Without the hash of the symbol.
                show(&format!("{name:#}"), &place);
            });
        }
        if !was_named.get() {
            let Self { module, offset, .. } = self;
            show("?", &format!("module {module:#x}, offset {offset:#x}"));
        }
    }
}

/// What ends those that are of the panic itself.
const INNER: [&str; 3] = [
    "__rustc::rust_begin_unwind",
    "core::panicking::",
    "core::option::",
];

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut calls = Vec::new();
        for frame in &self.frames {
            frame.resolve(|name, place| calls.push((name.to_owned(), place.to_owned())));
        }
        let is_inner =
            |(name, _): &(String, String)| INNER.iter().any(|inner| name.contains(inner));
        let first = calls.iter().rposition(is_inner).map_or(0, |last| last + 1);
        let calls = calls[first..].iter();
        let calls = calls.take_while(|(_, place)| !is_own(place));
        for (number, (name, place)) in calls.enumerate() {
            writeln!(f, "{number:4}: {name}")?;
            if !place.is_empty() {
                writeln!(f, "          at {place}")?;
            }
        }
        Ok(())
    }
}

/// Whether a line is one of this library, which called the function. Told by the file, because names of
/// what was inlined have no path in programs with debug information for lines only.
fn is_own(place: &str) -> bool {
    let sources = file!().trim_end_matches("backtrace.rs");
    place.contains(sources)
}

/// Short: whoever shows an error for developers need not read a page.
impl fmt::Debug for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return write!(f, "Backtrace(\n{self})");
        }
        write!(f, "Backtrace({} calls)", self.frames.len())
    }
}
