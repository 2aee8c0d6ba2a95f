//! Families as a table for people, and as JSON for programs.

use std::fmt::Write;

use crate::family::Family;

/// A block for each family, and what could not be seen.
pub(crate) fn table((families, unreadable): &(Vec<Family>, usize)) -> String {
    let mut text = String::new();
    for family in families {
        describe(family, &mut text);
    }
    if families.is_empty() {
        text.push_str("no family is running\n");
    }
    if *unreadable > 0 {
        let note = format_args!("not readable, of other users: {unreadable}");
        line(&mut text, note);
    }
    text
}

fn describe(family: &Family, text: &mut String) {
    let arena = family.used.map_or_else(|| "?".to_owned(), size);
    let count = match family.members.len() {
        1 => "1 process".to_owned(),
        more => format!("{more} processes"),
    };
    let (inode, own) = (family.inode, size(family.own()));
    line(
        text,
        format_args!("family {inode:x}: {count}, {own} of their own, {arena} in the arena"),
    );
    let head = ["pid", "parent", "state", "own", "shared"];
    let [pid, parent, state, own, shared] = head;
    line(
        text,
        format_args!("{pid:>9} {parent:>8}  {state:<13} {own:>9} {shared:>9}  name"),
    );
    for member in &family.members {
        let (pid, parent, state) = (member.pid, member.parent, &member.state);
        let (own, shared, name) = (size(member.own), size(member.shared), &member.name);
        line(
            text,
            format_args!("{pid:>9} {parent:>8}  {state:<13} {own:>9} {shared:>9}  {name}"),
        );
    }
}

/// The families as an array; sizes in bytes.
pub(crate) fn json(families: &[Family]) -> String {
    let families: Vec<String> = families.iter().map(family_json).collect();
    format!("[{}]\n", families.join(","))
}

fn family_json(family: &Family) -> String {
    let members: Vec<String> = family
        .members
        .iter()
        .map(|member| {
            format!(
                r#"{{"pid":{},"parent":{},"name":{},"state":{},"own":{},"shared":{}}}"#,
                member.pid,
                member.parent,
                quoted(&member.name),
                quoted(&member.state),
                member.own,
                member.shared,
            )
        })
        .collect();
    let used = family
        .used
        .map_or_else(|| "null".to_owned(), |used| used.to_string());
    format!(
        r#"{{"family":{},"arena":{used},"members":[{}]}}"#,
        family.inode,
        members.join(",")
    )
}

/// A JSON text; a process may call itself anything.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Bytes, as a person reads them.
fn size(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{group, tests::member};

    #[test]
    fn table_has_a_block_for_each_family() {
        let families = group(vec![
            member(10, 0x7f, Some(1 << 20)),
            member(11, 0x7f, None),
        ]);
        let text = table(&(families, 2));
        let lines: Vec<&str> = text.lines().collect();
        let first = "family 7f: 2 processes, 2.0 MiB of their own, 1.0 MiB in the arena";
        assert_eq!(lines[0], first);
        assert!(
            lines[2].ends_with("p10") && lines[3].ends_with("p11"),
            "{text}"
        );
        assert_eq!(lines[4], "not readable, of other users: 2");
    }

    #[test]
    fn nothing_to_see_is_said() {
        assert_eq!(table(&(Vec::new(), 0)), "no family is running\n");
        assert_eq!(json(&[]), "[]\n");
    }

    #[test]
    fn json_is_read_back_whatever_a_process_calls_itself() {
        let mut odd = member(10, 7, None);
        odd.name = "a\"\\\n\u{1b}".to_owned();
        let name = odd.name.clone();
        let value: serde_json::Value = serde_json::from_str(&json(&group(vec![odd]))).unwrap();
        assert_eq!(value[0]["members"][0]["name"], name);
        assert_eq!(value[0]["arena"], serde_json::Value::Null);
    }
}
