//! What may be called in another process: functions and closures that carry nothing, or what they
//! list.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::code::conjure;

/// A function or closure that another process can call with arguments `A`, a tuple.
///
/// Implemented for each `fn` item and each closure that captures nothing, of up to eight
/// arguments. Such a value has no bytes, so nothing of it needs to travel; the other process makes
/// its own. That is sound because the type is [`Copy`]: whoever has one may have two. Implemented
/// also for what [`task!`](crate::task) makes, a closure that lists what it carries.
///
/// What carries something does not compile. A closure that borrows:
///
/// ```compile_fail
/// use manyhands_process::Process;
///
/// let factor = 3;
/// let process = Process::spawn(|x: i32| x * factor, (14,));
/// ```
///
/// One that owns something which cannot be copied:
///
/// ```compile_fail
/// use manyhands_process::Process;
///
/// let name = String::from("ann");
/// let process = Process::spawn(move || name.len(), ());
/// ```
///
/// One that owns a number, and a function *pointer*, which is a number too; these two are refused
/// when the program is built, not by `cargo check`:
///
/// ```compile_fail
/// use manyhands_process::Process;
///
/// let factor = 3;
/// let process = Process::spawn(move |x: i32| x * factor, (14,));
/// ```
///
/// ```compile_fail
/// use manyhands_process::Process;
///
/// fn double(x: i32) -> i32 { 2 * x }
/// let pointer: fn(i32) -> i32 = double;
/// let process = Process::spawn(pointer, (21,));
/// ```
///
/// Pass what the function needs as an argument instead, or list it: `task!([factor] |x: i32| x *
/// factor)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called in another process with the arguments `{A}`",
    label = "no function of these arguments that captures nothing",
    note = "arguments are a tuple, `(x,)` for one; their number and types must be the function's",
    note = "what the function needs is an argument of it, or listed: `task!([factor] |x: i32| x * factor)`"
)]
pub trait Callable<A>: Sized + Send + 'static {
    /// What the function returns.
    type Output;

    /// What it carries; for plain functions nothing, `()`.
    type Captures: Serialize + DeserializeOwned;

    /// What is to be encoded, as the first of two, before the arguments.
    fn captures(&self) -> &Self::Captures;

    /// The function again, where it is to be called.
    #[doc(hidden)]
    fn restore(captures: Self::Captures, witness: Witness<Self>) -> Self;

    /// Calls it.
    fn call(self, arguments: A) -> Self::Output;
}

/// Says that a value of the function `F` existed, in this process or in the one that sent its
/// `Code`. Only this crate can say it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Witness<F>(PhantomData<fn() -> F>);

impl<F> Witness<F> {
    /// Must be called only where a value of `F`, or of a task around it, is known to have existed.
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

/// A function or closure that another process can call on a state `T` that it keeps, with one
/// argument `A`, which may be a tuple.
pub trait Method<T: ?Sized, A>: Copy + Send + 'static {
    /// What the function returns.
    type Output;

    /// Calls it.
    fn call(self, state: &mut T, argument: A) -> Self::Output;
}

impl<F, T: ?Sized, A, R> Method<T, A> for F
where
    F: Fn(&mut T, A) -> R + Copy + Send + 'static,
{
    type Output = R;

    fn call(self, state: &mut T, argument: A) -> R {
        self(state, argument)
    }
}

macro_rules! callable {
    ($($argument:ident)*) => {
        impl<F, R, $($argument),*> Callable<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Copy + Send + 'static,
        {
            type Output = R;
            type Captures = ();

            fn captures(&self) -> &() {
                &()
            }

            fn restore((): (), witness: Witness<F>) -> Self {
                conjure(witness)
            }

            #[allow(non_snake_case, reason = "the types' names serve as the variables'")]
            fn call(self, ($($argument,)*): ($($argument,)*)) -> R {
                self($($argument),*)
            }
        }
    };
}

callable!();
callable!(A1);
callable!(A1 A2);
callable!(A1 A2 A3);
callable!(A1 A2 A3 A4);
callable!(A1 A2 A3 A4 A5);
callable!(A1 A2 A3 A4 A5 A6);
callable!(A1 A2 A3 A4 A5 A6 A7);
callable!(A1 A2 A3 A4 A5 A6 A7 A8);
