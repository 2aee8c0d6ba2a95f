//! The layout document and the sources it describes change together.
//!
//! `docs/layout.md` holds a line `<!-- hash: path = hex -->` for each source it describes. When
//! a source has changed, a person reads the document again, mends it, and blesses it.

use std::path::Path;

use crate::Faults;

const DOCUMENT: &str = "docs/layout.md";

/// Lists the sources that have changed since the document was blessed.
pub(crate) fn check(root: &Path, faults: &mut Faults) {
    let Ok(text) = std::fs::read_to_string(root.join(DOCUMENT)) else {
        faults.push(format!("{DOCUMENT}: is missing"));
        return;
    };
    let mut any = false;
    for (path, stored) in text.lines().filter_map(parse) {
        any = true;
        match std::fs::read(root.join(path)) {
            Err(error) => faults.push(format!("{DOCUMENT}: describes `{path}`: {error}")),
            Ok(bytes) if hash(&bytes) != stored => faults.push(format!(
                "{DOCUMENT}: `{path}` has changed; read both, then `cargo xtask tidy --bless`"
            )),
            Ok(_) => {}
        }
    }
    if !any {
        faults.push(format!(
            "{DOCUMENT}: names no source; want `<!-- hash: path = hex -->`"
        ));
    }
}

/// Writes the hashes of today's sources into the document.
pub(crate) fn bless(root: &Path) -> std::io::Result<()> {
    let file = root.join(DOCUMENT);
    let mut blessed = String::new();
    for line in std::fs::read_to_string(&file)?.lines() {
        match parse(line) {
            Some((path, _)) => {
                let now = hash(&std::fs::read(root.join(path))?);
                blessed.push_str(&format!("<!-- hash: {path} = {now} -->"));
            }
            None => blessed.push_str(line),
        }
        blessed.push('\n');
    }
    std::fs::write(file, blessed)
}

/// The path and the stored hash, if the line holds them.
fn parse(line: &str) -> Option<(&str, &str)> {
    let inside = line
        .trim()
        .strip_prefix("<!-- hash:")?
        .strip_suffix("-->")?;
    let (path, stored) = inside.split_once('=')?;
    Some((path.trim(), stored.trim()))
}

/// FNV-1a: it has to tell an edit from none, not to withstand an enemy.
fn hash(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a_of_the_bytes() {
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"a"), "af63dc4c8601ec8c");
    }

    #[test]
    fn hash_lines_are_read_and_others_are_not() {
        assert_eq!(parse("<!-- hash: a/b.rs = 12 -->"), Some(("a/b.rs", "12")));
        assert_eq!(parse("<!-- a remark -->"), None);
    }
}
