//! The `zeromq` crate, exactly as published on crates.io: re-exported in an ordinary build, and compiled from that same
//! source against the simulated tokio under `--cfg madsim`.
//!
//! This crate holds no line of it. In the simulated world `build.rs` (through `sim-transplant`) proves that the source
//! cargo fetched is the published one and copies it to `OUT_DIR`; its lib.rs is included below. Only the tokio runtime
//! over TCP is offered: the facade has no Unix sockets, and the other runtimes are not simulated.
//!
//! ```toml
//! zeromq = { package = "madsim-zeromq", path = "../sim/zeromq" }
//! ```
//!
//! Under simulation a `Listener::Tcp` made from a `std::net::TcpListener` is refused (`Unsupported`): a socket of the
//! real kernel has no place in the simulated network. Bind by address instead.

// Upstream's own attribute (an included file may carry none); `sim-transplant` checks that it stands here.
#![cfg_attr(madsim, recursion_limit = "1024")]
// The warnings are upstream's business; they are silenced as cargo does for a registry crate.
#![cfg_attr(madsim, allow(warnings, clippy::all))]

#[cfg(not(madsim))]
pub use upstream::*;

#[cfg(madsim)]
include!(concat!(env!("OUT_DIR"), "/src/lib.rs"));
