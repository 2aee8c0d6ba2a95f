#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use manyhands_channel as channel;
pub use manyhands_executor as executor;
pub use manyhands_manager as manager;
pub use manyhands_os as os;
pub use manyhands_process as process;
pub use manyhands_shm as shm;
pub use manyhands_sync as sync;

#[doc(inline)]
pub use manyhands_channel::{
    Client, Connection, Lease, LifoQueue, Listener, Pipe, Pollable, PriorityQueue, Queue, Select,
    Waitable,
};
#[doc(inline)]
pub use manyhands_executor::{
    Death, Executor, Phase, Pool, ProcessPoolExecutor, Shutdown, SubmitError, Task, TaskError,
    ThreadPoolExecutor, as_completed, wait,
};
#[doc(inline)]
pub use manyhands_manager::{Managed, ManagedDict, ManagedList, ManagedValue, Manager};
#[doc(inline)]
pub use manyhands_process::{
    ActiveChild, ActiveThread, Backtrace, CappedAllocator, CurrentProcess, Exit, Limits,
    OnInterrupt, OnParentDeath, Panic, ParentProcess, PreloadError, Process, ProcessBuilder,
    ProcessError, Scope, ScopedJoinHandle, SpawnError, StartMethod, Stdio, Thread, ThreadBuilder,
    ThreadError, Timer, Zygote, active_children, active_threads, cpu_count, current, in_child,
    in_main_thread, inherited, reset_thread_hook, scope, set_thread_hook, task,
};
#[doc(inline)]
pub use manyhands_shm::{
    Handoff, Region, Segment, SegmentOf, Shape, ShareableList, Shared, SharedMemory, ShmString,
    ShmVec, named, portable,
};
#[doc(inline)]
pub use manyhands_sync::{
    Barrier, BoundedSemaphore, Condition, Event, LastPlace, Lock, LockError, LockGuard, Once,
    RLock, RLockGuard, RwLock, Semaphore, Shareable,
};

/// Implements [`Shareable`](trait@Shareable) for a struct whose fields all are.
///
/// What cannot lie in memory that several processes map is refused by name, with what to use
/// instead.
///
/// # Examples
///
/// ```
/// use manyhands::{Lock, Shareable, Shared};
///
/// #[derive(Shareable)]
/// struct Score {
///     points: Lock<i64>,
///     level: u32,
/// }
///
/// let score = Shared::new(Score { points: Lock::new(0), level: 3 })?;
/// *score.points.lock().expect("nobody else has it") += 10;
/// # Ok::<(), manyhands::shm::NoSpace>(())
/// ```
pub use manyhands_derive::FacadeShareable as Shareable;

/// The example on the first page of the repository, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FirstPage;
