//! `Cargo.lock`: which version of a crate is locked, and the checksum of its published archive.
//!
//! Cargo itself checks this checksum against the registry's index, so it is what "published" is measured by.

use std::{fs, path::Path};

use crate::Error;

/// A package of `Cargo.lock` that comes from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// SHA-256 of the `.crate` archive, in lower-case hex.
    pub checksum: String,
}

/// Looks up `name` in the lock file and insists on `version`.
///
/// # Errors
/// [`Error::Version`] when another version (or none) is locked, [`Error::NoChecksum`] when the package comes from no
/// registry, [`Error::Unreadable`] or [`Error::Io`] when the file cannot be read.
pub fn locked_package(lock_file: &Path, name: &str, version: &str) -> Result<Locked, Error> {
    let text = fs::read_to_string(lock_file).map_err(|e| Error::io("read", lock_file, e))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::Unreadable {
        path: lock_file.into(),
        what: e.message().to_owned(),
    })?;
    let packages = table
        .get("package")
        .and_then(toml::Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let field = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let named: Vec<_> = packages
        .iter()
        .filter(|p| field(p, "name").as_deref() == Some(name))
        .collect();
    let Some(package) = named.iter().find(|p| field(p, "version").as_deref() == Some(version)) else {
        return Err(Error::Version {
            name: name.into(),
            expected: version.into(),
            found: named.iter().filter_map(|p| field(p, "version")).collect(),
            lock: lock_file.into(),
        });
    };
    let checksum = field(package, "checksum").ok_or_else(|| Error::NoChecksum {
        name: name.into(),
        version: version.into(),
        lock: lock_file.into(),
    })?;
    Ok(Locked { checksum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        fs::write(file.path(), text).expect("write lock");
        file
    }

    const LOCK: &str = r#"
version = 4
[[package]]
name = "scylla"
version = "1.9.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "abc123"
[[package]]
name = "patched"
version = "0.1.0"
"#;

    #[test]
    fn the_checksum_of_the_locked_version_is_found() {
        let file = lock(LOCK);
        assert_eq!(
            locked_package(file.path(), "scylla", "1.9.0").expect("locked"),
            Locked {
                checksum: "abc123".into()
            }
        );
    }

    #[test]
    fn another_version_is_named_with_what_to_do() {
        let file = lock(LOCK);
        let message = locked_package(file.path(), "scylla", "1.8.0")
            .expect_err("wrong version")
            .to_string();
        assert!(message.contains("compiles scylla 1.8.0"), "{message}");
        assert!(message.contains("locks 1.9.0"), "{message}");
        assert!(message.contains("cargo update -p scylla --precise 1.8.0"), "{message}");
    }

    #[test]
    fn an_absent_package_is_told_from_another_version() {
        let file = lock(LOCK);
        let message = locked_package(file.path(), "zeromq", "0.7.0")
            .expect_err("absent")
            .to_string();
        assert!(message.contains("no version of it"), "{message}");
    }

    #[test]
    fn a_patched_package_is_refused() {
        let file = lock(LOCK);
        assert!(matches!(
            locked_package(file.path(), "patched", "0.1.0"),
            Err(Error::NoChecksum { .. })
        ));
    }

    #[test]
    fn a_broken_lock_file_is_named() {
        let file = lock("version = [");
        assert!(matches!(
            locked_package(file.path(), "scylla", "1.9.0"),
            Err(Error::Unreadable { .. })
        ));
    }
}
