//! Bytes in environment variables, for programs that start themselves again.

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes in a variable, `None` when it is not set.
pub(crate) fn variable(name: &str) -> Option<Vec<u8>> {
    let text = std::env::var(name).ok()?;
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    Some((0..text.len()).step_by(2).map(byte).collect())
}
