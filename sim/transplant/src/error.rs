//! Everything that can stop a transplant, each with what happened, to what, and what to do about it.

use std::{fmt::Write as _, io, path::PathBuf};

use thiserror::Error as ThisError;

/// Why the source of a transplant cannot be used. The text is what the build prints.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The source is nowhere that cargo keeps sources.
    #[error(
        "cannot find the source of {name} {version}\n\
         looked at: {}\n\
         do this: run `cargo fetch --locked` with a network; or vendor with `cargo vendor` and the source replacement it prints;\n\
         or state the unpacked crate (or its .crate file) in {variable}",
        .looked_at.join("; ")
    )]
    NotFound {
        /// The crate.
        name: String,
        /// The pinned version.
        version: String,
        /// The environment variable that may state a path.
        variable: String,
        /// Each place tried, and why it did not serve.
        looked_at: Vec<String>,
    },

    /// There is no lock file to say what was published.
    #[error("there is no Cargo.lock above {}\ndo this: build within the workspace, whose lock file holds the checksums", .above.display())]
    NoLockFile {
        /// Where the search began.
        above: PathBuf,
    },

    /// `Cargo.lock` has another version than the one the transplant is written for.
    #[error(
        "this transplant compiles {name} {expected}, but {} locks {}\n\
         do this: pin `upstream = {{ package = \"{name}\", version = \"={expected}\" }}` in this crate's Cargo.toml and run \
         `cargo update -p {name} --precise {expected}`;\n\
         or, to move on to the new version, change the version in this crate's build.rs and Cargo.toml and let its manifest test \
         say which dependencies changed",
        .lock.display(),
        if .found.is_empty() { "no version of it".to_owned() } else { .found.join(" and ") }
    )]
    Version {
        /// The crate.
        name: String,
        /// The version that the build script names.
        expected: String,
        /// The versions in the lock file.
        found: Vec<String>,
        /// The lock file.
        lock: PathBuf,
    },

    /// The locked package is no crates.io release: it comes from a path, a patch or git.
    #[error(
        "{name} {version} in {} has no checksum, so it does not come from a registry (a [patch] or a git or path dependency?)\n\
         do this: remove the replacement, so that cargo fetches the published crate",
        .lock.display()
    )]
    NoChecksum {
        /// The crate.
        name: String,
        /// The version.
        version: String,
        /// The lock file.
        lock: PathBuf,
    },

    /// The archive is not the one that `Cargo.lock` names.
    #[error(
        "{} is not the published archive: its SHA-256 is {found}, Cargo.lock says {expected}\n\
         do this: delete that file and run `cargo fetch --locked`",
        .archive.display()
    )]
    ArchiveChecksum {
        /// The archive.
        archive: PathBuf,
        /// From `Cargo.lock`, in hex.
        expected: String,
        /// Of the file, in hex.
        found: String,
    },

    /// Files of the unpacked source differ from what was published.
    #[error(
        "the source in {} is not what crates.io published as {name} {version}:\n{}\n\
         do this: {remedy}",
        .source_dir.display(), list(.differences)
    )]
    Tampered {
        /// The crate.
        name: String,
        /// The version.
        version: String,
        /// The folder of the source.
        source_dir: PathBuf,
        /// One line per file that differs.
        differences: Vec<String>,
        /// How to get the published files back.
        remedy: String,
    },

    /// Cargo's cache has the unpacked source but not the archive it came from.
    #[error(
        "{} has no archive and no checksum file to be proven by\n\
         do this: run `cargo fetch --locked`, which brings {name}-{version}.crate back",
        .source_dir.display()
    )]
    NothingToProveBy {
        /// The crate.
        name: String,
        /// The version.
        version: String,
        /// The folder of the source.
        source_dir: PathBuf,
    },

    /// The crate is not built the way a transplant assumes.
    #[error(
        "{name} {version} is not laid out as a transplant expects: {what}\n\
         do this: stay on the version this crate was written for, or extend sim/transplant for the new layout"
    )]
    Layout {
        /// The crate.
        name: String,
        /// The version.
        version: String,
        /// What is different.
        what: String,
    },

    /// Upstream's lib.rs has attributes that change its meaning and ours does not carry them.
    #[error(
        "{name}'s lib.rs has crate attributes that an included file cannot carry, and {} lacks them:\n{}\n\
         do this: add each as `#![cfg_attr(madsim, ...)]` at the top of that file",
        .ours.display(), list(.missing)
    )]
    AttributesNotCarried {
        /// The crate.
        name: String,
        /// Our lib.rs.
        ours: PathBuf,
        /// The attributes, as upstream writes them.
        missing: Vec<String>,
    },

    /// A file that must be understood cannot be.
    #[error("cannot understand {}: {what}\ndo this: restore it (`git checkout`, `cargo fetch --locked` or `cargo vendor` again)", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// The file system said no.
    #[error("cannot {verb} {}: {source}\ndo this: check that the path exists and may be read and written by this user", .path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            verb,
            path: path.into(),
            source,
        }
    }
}

/// At most ten lines, indented, and how many more there are.
fn list(lines: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut text = String::new();
    for line in lines.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  {line}");
    }
    if lines.len() > SHOWN_MAX {
        let _ = writeln!(text, "  and {} more", lines.len() - SHOWN_MAX);
    }
    text.trim_end().to_owned()
}
