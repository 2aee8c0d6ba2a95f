//! A list at a manager.

use manyhands_shm::handoff::Handoff;
use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::proxy::Managed;

/// A list that a manager owns; a [`Managed`] vector with the usual calls.
///
/// # Examples
///
/// ```
/// use manyhands_manager::Manager;
///
/// let manager = Manager::start()?;
/// let list = manager.list()?;
/// list.push(1)?;
/// list.extend([2, 3])?;
/// list.update(1, |item| *item *= 10)?;
/// assert_eq!(list.snapshot()?, [1, 20, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.managers.SyncManager.list`. Where Python's proxy raises `IndexError`,
/// these calls return `None`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct ManagedList<T> {
    items: Managed<Vec<T>>,
}

impl<T> ManagedList<T> {
    pub(crate) fn new(items: Managed<Vec<T>>) -> Self {
        Self { items }
    }

    /// The list as an object, to run any function on it.
    pub fn object(&self) -> &Managed<Vec<T>> {
        &self.items
    }
}

impl<T: Handoff + 'static> ManagedList<T> {
    /// Appends an item.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn push(&self, item: T) -> Result<(), CallError> {
        self.items.update(|items, item| items.push(item), item)
    }

    /// Appends items, with nobody else's between them.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn extend(&self, more: impl IntoIterator<Item = T>) -> Result<(), CallError> {
        let more: Vec<T> = more.into_iter().collect();
        self.items
            .update(|items, more: Vec<T>| items.extend(more), more)
    }

    /// Takes the last item off.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn pop(&self) -> Result<Option<T>, CallError> {
        self.items.update(|items, ()| items.pop(), ())
    }

    /// A copy of an item, `None` when the list is not so long.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn get(&self, index: usize) -> Result<Option<T>, CallError>
    where
        T: Clone,
    {
        self.items
            .read(|items, index: usize| items.get(index).cloned(), index)
    }

    /// Replaces an item and returns the former one, `None` when the list is not so long.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn set(&self, index: usize, item: T) -> Result<Option<T>, CallError> {
        let set = |items: &mut Vec<T>, (index, item): (usize, T)| {
            items
                .get_mut(index)
                .map(|place| std::mem::replace(place, item))
        };
        self.items.update(set, (index, item))
    }

    /// Changes an item in its place, by a function that runs at the owner; returns what the
    /// function does, `None` when the list is not so long.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn update<R, F>(&self, index: usize, function: F) -> Result<Option<R>, CallError>
    where
        F: Fn(&mut T) -> R + Copy + Send + 'static,
        R: Handoff,
    {
        let update = move |items: &mut Vec<T>, index: usize| items.get_mut(index).map(function);
        self.items.update(update, index)
    }

    /// The number of items.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn len(&self) -> Result<usize, CallError> {
        self.items.read(|items, ()| items.len(), ())
    }

    /// Whether there are no items.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn is_empty(&self) -> Result<bool, CallError> {
        Ok(self.len()? == 0)
    }

    /// A copy of all items, as they were at one moment.
    ///
    /// # Errors
    ///
    /// As [`Managed::update`].
    pub fn snapshot(&self) -> Result<Vec<T>, CallError>
    where
        T: Clone,
    {
        self.items.read(|items, ()| items.clone(), ())
    }
}

impl<T> Clone for ManagedList<T> {
    fn clone(&self) -> Self {
        Self::new(self.items.clone())
    }
}
