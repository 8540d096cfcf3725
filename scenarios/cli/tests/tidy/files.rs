//! Rules about which files there are and whether anything leads to them.

use std::collections::BTreeSet;

use crate::{
    Tree,
    lexer::{Kind, Token, tokens},
};

/// Everything at the root. Adding a name here is a decision about the layout (ARCHITECTURE.md), not a formality.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".editorconfig",
    ".github",
    ".gitignore",
    ".helix",
    ".vscode",
    ".zed",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "ci",
    "clippy.toml",
    "deny.toml",
    "faults",
    "rustfmt.toml",
    "scenarios",
    "schema",
    "settlement",
    "sim",
];

/// The root holds these names, all of them, and no others.
pub fn top_level(names: &[String]) -> Vec<String> {
    let expected: BTreeSet<&str> = TOP_LEVEL.iter().copied().collect();
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let extra = names
        .difference(&expected)
        .map(|name| format!("{name}: not part of the top level; move it into a folder of the layout"));
    let missing = expected
        .difference(&names)
        .map(|name| format!("{name}: missing from the top level"));
    extra.chain(missing).collect()
}

/// Every Rust file below a package is reached from one of its targets through `mod`, `#[path]` or `include!`.
pub fn dead(tree: &Tree) -> Vec<String> {
    let packages: Vec<&str> = tree
        .keys()
        .filter_map(|path| path.strip_suffix("/Cargo.toml"))
        .collect();
    let sources: BTreeSet<&str> = tree
        .keys()
        .map(String::as_str)
        .filter(|path| path.ends_with(".rs"))
        .collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = sources
        .iter()
        .filter(|path| is_target(path, &packages))
        .map(|path| (*path).to_owned())
        .collect();
    while let Some(path) = open.pop() {
        if let Some(text) = tree.get(&path)
            && reached.insert(path.clone())
        {
            open.extend(leads_to(&path, text, is_target(&path, &packages)));
        }
    }
    sources
        .into_iter()
        .filter(|path| !reached.contains(*path))
        .map(|path| format!("{path}: nothing leads to this file"))
        .collect()
}

/// The files that cargo builds by itself.
fn is_target(path: &str, packages: &[&str]) -> bool {
    let package = packages
        .iter()
        .filter(|p| path.starts_with(&format!("{p}/")))
        .max_by_key(|p| p.len());
    let Some(inside) = package.map(|p| &path[p.len() + 1..]) else {
        return false;
    };
    let parts: Vec<&str> = inside.split('/').collect();
    matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["src", "bin", _, "main.rs"]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
    )
}

/// The files that `text` names, each in both forms that a module may have.
fn leads_to(path: &str, text: &str, is_target: bool) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let own = if is_target || stem == "mod" {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut found = Vec::new();
    // The braces around this token: the name of an inline module, or none for any other block.
    let mut blocks: Vec<Option<&str>> = Vec::new();
    let tokens = tokens(text);
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punct('{') => blocks.push(inline_module(&tokens[..i])),
            Kind::Punct('}') => {
                blocks.pop();
            }
            Kind::Ident("mod") => {
                if let [
                    Token {
                        kind: Kind::Ident(name),
                        ..
                    },
                    Token {
                        kind: Kind::Punct(';'), ..
                    },
                    ..,
                ] = &tokens[i + 1..]
                {
                    let inner: String = blocks.iter().flatten().map(|module| format!("/{module}")).collect();
                    match stated_path(&tokens[..i]) {
                        // Within inline modules `#[path]` is relative to their folder; outside, to this file's.
                        Some(stated) if inner.is_empty() => found.push(normal(&format!("{folder}/{stated}"))),
                        Some(stated) => found.push(normal(&format!("{own}{inner}/{stated}"))),
                        None => {
                            found.extend([format!("{own}{inner}/{name}.rs"), format!("{own}{inner}/{name}/mod.rs")])
                        }
                    }
                }
            }
            Kind::Ident("include") => {
                if let Some(Token {
                    kind: Kind::Str(included),
                    ..
                }) = tokens.get(i + 3)
                {
                    found.push(normal(&format!("{folder}/{included}")));
                }
            }
            _ => {}
        }
    }
    found
}

/// The name of the module whose block opens after `before`.
fn inline_module<'a>(before: &[Token<'a>]) -> Option<&'a str> {
    match before {
        [
            ..,
            Token {
                kind: Kind::Ident("mod"),
                ..
            },
            Token {
                kind: Kind::Ident(name),
                ..
            },
        ] => Some(name),
        _ => None,
    }
}

/// The string of a `#[path = "…"]` among the attributes and visibility directly before `mod`.
fn stated_path<'a>(before: &[Token<'a>]) -> Option<&'a str> {
    let start = before
        .iter()
        .rposition(|t| matches!(t.kind, Kind::Punct(';' | '{' | '}')))
        .map_or(0, |at| at + 1);
    before[start..]
        .windows(3)
        .find_map(|w| match (w[0].kind, w[1].kind, w[2].kind) {
            (Kind::Ident("path"), Kind::Punct('='), Kind::Str(path)) => Some(path),
            _ => None,
        })
}

/// Without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Whether `path` is a script of ours.
pub fn is_script(path: &str) -> bool {
    path.ends_with(".sh") || ["ci/", ".ci/"].iter().any(|folder| path.starts_with(folder))
}

/// A script is executable, says what runs it and what it is for, and stops at the first error and unset variable.
pub fn script(path: &str, text: &str, executable: bool) -> Vec<String> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    let mut insist = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{path}: {what}"));
        }
    };
    // What ends in .sh is sourced by the others.
    insist(executable || path.ends_with(".sh"), "not executable");
    insist(
        lines.next() == Some("#!/usr/bin/env bash"),
        "must begin with #!/usr/bin/env bash",
    );
    insist(
        lines
            .next()
            .is_some_and(|line| line.starts_with("# ") && line.len() > 10),
        "must say in its second line what it is for",
    );
    insist(
        text.lines().any(|line| line == "set -euo pipefail"),
        "must `set -euo pipefail`",
    );
    found
}

/// Links within the repository lead to files.
pub fn links(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !exists(&normal(&format!("{folder}/{target}"))) {
                found.push(format!("{path}:{}: the link to {target} leads nowhere", i + 1));
            }
        }
    }
    found
}

#[cfg(test)]
fn tree_of(files: &[(&str, &str)]) -> Tree {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn a_stray_and_a_missing_name_are_found() {
    let all: Vec<String> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(top_level(&all), Vec::<String>::new());
    assert_eq!(top_level(&all[1..]).len(), 1);
    assert_eq!(top_level(&[all, vec!["notes.txt".into()]].concat()).len(), 1);
}

#[test]
fn a_file_that_nothing_reaches_is_found() {
    let tree = tree_of(&[
        ("a/Cargo.toml", ""),
        ("a/build.rs", ""),
        (
            "a/src/lib.rs",
            "mod b;\npub mod c { mod d; fn f() { if x { } } mod e; }\n#[path = \"../../shared.rs\"]\nmod s;\nmod text { }",
        ),
        ("a/src/b.rs", "mod inner; include!(\"table.rs\");"),
        ("a/src/b/inner.rs", ""),
        ("a/src/table.rs", ""),
        ("a/src/c/d.rs", ""),
        ("a/src/c/e/mod.rs", "mod f;"),
        ("a/src/c/e/f.rs", ""),
        ("shared.rs", ""),
        ("a/tests/whole/main.rs", "mod part;"),
        ("a/tests/whole/part.rs", ""),
        ("a/src/bin/tool.rs", ""),
        ("a/src/dead.rs", "mod dead2;"),
        ("a/src/dead/dead2.rs", ""),
        ("a/src/b/commented.rs", "// mod commented;"),
    ]);
    let found = dead(&tree);
    let names: Vec<_> = found
        .iter()
        .map(|line| line.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(names, ["a/src/b/commented.rs", "a/src/dead.rs", "a/src/dead/dead2.rs"]);
}

#[test]
fn a_careless_script_is_found() {
    let good = "#!/usr/bin/env bash\n# Runs the tests.\nset -euo pipefail\n";
    assert_eq!(script("ci/a", good, true), Vec::<String>::new());
    assert_eq!(script("ci/a", good, false).len(), 1);
    assert_eq!(
        script("ci/a", &good.replace("set -euo pipefail", "set -e"), true).len(),
        1
    );
    assert_eq!(script("ci/a", &good.replace("# Runs the tests.\n", ""), true).len(), 1);
    assert_eq!(
        script("ci/a", &good.replace("/usr/bin/env bash", "/bin/sh"), true).len(),
        1
    );
    assert!(is_script("ci/test") && is_script(".ci/run") && !is_script("README.md"));
}

#[test]
fn a_broken_link_is_found() {
    let exists = |path: &str| path == "docs/a.md" || path == "README.md";
    let text = "[a](a.md) [up](../README.md#part) [out](https://example.org/x.md) [here](#part)\n[gone](b.md)";
    assert_eq!(
        links("docs/index.md", text, &exists),
        ["docs/index.md:2: the link to b.md leads nowhere"]
    );
}
