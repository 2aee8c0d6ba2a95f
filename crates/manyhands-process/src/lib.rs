#![doc = include_str!("../README.md")]

mod abandoned;
mod active_children;
mod active_threads;
mod backtrace;
mod builder;
mod callable;
mod child;
#[allow(
    unsafe_code,
    reason = "an address from another process of the same build becomes a function again"
)]
mod code;
mod current_process;
#[allow(
    unsafe_code,
    reason = "the entry hook runs before main, on what the loader and the parent give it"
)]
mod entry;
mod exit;
mod inherited;
mod limits;
mod logs;
mod member;
mod message;
mod orphan;
#[allow(
    unsafe_code,
    reason = "arguments and results are copied through memory that two processes share"
)]
mod page;
mod panics;
mod process;
mod processors;
mod settings;
mod spawn;
mod streams;
mod task;
mod thread;
mod thread_hook;
mod timer;
mod watcher;
#[allow(
    unsafe_code,
    reason = "the zygote forks, which is sound in a process of one thread only"
)]
mod zygote;

pub use active_children::{ActiveChild, active_children};
pub use active_threads::{ActiveThread, active_threads, in_main_thread};
pub use backtrace::Backtrace;
pub use builder::ProcessBuilder;
#[doc(hidden)]
pub use callable::Witness;
pub use callable::{Callable, Method};
pub use code::{CallError, Code, CodeError, Trampoline};
pub use current_process::{CurrentProcess, ParentProcess, current};
pub use entry::in_child;
pub use exit::{Exit, ProcessError, SpawnError};
pub use inherited::inherited;
pub use limits::Limits;
pub use manyhands_os::limits::CappedAllocator;
pub use orphan::OnParentDeath;
pub use panics::{Panic, run_caught};
pub use process::Process;
pub use processors::cpu_count;
pub use settings::OnInterrupt;
pub use spawn::StartMethod;
pub use streams::Stdio;
pub use task::Bound;
pub use thread::{Thread, ThreadBuilder, ThreadError};
pub use thread_hook::{reset_thread_hook, set_thread_hook};
pub use timer::Timer;
pub use zygote::{PreloadError, Zygote};

// Threads that borrow from the one that starts them are the standard library's.
#[doc(no_inline)]
pub use std::thread::{Scope, ScopedJoinHandle, scope};
