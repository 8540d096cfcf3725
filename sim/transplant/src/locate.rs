//! Where cargo put the source of a crate, and which `Cargo.lock` speaks for it.
//!
//! Tried in this order: a path stated in the environment; `cargo metadata`, which knows about vendored sources and
//! mirrors; cargo's registry cache; and after one `cargo fetch` of the locked packages, the last two again. The cache
//! serves where `cargo metadata --frozen` cannot answer because some package that this build does not need was never
//! fetched. The fetch serves a fresh clone whose first build is a simulated one: the real crate is a dependency of
//! ordinary builds only (compiling it for nothing took a quarter of a cold simulated build), so cargo has not brought it.
//! How the source was found carries no trust: `proof` compares its content with the published archive in each case.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Surroundings};

/// The prefix of the environment variables that state a source path.
pub const STATED_PREFIX: &str = "QUENCH_SOURCE_";

/// The variable that states where the source of `name` lies: `QUENCH_SOURCE_SCYLLA` for `scylla`. Its value is the
/// unpacked crate's folder or a `.crate` archive.
pub fn stated_variable(name: &str) -> String {
    format!("{STATED_PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

/// How the source was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The environment states it.
    Stated,
    /// `cargo metadata` named it.
    Metadata,
    /// It lies in cargo's registry cache.
    Registry,
}

/// Where the source of a crate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder of the unpacked crate (the one with its `Cargo.toml`), or a `.crate` archive where one was stated.
    pub path: PathBuf,
    /// How it was found.
    pub by: By,
}

/// The lock file that speaks for the transplant: the nearest above its manifest, else above where it is built.
///
/// # Errors
/// [`Error::NoLockFile`].
pub fn lock_file(surroundings: &Surroundings) -> Result<PathBuf, Error> {
    let nearest = |start: &Path| {
        start
            .ancestors()
            .map(|dir| dir.join("Cargo.lock"))
            .find(|lock| lock.is_file())
    };
    nearest(&surroundings.manifest_dir)
        .or_else(|| nearest(&surroundings.out_dir))
        .ok_or_else(|| Error::NoLockFile {
            above: surroundings.manifest_dir.clone(),
        })
}

/// Finds the source of `name` at `version`.
///
/// # Errors
/// [`Error::NotFound`] lists each place that was tried and why it did not serve.
pub fn locate(name: &str, version: &str, surroundings: &Surroundings) -> Result<Located, Error> {
    let variable = stated_variable(name);
    let not_found = |looked_at| Error::NotFound {
        name: name.into(),
        version: version.into(),
        variable: variable.clone(),
        looked_at,
    };
    if let Some(stated) = surroundings.stated_source.get(&variable) {
        // A wrong statement is an error and no reason to look elsewhere.
        return if stated.exists() {
            Ok(Located {
                path: stated.clone(),
                by: By::Stated,
            })
        } else {
            Err(not_found(vec![format!(
                "{variable}={} (does not exist)",
                stated.display()
            )]))
        };
    }
    let mut looked_at = Vec::new();
    for attempt in 0..2 {
        match metadata(name, version, surroundings) {
            Ok(path) => return Ok(Located { path, by: By::Metadata }),
            Err(why) => looked_at.push(format!("cargo metadata ({why})")),
        }
        let registry = surroundings.cargo_home.join("registry").join("src");
        match registry_source(&registry, name, version) {
            Some(path) => return Ok(Located { path, by: By::Registry }),
            None => looked_at.push(format!("{}/*/{name}-{version} (absent)", registry.display())),
        }
        if attempt == 0
            && let Err(why) = fetch(surroundings)
        {
            looked_at.push(format!("cargo fetch --locked ({why})"));
            break;
        }
    }
    Err(not_found(looked_at))
}

/// Runs the cargo that runs this build, as for an ordinary build: its flags would say `--cfg madsim`, and the real crate
/// would not be asked about.
fn cargo(surroundings: &Surroundings, args: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(&surroundings.cargo)
        .args(args)
        .arg("--manifest-path")
        .arg(surroundings.manifest_dir.join("Cargo.toml"))
        .current_dir(&surroundings.manifest_dir)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", surroundings.cargo.display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let first = lines
        .iter()
        .find(|line| line.starts_with("error"))
        .copied()
        .unwrap_or("failed without a word");
    // The first line says what failed, the last one why.
    Err(lines
        .last()
        .filter(|last| **last != first)
        .map_or_else(|| first.to_owned(), |last| format!("{first}: {last}")))
}

/// The folder that `cargo metadata` gives. `--frozen`: asking touches neither the network nor the lock file. The answer
/// is read by hand, since three fields do not justify a dependency in every production build.
fn metadata(name: &str, version: &str, surroundings: &Surroundings) -> Result<PathBuf, String> {
    let answer = cargo(surroundings, &["metadata", "--format-version=1", "--frozen"])?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|e| format!("answered no JSON: {e}"))?;
    let packages = packages(&answer).ok_or("answered in a format this helper does not know")?;
    let package = packages
        .into_iter()
        .find(|package| package.name == name && package.version == version);
    let manifest = package.ok_or("does not list it")?.manifest_path;
    Ok(manifest.parent().unwrap_or(&manifest).to_path_buf())
}

/// Brings the locked packages of this platform, as the first ordinary build would.
fn fetch(surroundings: &Surroundings) -> Result<(), String> {
    if surroundings.target.is_empty() {
        return Err("not tried outside of a build".to_owned());
    }
    cargo(surroundings, &["fetch", "--locked", "--target", &surroundings.target]).map(drop)
}

struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

fn packages(answer: &serde_json::Value) -> Option<Vec<Package>> {
    let text = |value: &serde_json::Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let packages = answer.get("packages")?.as_array()?.iter().map(|package| {
        Some(Package {
            name: text(package, "name")?,
            version: text(package, "version")?,
            manifest_path: text(package, "manifest_path")?.into(),
        })
    });
    packages.collect()
}

/// The first registry (there is one per index or mirror) that holds the unpacked crate, in order of their names.
fn registry_source(registry: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(registry)
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(format!("{name}-{version}")))
        .collect();
    sources.sort();
    sources.into_iter().find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_after_the_crate() {
        assert_eq!(stated_variable("scylla"), "QUENCH_SOURCE_SCYLLA");
        assert_eq!(stated_variable("tokio-util"), "QUENCH_SOURCE_TOKIO_UTIL");
    }

    #[test]
    fn metadata_of_another_shape_is_not_guessed_at() {
        assert!(packages(&serde_json::json!({ "workspace_root": "/w" })).is_none());
        assert!(packages(&serde_json::json!({ "packages": [{ "name": 1 }] })).is_none());
        let package = serde_json::json!({ "name": "a", "version": "1.0.0", "manifest_path": "/r/a-1.0.0/Cargo.toml" });
        let packages = packages(&serde_json::json!({ "packages": [package] })).expect("understood");
        assert_eq!(packages[0].manifest_path, Path::new("/r/a-1.0.0/Cargo.toml"));
    }
}
