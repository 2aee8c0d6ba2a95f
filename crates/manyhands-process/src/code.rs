//! Functions as data: where a function lies in the binary, and how it is called from bytes.
//!
//! For each pair of function and argument types the compiler makes one *trampoline*, which
//! decodes the arguments, calls, and encodes the result. All trampolines have one signature, so
//! that an address is all there is to know. The address crosses to another process as a
//! [`Code`]: module, offset, and a hash of the code there.

use std::any::Any;
use std::path::PathBuf;
use std::ptr::NonNull;

use manyhands_os::image::{self, Place, PlaceError};
use manyhands_shm::handoff::{self, Parcel};
use manyhands_shm::{PackError, UnpackError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::callable::{Callable, Method, Witness};

/// Where a function lies in the binary, with its way from bytes to bytes.
///
/// The same in each process that runs this build; 24 bytes that can be sent and compared.
///
/// # Examples
///
/// ```
/// use manyhands_process::Code;
/// use manyhands_shm::handoff;
///
/// let code = Code::of_call::<_, (u64,)>(&|x: u64| x * x);
/// let arguments = handoff::pack(&(12_u64,)).expect("numbers can be packed");
/// let result = code.resolve().expect("made here").call(&mut (), &arguments.bytes);
/// let value: u64 = handoff::unpack(&result.expect("it ran").bytes).expect("a number");
/// assert_eq!(value, 144);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Code {
    module: u64,
    offset: u64,
    hash: u64,
}

/// Why a [`Code`] names no function of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{source}")]
pub struct CodeError {
    /// What is wrong with the place.
    pub source: PlaceError,
}

/// Why a [`Trampoline`] brought no result. A panic of the function goes through it instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The arguments are not what the function takes.
    #[error("arguments cannot be decoded: {0}")]
    Undecodable(#[source] UnpackError),
    /// The state is not of the type that the function works on, or a call was asked of a maker,
    /// or the other way round.
    #[error("the function is for another kind of state or call")]
    WrongState,
    /// The result cannot be encoded.
    #[error("result cannot be encoded: {0}")]
    Unencodable(#[source] PackError),
}

/// What every trampoline is given.
struct Call<'a> {
    state: &'a mut dyn Any,
    arguments: &'a [u8],
    /// Called once, between decoding and the function.
    unpacked: &'a mut dyn FnMut(),
}

/// What a trampoline brings.
enum Outcome {
    /// The encoded result of a call.
    Result(Parcel),
    /// The state that a maker made.
    State(Box<dyn Any>),
}

/// The one signature.
type Entry = fn(Call<'_>) -> Result<Outcome, CallError>;

impl Code {
    /// A call of `f` by a process that makes many calls: the arguments are dropped after each.
    ///
    /// What is to be encoded for it is `(f.captures(), arguments)`, which for a function that
    /// carries nothing is the same as the arguments alone.
    ///
    /// # Panics
    ///
    /// When no loaded module holds the function, which cannot be for code that was compiled.
    pub fn of_call<F, A>(f: &F) -> Self
    where
        F: Callable<A>,
        A: DeserializeOwned,
        F::Output: Serialize,
    {
        let _witness = f;
        Self::of(call_owned::<F, A>)
    }

    /// A call of `f` by a process that makes this one call: the arguments may borrow from their
    /// bytes, which stay for good.
    pub(crate) fn of_only_call<F, A>(f: &F) -> Self
    where
        F: Callable<A>,
        A: Deserialize<'static>,
        F::Output: Serialize,
    {
        let _witness = f;
        Self::of(call_static::<F, A>)
    }

    /// A call of `f` on the state that the other process keeps.
    ///
    /// # Panics
    ///
    /// As [`of_call`](Self::of_call).
    pub fn of_method<T, F, A>(f: F) -> Self
    where
        T: 'static,
        F: Method<T, A>,
        A: DeserializeOwned,
        F::Output: Serialize,
    {
        let _witness = f;
        Self::of(call_method::<T, F, A>)
    }

    /// A call of `f` whose value becomes the state that the other process keeps.
    ///
    /// # Panics
    ///
    /// As [`of_call`](Self::of_call).
    pub fn of_maker<F, A>(f: &F) -> Self
    where
        F: Callable<A>,
        A: DeserializeOwned,
        F::Output: 'static,
    {
        let _witness = f;
        Self::of(make::<F, A>)
    }

    fn of(entry: Entry) -> Self {
        let place = image::place_of(entry as *const ())
            .expect("a compiled function lies in a loaded module");
        Self {
            module: place.module,
            offset: place.offset,
            hash: place.hash,
        }
    }

    /// The function behind the code, in this process.
    ///
    /// # Errors
    ///
    /// When the module is not loaded here, or is of another build.
    pub fn resolve(self) -> Result<Trampoline, CodeError> {
        let address = image::address_of(self.place()).map_err(|source| CodeError { source })?;
        // SAFETY: the pointer must be that of a function of type `Entry`.
        // - where: inside the code of a loaded module, which is never unloaded.
        // - what: `of` is the only maker of `Code`, and took the offset from an `Entry` of a
        //   module whose code has the same hash; members of a family run the same build and do
        //   not lie (`docs/architecture.md`, "Trust").
        let entry = unsafe { std::mem::transmute::<*const (), Entry>(address) };
        Ok(Trampoline { entry })
    }

    /// The path of the shared library that holds the function; `None` for the program itself.
    pub(crate) fn library(self) -> Option<PathBuf> {
        image::library_of(image::address_of(self.place()).ok()?)
    }

    fn place(self) -> Place {
        Place {
            module: self.module,
            offset: self.offset,
            hash: self.hash,
        }
    }
}

/// A function of this process, ready to be called with encoded arguments.
#[derive(Clone, Copy, Debug)]
pub struct Trampoline {
    entry: Entry,
}

impl Trampoline {
    /// Decodes the arguments, calls the function, and encodes its result. A method works on
    /// `state`; a plain call leaves it alone.
    ///
    /// A panic of the function unwinds through this call.
    ///
    /// # Errors
    ///
    /// When arguments, state or result are not as they should be.
    pub fn call(self, state: &mut dyn Any, arguments: &[u8]) -> Result<Parcel, CallError> {
        self.call_watched(state, arguments, &mut || {})
    }

    /// As [`call`](Self::call), and tells when the arguments are decoded.
    pub(crate) fn call_watched(
        self,
        state: &mut dyn Any,
        arguments: &[u8],
        unpacked: &mut dyn FnMut(),
    ) -> Result<Parcel, CallError> {
        let call = Call {
            state,
            arguments,
            unpacked,
        };
        match (self.entry)(call)? {
            Outcome::Result(parcel) => Ok(parcel),
            Outcome::State(_) => Err(CallError::WrongState),
        }
    }

    /// Decodes the arguments, calls a maker, and returns what it made.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn make(self, arguments: &[u8]) -> Result<Box<dyn Any>, CallError> {
        let call = Call {
            state: &mut (),
            arguments,
            unpacked: &mut || {},
        };
        match (self.entry)(call)? {
            Outcome::State(state) => Ok(state),
            Outcome::Result(_) => Err(CallError::WrongState),
        }
    }
}

fn call_owned<F, A>(call: Call<'_>) -> Result<Outcome, CallError>
where
    F: Callable<A>,
    A: DeserializeOwned,
    F::Output: Serialize,
{
    let (f, arguments) = unpack::<F, A>(call.arguments)?;
    (call.unpacked)();
    pack(&f.call(arguments))
}

fn call_static<F, A>(call: Call<'_>) -> Result<Outcome, CallError>
where
    F: Callable<A>,
    A: Deserialize<'static>,
    F::Output: Serialize,
{
    // The arguments may borrow from their bytes for ever; this runs once a process.
    let bytes: &'static [u8] = Vec::leak(call.arguments.to_vec());
    let (f, arguments) = unpack::<F, A>(bytes)?;
    (call.unpacked)();
    pack(&f.call(arguments))
}

fn call_method<T, F, A>(call: Call<'_>) -> Result<Outcome, CallError>
where
    T: 'static,
    F: Method<T, A>,
    A: DeserializeOwned,
    F::Output: Serialize,
{
    let state = call
        .state
        .downcast_mut::<T>()
        .ok_or(CallError::WrongState)?;
    let argument: A = handoff::unpack(call.arguments).map_err(CallError::Undecodable)?;
    (call.unpacked)();
    pack(&conjure::<F>(Witness::new()).call(state, argument))
}

fn make<F, A>(call: Call<'_>) -> Result<Outcome, CallError>
where
    F: Callable<A>,
    A: DeserializeOwned,
    F::Output: 'static,
{
    let (f, arguments) = unpack::<F, A>(call.arguments)?;
    (call.unpacked)();
    Ok(Outcome::State(Box::new(f.call(arguments))))
}

/// The function, with what it carries, and its arguments.
fn unpack<'a, F, A>(bytes: &'a [u8]) -> Result<(F, A), CallError>
where
    F: Callable<A>,
    A: Deserialize<'a>,
{
    let (captures, arguments): (F::Captures, A) =
        handoff::unpack(bytes).map_err(CallError::Undecodable)?;
    // Trampolines run for a `Code` only, which is made from a value of `F`.
    Ok((F::restore(captures, Witness::new()), arguments))
}

fn pack<R: Serialize>(result: &R) -> Result<Outcome, CallError> {
    handoff::pack(result)
        .map(Outcome::Result)
        .map_err(CallError::Unencodable)
}

/// Makes a value of a type that has no bytes and may be copied.
pub(crate) fn conjure<F: Copy>(_: Witness<F>) -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "a function for another process must capture nothing and be no function pointer: \
             pass what it needs as an argument, or list it: task!([factor] |x: i32| x * factor)"
        );
    }
    // SAFETY: `read` needs a valid place with a valid value.
    // - where: an aligned, non-null pointer is a valid place for no bytes.
    // - what: `F` has no bytes, so there is nothing to be invalid. Having one is no privilege
    //   either: `F: Copy`, and the witness says that a `Code` was made from a value of `F`, so one
    //   existed of which this is a copy.
    unsafe { NonNull::<F>::dangling().read() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panics::run_caught;

    fn packed<T: Serialize>(value: &T) -> Vec<u8> {
        handoff::pack(value).expect("it can be packed").bytes
    }

    fn value<T: DeserializeOwned>(result: Result<Parcel, CallError>) -> T {
        handoff::unpack(&result.expect("a result").bytes).expect("of this type")
    }

    fn generic<T: std::ops::Add<Output = T>>(a: T, b: T) -> T {
        a + b
    }

    #[test]
    fn function_is_called_by_its_code() {
        let code = Code::of_call::<_, (i32, i32)>(&generic::<i32>);
        let code: Code = handoff::unpack(&packed(&code)).expect("a code");
        let call = code.resolve().expect("made here");
        assert_eq!(value::<i32>(call.call(&mut (), &packed(&(40, 2)))), 42);
        let other = Code::of_call::<_, (f64, f64)>(&generic::<f64>);
        assert_ne!(code, other);
    }

    #[test]
    fn method_works_on_the_state_that_a_maker_made() {
        let maker = Code::of_maker::<_, (u64,)>(&|start: u64| vec![start]);
        let push = Code::of_method::<Vec<u64>, _, u64>(|list: &mut Vec<u64>, item: u64| {
            list.push(item);
            list.len()
        });
        let mut state = maker
            .resolve()
            .expect("made here")
            .make(&packed(&(7_u64,)))
            .expect("a state");
        let push = push.resolve().expect("made here");
        assert_eq!(value::<usize>(push.call(&mut *state, &packed(&8_u64))), 2);
        assert_eq!(state.downcast_ref(), Some(&vec![7_u64, 8]));
        let wrong = push.call(&mut String::new(), &packed(&8_u64));
        assert!(matches!(wrong, Err(CallError::WrongState)));
    }

    #[test]
    fn wrong_bytes_and_wrong_kinds_are_errors() {
        let code = Code::of_call::<_, (u8, String)>(&|_: u8, text: String| text);
        let call = code.resolve().expect("made here");
        assert!(matches!(
            call.call(&mut (), &[1, 200]),
            Err(CallError::Undecodable(_))
        ));
        assert!(matches!(
            call.make(&packed(&(1_u8, "x"))),
            Err(CallError::WrongState)
        ));
        let stranger = Code { hash: 1, ..code };
        assert!(stranger.resolve().is_err());
    }

    #[test]
    fn panic_goes_through_the_call() {
        let code = Code::of_call::<_, ()>(&|| -> u8 { panic!("no") });
        let call = code.resolve().expect("made here");
        let panic = run_caught(|| call.call(&mut (), &[]).is_ok());
        assert_eq!(panic.expect_err("it panics").message, "no");
    }
}
