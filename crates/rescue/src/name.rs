//! The name of an entry: its path below DIR, exact in the journal and harmless on a terminal.
//!
//! A path is bytes, and a hostile one holds line feeds and terminal commands. As text, a
//! backslash is written `\\`, and control characters and bytes that are not UTF-8 are written
//! `\x1b`, byte by byte; [`EntryName`] reads the same text back.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A path that can be printed, and read back from what was printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryName(PathBuf);

impl EntryName {
    /// The name of `path`.
    pub(crate) fn new(path: PathBuf) -> EntryName {
        EntryName(path)
    }

    /// The path as the system knows it.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads what [`fmt::Display`] wrote; `None` for anything else.
    fn parse(text: &str) -> Option<EntryName> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            let (&kind, after) = rest.split_first()?;
            rest = after;
            match kind {
                b'\\' => bytes.push(b'\\'),
                b'x' => {
                    let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                    bytes.push(u8::from_str_radix(digits, 16).ok()?);
                    rest = &rest[2..];
                }
                _ => return None,
            }
        }
        Some(EntryName(PathBuf::from(OsString::from_vec(bytes))))
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(formatter, self.0.as_os_str().as_bytes())
    }
}

impl Serialize for EntryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EntryName, D::Error> {
        let text = String::deserialize(deserializer)?;
        EntryName::parse(&text).ok_or_else(|| D::Error::custom("not an escaped path"))
    }
}

/// Text from a decoder or a file, made harmless in the same way.
pub(crate) fn harmless(text: &str) -> String {
    struct Harmless<'a>(&'a str);
    impl fmt::Display for Harmless<'_> {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_escaped(formatter, self.0.as_bytes())
        }
    }
    Harmless(text).to_string()
}

fn write_escaped(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    use fmt::Write as _;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                _ if character.is_control() => {
                    let mut buffer = [0; 4];
                    write_bytes(formatter, character.encode_utf8(&mut buffer).as_bytes())?;
                }
                _ => formatter.write_char(character)?,
            }
        }
        write_bytes(formatter, chunk.invalid())?;
    }
    Ok(())
}

fn write_bytes(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_read_back_and_has_no_control_characters() {
        let every: Vec<u8> = (1..=255)
            .chain("gr\u{fc}n \u{1f980} \\x41".bytes())
            .collect();
        let name = EntryName::new(PathBuf::from(OsString::from_vec(every)));
        let text = name.to_string();
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(EntryName::parse(&text), Some(name));
    }

    #[test]
    fn text_that_no_name_prints_is_refused() {
        for text in ["\\", "\\q", "\\x", "\\x4", "\\xzz"] {
            assert_eq!(EntryName::parse(text), None, "{text}");
        }
    }
}
