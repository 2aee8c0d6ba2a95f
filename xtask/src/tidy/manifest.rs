//! Rules about the manifests: the direction of dependencies, and versions in one place.

use std::path::Path;

use crate::Faults;

/// Rank of each package: it may depend, also for tests, only on packages of strictly lower rank.
const RANKS: [(&str, u32); 16] = [
    ("manyhands-os", 0),
    ("manyhands-sync", 1),
    // Part of shm, in a crate of its own only because the compiler wants that of a macro.
    ("manyhands-derive", 1),
    ("manyhands-shm", 2),
    ("manyhands-process", 3),
    ("manyhands-channel", 3),
    ("manyhands-executor", 4),
    ("manyhands-manager", 4),
    ("manyhands-nats", 5),
    ("manyhands", 6),
    ("manyhands-top", 7),
    ("rescue", 7),
    // Nothing may depend on these, so they stand above all.
    // Built by the tests, as users build theirs.
    ("manyhands-contexts", 7),
    ("manyhands-tests", 8),
    ("manyhands-benches", 8),
    ("xtask", 0),
];

/// Rank of the package `name`, if it is one of ours.
fn rank(name: &str) -> Option<u32> {
    RANKS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, rank)| *rank)
}

/// Checks one manifest of a member. Fuzz targets are none: `cargo fuzz` wants them apart.
pub(crate) fn check(name: &str, text: &str, faults: &mut Faults) {
    if name == "Cargo.toml" || name.ends_with("/fuzz/Cargo.toml") {
        return;
    }
    let Some(package) = value_in(text, "package", "name") else {
        faults.push(format!("{name}: has no package name"));
        return;
    };
    let Some(own) = rank(&package) else {
        faults.push(format!(
            "{name}: `{package}` has no rank; see xtask/src/tidy/manifest.rs"
        ));
        return;
    };
    if value_in(text, "lints", "workspace").as_deref() != Some("true") {
        faults.push(format!("{name}: does not take the lints of the workspace"));
    }
    for dependency in dependencies(text) {
        let target = &dependency.name;
        if rank(target).is_some_and(|rank| rank >= own) || package == "xtask" {
            faults.push(format!(
                "{name}: `{package}` must not depend on `{target}`: its rank"
            ));
        }
        if !dependency.inherited {
            faults.push(format!(
                "{name}: the version of `{target}` belongs in the root manifest"
            ));
        }
    }
}

/// Every folder below `crates/` is a package of its own name, with a README.
pub(crate) fn check_members(root: &Path, faults: &mut Faults) {
    let mut folders: Vec<_> = std::fs::read_dir(root.join("crates"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    for folder in folders {
        let folder_name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if value_in(&manifest, "package", "name").as_deref() != Some(folder_name.as_str()) {
            faults.push(format!(
                "crates/{folder_name}: folder and package differ in name"
            ));
        }
        if !folder.join("README.md").exists() {
            faults.push(format!("crates/{folder_name}: has no README.md"));
        }
    }
}

struct Dependency {
    name: String,
    inherited: bool,
}

/// The dependencies of all kinds; enough of TOML for manifests that rustfmt-like hands wrote.
fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    for (section, line) in lines(text) {
        let kind = section.rsplit('.').next().unwrap_or_default();
        if !kind.ends_with("dependencies") {
            // A table of its own: `[dependencies.name]`.
            let parent = section.rsplit('.').nth(1).unwrap_or_default();
            if parent.ends_with("dependencies") && line == section {
                let inherited = value_in(text, section, "workspace").as_deref() == Some("true");
                found.push(Dependency {
                    name: kind.to_owned(),
                    inherited,
                });
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let inherited = key.ends_with(".workspace") || value.contains("workspace = true");
        let name = key.split('.').next().unwrap_or(key).trim_matches('"');
        found.push(Dependency {
            name: name.to_owned(),
            inherited,
        });
    }
    found
}

/// The value of `key` in the table `section`, without quotes.
fn value_in(text: &str, section: &str, key: &str) -> Option<String> {
    lines(text).find_map(|(table, line)| {
        let (name, value) = line.split_once('=')?;
        (table == section && name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Every line with the table it stands in; the line that opens a table is given as its name.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut table = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            table = name.trim_matches(['[', ']']);
            return Some((table, table));
        }
        (!line.is_empty() && !line.starts_with('#')).then_some((table, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(package: &str, rest: &str) -> Faults {
        let text = format!("[package]\nname = \"{package}\"\n[lints]\nworkspace = true\n{rest}");
        let mut faults = Vec::new();
        check("crates/x/Cargo.toml", &text, &mut faults);
        faults
    }

    #[test]
    fn dependency_on_a_lower_rank_is_good() {
        let rest = "[dependencies]\nmanyhands-os.workspace = true\nserde = { workspace = true }\n";
        assert_eq!(faults_of("manyhands-sync", rest), Faults::new());
    }

    #[test]
    fn dependency_upwards_or_sideways_is_a_fault_in_every_kind_of_table() {
        for table in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let rest = format!("[{table}]\nmanyhands-channel.workspace = true\n");
            assert_eq!(faults_of("manyhands-process", &rest).len(), 1, "{table}");
        }
        let own_table = "[dev-dependencies.manyhands-shm]\nworkspace = true\n";
        assert_eq!(faults_of("manyhands-sync", own_table).len(), 1);
    }

    #[test]
    fn version_outside_the_root_is_a_fault() {
        assert_eq!(
            faults_of("manyhands-os", "[dependencies]\nlibc = \"0.2\"\n").len(),
            1
        );
    }

    #[test]
    fn package_without_rank_is_a_fault() {
        assert_eq!(faults_of("manyhands-new", "").len(), 1);
    }

    #[test]
    fn xtask_depends_on_nothing() {
        assert_eq!(
            faults_of("xtask", "[dependencies]\nserde.workspace = true\n").len(),
            1
        );
    }
}
