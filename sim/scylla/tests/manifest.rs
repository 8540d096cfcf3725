//! Our manifest is upstream's, tokio aside: same version, edition, features and dependencies.

use std::{fs, path::Path};

use sim_transplant::{Surroundings, locate, manifest};

#[test]
fn the_manifest_is_upstreams_except_for_tokio() {
    let surroundings = Surroundings::of_test(env!("CARGO"), env!("CARGO_MANIFEST_DIR"));
    let located = locate::locate("scylla", "1.9.0", &surroundings).expect("the driver was fetched");
    let upstream = fs::read_to_string(located.path.join("Cargo.toml")).expect("upstream's manifest");
    let ours = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("our manifest");
    let differences = manifest::differences(&ours, &upstream, &manifest::Allowed::default());
    assert!(
        differences.is_empty(),
        "sim/scylla/Cargo.toml:\n{}",
        differences.join("\n")
    );
}
