//! Our manifest is upstream's for its tokio runtime over TCP; what is left out is listed with its reason.

use std::{fs, path::Path};

use sim_transplant::{
    locate,
    manifest::{self, Allowed},
    Surroundings,
};

const ALLOWED: Allowed<'_> = Allowed {
    features_left_out: &[
        ("all-transport", "includes ipc-transport"),
        ("async-dispatcher-macros", "only tokio is simulated"),
        ("async-dispatcher-runtime", "only tokio is simulated"),
        ("async-std-runtime", "only tokio is simulated"),
        ("bench-internals", "upstream's own benchmarks"),
        ("ipc-transport", "the facade has no Unix sockets"),
    ],
    features_changed: &[("default", "without ipc-transport, all-transport is tcp-transport")],
    dependencies_left_out: &[
        ("async-dispatcher", "only tokio is simulated"),
        ("async-std", "only tokio is simulated"),
    ],
    always_on: &[
        ("socket2", "the tokio runtime needs it, and there is no other"),
        ("tokio", "the only runtime"),
        ("tokio-util", "the tokio runtime needs it, and there is no other"),
    ],
};

#[test]
fn the_manifest_is_upstreams_except_for_tokio_and_the_other_runtimes() {
    let surroundings = Surroundings::of_test(env!("CARGO"), env!("CARGO_MANIFEST_DIR"));
    let located = locate::locate("zeromq", "0.7.0", &surroundings).expect("zeromq was fetched");
    let upstream = fs::read_to_string(located.path.join("Cargo.toml")).expect("upstream's manifest");
    let ours = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("our manifest");
    let differences = manifest::differences(&ours, &upstream, &ALLOWED);
    assert!(
        differences.is_empty(),
        "sim/zeromq/Cargo.toml:\n{}",
        differences.join("\n")
    );
}
