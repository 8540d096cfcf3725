//! The `scylla` driver, exactly as published on crates.io: re-exported in an ordinary build, and compiled from that same
//! source against the simulated tokio under `--cfg madsim`.
//!
//! This crate holds no line of the driver. In the simulated world `build.rs` (through `sim-transplant`) proves that the
//! source cargo fetched is the published one and copies it to `OUT_DIR`; its lib.rs is included below, so that the
//! driver's `crate::` paths mean this crate. Depend on it under the driver's own name, because the driver's derive
//! macros emit `::scylla::` paths:
//!
//! ```toml
//! scylla = { package = "madsim-scylla", path = "../sim/scylla" }
//! ```
//!
//! To move to another version: `Cargo.toml` here (the `=` pin, the package version, features and dependencies, which
//! `tests/manifest.rs` compares with upstream's) and the version in `build.rs`.

// The driver's warnings and lints are upstream's business; they are silenced as cargo does for a registry crate.
#![cfg_attr(madsim, allow(warnings, clippy::all))]

#[cfg(not(madsim))]
pub use upstream::*;

#[cfg(madsim)]
include!(concat!(env!("OUT_DIR"), "/src/lib.rs"));
