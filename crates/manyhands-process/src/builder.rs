//! What is chosen for a process before it is started.

use std::time::Duration;

use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::callable::Callable;
use crate::code::Code;
use crate::exit::SpawnError;
use crate::limits::Limits;
use crate::process::Process;
use crate::spawn::{self, Options, StartMethod};

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
        let member = spawn::spawn(&self.options, code, &parcel)?;
        Ok(Process::of(member))
    }
}
