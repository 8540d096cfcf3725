//! Build helper of the transplants: crates whose *published, unmodified* source is compiled against `sim-tokio`.
//!
//! A transplant's `build.rs` is one line, [`Transplant::main`]. Under `--cfg madsim` it finds the source that cargo
//! fetched, proves that it is what crates.io published, and writes it to `OUT_DIR/src` with the head of lib.rs made fit
//! for `include!`. In an ordinary build it does nothing. Nothing of the foreign source is ever committed.
//!
//! | module | what it does |
//! |---|---|
//! | [`locate`] | finds the source: a stated path, else `cargo metadata`, else cargo's registry cache, else a fetch |
//! | [`lock`] | reads version and checksum from `Cargo.lock` |
//! | [`proof`] | compares every file with the published archive, or with a vendored copy's checksums |
//! | [`layout`] | refuses a crate that is not built the way a transplant assumes |
//! | [`strip`] | removes inner docs and attributes from the head of lib.rs, and says which attributes must be carried over |
//! | [`manifest`] | compares our manifest with upstream's; used by the transplants' tests |
//! | [`error`] | everything that can go wrong, each with what to do about it |
//!
//! It does not patch source: a crate that needs an edit is not a transplant, and the facade has to grow instead.

pub mod error;
pub mod layout;
pub mod locate;
pub mod lock;
pub mod manifest;
pub mod proof;
pub mod strip;

use std::{collections::BTreeMap, env, fs, path::PathBuf};

pub use error::Error;
use locate::Located;
use proof::Proof;

/// The files of a crate: path relative to the crate's root, with `/` between the parts, to content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// One crate of crates.io whose source is to be compiled against the simulated tokio.
#[derive(Debug, Clone, Copy)]
pub struct Transplant {
    name: &'static str,
    version: &'static str,
}

/// What a successful [`Transplant::prepare`] did.
#[derive(Debug)]
pub struct Prepared {
    /// How the source was proven, and how strong that proof is.
    pub proof: Proof,
    /// Where the source was taken from.
    pub located: Located,
    /// How many files were written below `OUT_DIR/src`.
    pub files: usize,
}

impl Transplant {
    /// The crate `name` at exactly `version` (the one pinned with `=` in the manifest that calls this).
    pub const fn of(name: &'static str, version: &'static str) -> Self {
        Self { name, version }
    }

    /// The whole of a transplant's `build.rs`: prepares the source under `--cfg madsim`, and ends the build with an
    /// error that says what to do when it cannot.
    pub fn main(&self) {
        println!("cargo::rerun-if-changed=build.rs");
        if env::var_os("CARGO_CFG_MADSIM").is_none() {
            return;
        }
        println!("cargo::rerun-if-changed=src/lib.rs");
        println!("cargo::rerun-if-env-changed={}", locate::stated_variable(self.name));
        match self.prepare(&Surroundings::of_build_script()) {
            Ok(prepared) => {
                // Cargo.lock is not watched: it changes with every dependency of the workspace, each time recompiling
                // the driver, while this version and therefore its checksum are pinned. Cargo takes what lies in its own
                // home for unchanging; what was copied is proven, whatever happens there later.
                println!("cargo::rerun-if-changed={}", prepared.located.path.display());
                // Kept by cargo beside the build script's output, and shown by `cargo build -vv`.
                eprintln!(
                    "{} files of {} {}; located: {:?}; proof: {:?}",
                    prepared.files, self.name, self.version, prepared.located, prepared.proof
                );
                if let Proof::None { why } = &prepared.proof {
                    println!(
                        "cargo::warning={} {} is NOT PROVEN to be what crates.io published: {why}",
                        self.name, self.version
                    );
                }
            }
            Err(error) => {
                for line in error.to_string().lines() {
                    println!("cargo::error={line}");
                }
                std::process::exit(1);
            }
        }
    }

    /// Finds, proves and writes the source. What [`Transplant::main`] does under the cfg, without its output.
    ///
    /// # Errors
    /// Any [`Error`]; nothing usable is left in `out_dir` then.
    pub fn prepare(&self, surroundings: &Surroundings) -> Result<Prepared, Error> {
        let locked = lock::locked_package(&locate::lock_file(surroundings)?, self.name, self.version)?;
        let located = locate::locate(self.name, self.version, surroundings)?;
        let (files, proof) = proof::prove(
            self.name,
            self.version,
            &located,
            &locked.checksum,
            &surroundings.cargo_home,
        )?;
        let written = self.write(&files, surroundings)?;
        Ok(Prepared {
            proof,
            located,
            files: written,
        })
    }

    fn write(&self, files: &Files, surroundings: &Surroundings) -> Result<usize, Error> {
        let target = surroundings.out_dir.join("src");
        if target.exists() {
            fs::remove_dir_all(&target).map_err(|e| Error::io("clear", &target, e))?;
        }
        let mut written = 0;
        for (path, content) in files.iter().filter(|(path, _)| path.starts_with("src/")) {
            let content = if path == layout::LIB {
                self.included_lib(content, surroundings)?
            } else {
                content.clone()
            };
            let file = surroundings.out_dir.join(path);
            let parent = file.parent().unwrap_or(&target);
            fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
            fs::write(&file, content).map_err(|e| Error::io("write", &file, e))?;
            written += 1;
        }
        Ok(written)
    }

    /// Upstream's lib.rs made fit for `include!`, once our own lib.rs is seen to carry the attributes that matter.
    fn included_lib(&self, content: &[u8], surroundings: &Surroundings) -> Result<Vec<u8>, Error> {
        let ours_path = surroundings.manifest_dir.join("src/lib.rs");
        let ours = fs::read_to_string(&ours_path).map_err(|e| Error::io("read", &ours_path, e))?;
        let theirs = String::from_utf8_lossy(content);
        let stripped = strip::strip_head(&theirs);
        let missing = strip::missing_attributes(&stripped.attributes, &strip::strip_head(&ours).attributes);
        if !missing.is_empty() {
            return Err(Error::AttributesNotCarried {
                name: self.name.into(),
                ours: ours_path,
                missing,
            });
        }
        Ok(stripped.body.into_bytes())
    }
}

/// What a build script knows about its surroundings; a value, so that tests can set the scene.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The `cargo` that is running the build.
    pub cargo: PathBuf,
    /// Cargo's home (`CARGO_HOME`, else `~/.cargo`).
    pub cargo_home: PathBuf,
    /// The folder of the transplant's own `Cargo.toml`.
    pub manifest_dir: PathBuf,
    /// Where to write.
    pub out_dir: PathBuf,
    /// The target triple, so that a fetch brings what is needed for it and no more; empty outside of a build.
    pub target: String,
    /// The source path that the user states for this crate, from [`locate::stated_variable`].
    pub stated_source: BTreeMap<String, PathBuf>,
}

impl Surroundings {
    /// What a test of a transplant needs in order to locate the source; `cargo` and `manifest_dir` are its
    /// `env!("CARGO")` and `env!("CARGO_MANIFEST_DIR")`. Nothing may be prepared with it.
    pub fn of_test(cargo: &str, manifest_dir: &str) -> Self {
        Self {
            cargo: cargo.into(),
            cargo_home: cargo_home(),
            manifest_dir: manifest_dir.into(),
            out_dir: PathBuf::new(),
            target: String::new(),
            stated_source: stated_sources(),
        }
    }

    /// Reads the environment that cargo gives a build script.
    ///
    /// # Panics
    /// Outside a build script, where these variables are not set.
    pub fn of_build_script() -> Self {
        let need = |key: &str| {
            env::var_os(key).unwrap_or_else(|| panic!("cargo sets {key} for build scripts; run this from one"))
        };
        Self {
            cargo: PathBuf::from(need("CARGO")),
            cargo_home: cargo_home(),
            manifest_dir: PathBuf::from(need("CARGO_MANIFEST_DIR")),
            out_dir: PathBuf::from(need("OUT_DIR")),
            target: need("TARGET").to_string_lossy().into_owned(),
            stated_source: stated_sources(),
        }
    }
}

fn cargo_home() -> PathBuf {
    let default = || env::home_dir().unwrap_or_default().join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(default, PathBuf::from)
}

fn stated_sources() -> BTreeMap<String, PathBuf> {
    env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, PathBuf::from(value))))
        .filter(|(key, _)| key.starts_with(locate::STATED_PREFIX))
        .collect()
}
