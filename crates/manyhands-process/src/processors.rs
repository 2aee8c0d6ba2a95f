//! How many processors there are for this process.

use std::thread;

/// How many processors this process may use at once: those that it may run on, and no more than the
/// quotas of its control groups (version 1 or 2) let it use, in whole ones, but at least one.
///
/// It asks anew each time, since both may change.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, cpu_count};
///
/// assert!(cpu_count() >= 1);
/// let mut process = Process::spawn(cpu_count, ())?;
/// assert_eq!(process.join()?, cpu_count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `os.process_cpu_count()`, which knows no quotas; `multiprocessing.cpu_count()` counts the
/// machine's.
pub fn cpu_count() -> usize {
    // The standard library reads the affinity and the files of the control groups.
    thread::available_parallelism().map_or(1, usize::from)
}
