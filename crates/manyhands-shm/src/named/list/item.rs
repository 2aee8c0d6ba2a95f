//! The values of a `ShareableList`, and how Python's `struct` writes them.

use std::str;

/// A value in a [`ShareableList`](super::ShareableList): one of the six types of Python that it knows.
///
/// Values of different kinds are different here; in Python `True == 1 == 1.0`.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int`, of 64 bits.
    Int(i64),
    /// `float`.
    Float(f64),
    /// `str`. Zero characters at its end are lost.
    Str(String),
    /// `bytes`. Zeros at its end are lost.
    Bytes(Vec<u8>),
}

macro_rules! from {
    ($($type:ty => $kind:ident),*) => {$(
        impl From<$type> for Item {
            fn from(value: $type) -> Item {
                Item::$kind(value.into())
            }
        }
    )*};
}

from!(bool => Bool, i64 => Int, i32 => Int, u32 => Int, f64 => Float, f32 => Float);
from!(&str => Str, String => Str, &[u8] => Bytes, Vec<u8> => Bytes);

impl<const N: usize> From<&[u8; N]> for Item {
    fn from(value: &[u8; N]) -> Item {
        Item::Bytes(value.to_vec())
    }
}

impl From<()> for Item {
    fn from((): ()) -> Item {
        Item::None
    }
}

/// How a value turns back into the type that it was: the last part of the memory.
const PLAIN: u8 = 0;
const STR: u8 = 1;
const BYTES: u8 = 2;
const NONE: u8 = 3;

/// A format of Python's `struct`, as far as lists use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `q`
    Int,
    /// `d`
    Float,
    /// `xxxxxxx?`: the value is in the last of eight bytes.
    Bool,
    /// `xxxxxx?x`: so that it is eight bytes and another format than that of `bool`.
    None,
    /// `16s`: text or bytes, filled up with zeros.
    Text(usize),
}

impl Format {
    /// The eight bytes that hold it in the memory, zeros at the end.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let text = self.to_string();
        let mut bytes = [0; 8];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    pub(super) fn parse(bytes: [u8; 8]) -> Option<Format> {
        let text = str::from_utf8(trim(&bytes)).ok()?;
        Some(match text {
            "q" => Format::Int,
            "d" => Format::Float,
            "xxxxxxx?" => Format::Bool,
            "xxxxxx?x" => Format::None,
            _ => Format::Text(text.strip_suffix('s')?.parse().ok()?),
        })
    }

    /// The bytes of a value.
    pub(super) fn len(self) -> usize {
        match self {
            Format::Text(len) => len,
            _ => 8,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Format::Int => f.write_str("q"),
            Format::Float => f.write_str("d"),
            Format::Bool => f.write_str("xxxxxxx?"),
            Format::None => f.write_str("xxxxxx?x"),
            Format::Text(len) => write!(f, "{len}s"),
        }
    }
}

/// The longest text for which `Format::Text` fits into eight bytes.
pub(super) const LONGEST: usize = 9_999_999;

impl Item {
    /// The format of a new list's slot for this value; text gets at least one byte more than it has.
    ///
    /// Python counts characters where it should count bytes, and cuts off what is not ASCII; the slots
    /// here are large enough.
    pub(super) fn slot(&self) -> Format {
        match self.text() {
            Some(text) => Format::Text(8 * (text.len() / 8 + 1)),
            None => self.fixed(),
        }
    }

    /// The format of this value in a slot of `size` bytes that has had the format `current`.
    pub(super) fn format_in(&self, size: usize, current: Format) -> Format {
        match (self.text(), current) {
            (Some(_), Format::Text(_)) => current,
            (Some(_), _) => Format::Text(size),
            (None, _) => self.fixed(),
        }
    }

    fn fixed(&self) -> Format {
        match self {
            Item::Int(_) => Format::Int,
            Item::Float(_) => Format::Float,
            Item::Bool(_) => Format::Bool,
            Item::None | Item::Str(_) | Item::Bytes(_) => Format::None,
        }
    }

    /// The bytes of text or bytes.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Item::Str(text) => Some(text.as_bytes()),
            Item::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Item::Str(_) => STR,
            Item::Bytes(_) => BYTES,
            Item::None => NONE,
            _ => PLAIN,
        }
    }

    /// The value as `struct.pack` writes it with this format, which is one for this value.
    pub(super) fn pack(&self, format: Format) -> Vec<u8> {
        match self {
            Item::Int(value) => value.to_ne_bytes().to_vec(),
            Item::Float(value) => value.to_ne_bytes().to_vec(),
            Item::Bool(value) => vec![0, 0, 0, 0, 0, 0, 0, u8::from(*value)],
            Item::None => vec![0; 8],
            Item::Str(_) | Item::Bytes(_) => {
                let mut bytes = self.text().unwrap_or_default().to_vec();
                bytes.resize(format.len(), 0);
                bytes
            }
        }
    }

    /// The value that Python reads from these bytes; `None` where Python fails.
    pub(super) fn unpack(format: Format, code: u8, bytes: &[u8]) -> Option<Item> {
        let number = || <[u8; 8]>::try_from(bytes).ok();
        Some(match (code, format) {
            (NONE, _) => Item::None,
            (PLAIN, Format::Int) => Item::Int(i64::from_ne_bytes(number()?)),
            (PLAIN, Format::Float) => Item::Float(f64::from_ne_bytes(number()?)),
            (PLAIN, Format::Bool) => Item::Bool(*bytes.get(7)? != 0),
            (PLAIN, Format::None) => Item::Bool(*bytes.get(6)? != 0),
            (PLAIN, Format::Text(_)) => Item::Bytes(bytes.to_vec()),
            (STR, Format::Text(_)) => Item::Str(str::from_utf8(trim(bytes)).ok()?.to_owned()),
            (BYTES, Format::Text(_)) => Item::Bytes(trim(bytes).to_vec()),
            _ => return None,
        })
    }
}

/// Without the zeros at the end.
fn trim(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().rposition(|byte| *byte != 0);
    &bytes[..len.map_or(0, |last| last + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_python() {
        for (format, text) in [
            (Format::Int, b"q\0\0\0\0\0\0\0"),
            (Format::Float, b"d\0\0\0\0\0\0\0"),
            (Format::Bool, b"xxxxxxx?"),
            (Format::None, b"xxxxxx?x"),
            (Format::Text(16), b"16s\0\0\0\0\0"),
            (Format::Text(LONGEST), b"9999999s"),
        ] {
            assert_eq!(&format.to_bytes(), text);
            assert_eq!(Format::parse(*text), Some(format));
        }
        for text in [
            b"\0\0\0\0\0\0\0\0",
            b"-1s\0\0\0\0\0",
            b"s\0\0\0\0\0\0\0",
            b"\xff\0\0\0\0\0\0\0",
        ] {
            assert_eq!(Format::parse(*text), None);
        }
    }

    #[test]
    fn values_come_back_without_the_zeros_at_their_end() {
        for (item, back) in [
            (Item::Int(i64::MIN), Item::Int(i64::MIN)),
            (Item::Float(-0.5), Item::Float(-0.5)),
            (Item::Bool(true), Item::Bool(true)),
            (Item::None, Item::None),
            (Item::from("a\0b\0\0"), Item::from("a\0b")),
            (Item::from(b"\0\0"), Item::Bytes(Vec::new())),
            (Item::from(""), Item::from("")),
        ] {
            let format = item.slot();
            let bytes = item.pack(format);
            assert_eq!(bytes.len(), format.len());
            assert_eq!(Item::unpack(format, item.code(), &bytes), Some(back));
        }
    }

    #[test]
    fn text_that_is_no_text_and_unknown_codes_are_no_values() {
        assert_eq!(
            Item::unpack(Format::Text(8), STR, b"\xff\0\0\0\0\0\0\0"),
            None
        );
        assert_eq!(Item::unpack(Format::Int, 9, &[0; 8]), None);
        assert_eq!(Item::unpack(Format::Int, PLAIN, &[0; 3]), None);
    }
}
