//! `quench list`: what there is to run and to name on the command line.
use crate::args::ListArgs;
use crate::exit::Exit;
use crate::launch::{self, Profile};
use crate::planted::{self, Planted};
use crate::problem::{Problem, say};
use crate::protocol::Catalog;
use crate::session::Session;
use serde_json::json;
use std::fmt::Write as _;

/// Runs it.
pub fn run(arguments: &ListArgs) -> Result<Exit, Problem> {
    let session = Session::open(Profile::of(arguments.debug_build))?;
    // A worker from elsewhere (QUENCH_WORKER) may be used without a checkout; then there are no patches to list.
    let planted = match launch::workspace() {
        Ok(root) => planted::all(&root)?,
        Err(_) => Vec::new(),
    };
    match arguments.json {
        true => say(&format!("{}\n", as_json(&session.catalog, &planted)))?,
        false => say(&as_text(&session.catalog, &planted))?,
    }
    Ok(Exit::Pass)
}

fn as_json(catalog: &Catalog, planted: &[Planted]) -> serde_json::Value {
    let mut json = json!(catalog);
    json["version"] = json!(1);
    json["planted"] = json!(planted);
    json
}

fn as_text(catalog: &Catalog, planted: &[Planted]) -> String {
    let mut text = String::new();
    let scenarios = catalog.scenarios.iter().map(|s| (s.name.clone(), s.about.clone()));
    section(&mut text, "scenarios (--scenario)", scenarios);
    let named = |list: &[crate::protocol::NamedInfo]| -> Vec<(String, String)> {
        list.iter().map(|one| (one.name.clone(), one.about.clone())).collect()
    };
    section(
        &mut text,
        "designs (--design), the default first",
        named(&catalog.designs),
    );
    let invariants = catalog
        .invariants
        .iter()
        .map(|i| (format!("{:>2}  {}", i.number, i.name), i.about.clone()));
    section(&mut text, "invariants", invariants);
    section(&mut text, "fault classes (--without)", named(&catalog.faults));
    section(
        &mut text,
        "kindnesses of the cluster (--kindness)",
        named(&catalog.kindness),
    );
    let planted = planted.iter().map(|bug| {
        let caught = bug.invariant.map_or(String::new(), |n| format!(" (invariant {n})"));
        (bug.name.clone(), format!("{}{caught}", bug.about))
    });
    section(&mut text, "planted bugs (canary --bug)", planted);
    text
}

fn section(text: &mut String, title: &str, rows: impl IntoIterator<Item = (String, String)>) {
    let rows: Vec<_> = rows.into_iter().collect();
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let gap = if text.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{gap}{title}");
    for (name, about) in rows {
        let _ = writeln!(text, "  {name:<width$}  {about}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{InvariantInfo, NamedInfo, ScenarioInfo};

    #[test]
    fn a_list() {
        let named = |name: &str, about: &str| NamedInfo {
            name: name.into(),
            about: about.into(),
        };
        let catalog = Catalog {
            scenarios: vec![ScenarioInfo {
                name: "sequence-gap".into(),
                about: "events are lost in mid-stream".into(),
                ..ScenarioInfo::default()
            }],
            designs: vec![
                named("ledger", "absolute postings"),
                named("logged-rmw", "read, compute, write"),
            ],
            invariants: vec![InvariantInfo {
                number: 1,
                name: "conservation".into(),
                about: "sums agree".into(),
            }],
            faults: vec![named("pause", "a process stands still")],
            ..Catalog::default()
        };
        let planted = [Planted {
            name: "retry-fresh".into(),
            about: "retries restamp".into(),
            invariant: Some(2),
            ..Planted::default()
        }];
        insta::assert_snapshot!("list", as_text(&catalog, &planted));
        assert_eq!(as_json(&catalog, &planted)["planted"][0]["name"], "retry-fresh");
    }
}
