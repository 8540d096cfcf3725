//! Tidy: what must hold of the tree as a whole and no compiler says. Runs with `cargo test`, needs no network and no
//! build of anything else. It reads text; what needs types is clippy's (`clippy.toml`), what needs licences is
//! cargo-deny's (`deny.toml`).
//!
//! | module | rules |
//! |---|---|
//! | `layering` | which crate may depend on which, where `cfg(madsim)` may stand, one version table |
//! | `source` | per source file: docs first, length, banned words, statics, ambient inputs, `unsafe` |
//! | `files` | fixed top level, no file that nothing reaches, scripts that stop at errors, links that lead somewhere |
//! | `patches` | planted bugs still apply |
//! | `lexer` | just enough of Rust's tokens for the rules above |
//!
//! Every rule is a function over strings with a test beside it that shows it fail. A new rule: one such function, and one
//! line in the test below that applies it to the tree.

mod files;
mod layering;
mod lexer;
mod patches;
mod source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The text files of the tree by path from its root, with `/` between the parts.
type Tree = BTreeMap<String, String>;

/// Folders that are not the project's own text: version control, builds and results, a vendored copy.
const SKIPPED: [&str; 3] = [".git", "target", "vendor"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("scenarios/cli lies two below the root")
        .to_path_buf()
}

fn tree() -> Tree {
    let root = root();
    let mut tree = Tree::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("the tree can be listed") {
            let entry = entry.expect("the tree can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if entry.path().is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                // What is no UTF-8 (a tape, say) has no rules.
                tree.insert(path, text);
            }
        }
    }
    tree
}

/// Fails with every violation, not only the first.
fn insist(violations: Vec<String>) {
    assert!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

/// Applies a rule to each Rust file.
fn each_source(rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    tree()
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .flat_map(|(path, text)| rule(path, text))
        .collect()
}

#[test]
fn dependencies_point_where_the_layout_says() {
    insist(layering::dependencies(&tree()));
}

#[test]
fn every_version_stands_in_the_one_table() {
    insist(layering::versions(&tree()));
}

#[test]
fn the_simulators_cfg_stays_where_it_belongs() {
    insist(layering::simulator_manifests(&tree()));
    insist(each_source(layering::simulator_cfg));
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    insist(each_source(source::opens_with_docs));
}

#[test]
fn source_files_are_of_a_readable_length() {
    insist(each_source(source::length));
    insist(source::stale_exemptions(&tree()));
}

#[test]
fn nothing_is_left_unfinished() {
    insist(
        tree()
            .iter()
            .flat_map(|(path, text)| source::banned_words(path, text))
            .collect(),
    );
}

#[test]
fn the_simulated_programs_keep_no_state_between_hosts() {
    insist(each_source(source::statics));
}

#[test]
fn the_simulated_programs_reach_for_nothing_around_them() {
    insist(each_source(source::ambient));
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    insist(each_source(source::unsafe_code));
}

#[test]
fn the_top_level_is_fixed() {
    let mut names: Vec<String> = tree()
        .keys()
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .collect();
    names.dedup();
    insist(files::top_level(&names));
}

#[test]
fn every_source_file_is_reached() {
    insist(files::dead(&tree()));
}

#[test]
fn scripts_stop_at_the_first_error() {
    let scripts: Vec<_> = tree().into_iter().filter(|(path, _)| files::is_script(path)).collect();
    assert!(scripts.len() >= 5, "the scripts of ci/ and .ci/ are there");
    insist(
        scripts
            .iter()
            .flat_map(|(path, text)| files::script(path, text, executable(path)))
            .collect(),
    );
}

fn executable(path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(root().join(path)).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

#[test]
fn links_lead_somewhere() {
    let root = root();
    let exists = |path: &str| root.join(path).exists();
    let pages: Vec<_> = tree().into_iter().filter(|(path, _)| path.ends_with(".md")).collect();
    insist(
        pages
            .iter()
            .flat_map(|(path, text)| files::links(path, text, &exists))
            .collect(),
    );
}

#[test]
fn every_planted_bug_still_applies() {
    let tree = tree();
    assert!(
        tree.keys().filter(|path| path.ends_with(".patch")).count() >= 20,
        "planted bugs and mutants are there"
    );
    insist(patches::fit(&tree));
}
