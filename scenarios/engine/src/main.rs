//! The `engine` program: the command line around the library. Reads files and the clock; everything else is in the library.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use engine::{ConfigFile, EngineError, Tape, TapeSpec, WorkloadSpec, log, serve_until};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use settlement_events::{Registry, json};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A usage error: something that the caller can put right.
const EXIT_USAGE: u8 = 1;

#[derive(Parser)]
#[command(
    name = "engine",
    version,
    about = "A matching engine with a log, a feed and replay",
    arg_required_else_help = true
)]
#[command(after_help = "\
A first run, in two terminals:
    engine example-config > engine.toml
    engine serve --config engine.toml
    settlement serve --config settlement.toml")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an engine until it is interrupted. Started again with the same configuration it goes on where its log ends.
    Serve(ServeArgs),
    /// Print the events of a log as JSON lines (a torn tail is left out).
    Log {
        /// The log: engine.log in an engine's data_dir.
        file: PathBuf,
    },
    /// Import a LOBSTER message file (plain or gzip) and print what would be replayed and what skipped, as JSON.
    Tape {
        /// The message file.
        file: PathBuf,
        /// What users are drawn from.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Print the registry that the tape brings instead: settlement needs the same one.
        #[arg(long)]
        registry: bool,
    },
    /// Print the built-in registry as TOML.
    ExampleRegistry,
    /// Print a configuration file with every setting explained.
    ExampleConfig,
}

#[derive(Args)]
struct ServeArgs {
    /// The configuration file (TOML). Settings can also come from ENGINE_... variables, such as ENGINE_HEARTBEAT_MS.
    #[arg(long)]
    config: PathBuf,
    /// Where the log is, instead of the configuration's data_dir.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Generate this many trades, instead of what the configuration says.
    #[arg(long)]
    trades: Option<u64>,
    /// Generate from this seed, instead of the configuration's.
    #[arg(long)]
    seed: Option<u64>,
    /// Replay this message file instead of the configuration's source.
    #[arg(long, conflicts_with_all = ["trades"])]
    tape: Option<PathBuf>,
}

const EXAMPLE_CONFIG: &str = include_str!("example.toml");

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("engine: {message}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Serve(args) => serve(args).await,
        Command::Log { file } => print_log(&file).await,
        Command::Tape { file, seed, registry } => {
            let tape = read_tape(
                &file,
                &TapeSpec {
                    seed,
                    ..TapeSpec::default()
                },
            )
            .await?;
            if registry {
                print!("{}", tape.registry.to_toml());
            } else {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&tape.report).map_err(|error| error.to_string())?
                );
            }
            Ok(())
        }
        Command::ExampleRegistry => {
            print!("{}", Registry::example().to_toml());
            Ok(())
        }
        Command::ExampleConfig => {
            print!("{EXAMPLE_CONFIG}");
            Ok(())
        }
    }
}

async fn serve(args: ServeArgs) -> Result<(), String> {
    let file = config_file(&args).await?;
    let registry = match &file.registry {
        Some(path) => Registry::from_toml(&read_text(path).await?).map_err(|e| format!("{}: {e}", path.display()))?,
        None => Registry::example(),
    };
    let tape = match &file.tape {
        Some(tape) => Some(read_tape(&tape.path, &tape.options).await?),
        None => None,
    };
    if let Some(tape) = &tape {
        let report = serde_json::to_string(&tape.report).map_err(|error| error.to_string())?;
        tracing::info!(target: "engine", %report, "tape imported");
    }
    let config = file.into_config(registry, tape, now_ms());
    let exit = serve_until(config, asked_to_end())
        .await
        .map_err(|error: EngineError| error.to_string())?;
    println!("{} events, head {}", exit.head.head_sequence, exit.head.head_digest);
    Ok(())
}

/// Completes when somebody asks for an end, with Ctrl-C or as an init system does. Without a handler the program still ends
/// when it is killed; its log is made for that.
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

async fn config_file(args: &ServeArgs) -> Result<ConfigFile, String> {
    let text = read_text(&args.config)
        .await
        .map_err(|error| format!("{error}; --config names the configuration, `engine example-config` prints one"))?;
    let figment = Figment::from(Serialized::defaults(ConfigFile::default()))
        .merge(Toml::string(&text))
        .merge(Env::prefixed("ENGINE_"));
    let mut file: ConfigFile = figment.extract().map_err(|error| {
        format!(
            "{}: {error} (`engine example-config` prints every setting)",
            args.config.display()
        )
    })?;
    if file.workload.is_some() && file.tape.is_some() {
        return Err(format!(
            "{}: has both [workload] and [tape]: keep one",
            args.config.display()
        ));
    }
    if let Some(data_dir) = &args.data_dir {
        file.data_dir.clone_from(data_dir);
    }
    if let Some(path) = &args.tape {
        let options = TapeSpec {
            seed: args.seed.unwrap_or(0),
            ..TapeSpec::default()
        };
        file.tape = Some(engine::config::TapeFile {
            path: path.clone(),
            options,
        });
        file.workload = None;
    } else if args.trades.is_some() || args.seed.is_some() {
        let workload = file.workload.unwrap_or_default();
        let trades = args.trades.unwrap_or(workload.trades);
        file.workload = Some(WorkloadSpec {
            trades,
            seed: args.seed.unwrap_or(workload.seed),
            ..workload
        });
        file.tape = None;
    }
    Ok(file)
}

async fn print_log(path: &Path) -> Result<(), String> {
    let bytes = read_bytes(path).await?;
    let facts = log::read_facts(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    for fact in &facts {
        println!("{}", json::to_line(&fact.event));
    }
    Ok(())
}

async fn read_tape(path: &Path, spec: &TapeSpec) -> Result<Arc<Tape>, String> {
    let bytes = read_bytes(path).await?;
    Tape::import(&path.to_string_lossy(), &bytes, spec).map_err(|error| format!("{}: {error}", path.display()))
}

async fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path)
        .await
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

async fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path).await?).map_err(|_| format!("{}: not UTF-8 text", path.display()))
}

/// What intake commands are dated from. The log keeps the dates, so recovery does not read the clock again.
#[expect(
    clippy::disallowed_methods,
    reason = "the program's edge: an engine in production dates its commands by the clock"
)]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_example_configuration_is_the_default_one_with_a_workload() {
        let file: ConfigFile = Figment::new()
            .merge(Toml::string(EXAMPLE_CONFIG))
            .extract()
            .expect("it reads");
        assert_eq!(
            file,
            ConfigFile {
                workload: Some(WorkloadSpec {
                    seed: 7,
                    ..WorkloadSpec::default()
                }),
                ..ConfigFile::default()
            }
        );
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let file: Result<ConfigFile, _> = Figment::new().merge(Toml::string("heartbeat = 5")).extract();
        assert!(file.expect_err("must be refused").to_string().contains("heartbeat"));
    }
}
