//! Planted bugs as files: `scenarios/planted/NAME.patch`, a unified diff against the tree with a header that says what the
//! bug is and which invariant must catch it.
//!
//! ```text
//! # about: retries get a fresh timestamp, so a late copy of an old row wins
//! # invariant: 2
//! # scenario: mid-batch-timeout, coordinator-loss
//! # design: ledger
//! # kindness: fsync-every-write
//! # seeds: 100
//! # tape: small-2021-04-12.csv
//! --- a/settlement/src/designs/ledger.rs
//! ```
//!
//! `design`, `seeds` and `tape` (a file beside the patch) may be left out. With `kindness` the bug must be caught without
//! it and must *not* be caught with it; such a file needs no diff, for then it is the kindness itself that hides a failure
//! of the design. This file reads and checks; it applies nothing.
use crate::problem::Problem;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One planted bug.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The file's name without its ending.
    pub name: String,
    /// One sentence.
    pub about: String,
    /// The invariant that must catch it.
    pub invariant: Option<u32>,
    /// The scenarios in which it must be caught.
    pub scenarios: Vec<String>,
    /// The design; empty for the default one.
    pub design: String,
    /// With this kindness of the cluster it must not be caught.
    pub kindness: Option<String>,
    /// Seeds within which it must be caught, if the file knows better than the command line.
    pub seeds: Option<u64>,
    /// The tape that drives the engine, if one does.
    pub tape: Option<PathBuf>,
    /// The file.
    pub path: PathBuf,
    /// Whether there is anything to apply.
    pub has_diff: bool,
}

/// Every planted bug of the tree, by name.
pub fn all(root: &Path) -> Result<Vec<Planted>, Problem> {
    let directory = root.join("scenarios/planted");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Problem::file("list", directory)(error)),
    };
    let mut planted = Vec::new();
    for entry in entries {
        let path = entry.map_err(Problem::file("list", &directory))?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let text = std::fs::read_to_string(&path).map_err(Problem::file("read", &path))?;
            planted.push(parse(&path, &text)?);
        }
    }
    planted.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(planted)
}

/// Reads one file's header.
pub fn parse(path: &Path, text: &str) -> Result<Planted, Problem> {
    let bad = |why: String| Problem::Content {
        path: path.to_path_buf(),
        why,
    };
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut bug = Planted {
        name,
        path: path.to_path_buf(),
        ..Planted::default()
    };
    let is_diff = |line: &&str| line.starts_with("--- ") || line.starts_with("diff ");
    for line in text.lines().take_while(|line| !is_diff(line)) {
        let Some(said) = line.strip_prefix('#') else {
            continue;
        };
        let Some((key, value)) = said.split_once(':') else {
            continue;
        };
        let value = value.trim().to_string();
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| bad(format!("`{}` is {value:?}, not a number", key.trim())))
        };
        match key.trim() {
            "about" => bug.about = value,
            "invariant" => bug.invariant = Some(u32::try_from(number()?).map_err(|e| bad(e.to_string()))?),
            "scenario" => bug.scenarios = value.split(',').map(|name| name.trim().to_string()).collect(),
            "design" => bug.design = value,
            "kindness" => bug.kindness = Some(value),
            "seeds" => bug.seeds = Some(number()?),
            "tape" => bug.tape = Some(path.with_file_name(value)),
            other => return Err(bad(format!("has an unknown header line `# {other}:`"))),
        }
    }
    bug.has_diff = text.lines().any(|line| is_diff(&line));
    let missing = [
        ("about", bug.about.is_empty()),
        ("invariant", bug.invariant.is_none()),
        ("scenario", bug.scenarios.is_empty()),
    ];
    if let Some((key, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(bad(format!("has no header line `# {key}: …` before its diff")));
    }
    if !bug.has_diff && bug.kindness.is_none() {
        return Err(bad(
            "has neither a diff nor a `# kindness:`, so it plants nothing".into()
        ));
    }
    Ok(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Planted, String> {
        parse(Path::new("scenarios/planted/late.patch"), text).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_header_says_everything() {
        let text = "# about: late\n# invariant: 2\n# scenario: a, b\n# design: ledger\n# kindness: k\n# seeds: 9\n\
                    # tape: t.csv\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+# invariant: 5\n";
        let bug = read(text).unwrap();
        assert_eq!(
            (bug.name.as_str(), bug.about.as_str(), bug.invariant),
            ("late", "late", Some(2))
        );
        assert_eq!(
            (bug.scenarios, bug.design),
            (vec!["a".to_string(), "b".to_string()], "ledger".to_string())
        );
        assert_eq!(
            (bug.kindness, bug.seeds, bug.has_diff),
            (Some("k".into()), Some(9), true)
        );
        assert_eq!(bug.tape, Some("scenarios/planted/t.csv".into()));
    }

    #[test]
    fn what_is_missing_or_odd_is_named() {
        let whole = "# about: x\n# invariant: 2\n# scenario: a\n--- a/x\n";
        assert!(read(whole).is_ok());
        assert!(
            read(&whole.replace("# invariant: 2\n", ""))
                .unwrap_err()
                .contains("# invariant:")
        );
        assert!(read(&whole.replace('2', "two")).unwrap_err().contains("not a number"));
        assert!(read(&whole.replace("about", "abuot")).unwrap_err().contains("# abuot:"));
        assert!(
            read(&whole.replace("--- a/x\n", ""))
                .unwrap_err()
                .contains("plants nothing")
        );
        assert!(read(&whole.replace("--- a/x\n", "# kindness: k\n")).is_ok_and(|bug| !bug.has_diff));
    }
}
