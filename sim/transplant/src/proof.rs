//! The proof that a source is what crates.io published.
//!
//! The measure is the checksum in `Cargo.lock`, which is that of the published archive:
//! - where the archive is at hand (cargo keeps it beside the unpacked source), its SHA-256 must be that checksum, and
//!   every file of the source must equal the archive's; what is then built are the archive's own bytes;
//! - a vendored source has no archive; its `.cargo-checksum.json` must name that checksum and every file must match its
//!   own checksum there. That is as strong as the review under which the vendor folder was committed;
//! - a stated path with neither is used, and the build says loudly that nothing was proven.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    Error, Files, layout,
    locate::{By, Located},
};

/// The checksum file that `cargo vendor` writes beside each crate.
pub const VENDOR_CHECKSUMS: &str = ".cargo-checksum.json";

/// Cargo's mark that an unpacked crate is complete; no part of what was published.
const CARGO_OK: &str = ".cargo-ok";

/// How the source was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Equal, file by file, to the archive whose checksum `Cargo.lock` names.
    Archive(PathBuf),
    /// Equal, file by file, to the checksums of a vendored copy that names the archive of `Cargo.lock`.
    VendorChecksums(PathBuf),
    /// Nothing to compare with.
    None {
        /// Why not, and what would be a proof.
        why: String,
    },
}

/// Reads the located source and proves it against `checksum` (lower-case hex, from `Cargo.lock`).
///
/// # Errors
/// [`Error::Tampered`], [`Error::ArchiveChecksum`] or [`Error::NothingToProveBy`] when the proof fails, [`Error::Layout`]
/// for another crate, version or layout, and [`Error::Io`] or [`Error::Unreadable`] when a file cannot be read.
pub fn prove(
    name: &str,
    version: &str,
    located: &Located,
    checksum: &str,
    cargo_home: &Path,
) -> Result<(Files, Proof), Error> {
    if located.path.is_file() {
        let published = unpack(&checked_archive(&located.path, checksum)?, name, version, &located.path)?;
        layout::check(name, version, &published)?;
        return Ok((published, Proof::Archive(located.path.clone())));
    }
    let source = Source {
        name,
        version,
        dir: &located.path,
        by: located.by,
        files: read_tree(&located.path)?,
    };
    let vendored = source.files.contains_key(VENDOR_CHECKSUMS);
    // Before the comparison: of a stated folder with another version, this says more than a list of every file.
    layout::check(name, version, &source.files)?;

    let archives = cached_archives(cargo_home, name, version);
    let mut mismatch = None;
    for archive in &archives {
        match checked_archive(archive, checksum) {
            Ok(bytes) => {
                let published = unpack(&bytes, name, version, archive)?;
                source.insist(against_archive(
                    &source.files,
                    &published,
                    vendored || located.by == By::Stated,
                ))?;
                return Ok((published, Proof::Archive(archive.clone())));
            }
            Err(error) => mismatch = mismatch.or(Some(error)),
        }
    }
    if vendored {
        source.insist(against_checksums(&source.files, checksum, &located.path)?)?;
        return Ok((
            source.files,
            Proof::VendorChecksums(located.path.join(VENDOR_CHECKSUMS)),
        ));
    }
    if located.by == By::Stated {
        let why = format!(
            "{} was stated, and neither {name}-{version}.crate in {} nor {VENDOR_CHECKSUMS} beside it is there to compare with",
            located.path.display(),
            cargo_home.join("registry/cache").display()
        );
        return Ok((source.files, Proof::None { why }));
    }
    Err(mismatch.unwrap_or_else(|| Error::NothingToProveBy {
        name: name.into(),
        version: version.into(),
        source_dir: located.path.clone(),
    }))
}

struct Source<'a> {
    name: &'a str,
    version: &'a str,
    dir: &'a Path,
    by: By,
    files: Files,
}

impl Source<'_> {
    fn insist(&self, differences: Vec<String>) -> Result<(), Error> {
        if differences.is_empty() {
            return Ok(());
        }
        let remedy = if self.files.contains_key(VENDOR_CHECKSUMS) {
            "run `cargo vendor` again, or restore the vendor folder from version control".to_owned()
        } else if self.by == By::Stated {
            format!(
                "state an unchanged copy in {}, or unset it",
                crate::locate::stated_variable(self.name)
            )
        } else {
            "delete that folder and run `cargo fetch --locked`, which unpacks it again".to_owned()
        };
        Err(Error::Tampered {
            name: self.name.into(),
            version: self.version.into(),
            source_dir: self.dir.into(),
            differences,
            remedy,
        })
    }
}

/// One line per file that is not as published. `partial`: files outside `src/` may be absent (`cargo vendor` leaves some
/// out); a file inside it may not, and none may be added there.
fn against_archive(files: &Files, published: &Files, partial: bool) -> Vec<String> {
    let compiled = |path: &str| path.starts_with("src/");
    let mut differences = Vec::new();
    for (path, content) in published {
        match files.get(path) {
            Some(found) if found == content => {}
            Some(_) => differences.push(format!("{path} was changed")),
            None if partial && !compiled(path) => {}
            None => differences.push(format!("{path} is missing")),
        }
    }
    let extra = files
        .keys()
        .filter(|path| !published.contains_key(*path) && (!partial || compiled(path)));
    differences.extend(
        extra
            .filter(|path| path.as_str() != CARGO_OK)
            .map(|path| format!("{path} was added")),
    );
    differences
}

fn against_checksums(files: &Files, checksum: &str, dir: &Path) -> Result<Vec<String>, Error> {
    let path = dir.join(VENDOR_CHECKSUMS);
    let broken = |what: &str| Error::Unreadable {
        path: path.clone(),
        what: what.to_owned(),
    };
    let text = files.get(VENDOR_CHECKSUMS).ok_or_else(|| broken("it is absent"))?;
    let json: serde_json::Value = serde_json::from_slice(text).map_err(|e| broken(&e.to_string()))?;
    let listed: BTreeMap<&str, &str> = json
        .get("files")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(|| broken("it lists no files"))?
        .iter()
        .map(|(path, sum)| (path.as_str(), sum.as_str().unwrap_or_default()))
        .collect();

    let mut differences = Vec::new();
    let package = json
        .get("package")
        .and_then(serde_json::Value::as_str)
        .unwrap_or("nothing");
    if package != checksum {
        differences.push(format!(
            "{VENDOR_CHECKSUMS} is of the archive {package}, Cargo.lock wants {checksum}"
        ));
    }
    for (path, sum) in &listed {
        match files.get(*path) {
            Some(content) if sha256_hex(content) == *sum => {}
            Some(_) => differences.push(format!("{path} was changed")),
            None => differences.push(format!("{path} is missing")),
        }
    }
    let added = files
        .keys()
        .filter(|path| path.starts_with("src/") && !listed.contains_key(path.as_str()));
    differences.extend(added.map(|path| format!("{path} was added")));
    Ok(differences)
}

/// The archives of this crate in cargo's cache (one folder per index or mirror), in order of their paths.
fn cached_archives(cargo_home: &Path, name: &str, version: &str) -> Vec<PathBuf> {
    let Ok(registries) = fs::read_dir(cargo_home.join("registry").join("cache")) else {
        return Vec::new();
    };
    let mut archives: Vec<PathBuf> = registries
        .flatten()
        .map(|entry| entry.path().join(format!("{name}-{version}.crate")))
        .filter(|path| path.is_file())
        .collect();
    archives.sort();
    archives
}

fn checked_archive(archive: &Path, checksum: &str) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(archive).map_err(|e| Error::io("read", archive, e))?;
    let found = sha256_hex(&bytes);
    if found == checksum {
        Ok(bytes)
    } else {
        Err(Error::ArchiveChecksum {
            archive: archive.into(),
            expected: checksum.into(),
            found,
        })
    }
}

/// The files of a `.crate`: a gzipped tar whose entries all lie in `name-version/`.
fn unpack(bytes: &[u8], name: &str, version: &str, archive: &Path) -> Result<Files, Error> {
    let broken = |e: std::io::Error| Error::Unreadable {
        path: archive.into(),
        what: e.to_string(),
    };
    let root = format!("{name}-{version}/");
    let mut files = Files::new();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        let inside = path
            .strip_prefix(&root)
            .filter(|p| !p.split('/').any(|part| part == ".."));
        let Some(inside) = inside.map(str::to_owned) else {
            return Err(Error::Unreadable {
                path: archive.into(),
                what: format!("entry {path} lies outside {root}"),
            });
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        files.insert(inside, content);
    }
    Ok(files)
}

fn read_tree(root: &Path) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut folders = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))? {
            let path = entry.map_err(|e| Error::io("list", &folder, e))?.path();
            let part = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Follows links, since mirrors are made of them; it is content that is proven.
            if path.is_dir() {
                folders.push((path, format!("{prefix}{part}/")));
            } else {
                files.insert(
                    format!("{prefix}{part}"),
                    fs::read(&path).map_err(|e| Error::io("read", &path, e))?,
                );
            }
        }
    }
    Ok(files)
}

/// SHA-256 in lower-case hex, as `Cargo.lock` writes it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
