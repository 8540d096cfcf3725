//! Finds the worker, or builds it. The simulated world needs `--cfg madsim`, and an environment `RUSTFLAGS` would silently
//! drop that flag if it came from a configuration file; so it is passed where nothing overrides it, together with whatever
//! flags the environment holds, and the worker's build script refuses a build without it.
//!
//! Asking cargo whether anything changed takes longer than running a seed. A stamp file remembers the state of the sources
//! that the worker was built from; while it matches, cargo is not asked.
use crate::fingerprint;
use crate::problem::Problem;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the worker is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Optimised.
    Release,
    /// With overflow checks and debug assertions.
    Debug,
}

impl Profile {
    /// As the command line's `--debug-build` says.
    pub fn of(debug_build: bool) -> Profile {
        if debug_build { Profile::Debug } else { Profile::Release }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Debug => "debug",
        }
    }
}

/// A profile of the workspace's Cargo.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CargoProfile {
    /// Programs of the real world, and planted bugs: they are linked once for each, and run little.
    Release,
    /// Whatever is built for debugging.
    Dev,
    /// What runs seeds.
    Seeds,
}

impl CargoProfile {
    /// What is built with: `optimised`, or for debugging.
    fn of(profile: Profile, optimised: CargoProfile) -> CargoProfile {
        match profile {
            Profile::Release => optimised,
            Profile::Debug => CargoProfile::Dev,
        }
    }

    /// As cargo calls it.
    fn name(self) -> &'static str {
        match self {
            CargoProfile::Release => "release",
            CargoProfile::Dev => "dev",
            CargoProfile::Seeds => "seeds",
        }
    }

    /// Its directory below the target directory.
    fn directory(self) -> &'static str {
        match self {
            CargoProfile::Dev => "debug",
            other => other.name(),
        }
    }
}

/// For the one compilation that links everything into a worker that runs seeds: LLVM inlines what it would otherwise find
/// too large (its limit is 225). A seed goes through some thirty layers of small functions, each of which is called from few
/// places; this takes a twentieth off its CPU time, for half a minute more of compiling.
const INLINE_MORE: &[&str] = &["--", "-C", "llvm-args=-inline-threshold=1500"];
/// Flags between which cargo's encoded form puts this.
const SEPARATOR: &str = "\u{1f}";

/// The checkout that contains the current directory, or the one that cargo runs us from.
pub fn workspace() -> Result<PathBuf, Problem> {
    let here = std::env::current_dir().map_err(Problem::file("find", "."))?;
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let found = [Some(here.clone()), manifest].into_iter().flatten().find_map(|start| {
        start
            .ancestors()
            .find(|dir| dir.join("scenarios/worker/Cargo.toml").is_file())
            .map(Path::to_path_buf)
    });
    found.ok_or(Problem::NoWorkspace { from: here })
}

/// The environment variables that name a built worker, per profile.
fn variable(profile: Profile) -> &'static str {
    match profile {
        Profile::Release => "QUENCH_WORKER",
        Profile::Debug => "QUENCH_WORKER_DEBUG",
    }
}

/// A worker that can be started: the one that the environment names, else one built from the sources as they are now.
pub fn worker(profile: Profile) -> Result<PathBuf, Problem> {
    if let Some(path) = std::env::var_os(variable(profile)) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            let why = format!(
                "is not there; {} names it. Unset it to have a worker built.",
                variable(profile)
            );
            return Err(Problem::Worker { path, why });
        }
        return Ok(path);
    }
    let root = workspace()?;
    let cargo = CargoProfile::of(profile, CargoProfile::Seeds);
    let binary = root.join("target/sim").join(cargo.directory()).join("quench-worker");
    let stamp = root
        .join("target/quench")
        .join(format!("worker-{}.stamp", profile.name()));
    let now = fingerprint::of_worker(&root, profile)?;
    let fresh = std::fs::read_to_string(&stamp).is_ok_and(|then| then == now);
    if !(fresh && binary.is_file()) {
        build(&Build {
            root: &root,
            target: &root.join("target/sim"),
            profile: cargo,
            what: "the worker",
            packages: &["quench-worker"],
            is_simulated: true,
            extra: &[],
        })?;
        write_file(&stamp, now.as_bytes())?;
    }
    Ok(binary)
}

/// The programs of the real world, built from the sources as they are now. Cargo is asked every time: a run with real
/// processes takes minutes.
pub fn real_programs(profile: Profile) -> Result<PathBuf, Problem> {
    let root = workspace()?;
    build(&Build {
        root: &root,
        target: &root.join("target"),
        profile: CargoProfile::of(profile, CargoProfile::Release),
        what: "the worker, settlement and the engine",
        packages: &["quench-worker", "settlement", "engine"],
        is_simulated: false,
        extra: &[],
    })
}

/// What to build, and where.
pub struct Build<'a> {
    /// The workspace.
    pub root: &'a Path,
    /// The target directory.
    pub target: &'a Path,
    /// How.
    pub profile: CargoProfile,
    /// For messages.
    pub what: &'a str,
    /// What to build.
    pub packages: &'a [&'a str],
    /// For the simulated world.
    pub is_simulated: bool,
    /// More arguments for cargo.
    pub extra: &'a [&'a str],
}

/// Builds it and returns the directory of the programs.
pub fn build(wanted: &Build) -> Result<PathBuf, Problem> {
    let programs = wanted.target.join(wanted.profile.directory());
    let attempt = run_cargo(wanted, false)?;
    if attempt.success {
        return Ok(programs);
    }
    // Without a network cargo may still try to look up what it could do without, when everything needed is there already.
    if attempt.wants_network && run_cargo(wanted, true)?.success {
        return Ok(programs);
    }
    let why = if attempt.wants_network {
        "the sources of its dependencies are not all here and the network cannot be reached; run `cargo fetch` once where \
         there is one"
    } else {
        "see the compiler's messages above"
    };
    let (what, command) = (format!("{} ({})", wanted.what, wanted.profile.name()), attempt.command);
    Err(Problem::Build {
        what,
        command,
        why: why.into(),
    })
}

struct Attempt {
    success: bool,
    wants_network: bool,
    command: String,
}

fn run_cargo(wanted: &Build, offline: bool) -> Result<Attempt, Problem> {
    // Flags for the program alone, into which everything else is linked, are for `cargo rustc` and one package.
    let (verb, linking) = match wanted.profile {
        CargoProfile::Seeds => ("rustc", INLINE_MORE),
        _ => ("build", &[][..]),
    };
    let mut arguments = vec![verb, "--profile", wanted.profile.name()];
    for package in wanted.packages {
        arguments.extend(["--package", package]);
    }
    if offline {
        arguments.push("--offline");
    }
    arguments.extend(wanted.extra);
    let terminal = std::io::stderr().is_terminal();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(&arguments)
        .arg("--target-dir")
        .arg(wanted.target)
        .args(linking)
        .current_dir(wanted.root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if wanted.is_simulated {
        cargo
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", sim_flags(|name| std::env::var(name).ok()))
            .env("QUENCH_EXPECT_WORLD", "sim");
    }
    if terminal {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    let command = format!(
        "cargo {} --target-dir {}{}{}",
        arguments.join(" "),
        wanted.target.display(),
        linking.iter().map(|flag| format!(" {flag}")).collect::<String>(),
        if wanted.is_simulated { ", with --cfg madsim" } else { "" }
    );
    let failed = |error: std::io::Error| Problem::Program {
        program: command.clone(),
        why: error.to_string(),
    };
    let mut child = cargo.spawn().map_err(failed)?;
    let mut wants_network = false;
    if let Some(messages) = child.stderr.take() {
        for line in BufReader::new(messages).split(b'\n') {
            let line = line.map_err(failed)?;
            wants_network |= says_no_network(&String::from_utf8_lossy(&line));
            // Losing a message of the compiler's is no reason to stop.
            let _ = std::io::stderr().write_all(&[&line[..], b"\n"].concat());
        }
    }
    let success = child.wait().map_err(failed)?.success();
    Ok(Attempt {
        success,
        wants_network,
        command,
    })
}

/// Cargo's words when it wanted to download and could not.
fn says_no_network(line: &str) -> bool {
    [
        "spurious network error",
        "Could not resolve host",
        "failed to download",
        "unable to update registry",
    ]
    .iter()
    .any(|words| line.contains(words))
}

/// The compiler flags that the environment asks for, and the simulated world's.
fn sim_flags(environment: impl Fn(&str) -> Option<String>) -> String {
    let given = environment("CARGO_ENCODED_RUSTFLAGS")
        .or_else(|| environment("RUSTFLAGS").map(|flags| flags.split_whitespace().collect::<Vec<_>>().join(SEPARATOR)))
        .unwrap_or_default();
    let mut flags: Vec<&str> = given.split(SEPARATOR).filter(|flag| !flag.is_empty()).collect();
    if !flags.windows(2).any(|pair| pair == ["--cfg", "madsim"]) {
        flags.extend(["--cfg", "madsim"]);
    }
    flags.join(SEPARATOR)
}

/// Writes a file and the directories above it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(Problem::file("create the directory", directory))?;
    }
    std::fs::write(path, bytes).map_err(Problem::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(given: &[(&str, &str)]) -> Vec<String> {
        let environment = |name: &str| {
            given
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_string())
        };
        sim_flags(environment).split(SEPARATOR).map(str::to_string).collect()
    }

    #[test]
    fn the_simulated_world_survives_whatever_flags_the_environment_holds() {
        assert_eq!(flags(&[]), ["--cfg", "madsim"]);
        assert_eq!(flags(&[("RUSTFLAGS", "")]), ["--cfg", "madsim"]);
        assert_eq!(
            flags(&[("RUSTFLAGS", "-D  warnings")]),
            ["-D", "warnings", "--cfg", "madsim"]
        );
        assert_eq!(flags(&[("RUSTFLAGS", "--cfg madsim")]), ["--cfg", "madsim"]);
        let both = [("RUSTFLAGS", "-Ca"), ("CARGO_ENCODED_RUSTFLAGS", "-Cb\u{1f}-Cc d")];
        assert_eq!(flags(&both), ["-Cb", "-Cc d", "--cfg", "madsim"]);
    }

    #[test]
    fn a_failure_for_want_of_a_network_is_told_from_a_compiler_error() {
        assert!(says_no_network(
            "warning: spurious network error (3 tries remaining): [6] Could not resolve hostname"
        ));
        assert!(says_no_network(
            "error: failed to download from `https://index.crates.io/config.json`"
        ));
        assert!(!says_no_network("error[E0433]: cannot find `task` in `tokio`"));
    }
}
