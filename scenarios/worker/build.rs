//! Refuses to build a worker without the simulated world where that world is expected. An environment `RUSTFLAGS`,
//! even an empty one, silently replaces the flags of every configuration file; without this check the result would be a
//! worker that starts and has no worlds, and nobody would know why.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=QUENCH_EXPECT_WORLD");
    let expects_sim = std::env::var_os("QUENCH_EXPECT_WORLD").is_some_and(|world| world == "sim");
    let has_sim = std::env::var_os("CARGO_CFG_MADSIM").is_some();
    if expects_sim && !has_sim {
        println!(
            "cargo::error=quench-worker is built for the simulated world (QUENCH_EXPECT_WORLD=sim), but `--cfg madsim` \
             did not reach the compiler. An environment RUSTFLAGS or CARGO_ENCODED_RUSTFLAGS, even empty, replaces the \
             flags that configuration files and `--config build.rustflags` give. Unset it, or put `--cfg madsim` into it."
        );
    }
    for (package, name) in [
        ("madsim", "MADSIM"),
        ("tokio", "TOKIO"),
        ("scylla", "SCYLLA"),
        ("zeromq", "ZEROMQ"),
    ] {
        let version = locked_version(package).unwrap_or_else(|| "unknown".into());
        println!("cargo::rustc-env=QUENCH_VERSION_{name}={version}");
    }
}

/// The version of a package in the workspace's lock file, which decides what was compiled.
fn locked_version(package: &str) -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let path = std::path::Path::new(&here).join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", path.display());
    let lock = std::fs::read_to_string(path).ok()?;
    let after = lock.split_once(&format!("\nname = \"{package}\"\nversion = \""))?.1;
    Some(after.split('"').next()?.to_string())
}
