//! One file per subcommand. Each returns how the command ends; what stops it is a `Problem`.
pub mod bench;
pub mod canary;
pub mod determinism;
pub mod list;
pub mod live;
pub mod replay;
pub mod run;
