//! Starting a manager and making objects at it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use manyhands_channel::Doorbell;
use manyhands_os::Deadline;
use manyhands_process::{Callable, Code, Process};
use manyhands_shm::handoff::{self, Handoff};

use crate::client::Client;
use crate::error::{CallError, ShutdownError, StartError};
use crate::protocol::{Answer, Wish};
use crate::proxy::{Managed, ManagedDict, ManagedList, ManagedValue};
use crate::reception::{Address, Reception};
use crate::server::serve;

/// How long a manager that is dropped may take to end.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// A process that owns objects for others.
///
/// It runs until this value is shut down or dropped, or until the process that started it ends.
/// Then every call on its objects, wherever it is made, fails with
/// [`CallError::ManagerGone`], those in flight too.
///
/// # Examples
///
/// ```
/// use manyhands_manager::Manager;
///
/// let manager = Manager::start()?;
/// let scores = manager.dict::<String, i64>()?;
/// scores.update("ann".to_owned(), |score| *score += 3)?;
/// assert_eq!(scores.get("ann".to_owned())?, Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Manager {
    client: Arc<Client>,
    /// `None` once it was shut down.
    process: Option<Process<()>>,
}

impl Manager {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no shared memory, no process, or no answer from it.
    pub fn start() -> Result<Self, StartError> {
        let reception = Reception::open()?;
        let bell = Doorbell::new()?;
        let process = Process::<()>::builder()
            .name("manyhands-manager")
            .spawn(serve, (reception.clone(), bell.clone()))?;
        let address = Address {
            server: process.participant(),
            reception,
            bell,
        };
        let client = Client::of(&address)?;
        Ok(Self {
            client,
            process: Some(process),
        })
    }

    /// Makes an empty list.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`].
    pub fn list<T: Handoff + 'static>(&self) -> Result<ManagedList<T>, CallError> {
        self.make(Vec::<T>::new, ()).map(ManagedList::new)
    }

    /// Makes an empty dictionary.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`].
    pub fn dict<K, V>(&self) -> Result<ManagedDict<K, V>, CallError>
    where
        K: Handoff + Eq + std::hash::Hash + 'static,
        V: Handoff + 'static,
    {
        self.make(std::collections::HashMap::<K, V>::new, ())
            .map(ManagedDict::new)
    }

    /// Makes a single value.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`].
    pub fn value<T: Handoff + 'static>(&self, value: T) -> Result<ManagedValue<T>, CallError> {
        self.managed(value).map(ManagedValue::new)
    }

    /// Sends a value to the manager, which owns it from then on; functions are run on it there.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`].
    pub fn managed<T: Handoff + 'static>(&self, value: T) -> Result<Managed<T>, CallError> {
        self.make(|value: T| value, (value,))
    }

    /// Makes an object by a function that runs at the manager: for types that cannot be sent, such
    /// as open files and connections.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`], or [`CallError::Panicked`] by the
    /// function.
    pub fn make<F, A>(&self, maker: F, arguments: A) -> Result<Managed<F::Output>, CallError>
    where
        F: Callable<A>,
        F::Output: 'static,
        A: Handoff,
    {
        let parcel = handoff::pack(&(maker.captures(), &arguments));
        let maker = Code::of_maker::<F, A>(&maker);
        let parcel = parcel.map_err(CallError::ArgumentsUnencodable)?;
        match self.client.ask(Wish::Make { maker }, &parcel.bytes)? {
            Answer::Made { object } => Ok(Managed::adopt(self.client.clone(), object)),
            _ => Err(CallError::Confused),
        }
    }

    /// How many objects the manager owns. One that no proxy refers to any more is dropped there.
    ///
    /// # Errors
    ///
    /// [`CallError`], most likely [`CallError::ManagerGone`].
    pub fn object_count(&self) -> Result<u64, CallError> {
        match self.client.ask(Wish::Count, &[])? {
            Answer::Counted { objects } => Ok(objects),
            _ => Err(CallError::Confused),
        }
    }

    /// The process's number, `None` once it was shut down.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Ends the process: after the request that it is busy with, or at once when `within` passes.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] when the end was not a clean one; it has ended all the same.
    pub fn shutdown(mut self, within: Duration) -> Result<(), ShutdownError> {
        self.end(within)
    }

    fn end(&mut self, within: Duration) -> Result<(), ShutdownError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let deadline = Deadline::after(within);
        let told = self.client.ask_until(Wish::ShutDown, &[], deadline);
        let gone = matches!(told, Err(CallError::ManagerGone));
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        match process.join_timeout(left) {
            Ok(Some(())) if !gone => Ok(()),
            Ok(None) => {
                // It may have ended by itself in between; then there is nothing to kill.
                let _ = process.kill();
                let _ = process.join();
                Err(ShutdownError::Killed { within })
            }
            Ok(Some(())) | Err(_) => Err(ShutdownError::EndedBefore {
                exit: process.exit(),
            }),
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Err(error) = self.end(DROP_PATIENCE) {
            tracing::debug!(%error, "a dropped manager did not end by itself");
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Manager")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
