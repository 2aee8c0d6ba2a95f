//! A function that hears of each panic that ends a [`Thread`](crate::Thread), joined or not.

use std::sync::{Arc, PoisonError, RwLock};

use crate::panics::{Panic, run_caught};

/// What is called for a panic that has ended a thread.
type Hook = dyn Fn(&Panic) + Send + Sync;

static HOOK: RwLock<Option<Arc<Hook>>> = RwLock::new(None);

/// Has `hook` called for each panic that ends the function of a [`Thread`](crate::Thread) or a
/// [`Timer`](crate::Timer) of this process, in that thread, after it has unwound and before it can be
/// joined. The panic is the error of the join all the same.
///
/// It replaces the hook that was there before. Without one, a thread that nobody joins ends silently. A
/// hook that panics itself is told to `tracing`, and disturbs nobody.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// use manyhands_process::{Thread, reset_thread_hook, set_thread_hook};
///
/// let (sender, heard) = mpsc::channel();
/// set_thread_hook(move |panic| {
///     let _ = sender.send(panic.to_string());
/// });
/// let thread = Thread::builder().name("pump").spawn(|| panic!("no water"))?;
/// drop(thread);
/// let text = heard.recv()?;
/// assert!(text.starts_with("thread 'pump' panicked") && text.ends_with("no water"));
/// reset_thread_hook();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.excepthook`.
pub fn set_thread_hook(hook: impl Fn(&Panic) + Send + Sync + 'static) {
    replace(Some(Arc::new(hook)));
}

/// Removes the hook that [`set_thread_hook`] has set, if there is one.
///
/// Python: `threading.excepthook = threading.__excepthook__`.
pub fn reset_thread_hook() {
    replace(None);
}

fn replace(hook: Option<Arc<Hook>>) {
    let mut place = HOOK.write().unwrap_or_else(PoisonError::into_inner);
    let former = std::mem::replace(&mut *place, hook);
    drop(place);
    // Outside of the lock: what it holds is foreign.
    drop(former);
}

/// Tells the hook of a panic that has ended a thread.
pub(crate) fn call(panic: &Panic) {
    // Called outside of the lock, so that a hook may set another one.
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(hook) = hook else {
        return;
    };
    if let Err(second) = run_caught(|| hook(panic)) {
        tracing::error!(%panic, %second, "the hook for panics of threads panicked");
    }
}
