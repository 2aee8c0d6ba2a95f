//! What is chosen for a process before it is started.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::callable::Callable;
use crate::code::Code;
use crate::exit::SpawnError;
use crate::limits::Limits;
use crate::message::Preload;
use crate::orphan::OnParentDeath;
use crate::process::Process;
use crate::settings::{Change, OnInterrupt, Settings};
use crate::spawn::{self, Options, StartMethod};
use crate::streams::Stdio;

/// Everything about a process that is to be started, except its function.
#[derive(Clone, Debug)]
#[must_use = "a builder starts nothing until `spawn`"]
pub struct ProcessBuilder {
    options: Options,
}

impl ProcessBuilder {
    pub(crate) fn new() -> Self {
        Self {
            options: Options {
                name: None,
                method: StartMethod::default(),
                limits: Limits::default(),
                start_timeout: Duration::from_secs(60),
                settings: Settings::default(),
                stdio: [const { Stdio::Inherit }; 3],
                inherited: Vec::new(),
                initializer: None,
                is_daemon: true,
                forwards_logs: false,
            },
        }
    }

    /// A name for the process: in the system's lists (15 bytes of it) and in its panics.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How the process is made; [`StartMethod::Zygote`] if not chosen.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.options.method = method;
        self
    }

    /// What the process may use; all that its parent may if not chosen.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// How long the process may take until it has unpacked its arguments; a minute if not
    /// chosen.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.options.start_timeout = timeout;
        self
    }

    /// Sets a variable of the process's environment, which is this process's if nothing is changed.
    ///
    /// A fresh image ([`StartMethod::Exec`]) begins with it. A child of the zygote sets it before
    /// anything else, but the loader and the constructors of the program have run before.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let change = Change::Set(name.into(), value.into());
        self.options.settings.environment.push(change);
        self
    }

    /// Removes a variable from the process's environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        let change = Change::Remove(name.into());
        self.options.settings.environment.push(change);
        self
    }

    /// Empties the process's environment; what is set afterwards is set.
    pub fn env_clear(mut self) -> Self {
        self.options.settings.environment = vec![Change::Clear];
        self
    }

    /// The directory that the process works in; a relative one is looked for in this process's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.options.settings.directory = Some(directory.into().into());
        self
    }

    /// The process's input; this process's if not chosen.
    pub fn stdin(mut self, stdio: Stdio) -> Self {
        self.options.stdio[0] = stdio;
        self
    }

    /// The process's output; this process's if not chosen.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{BufRead, BufReader};
    ///
    /// use manyhands_process::{Process, Stdio};
    ///
    /// fn count(to: u32) {
    ///     (1..=to).for_each(|n| println!("{n}"));
    /// }
    ///
    /// let builder = Process::builder().stdout(Stdio::Captured);
    /// let mut process = builder.spawn(count, (3,))?;
    /// let output = BufReader::new(process.take_stdout().expect("it is captured"));
    /// let lines: Vec<String> = output.lines().collect::<Result<_, _>>()?;
    /// assert_eq!(lines, ["1", "2", "3"]);
    /// process.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.options.stdio[1] = stdio;
        self
    }

    /// The process's stream for errors; this process's if not chosen.
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.options.stdio[2] = stdio;
        self
    }

    /// Gives the process a descriptor of this one, which it gets by [`inherited`](crate::inherited):
    /// the first as number 0, the next as number 1. Of all others it has none. 31 are the most,
    /// less one for each standard stream that is captured or given.
    ///
    /// The builder has its own of it until it is dropped.
    pub fn inherit(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.options.inherited.push(Arc::new(descriptor.into()));
        self
    }

    /// By how many steps the process is to be nicer to others than this one; 19 is the lowest
    /// priority. To be less nice needs a right.
    pub fn nice(mut self, steps: i32) -> Self {
        self.options.settings.nice = Some(steps);
        self
    }

    /// The processors that the process may run on, by the system's numbers; those of this one if not
    /// chosen.
    pub fn processors(mut self, numbers: impl IntoIterator<Item = u32>) -> Self {
        self.options.settings.processors = Some(numbers.into_iter().collect());
        self
    }

    /// The process group that the process is moved to: zero for a new one, whose number is its
    /// id; this process's if not chosen. Signals from the keyboard go to one group. A process in
    /// another group than the terminal's is stopped by the system when it reads from the terminal.
    pub fn process_group(mut self, group: u32) -> Self {
        self.options.settings.group = Some(group);
        self
    }

    /// Whether the process is killed when this one exits (true if not chosen), or this one waits at
    /// its exit until the process has ended: at the return from `main` and in
    /// [`exit`](std::process::exit), not when this one is killed, which kills the other in any case.
    ///
    /// Python: `Process(daemon=..)`, where false is the default.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.options.is_daemon = is_daemon;
        self
    }

    /// What becomes of the process when this one has died: a kill at once if not chosen.
    pub fn on_parent_death(mut self, choice: OnParentDeath) -> Self {
        self.options.settings.on_parent_death = choice;
        self
    }

    /// What the process does on an interrupt: leave it to this one if not chosen.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::{OnInterrupt, Process};
    ///
    /// let builder = Process::builder().on_interrupt(OnInterrupt::End);
    /// assert_eq!(builder.spawn(|| 42, ())?.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_interrupt(mut self, choice: OnInterrupt) -> Self {
        self.options.settings.on_interrupt = choice;
        self
    }

    /// Has the events of `tracing` in the process told to the subscriber that this thread has when it
    /// spawns, up to the level that anybody in this process listens to then.
    ///
    /// They come by a thread for each such process, with the target `manyhands::child` and the fields
    /// `pid`, `process` (its name), `origin` (their own target), `spans` (those around them,
    /// `outer{a=1}:inner`), `fields` and the message; the last ones perhaps after the join. A process
    /// that is killed loses what it had not sent: one event of each thread. It never waits for its parent:
    /// events that find no room are dropped, and a warning tells how many. Texts are cut at 2 KiB.
    ///
    /// A subscriber that the process has already, from [`Zygote::preload`](crate::Zygote::preload), is
    /// [`SpawnError::Setup`].
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::Process;
    ///
    /// let builder = Process::builder().name("worker").forward_logs();
    /// let work = |n: u32| tracing::info!(n, "working");
    /// builder.spawn(work, (7,))?.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_logs(mut self) -> Self {
        self.options.forwards_logs = true;
        self
    }

    /// A function that runs in the process before its arguments are unpacked and its limits hold.
    /// Its panic is [`SpawnError::Died`]. It cannot start processes.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::Process;
    /// use std::sync::OnceLock;
    ///
    /// static LEVEL: OnceLock<u32> = OnceLock::new();
    ///
    /// let builder = Process::builder().initializer(|| {
    ///     LEVEL.get_or_init(|| 3);
    /// });
    /// let level = || LEVEL.get().copied();
    /// assert_eq!(builder.spawn(level, ())?.join()?, Some(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn initializer<F: Callable<(), Output = (), Captures = ()>>(mut self, f: F) -> Self {
        let code = Code::of_call::<F, ()>(&f);
        self.options.initializer = Some(Preload::of(code));
        self
    }

    /// Calls `f` with `arguments`, a tuple, in a new process; see [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`].
    pub fn spawn<F, A>(&self, f: F, arguments: A) -> Result<Process<F::Output>, SpawnError>
    where
        F: Callable<A>,
        A: Serialize + Deserialize<'static>,
        F::Output: Serialize + DeserializeOwned,
    {
        let parcel = handoff::pack(&(f.captures(), &arguments)).map_err(SpawnError::Unencodable)?;
        let code = Code::of_only_call::<F, A>(&f);
        spawn::spawn(&self.options, code, &parcel).map(Process::of)
    }
}
