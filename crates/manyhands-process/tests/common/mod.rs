//! What several test programs do with processes.

use manyhands_process::{Callable, Process, StartMethod};

/// Runs a test's body in a process that has started nothing yet.
pub(crate) fn alone(body: impl Callable<(), Output = ()>) {
    let builder = Process::builder().start_method(StartMethod::Exec);
    if let Err(error) = builder.spawn(body, ()).expect("it starts").join() {
        panic!("{error}");
    }
}

/// Until it is killed.
pub(crate) fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}
