//! Ten threads add 1 a thousand times each, under a lock: no increment is lost.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::{Lock, Thread};

static COUNTER: Lock<u32> = Lock::new(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = || (0..1000).for_each(|_| *COUNTER.lock().expect("no owner dies") += 1);
    let threads: Result<Vec<_>, _> = (0..10).map(|_| Thread::spawn(count)).collect();
    for thread in threads? {
        thread.join()?;
    }
    println!("{}", *COUNTER.lock()?);
    Ok(())
}
