//! Rules about the documents: a relative link leads somewhere, down to the heading.

use std::path::Path;

use crate::Faults;

/// Checks the links of the document `name`.
pub(crate) fn check(root: &Path, name: &str, text: &str, faults: &mut Faults) {
    for (number, target) in links(text) {
        let outside = ["http://", "https://", "mailto:"];
        // Paths of items in the READMEs that are crate documentation; rustdoc checks those.
        let item = target.contains("::")
            || (name.starts_with("crates/") && !target.contains(['/', '.', '#']));
        if item || outside.iter().any(|scheme| target.starts_with(scheme)) {
            continue;
        }
        if let Some(fault) = follow(root, name, text, target) {
            faults.push(format!("{name}:{number}: {fault}"));
        }
    }
}

/// Why the link leads nowhere, if so.
fn follow(root: &Path, name: &str, text: &str, target: &str) -> Option<String> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = root.join(name).parent().unwrap_or(root).to_path_buf();
    let file = folder.join(path);
    if !path.is_empty() && !file.exists() {
        return Some(format!("the link to `{path}` leads nowhere"));
    }
    let read = (!path.is_empty()).then(|| std::fs::read_to_string(&file).unwrap_or_default());
    let headings = read.as_deref().unwrap_or(text);
    let found = heading.is_empty() || headings.lines().any(|line| anchor(line) == heading);
    (!found).then(|| format!("there is no heading `#{heading}` in `{target}`"))
}

/// The name that a heading gets in a link, or nothing for other lines.
fn anchor(line: &str) -> String {
    let Some(title) = line.strip_prefix('#') else {
        return String::new();
    };
    let title = title.trim_start_matches('#').trim();
    title
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| {
            if letter == ' ' {
                '-'
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Targets of `[text](target)` and `[text]: target`, with line numbers; code is left out.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push((number + 1, target.trim()));
        }
        let prose = line.split('`').step_by(2);
        // A link whose text is code spans two pieces of prose; its target starts the second.
        for piece in prose {
            let mut rest = piece;
            while let Some((_, after)) = rest.split_once("](") {
                let Some((target, tail)) = after.split_once(')') else {
                    break;
                };
                found.push((number + 1, target));
                rest = tail;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> Faults {
        let mut faults = Vec::new();
        check(&crate::root(), "README.md", text, &mut faults);
        faults
    }

    #[test]
    fn links_that_lead_somewhere_are_good() {
        let text = "# One, two\n[a](Cargo.toml) [`b`](#one-two) [c](https://example.org/x)\n";
        assert_eq!(faults_of(text), Faults::new());
    }

    #[test]
    fn links_to_missing_files_and_headings_are_faults() {
        let text = "[a](no-such.md)\n[b](#no-such)\n[`c`](nor/this.md)\n\n[d]: nor-that.md\n";
        assert_eq!(faults_of(text).len(), 4);
    }

    #[test]
    fn code_is_not_looked_into() {
        assert_eq!(
            faults_of("```\n[a](b.md)\n```\n`[a](c.md)`\n"),
            Faults::new()
        );
    }
}
