//! `quench`: the one command people use. It finds or builds a worker, deals seeds out to worker processes, and turns what
//! they answer into tables, failures that can be shown again, and an exit code. It simulates nothing itself and links
//! nothing that does, so that it starts at once.
//!
//! - [`args`], [`exit`], [`seed`], [`problem`]: the command line and how it ends
//! - [`launch`], [`fingerprint`]: finding or building the worker
//! - [`protocol`], [`client`], [`pool`], [`session`], [`interrupt`]: talking to workers
//! - [`tally`], [`table`], [`failure`], [`junit`], [`progress`], [`stopwatch`]: what people see
//! - [`commands`]: one file per subcommand
//! - [`planted`], [`scratch_tree`]: planted bugs, and the copy of the tree that they are planted into
mod args;
mod client;
mod commands;
mod exit;
mod failure;
mod fingerprint;
mod interrupt;
mod junit;
mod launch;
mod planted;
mod pool;
mod problem;
mod progress;
#[path = "../../src/protocol.rs"]
#[allow(dead_code, reason = "the worker uses the rest of this file")]
mod protocol;
mod scratch_tree;
mod seed;
mod session;
mod stopwatch;
mod table;
mod tally;
mod tape;

use args::{Command, CommandLine};
use clap::Parser;
use exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let asked = match CommandLine::try_parse() {
        Ok(asked) => asked,
        Err(said) => {
            // Nowhere is left to report that the terminal is gone.
            let _ = said.print();
            let exit = if said.use_stderr() { Exit::Usage } else { Exit::Pass };
            return ExitCode::from(exit.code());
        }
    };
    interrupt::watch();
    let outcome = match &asked.command {
        Command::Run(arguments) => commands::run::run(arguments),
        Command::Replay(arguments) => commands::replay::run(arguments),
        Command::Live(arguments) => commands::live::run(arguments),
        Command::List(arguments) => commands::list::run(arguments),
        Command::Determinism(arguments) => commands::determinism::run(arguments),
        Command::Bench(arguments) => commands::bench::run(arguments),
        Command::Canary(arguments) => commands::canary::run(arguments),
    };
    let exit = outcome.unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        Exit::Usage
    });
    ExitCode::from(exit.code())
}
