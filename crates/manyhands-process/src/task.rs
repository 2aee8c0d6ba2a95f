//! Functions that carry values: what [`task!`](crate::task) makes.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callable::{Callable, Witness};
use crate::code::conjure;

/// A function that carries values to where it is called; made by [`task!`](crate::task).
#[derive(Clone, Copy)]
pub struct Bound<C, F> {
    captures: C,
    function: F,
}

impl<C, F> Bound<C, F> {
    /// What [`task!`](crate::task) calls.
    #[doc(hidden)]
    pub fn new<A, R>(captures: C, function: F) -> Self
    where
        F: Fn(C, A) -> R + Copy + Send + 'static,
    {
        Self { captures, function }
    }
}

impl<C, F, A, R> Callable<A> for Bound<C, F>
where
    C: Serialize + DeserializeOwned + Send + 'static,
    F: Fn(C, A) -> R + Copy + Send + 'static,
{
    type Output = R;
    type Captures = C;

    fn captures(&self) -> &C {
        &self.captures
    }

    fn restore(captures: C, _: Witness<Self>) -> Self {
        Self {
            captures,
            // One existed, as a part of the task that existed.
            function: conjure(Witness::new()),
        }
    }

    fn call(self, arguments: A) -> R {
        (self.function)(self.captures, arguments)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Bound<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("captures", &self.captures)
            .finish_non_exhaustive()
    }
}

/// A closure that carries values to another process: `task!([names] |arguments| body)`.
///
/// Each name in brackets is a variable here, which is moved into the task, encoded by serde
/// beside the arguments, and a variable of the same name in the body, by value. Nothing else of
/// here can be used there. Up to eight arguments; a type may be left out where the body does not
/// need it.
///
/// What it makes is [`Callable`], so it goes wherever a function goes. A task whose values can be
/// copied can be copied too, and so be called more than once.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, task};
///
/// let factor = 3;
/// let table = vec![1, 2, 3];
/// let scale = task!([factor, table] |x: i32| x * factor + table.len() as i32);
/// assert_eq!(Process::spawn(scale, (14,))?.join()?, 45);
///
/// let name = String::from("ann");
/// let mut process = Process::spawn(task!([name] || format!("hello {name}")), ())?;
/// assert_eq!(process.join()?, "hello ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What cannot be encoded cannot be listed:
///
/// ```compile_fail,E0277
/// use manyhands_process::{Process, task};
///
/// let name = std::rc::Rc::new(5);
/// let process = Process::spawn(task!([name] || *name), ());
/// ```
///
/// Python: `functools.partial`, or a bound method.
#[macro_export]
macro_rules! task {
    ([$($capture:ident),* $(,)?] || $body:expr) => {
        $crate::Bound::new(($($capture,)*), |($($capture,)*), (): ()| $body)
    };
    ([$($capture:ident),* $(,)?] |$($argument:ident $(: $type:ty)?),* $(,)?| $body:expr) => {
        $crate::Bound::new(
            ($($capture,)*),
            |($($capture,)*), ($($argument,)*): ($($crate::task!(@type $($type)?),)*)| $body,
        )
    };
    (@type $type:ty) => { $type };
    (@type) => { _ };
}
