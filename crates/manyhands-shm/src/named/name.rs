//! From the name that users agree on to the name of a file.
//!
//! A file's name has at most 30 bytes, because macOS allows no more for shared memory (31 with the
//! leading slash); so a port has nothing to change, and a user's name may be as long as it likes.

use std::sync::atomic::{AtomicU32, Ordering};

use manyhands_os::names;
use manyhands_os::process::Identity;

use super::error::NameError;
use super::owner;

/// How the names of finished segments begin.
const SEGMENT: &str = "mh-";

/// How the names of segments begin that are still being made.
const UNFINISHED: &str = "mh_";

/// The longest name of a file.
const LONGEST: usize = 30;

/// 26 digits of 5 bits hold a hash of 128.
const DIGITS: usize = 26;
const _: () = assert!(SEGMENT.len() + DIGITS <= LONGEST && DIGITS * 5 >= 128);

/// The name of the file for a segment: the hash of the user and of the name.
///
/// The user is part of it, so that two users who choose one name do not meet; they may not open
/// each other's segments anyway.
pub(super) fn file_of(name: &str) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.contains('\0') {
        return Err(NameError::Nul);
    }
    let user = names::user().to_le_bytes();
    let hash = fnv(user.iter().chain(name.as_bytes()));
    let digit =
        |index: usize| b"abcdefghijklmnopqrstuvwxyz234567"[(hash >> (5 * index)) as usize & 31];
    let digits = (0..DIGITS).map(|index| char::from(digit(index)));
    Ok(SEGMENT.chars().chain(digits).collect())
}

/// FNV-1a: it has to keep names apart that nobody chose to collide; a header holds the name itself.
fn fnv<'a>(bytes: impl Iterator<Item = &'a u8>) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mix = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, mix)
}

/// Whether a file may be one of our finished segments.
pub(super) fn is_segment(file: &str) -> bool {
    file.len() == SEGMENT.len() + DIGITS && file.starts_with(SEGMENT)
}

/// A name that nobody else uses, for a file that this process makes: it names its maker, so that
/// what a dead maker left is known from the name alone, before there is anything in the file.
pub(super) fn unfinished() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only that the numbers differ matters.
    let count = COUNT.fetch_add(1, Ordering::Relaxed) & 0xffff;
    let maker = Identity::current().pack();
    format!("{UNFINISHED}{maker:016x}{:06x}{count:04x}", place())
}

/// The maker of an unfinished file, `None` for other names and for makers whose number means
/// nothing here.
pub(super) fn maker_of(file: &str) -> Option<Identity> {
    let digits = file
        .strip_prefix(UNFINISHED)
        .filter(|rest| rest.len() == 26)?;
    let number = |from: usize, to: usize| u64::from_str_radix(digits.get(from..to)?, 16).ok();
    (number(16, 22)? == place()).then_some(())?;
    Identity::unpack(number(0, 16)?)
}

/// 24 bits for the boot and the namespace.
fn place() -> u64 {
    let (boot, namespace) = owner::place();
    let hash = fnv(boot.to_le_bytes().iter().chain(&namespace.to_le_bytes()));
    hash as u64 & 0xff_ffff
}

/// Checks a name that is that of the file itself.
pub(super) fn check_plain(name: &str) -> Result<(), NameError> {
    match name {
        "" | "." | ".." => Err(NameError::Empty),
        _ if name.contains('\0') => Err(NameError::Nul),
        _ if name.contains('/') => Err(NameError::Slash),
        _ if name.len() > 255 => Err(NameError::TooLong { len: name.len() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_is_short_and_the_same_each_time() {
        let long = "a name of any length, with / and \n and \u{e4}".repeat(50);
        let file = file_of(&long).expect("a name");
        assert!(file.len() <= LONGEST && file.is_ascii() && !file.contains('/'));
        assert!(is_segment(&file) && maker_of(&file).is_none());
        assert_eq!(file, file_of(&long).expect("a name"));
        assert_ne!(file, file_of("another").expect("a name"));
    }

    #[test]
    fn unfinished_name_tells_its_maker() {
        let (one, two) = (unfinished(), unfinished());
        assert!(one != two && one.len() <= LONGEST && !is_segment(&one));
        assert_eq!(maker_of(&one), Some(Identity::current()));
        let elsewhere = format!("{}{}{}", &one[..19], "zzzzzz", &one[25..]);
        assert_eq!(maker_of(&elsewhere), None);
        let mut other_place = one.clone();
        other_place.replace_range(19..25, &format!("{:06x}", place() ^ 1));
        assert_eq!(maker_of(&other_place), None);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        assert_eq!(file_of(""), Err(NameError::Empty));
        assert_eq!(file_of("a\0b"), Err(NameError::Nul));
        assert_eq!(check_plain("a\0b"), Err(NameError::Nul));
        assert_eq!(check_plain("a/b"), Err(NameError::Slash));
        assert_eq!(check_plain(".."), Err(NameError::Empty));
        assert!(check_plain(&"x".repeat(256)).is_err());
        assert_eq!(check_plain("with: colon and \n"), Ok(()));
    }
}
