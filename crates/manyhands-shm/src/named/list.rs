//! Python's `multiprocessing.shared_memory.ShareableList`, in CPython's own layout.
//!
//! ```text
//! count: i64 | offsets: (count + 1) x i64 | data | formats: count x 8 bytes | codes: count x 1 byte
//! ```
//!
//! Source: CPython 3.9 to 3.13, `Lib/multiprocessing/shared_memory.py`. (3.8 wrote lengths in place of
//! the offsets; its lists are refused here, as they are by later versions of Python.)

mod item;

use std::fmt;
use std::iter;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::item::{Format, LONGEST};
use super::error::{CreateError, OpenError};
use super::memory::SharedMemory;

pub use self::item::Item;

/// A list of fixed length in shared memory, which Python's `ShareableList` reads and writes too.
///
/// As there: values may change their type; text must fit into the slot that it was made with; zeros at
/// the end of text are lost; there is no lock, so whoever reads while another writes may find neither
/// value, or an error. Put a lock around it where that can happen.
///
/// # Examples
///
/// ```
/// use manyhands_shm::named::{Item, ShareableList};
///
/// let list = ShareableList::create_unnamed([Item::from(1), "two".into(), 3.0.into(), ().into()])?;
/// list.set(0, true)?;
///
/// let same = ShareableList::open(list.name())?; // or ShareableList(name=...) in Python
/// assert_eq!(same.get(0)?, Item::Bool(true));
/// assert_eq!(same.index("two")?, Some(1));
///
/// let too_long = list.set(1, "longer than the eight bytes of its slot");
/// assert!(too_long.is_err() && list.get(1)? == Item::from("two"));
/// list.memory().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `ShareableList(sequence, name=)`, `[]`, `len`, `count`, `index`, `format`, `shm`.
pub struct ShareableList {
    memory: SharedMemory,
    /// Where each slot begins in the data, and where the last one ends. Read once, as Python does.
    offsets: Vec<usize>,
}

/// Why a list could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListCreateError {
    /// A text is longer than a format can tell.
    #[error("item {index} has {len} bytes; at most 9999999 are possible")]
    TooLong {
        /// Which one.
        index: usize,
        /// Its length.
        len: usize,
    },
    /// The memory could not be made.
    #[error(transparent)]
    Memory(#[from] CreateError),
}

/// Why a list could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListOpenError {
    /// What lies in the memory is no list.
    #[error("shared memory named `{name}` holds no list (of Python 3.9 or newer)")]
    NotAList {
        /// The name.
        name: String,
    },
    /// The memory could not be opened.
    #[error(transparent)]
    Memory(#[from] OpenError),
}

/// Why a value could not be read or written. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The list has no such item.
    #[error("there is no item {index} in a list of {len}")]
    OutOfRange {
        /// Which one was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The text or the bytes are longer than the slot.
    #[error("{len} bytes do not fit into the {size} of item {index}")]
    TooLong {
        /// Which one.
        index: usize,
        /// The length of the value.
        len: usize,
        /// The size of the slot.
        size: usize,
    },
    /// What lies there is no value: text that is no UTF-8, or another process is writing.
    #[error("item {index} is damaged, or another process is writing it")]
    Damaged {
        /// Which one.
        index: usize,
    },
}

impl ShareableList {
    /// Makes a list of these items under a name.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::create`], and [`ListCreateError::TooLong`].
    pub fn create<I>(name: &str, items: I) -> Result<ShareableList, ListCreateError>
    where
        I: IntoIterator,
        I::Item: Into<Item>,
    {
        build(items, |size| SharedMemory::create(name, size))
    }

    /// Makes a list that goes with this value, as [`SharedMemory::create_owned`] does.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_owned<I>(name: &str, items: I) -> Result<ShareableList, ListCreateError>
    where
        I: IntoIterator,
        I::Item: Into<Item>,
    {
        build(items, |size| SharedMemory::create_owned(name, size))
    }

    /// Makes a list of these items under a name that nothing has.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_unnamed<I>(items: I) -> Result<ShareableList, ListCreateError>
    where
        I: IntoIterator,
        I::Item: Into<Item>,
    {
        build(items, SharedMemory::create_unnamed)
    }

    /// Opens the list of a name.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::open`], and [`ListOpenError::NotAList`].
    pub fn open(name: &str) -> Result<ShareableList, ListOpenError> {
        let memory = SharedMemory::open(name)?;
        match offsets(&memory) {
            Some(offsets) => Ok(ShareableList { memory, offsets }),
            None => Err(ListOpenError::NotAList { name: name.into() }),
        }
    }

    /// The value of an item.
    ///
    /// # Errors
    ///
    /// [`ItemError::OutOfRange`], [`ItemError::Damaged`].
    pub fn get(&self, index: usize) -> Result<Item, ItemError> {
        let (start, size) = self.slot(index)?;
        let damaged = || ItemError::Damaged { index };
        let format = self.format_of(index)?;
        if format.len() > size {
            return Err(damaged());
        }
        let mut bytes = vec![0; format.len()];
        let mut code = [0];
        let read = self.memory.read_at(start, &mut bytes);
        read.and_then(|()| self.memory.read_at(self.codes() + index, &mut code))
            .map_err(|_| damaged())?;
        Item::unpack(format, code[0], &bytes).ok_or_else(damaged)
    }

    /// Changes the value of an item, and its type, if need be.
    ///
    /// # Errors
    ///
    /// [`ItemError::OutOfRange`], [`ItemError::TooLong`]; nothing is changed then.
    pub fn set(&self, index: usize, value: impl Into<Item>) -> Result<(), ItemError> {
        let value = value.into();
        let (start, size) = self.slot(index)?;
        let damaged = |_| ItemError::Damaged { index };
        let too_long = |len| ItemError::TooLong { index, len, size };
        let len = value.text().map_or(8, <[u8]>::len);
        // A slot of a damaged list may be too small for a number, too.
        if len > size {
            return Err(too_long(len));
        }
        let mut format = value.format_in(size, self.format_of(index)?);
        if format.len() > size || format.len() < len {
            // Somebody made up a format that does not go with the slot.
            format = Format::Text(size);
        }
        if format.len() > LONGEST {
            return Err(too_long(len));
        }
        // In Python's order.
        let memory = &self.memory;
        memory
            .write_at(self.formats() + 8 * index, &format.to_bytes())
            .map_err(damaged)?;
        memory
            .write_at(self.codes() + index, &[value.code()])
            .map_err(damaged)?;
        memory.write_at(start, &value.pack(format)).map_err(damaged)
    }

    /// The number of items; it never changes.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Result<Item, ItemError>> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// How many items have this value.
    ///
    /// # Errors
    ///
    /// [`ItemError::Damaged`].
    pub fn count(&self, value: impl Into<Item>) -> Result<usize, ItemError> {
        let value = value.into();
        let mut count = 0;
        for item in self.iter() {
            count += usize::from(item? == value);
        }
        Ok(count)
    }

    /// The first item that has this value.
    ///
    /// # Errors
    ///
    /// [`ItemError::Damaged`].
    pub fn index(&self, value: impl Into<Item>) -> Result<Option<usize>, ItemError> {
        let value = value.into();
        for (index, item) in self.iter().enumerate() {
            if item? == value {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The formats of all items, in the words of Python's `struct`.
    ///
    /// # Errors
    ///
    /// [`ItemError::Damaged`].
    pub fn format(&self) -> Result<String, ItemError> {
        (0..self.len())
            .map(|index| Ok(self.format_of(index)?.to_string()))
            .collect()
    }

    /// The name of the memory.
    pub fn name(&self) -> &str {
        self.memory.name()
    }

    /// The memory that it lies in, to unlink it, say.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Where a slot begins in the memory, and how many bytes it has.
    fn slot(&self, index: usize) -> Result<(usize, usize), ItemError> {
        let len = self.len();
        let slot = self.offsets.get(index..index.saturating_add(2));
        let slot = slot.ok_or(ItemError::OutOfRange { index, len })?;
        Ok((data(len) + slot[0], slot[1] - slot[0]))
    }

    fn format_of(&self, index: usize) -> Result<Format, ItemError> {
        let mut bytes = [0; 8];
        let read = self.memory.read_at(self.formats() + 8 * index, &mut bytes);
        let format = read.ok().and_then(|()| Format::parse(bytes));
        format.ok_or(ItemError::Damaged { index })
    }

    fn formats(&self) -> usize {
        data(self.len()) + self.offsets.last().copied().unwrap_or_default()
    }

    fn codes(&self) -> usize {
        self.formats() + 8 * self.len()
    }
}

/// Where the data of a list of `count` items begins.
fn data(count: usize) -> usize {
    8 * (count + 2)
}

fn build<I>(
    items: I,
    make: impl FnOnce(usize) -> Result<SharedMemory, CreateError>,
) -> Result<ShareableList, ListCreateError>
where
    I: IntoIterator,
    I::Item: Into<Item>,
{
    let items: Vec<Item> = items.into_iter().map(Into::into).collect();
    let slots: Vec<Format> = items.iter().map(Item::slot).collect();
    if let Some(index) = slots.iter().position(|slot| slot.len() > LONGEST) {
        let len = items[index].text().map_or(0, <[u8]>::len);
        return Err(ListCreateError::TooLong { index, len });
    }
    let mut offsets = vec![0];
    offsets.extend(slots.iter().scan(0, |end, slot| {
        *end += slot.len();
        Some(*end)
    }));
    let count = items.len();
    let mut image = (count as i64).to_ne_bytes().to_vec();
    image.extend(
        offsets
            .iter()
            .flat_map(|offset| (*offset as i64).to_ne_bytes()),
    );
    image.extend(iter::zip(&items, &slots).flat_map(|(item, slot)| item.pack(*slot)));
    image.extend(slots.iter().flat_map(|slot| slot.to_bytes()));
    image.extend(items.iter().map(Item::code));
    let memory = make(image.len())?;
    memory
        .write_at(0, &image)
        .expect("the memory was made for it");
    Ok(ShareableList { memory, offsets })
}

/// The offsets of a list, if everything that they lead to is inside of the memory.
fn offsets(memory: &SharedMemory) -> Option<Vec<usize>> {
    let number = |at| {
        let mut bytes = [0; 8];
        memory.read_at(at, &mut bytes).ok()?;
        usize::try_from(i64::from_ne_bytes(bytes)).ok()
    };
    let count = number(0)?;
    // Each item takes 8 bytes of offset, of slot and of format, and a code: so nothing overflows.
    if count > memory.size() / 25 {
        return None;
    }
    let offsets: Vec<usize> = (0..=count)
        .map(|index| number(8 * (index + 1)))
        .collect::<Option<_>>()?;
    let in_order = offsets[0] == 0 && offsets.is_sorted() && offsets[count] <= memory.size();
    let end = data(count) + offsets[count] + 9 * count;
    (in_order && end <= memory.size()).then_some(offsets)
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<_> = self.iter().collect();
        f.debug_struct("ShareableList")
            .field("items", &items)
            .field("name", &self.name())
            .finish()
    }
}

/// As its name: small, whatever its length.
impl Serialize for ShareableList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ShareableList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ShareableList, D::Error> {
        let name = String::deserialize(deserializer)?;
        ShareableList::open(&name).map_err(D::Error::custom)
    }
}
