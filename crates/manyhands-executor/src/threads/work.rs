//! What a thread can run: any closure, with its arguments apart.

/// A call that a thread of this process can make with the arguments `A`, a tuple of up to eight.
///
/// Implemented for every `FnOnce(..) -> R + Send + 'static`; unlike what goes to another
/// process, it may capture.
pub trait Work<A>: Send + 'static {
    /// What the call returns.
    type Output;

    /// Makes the call.
    fn run(self, arguments: A) -> Self::Output;
}

macro_rules! work {
    ($($name:ident),*) => {
        impl<F, R, $($name),*> Work<($($name,)*)> for F
        where
            F: FnOnce($($name),*) -> R + Send + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "the macro names a value after its type")]
            fn run(self, ($($name,)*): ($($name,)*)) -> R {
                self($($name),*)
            }
        }
    };
}

work!();
work!(A1);
work!(A1, A2);
work!(A1, A2, A3);
work!(A1, A2, A3, A4);
work!(A1, A2, A3, A4, A5);
work!(A1, A2, A3, A4, A5, A6);
work!(A1, A2, A3, A4, A5, A6, A7);
work!(A1, A2, A3, A4, A5, A6, A7, A8);
