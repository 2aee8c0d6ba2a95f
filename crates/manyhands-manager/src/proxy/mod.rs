//! Proxies: what a client has in its hands of an object at the manager.

mod dict;
mod list;
mod value;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use manyhands_process::Code;
use manyhands_shm::handoff::{self, Handoff};
use serde::de::Error as _;
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use dict::ManagedDict;
pub use list::ManagedList;
pub use value::ManagedValue;

use crate::client::Client;
use crate::error::CallError;
use crate::protocol::{Answer, ObjectNumber, Wish};
use crate::reception::Address;

/// An object of type `T` that a manager owns, and on which functions are run there.
///
/// Clones refer to the same object, and so does what arrives in another process when it is sent in
/// a parcel (as an argument of a spawn, or through a connection): the receiver asks the manager for
/// a reference of its own while it unpacks. The manager drops the object when no proxy refers to it
/// any more, in any process; a process that is killed refers to nothing.
///
/// The manager runs one function at a time, so each is atomic, and one that takes long lets all
/// others wait. Within such a function, a proxy of the same manager is of no use; it cannot be an
/// argument either.
///
/// # Examples
///
/// ```
/// use manyhands_manager::Manager;
///
/// let manager = Manager::start()?;
/// let text = manager.managed(String::from("many"))?;
/// text.update(|text, more: String| text.push_str(&more), " hands".to_owned())?;
/// assert_eq!(text.read(|text, ()| text.len(), ())?, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A function runs in another process, so it can take nothing along but its arguments:
///
/// ```compile_fail
/// let manager = manyhands_manager::Manager::start().unwrap();
/// let number = manager.managed(1).unwrap();
/// let step = String::from("2");
/// number.update(|number, ()| *number += step.len(), ()).unwrap();
/// ```
pub struct Managed<T> {
    reference: Arc<Reference>,
    object: PhantomData<fn(T) -> T>,
}

/// One reference as the server counts it; shared by the clones in this process.
#[derive(Debug)]
struct Reference {
    client: Arc<Client>,
    object: ObjectNumber,
}

impl<T> Managed<T> {
    /// Takes over a reference that the server has counted already.
    pub(crate) fn adopt(client: Arc<Client>, object: ObjectNumber) -> Self {
        Self {
            reference: Arc::new(Reference { client, object }),
            object: PhantomData,
        }
    }

    /// Whether both refer to the same object.
    pub fn ptr_eq(one: &Self, other: &Self) -> bool {
        let server = |proxy: &Self| proxy.reference.client.address().server;
        server(one) == server(other) && one.reference.object == other.reference.object
    }
}

impl<T: 'static> Managed<T> {
    /// Runs `function` on the object at its owner, with one argument, and returns its result.
    ///
    /// # Errors
    ///
    /// [`CallError`]. A panic of the function is [`CallError::Panicked`], to this caller only; the
    /// object stays as the function left it.
    pub fn update<A, R, F>(&self, function: F, argument: A) -> Result<R, CallError>
    where
        F: Fn(&mut T, A) -> R + Copy + Send + 'static,
        A: Handoff,
        R: Handoff,
    {
        let method = Code::of_method::<T, F, A>(function);
        let object = self.reference.object;
        let arguments = handoff::pack(&argument).map_err(CallError::ArgumentsUnencodable)?;
        self.reference
            .client
            .invoke(Wish::Call { object, method }, arguments)
    }

    /// As [`update`](Self::update), with a function that only looks.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn read<A, R, F>(&self, function: F, argument: A) -> Result<R, CallError>
    where
        F: Fn(&T, A) -> R + Copy + Send + 'static,
        A: Handoff,
        R: Handoff,
    {
        self.update(
            move |object: &mut T, argument: A| function(object, argument),
            argument,
        )
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.client.release(self.object);
    }
}

impl<T> Clone for Managed<T> {
    fn clone(&self) -> Self {
        Self {
            reference: self.reference.clone(),
            object: PhantomData,
        }
    }
}

impl<T> Serialize for Managed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Ours is kept with the parcel, until the receiver has one of its own.
        handoff::hold(self.reference.clone()).map_err(S::Error::custom)?;
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(self.reference.client.address())?;
        tuple.serialize_element(&self.reference.object)?;
        tuple.end()
    }
}

impl<'de, T> Deserialize<'de> for Managed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (address, object): (Address, ObjectNumber) = Deserialize::deserialize(deserializer)?;
        let refused = |error: CallError| {
            handoff::refuse(error.to_string());
            D::Error::custom(error)
        };
        let client = Client::of(&address).map_err(|error| refused(error.into()))?;
        match client.ask(Wish::Retain { object }, &[]) {
            Ok(Answer::Done) => Ok(Self::adopt(client, object)),
            Ok(_) => Err(refused(CallError::Confused)),
            Err(error) => Err(refused(error)),
        }
    }
}

impl<T> fmt::Debug for Managed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Managed")
            .field("type", &std::any::type_name::<T>())
            .field("server", &self.reference.client.address().server)
            .field("object", &self.reference.object)
            .finish()
    }
}
