//! The least library that starts processes, for hosts that know nothing of it.
#![allow(unsafe_code, reason = "C programs find the function by its plain name")]

mod calls;

/// `calls::all` for C: the number, or minus one with the reason on the standard error.
#[unsafe(no_mangle)]
pub extern "C" fn contexts_run(number: i32) -> i32 {
    calls::all(number).unwrap_or_else(|error| {
        calls::complain(&error);
        -1
    })
}
