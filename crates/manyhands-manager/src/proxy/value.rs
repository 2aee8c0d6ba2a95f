//! A single value at a manager.

use manyhands_shm::handoff::Handoff;
use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::proxy::Managed;

/// A value that a manager owns.
///
/// # Examples
///
/// ```
/// use manyhands_manager::Manager;
///
/// let manager = Manager::start()?;
/// let counter = manager.value(40_u32)?;
/// counter.update(|count| *count += 2)?;
/// assert_eq!(counter.set(0)?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.managers.SyncManager.Value`; `update` has no equal there, so that two
/// clients which count up lose counts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct ManagedValue<T> {
    value: Managed<T>,
}

impl<T> ManagedValue<T> {
    pub(crate) fn new(value: Managed<T>) -> Self {
        Self { value }
    }

    /// The value as an object, to run functions with arguments on it.
    pub fn object(&self) -> &Managed<T> {
        &self.value
    }
}

impl<T: Handoff + 'static> ManagedValue<T> {
    /// A copy of the value.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn get(&self) -> Result<T, CallError>
    where
        T: Clone,
    {
        self.value.read(|value, ()| value.clone(), ())
    }

    /// Replaces the value and returns the former one.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn set(&self, value: T) -> Result<T, CallError> {
        self.value
            .update(|place, value| std::mem::replace(place, value), value)
    }

    /// Changes the value by a function that runs at the owner: no other client comes in between.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn update<R, F>(&self, function: F) -> Result<R, CallError>
    where
        F: Fn(&mut T) -> R + Copy + Send + 'static,
        R: Handoff,
    {
        self.value
            .update(move |value: &mut T, ()| function(value), ())
    }
}

impl<T> Clone for ManagedValue<T> {
    fn clone(&self) -> Self {
        Self::new(self.value.clone())
    }
}
