//! A matching engine: it takes orders, keeps a log, publishes what happened and serves it again. An ordinary program
//! with an ordinary library; what world it runs in is decided by the `tokio` it is built with.
//!
//! | module | what it is |
//! |---|---|
//! | [`command`] | what it can be told, and why it may decline |
//! | [`exchange`] | accounts, orders, books: the matching engine proper, and **the money rule** |
//! | [`session`] | exchange, stream and source together, without I/O |
//! | [`source`], [`workload`], [`tape`] | where commands come from |
//! | [`contradiction`] | events that are false on purpose |
//! | [`log`] | the log's format, recovery, and its facts for a judge |
//! | [`mod@serve`] | the program: log, publishing, replay, intake |
//! | [`config`], [`control`] | what it is run with, and what it says of itself |
//!
//! It publishes only what its log has fsynced, or it would fork its own stream after a crash; and since its source is a
//! function of what it did so far, what a crash cut off is made again, byte for byte.

mod accounts;
mod book;
pub mod command;
pub mod config;
pub mod contradiction;
pub mod control;
pub mod exchange;
pub mod intake;
pub mod log;
mod log_file;
mod publish;
mod random;
mod replay;
pub mod serve;
pub mod session;
pub mod source;
mod stream;
pub mod tape;
pub mod workload;

pub use config::{ConfigFile, EngineConfig, Pacing};
pub use contradiction::{Contradiction, Falsehood};
pub use control::{Controls, Status};
pub use log_file::LOG_FILE;
pub use serve::{EngineError, EngineExit, serve, serve_until};
pub use session::run;
pub use source::Source;
pub use tape::{Tape, TapeError, TapeReport, TapeSpec};
pub use workload::WorkloadSpec;

/// Does once what the first engine of a process would do: the socket library compiles the patterns of its addresses when
/// the first one is read. A process that forks for each of many runs does it before.
pub fn warm_up() {
    // Whatever comes of it: the patterns are there.
    let _ = "tcp://127.0.0.1:1".parse::<zeromq::Endpoint>();
}
