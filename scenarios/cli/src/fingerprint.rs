//! Whether anything changed since the worker was built, from names, sizes and times of the source files: a few
//! milliseconds, where asking cargo takes a multiple of a warm start. It errs on the side of building again; what it does
//! not see (an edited dependency in the registry cache) cargo does not look at either.
use crate::launch::Profile;
use crate::problem::Problem;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What the worker is built from, relative to the workspace. The command's own sources are no part of it.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
    "rust-toolchain.toml",
    "faults",
    "schema",
    "settlement",
    "sim",
    "scenarios/Cargo.toml",
    "scenarios/catalog",
    "scenarios/engine",
    "scenarios/oracle",
    "scenarios/src",
    "scenarios/worker",
];
/// What of the environment changes a build. Not `RUSTUP_TOOLCHAIN`, which is set or not by the way this was started.
const ENVIRONMENT: &[&str] = &["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER"];

/// The state of everything that the worker is built from, as hex digits.
pub fn of_worker(root: &Path, profile: Profile) -> Result<String, Problem> {
    let mut hash = Sha256::new();
    hash.update(profile.name());
    for name in ENVIRONMENT {
        let value = std::env::var_os(name).unwrap_or_default();
        hash.update(format!("{name}={}\n", value.to_string_lossy()));
    }
    for source in SOURCES {
        add(&mut hash, root, Path::new(source))?;
    }
    Ok(to_hex(&hash.finalize()))
}

fn add(hash: &mut Sha256, root: &Path, relative: &Path) -> Result<(), Problem> {
    let path = root.join(relative);
    let Ok(facts) = std::fs::symlink_metadata(&path) else {
        hash.update(format!("{} is not there\n", relative.display()));
        return Ok(());
    };
    if facts.is_dir() {
        if relative.file_name().is_some_and(|name| name == "target") {
            return Ok(());
        }
        let entries = std::fs::read_dir(&path).map_err(Problem::file("list", &path))?;
        let mut names = entries
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<Result<Vec<_>, _>>();
        if let Ok(names) = &mut names {
            names.sort();
        }
        for name in names.map_err(Problem::file("list", &path))? {
            add(hash, root, &relative.join(name))?;
        }
        return Ok(());
    }
    let changed = facts.modified().map_err(Problem::file("ask the time of", &path))?;
    let changed_ns = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    hash.update(format!("{} {} {changed_ns}\n", relative.display(), facts.len()));
    Ok(())
}

/// The SHA-256 of a file, as hex digits: which build of a worker this is.
pub fn of_file(path: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(path).map_err(Problem::file("read", path))?;
    Ok(to_hex(&Sha256::digest(bytes)))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_added_or_removed_source_changes_it_and_a_target_directory_does_not() {
        let tree = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = tree.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let state = |profile| of_worker(tree.path(), profile).unwrap();
        file("Cargo.toml", "a");
        file("sim/world/src/lib.rs", "b");
        let first = state(Profile::Release);
        assert_eq!(first, state(Profile::Release));
        assert_ne!(first, state(Profile::Debug));
        file("sim/target/debug/junk", "c");
        file("scenarios/cli/src/main.rs", "d");
        assert_eq!(first, state(Profile::Release), "neither is part of the worker");
        file("sim/world/src/lib.rs", "bb");
        let changed = state(Profile::Release);
        assert_ne!(first, changed);
        file("sim/world/src/new.rs", "");
        let added = state(Profile::Release);
        assert_ne!(changed, added);
        std::fs::remove_file(tree.path().join("Cargo.toml")).unwrap();
        assert_ne!(added, state(Profile::Release));
    }
}
