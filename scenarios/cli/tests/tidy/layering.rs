//! Who may depend on whom, and where the simulator's cfg may stand. The arrows are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::{
    Tree,
    lexer::{Kind, tokens},
};

/// What a crate of ours may depend on, of ours.
struct Arrows {
    krate: &'static str,
    /// In both worlds.
    always: &'static [&'static str],
    /// Under `cfg(madsim)` only; never part of a production build.
    simulated: &'static [&'static str],
    /// In its build script.
    build: &'static [&'static str],
    /// In its tests, besides the world they run in.
    tests: &'static [&'static str],
}

const fn arrows(krate: &'static str, always: &'static [&'static str]) -> Arrows {
    Arrows {
        krate,
        always,
        simulated: &[],
        build: &[],
        tests: &[],
    }
}

const LAYOUT: [Arrows; 16] = [
    arrows("sim-world", &[]),
    Arrows {
        simulated: &["sim-world"],
        ..arrows("sim-tokio", &[])
    },
    arrows("sim-transplant", &[]),
    Arrows {
        build: &["sim-transplant"],
        ..arrows("madsim-scylla", &["sim-tokio"])
    },
    Arrows {
        build: &["sim-transplant"],
        ..arrows("madsim-zeromq", &["sim-tokio"])
    },
    Arrows {
        simulated: &["sim-world"],
        // The driver is what its edge is tried with.
        tests: &["madsim-scylla"],
        ..arrows("sim-cluster", &["sim-tokio"])
    },
    Arrows {
        simulated: &["sim-world"],
        ..arrows("conformance", &["madsim-scylla", "sim-cluster", "sim-tokio"])
    },
    arrows("settlement-events", &[]),
    arrows("schema", &["madsim-scylla", "settlement-events", "sim-tokio"]),
    arrows(
        "settlement",
        &[
            "schema",
            "settlement-events",
            "sim-tokio",
            "madsim-scylla",
            "madsim-zeromq",
        ],
    ),
    arrows("engine", &["settlement-events", "sim-tokio", "madsim-zeromq"]),
    arrows("oracle", &[]),
    arrows("faults", &["sim-cluster", "sim-tokio", "sim-world"]),
    arrows(
        "scenarios",
        &[
            "engine",
            "faults",
            "madsim-scylla",
            "madsim-zeromq",
            "oracle",
            "schema",
            "settlement",
            "settlement-events",
            "sim-cluster",
            "sim-tokio",
            "sim-world",
        ],
    ),
    // Quick to build, since it is what people start: it talks to the worker in JSON lines.
    arrows("quench", &[]),
    Arrows {
        simulated: &["sim-world"],
        ..arrows("quench-worker", &["scenarios", "sim-tokio"])
    },
];

/// What only a simulated build may contain.
const SIMULATOR: &str = "madsim";

/// Where `cfg(madsim)` may stand in source; everything else is the same code in both worlds.
const SIMULATED: [&str; 7] = [
    "sim/",
    "faults/src/sim",
    "scenarios/src/sim/",
    "scenarios/tests/",
    "scenarios/engine/tests/program.rs",
    "scenarios/worker/",
    "scenarios/src/lib.rs",
];

/// The one line of `faults/src/lib.rs` that gates its `sim` module.
const GATES: [&str; 1] = ["faults/src/lib.rs"];

struct Manifest<'a> {
    path: &'a str,
    name: String,
    table: Table,
}

fn manifests(tree: &Tree) -> Vec<Manifest<'_>> {
    let files = tree.iter().filter(|(path, _)| path.ends_with("/Cargo.toml"));
    files
        .map(|(path, text)| {
            let table: Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
            (path, table)
        })
        // A workspace of its own (a fuzz target) is no part of ours: cargo does not see it from here.
        .filter(|(_, table)| !table.contains_key("workspace"))
        .map(|(path, table)| {
            let name = table
                .get("package")
                .and_then(|p| p.get("name"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            Manifest { path, name, table }
        })
        .collect()
}

/// One section of dependencies: `(cfg it is for, kind, name to package)`.
struct Section {
    cfg: Option<String>,
    kind: &'static str,
    dependencies: BTreeMap<String, Value>,
}

fn sections(table: &Table) -> Vec<Section> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let of = |table: &Table, cfg: Option<&String>| -> Vec<Section> {
        let section = |kind: &'static str| Section {
            cfg: cfg.cloned(),
            kind,
            dependencies: table
                .get(kind)
                .and_then(Value::as_table)
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        };
        kinds.map(section).into()
    };
    let mut sections = of(table, None);
    for (cfg, target) in table.get("target").and_then(Value::as_table).into_iter().flatten() {
        sections.extend(
            target
                .as_table()
                .map(|target| of(target, Some(cfg)))
                .unwrap_or_default(),
        );
    }
    sections
}

fn package<'a>(name: &'a str, dependency: &'a Value) -> &'a str {
    dependency.get("package").and_then(Value::as_str).unwrap_or(name)
}

/// Every dependency on a crate of ours is one of [`LAYOUT`]; every crate of ours is in it.
pub fn dependencies(tree: &Tree) -> Vec<String> {
    let ours: BTreeSet<&str> = LAYOUT.iter().map(|arrows| arrows.krate).collect();
    let mut found = Vec::new();
    for manifest in manifests(tree) {
        let Some(arrows) = LAYOUT.iter().find(|arrows| arrows.krate == manifest.name) else {
            found.push(format!(
                "{}: crate {:?} is not in the layout",
                manifest.path, manifest.name
            ));
            continue;
        };
        for section in sections(&manifest.table) {
            for (name, dependency) in &section.dependencies {
                let package = package(name, dependency);
                if ours.contains(package) && !allowed(arrows, &section, package) {
                    let cfg = section
                        .cfg
                        .as_deref()
                        .map(|cfg| format!(" under {cfg}"))
                        .unwrap_or_default();
                    found.push(format!(
                        "{}: {} may not depend on {package} ({}{cfg})",
                        manifest.path, manifest.name, section.kind
                    ));
                }
            }
        }
    }
    found
}

fn allowed(arrows: &Arrows, section: &Section, package: &str) -> bool {
    let simulated = section.cfg.as_deref() == Some("cfg(madsim)");
    let always = arrows.always.contains(&package);
    match section.kind {
        "build-dependencies" => arrows.build.contains(&package),
        // Tests look from outside: at the world they run in, and at what the build script uses.
        "dev-dependencies" => {
            let world = arrows.krate != "oracle" && ["sim-tokio", "sim-world"].contains(&package);
            always
                || arrows.build.contains(&package)
                || arrows.tests.contains(&package)
                || (world && (simulated || arrows.simulated.contains(&package)))
        }
        _ => always || (simulated && arrows.simulated.contains(&package)),
    }
}

/// The simulator is nobody's dependency in an ordinary build, and only the simulated parts have such sections at all.
pub fn simulator_manifests(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests(tree) {
        for section in sections(&manifest.table) {
            let simulated = section.cfg.as_deref() == Some("cfg(madsim)");
            let may = manifest.path.starts_with("sim/")
                || ["faults", "scenarios", "quench-worker"].contains(&manifest.name.as_str());
            if simulated && !may && !section.dependencies.is_empty() {
                found.push(format!(
                    "{}: {} is the same code in both worlds, without a section for cfg(madsim)",
                    manifest.path, manifest.name
                ));
            }
            if !simulated
                && section
                    .dependencies
                    .iter()
                    .any(|(name, dependency)| package(name, dependency) == SIMULATOR)
            {
                found.push(format!(
                    "{}: {SIMULATOR} outside of cfg(madsim) would be part of a production build",
                    manifest.path
                ));
            }
        }
    }
    found
}

/// Dependencies of others are versioned in the root manifest only. The transplants repeat upstream's own list instead.
pub fn versions(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests(tree)
        .iter()
        .filter(|m| !["madsim-scylla", "madsim-zeromq"].contains(&m.name.as_str()))
    {
        for section in sections(&manifest.table) {
            let own = section
                .dependencies
                .iter()
                .filter(|(_, d)| d.is_str() || d.get("version").is_some() || d.get("git").is_some());
            found.extend(own.map(|(name, _)| {
                format!(
                    "{}: {name}: write `{name}.workspace = true` and its version in the root table",
                    manifest.path
                )
            }));
        }
    }
    found
}

/// `madsim` in code, outside of the places that are simulated.
pub fn simulator_cfg(path: &str, text: &str) -> Vec<String> {
    if SIMULATED.iter().any(|allowed| path.starts_with(allowed)) {
        return Vec::new();
    }
    let lines: Vec<usize> = tokens(text)
        .into_iter()
        .filter(|t| t.kind == Kind::Ident(SIMULATOR))
        .map(|t| t.line)
        .collect();
    let gates = if GATES.contains(&path) { 1 } else { 0 };
    let extra = lines.into_iter().skip(gates);
    extra
        .map(|line| {
            format!(
                "{path}:{line}: `{SIMULATOR}` outside of {}: code is the same in both worlds",
                SIMULATED.join(", ")
            )
        })
        .collect()
}

#[cfg(test)]
fn tree_of(files: &[(&str, &str)]) -> Tree {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn a_wrong_arrow_is_found() {
    let manifest = |name: &str, rest: &str| format!("[package]\nname = \"{name}\"\n{rest}");
    let bad = [
        ("oracle", "[dependencies]\nsettlement-events.workspace = true"),
        ("oracle", "[dev-dependencies]\nsettlement.workspace = true"),
        ("settlement", "[dependencies]\nsim-world.workspace = true"),
        (
            "settlement",
            "[dependencies]\nx = { package = \"engine\", path = \"..\" }",
        ),
        ("sim-cluster", "[dependencies]\nsim-world.workspace = true"),
        (
            "sim-cluster",
            "[target.'cfg(madsim)'.dependencies]\nschema.workspace = true",
        ),
        ("quench", "[dependencies]\nscenarios.workspace = true"),
        ("schema", "[build-dependencies]\nsim-transplant.workspace = true"),
        ("newcomer", ""),
    ];
    for (name, rest) in bad {
        let found = dependencies(&tree_of(&[("x/Cargo.toml", &manifest(name, rest))]));
        assert_eq!(found.len(), 1, "{name} {rest}: {found:?}");
    }
    let good = [
        (
            "sim-cluster",
            "[target.'cfg(madsim)'.dependencies]\nsim-world.workspace = true\n[dependencies]\nbytes.workspace = true",
        ),
        (
            "settlement",
            "[dependencies]\ntokio = { package = \"sim-tokio\", path = \"..\" }",
        ),
        (
            "madsim-scylla",
            "[build-dependencies]\nsim-transplant.workspace = true\n[dev-dependencies]\nsim-transplant.workspace = true",
        ),
    ];
    for (name, rest) in good {
        assert_eq!(
            dependencies(&tree_of(&[("x/Cargo.toml", &manifest(name, rest))])),
            Vec::<String>::new()
        );
    }
}

#[test]
fn the_simulator_in_a_production_build_is_found() {
    let check = |path: &str, text: &str| simulator_manifests(&tree_of(&[(path, text)])).len();
    assert_eq!(
        check(
            "sim/world/Cargo.toml",
            "[package]\nname = \"sim-world\"\n[dependencies]\nmadsim.workspace = true"
        ),
        1
    );
    assert_eq!(
        check(
            "sim/world/Cargo.toml",
            "[package]\nname = \"sim-world\"\n[target.'cfg(madsim)'.dependencies]\nmadsim.workspace = true"
        ),
        0
    );
    assert_eq!(
        check(
            "settlement/Cargo.toml",
            "[package]\nname = \"settlement\"\n[target.'cfg(madsim)'.dependencies]\nx.workspace = true"
        ),
        1
    );
}

#[test]
fn a_version_outside_the_table_is_found() {
    let check = |name: &str, rest: &str| {
        versions(&tree_of(&[(
            "x/Cargo.toml",
            &format!("[package]\nname = \"{name}\"\n{rest}"),
        )]))
        .len()
    };
    assert_eq!(check("oracle", "[dependencies]\nserde = \"1\""), 1);
    assert_eq!(
        check(
            "oracle",
            "[target.'cfg(unix)'.dev-dependencies]\nserde = { version = \"1\" }"
        ),
        1
    );
    assert_eq!(
        check("oracle", "[dependencies]\nserde = { git = \"https://example.org\" }"),
        1
    );
    assert_eq!(
        check(
            "oracle",
            "[dependencies]\nserde = { workspace = true, features = [\"rc\"] }"
        ),
        0
    );
    assert_eq!(check("madsim-scylla", "[dependencies]\nserde = \"1\""), 0);
}

#[test]
fn the_cfg_in_a_wrong_place_is_found() {
    let gate = "#[cfg(madsim)]\nmod sim;\n";
    assert_eq!(simulator_cfg("settlement/src/lib.rs", gate).len(), 1);
    assert_eq!(
        simulator_cfg("settlement/src/lib.rs", "if cfg!(not(madsim)) {}").len(),
        1
    );
    assert_eq!(
        simulator_cfg(
            "settlement/src/lib.rs",
            "// cfg(madsim) is explained here\nlet a = \"madsim\";"
        )
        .len(),
        0
    );
    assert_eq!(simulator_cfg("faults/src/lib.rs", gate).len(), 0, "one gate");
    assert_eq!(
        simulator_cfg("faults/src/lib.rs", &gate.repeat(2)).len(),
        1,
        "and no second"
    );
    assert_eq!(simulator_cfg("faults/src/plan.rs", gate).len(), 1);
    assert_eq!(simulator_cfg("sim/tokio/src/lib.rs", gate).len(), 0);
}
