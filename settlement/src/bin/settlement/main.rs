//! The `settlement` program: reads its command line and its configuration, and calls the library. What only a program of
//! its own needs (signals, log output, the HTTP endpoint) is here; what settlement does is not.

mod bench;
mod cli;
mod http;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use settlement::{Config, Metrics};
use settlement_events::OutputSequence;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the driver has to say about connections, settlement says once and in its own words; RUST_LOG shows all of it.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,scylla=off,settlement=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("settlement: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), AnyError> {
    let config = match &cli.command {
        Command::Bench(arguments) => bench::config(arguments, &cli.config, cli.overrides())?,
        _ => Config::load(&cli.config, cli.overrides())?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        match cli.command {
            Command::Serve => serve(config).await,
            Command::Status => {
                println!("{}", settlement::status(&config).await?);
                Ok(())
            }
            Command::Skip { seq, reason } => {
                println!("{}", settlement::skip(&config, OutputSequence(seq), &reason).await?);
                Ok(())
            }
            Command::Resettle { from } => {
                let metrics = Arc::new(Metrics::new());
                println!("{}", settlement::resettle(config, OutputSequence(from), metrics).await?);
                Ok(())
            }
            Command::Bench(arguments) => Ok(bench::bench(config, arguments).await?),
            Command::Migrate => {
                let session = settlement::session::connect(&config).await?;
                println!("{}", schema::migrate(&session, &config.target()).await?);
                Ok(())
            }
        }
    })
}

async fn serve(config: Config) -> Result<(), AnyError> {
    let metrics = Arc::new(Metrics::new());
    if let Some(address) = &config.metrics_addr {
        let address = http::spawn(address, metrics.clone()).await?;
        tracing::info!(target: "settlement", %address, "metrics and health are served");
    }
    let exit = settlement::serve(config, metrics, asked_to_end()).await?;
    eprintln!(
        "settlement: stopped; received {}, acknowledged {}, durable {}. The next start sends again what is not durable",
        exit.received, exit.acknowledged, exit.durable
    );
    Ok(())
}

/// Completes when somebody asks for an end, with Ctrl-C or as an init system does. Where the system lets us listen to
/// neither, the signals keep their usual meaning: an end and a crash are the same case.
async fn asked_to_end() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = terminated => {}
        () = interrupted => {}
    }
}
