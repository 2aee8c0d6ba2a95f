//! What a child may use.

use std::time::Duration;

use manyhands_os::{OsError, limits};
use serde::{Deserialize, Serialize};

/// What a process may use; the system enforces it. `None` leaves what the parent has.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Exit, Limits, Process};
///
/// fn greedy(bytes: usize) -> u8 {
///     let memory = vec![1_u8; bytes];
///     memory[bytes / 2]
/// }
///
/// let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
/// let mut process = Process::builder().limits(limits).spawn(greedy, (1 << 30,))?;
/// let error = process.join().unwrap_err();
/// assert!(matches!(error.exit(), Some(Exit::MemoryLimit { allowed: 0x400_0000, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Private memory in bytes, above what the process has when its function is about to run.
    /// Memory shared by the family does not count.
    pub memory: Option<u64>,
    /// Processor time of all its threads together, rounded up to seconds. What meets the limit ends
    /// as [`Exit::ProcessorLimit`](crate::Exit::ProcessorLimit); what blocks or ignores `SIGXCPU` is
    /// killed a second later.
    pub processor_time: Option<Duration>,
    /// The size of a core file in bytes; zero writes none.
    pub core: Option<u64>,
    /// The number of open descriptors.
    pub descriptors: Option<u64>,
}

impl Limits {
    /// Limits the calling process, for good.
    pub(crate) fn apply(&self) -> Result<(), OsError> {
        if let Some(bytes) = self.core {
            limits::limit_core(bytes)?;
        }
        if let Some(time) = self.processor_time {
            limits::limit_processor_time(time)?;
        }
        if let Some(count) = self.descriptors {
            limits::limit_descriptors(count)?;
        }
        if let Some(bytes) = self.memory {
            limits::limit_memory(bytes)?;
        }
        Ok(())
    }
}
