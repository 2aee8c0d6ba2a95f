//! A dictionary at a manager.

use std::collections::HashMap;
use std::hash::Hash;

use manyhands_shm::handoff::Handoff;
use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::proxy::Managed;

/// A dictionary that a manager owns; a [`Managed`] hash map with the usual calls.
///
/// # Examples
///
/// ```
/// use manyhands_manager::Manager;
///
/// let manager = Manager::start()?;
/// let ages = manager.dict::<String, u32>()?;
/// assert_eq!(ages.insert("ann".to_owned(), 41)?, None);
/// ages.update("ann".to_owned(), |age| *age += 1)?;
/// assert_eq!(ages.get("ann".to_owned())?, Some(42));
/// assert_eq!(ages.remove("bob".to_owned())?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.managers.SyncManager.dict`. Where Python's proxy raises `KeyError`,
/// these calls return `None`; the order of the keys is not kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct ManagedDict<K, V> {
    entries: Managed<HashMap<K, V>>,
}

impl<K, V> ManagedDict<K, V> {
    pub(crate) fn new(entries: Managed<HashMap<K, V>>) -> Self {
        Self { entries }
    }

    /// The dictionary as an object, to run any function on it.
    pub fn object(&self) -> &Managed<HashMap<K, V>> {
        &self.entries
    }
}

impl<K, V> ManagedDict<K, V>
where
    K: Handoff + Eq + Hash + 'static,
    V: Handoff + 'static,
{
    /// Sets the value of a key and returns the former one.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, CallError> {
        let insert = |entries: &mut HashMap<K, V>, (key, value)| entries.insert(key, value);
        self.entries.update(insert, (key, value))
    }

    /// A copy of the value of a key.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn get(&self, key: K) -> Result<Option<V>, CallError>
    where
        V: Clone,
    {
        self.entries
            .read(|entries, key: K| entries.get(&key).cloned(), key)
    }

    /// Takes a key out and returns its value.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn remove(&self, key: K) -> Result<Option<V>, CallError> {
        self.entries
            .update(|entries, key: K| entries.remove(&key), key)
    }

    /// Changes the value of a key in its place, by a function that runs at the owner.
    ///
    /// A key that is not there begins with the default value.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn update<R, F>(&self, key: K, function: F) -> Result<R, CallError>
    where
        V: Default,
        F: Fn(&mut V) -> R + Copy + Send + 'static,
        R: Handoff,
    {
        let update =
            move |entries: &mut HashMap<K, V>, key: K| function(entries.entry(key).or_default());
        self.entries.update(update, key)
    }

    /// The number of keys.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn len(&self) -> Result<usize, CallError> {
        self.entries.read(|entries, ()| entries.len(), ())
    }

    /// Whether there are no keys.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn is_empty(&self) -> Result<bool, CallError> {
        Ok(self.len()? == 0)
    }

    /// A copy of everything, as it was at one moment.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn snapshot(&self) -> Result<HashMap<K, V>, CallError>
    where
        K: Clone,
        V: Clone,
    {
        self.entries.read(|entries, ()| entries.clone(), ())
    }
}

impl<K, V> Clone for ManagedDict<K, V> {
    fn clone(&self) -> Self {
        Self::new(self.entries.clone())
    }
}
