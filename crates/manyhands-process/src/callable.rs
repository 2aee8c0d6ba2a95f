//! What may be called in another process: functions and closures that carry nothing.

/// A function or closure that another process can call with arguments `A`, a tuple.
///
/// Implemented for each `fn` item and each closure that captures nothing, of up to eight
/// arguments. Such a value has no bytes, so nothing of it needs to travel; the other process makes
/// its own. That is sound because the type is [`Copy`]: whoever has one may have two.
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
/// Pass what the function needs as an argument instead.
pub trait Callable<A>: Copy + Send + 'static {
    /// What the function returns.
    type Output;

    /// Calls it.
    fn call(self, arguments: A) -> Self::Output;
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
