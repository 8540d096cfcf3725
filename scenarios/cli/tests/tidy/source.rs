//! Rules about one source file.

use crate::{
    Tree,
    lexer::{Kind, Token, path_lines, tokens},
};

/// The programs that run inside the simulator and outside it, and what they are made of.
pub const PROGRAMS: [&str; 3] = ["settlement/", "schema/", "scenarios/engine/"];

/// Longest source file, in lines; what does not fit is two things.
const LINES_MAX: usize = 800;

/// Files that may be longer, each with the reason.
const LONGER: [(&str, &str); 0] = [];

/// Where `unsafe` may stand; each place has a `// SAFETY:` comment (clippy) and a test.
const UNSAFE: [&str; 3] = ["sim/world/", "sim/tokio/", "scenarios/worker/"];

/// What the programs under simulation take from the facade or as a value instead.
const AMBIENT: [(&str, &str); 5] = [
    (
        "std::fs",
        "use `tokio::fs`, which is the host's simulated disk in the simulator",
    ),
    ("std::net::TcpStream", "use `tokio::net`"),
    ("std::net::TcpListener", "use `tokio::net`"),
    ("std::thread", "use `tokio::spawn`"),
    ("std::env", "take it from the configuration"),
];

/// A file says in its first lines what it is for and what it is not.
pub fn opens_with_docs(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let words = first.trim_start_matches("//!").split_whitespace().count();
    if first.starts_with("//!") && words >= 2 {
        Vec::new()
    } else {
        vec![format!(
            "{path}:1: opens with no `//!` paragraph saying what the file is for"
        )]
    }
}

/// No file is longer than a reader's patience.
pub fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX || LONGER.iter().any(|(longer, _)| *longer == path) {
        return Vec::new();
    }
    vec![format!(
        "{path}: {lines} lines, more than {LINES_MAX}: split it by what its parts are for"
    )]
}

/// An exemption from [`length`] that is no longer needed, or says no reason.
pub fn stale_exemptions(tree: &Tree) -> Vec<String> {
    let needed = |path: &str| tree.get(path).is_some_and(|text| text.lines().count() > LINES_MAX);
    LONGER
        .iter()
        .filter(|(path, why)| why.is_empty() || !needed(path))
        .map(|(path, _)| format!("the exemption of {path} is stale"))
        .collect()
}

/// Words that mark unfinished work, and traces of the machine it was written on. Spelled in halves, to pass themselves.
const BANNED: [(&str, &str); 9] = [
    (concat!("TO", "DO"), "finish it, or open an issue"),
    (concat!("FIX", "ME"), "finish it, or open an issue"),
    (concat!("XX", "X"), "finish it, or open an issue"),
    (concat!("to", "do!"), "finish it"),
    (
        concat!("un", "implemented!"),
        "finish it, or return an error that says what is not supported",
    ),
    (concat!("#[ig", "nore"), "a test that does not run is no test"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
];

/// No unfinished work and no paths of one machine, comments included.
pub fn banned_words(path: &str, text: &str) -> Vec<String> {
    let generated = path == "Cargo.lock" || path == "LICENSE-APACHE";
    let lines = text.lines().enumerate().filter(|_| !generated);
    lines
        .flat_map(|(i, line)| banned_in(line).map(move |(word, why)| format!("{path}:{}: `{word}`: {why}", i + 1)))
        .collect()
}

fn banned_in(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    BANNED
        .into_iter()
        .filter(move |(word, _)| line.match_indices(word).any(|(at, _)| stands_alone(line, at, word)))
}

/// Not the middle of a longer word: `FOOTODOBAR` is none of our business.
fn stands_alone(line: &str, at: usize, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let before = line[..at].chars().next_back().is_some_and(is_word);
    let after = line[at + word.len()..].chars().next().is_some_and(is_word);
    let (opens, closes) = (word.starts_with(is_word), word.ends_with(is_word));
    let part_of_a_word = opens && before || closes && after;
    !part_of_a_word
}

/// A simulated host restarts within one process, where a static or a thread local would survive it.
pub fn statics(path: &str, text: &str) -> Vec<String> {
    if !PROGRAMS.iter().any(|program| path.starts_with(program)) || !path.contains("/src/") {
        return Vec::new();
    }
    let found = tokens(text)
        .into_iter()
        .filter(|t| matches!(t.kind, Kind::Ident("static" | "thread_local" | "lazy_static")));
    found
        .map(|t| {
            format!(
                "{path}:{}: a static survives a simulated restart; keep the state in a value",
                t.line
            )
        })
        .collect()
}

/// The programs under simulation reach files, network, threads and environment only through the facade. Tests and the
/// thin `main.rs` may do otherwise.
pub fn ambient(path: &str, text: &str) -> Vec<String> {
    let program = PROGRAMS.iter().any(|program| path.starts_with(program)) && path.contains("/src/");
    if !program || path.ends_with("/main.rs") || path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let all = tokens(text);
    let code = &all[..test_module(&all)];
    let mut found = Vec::new();
    for (forbidden, instead) in AMBIENT {
        found.extend(
            path_lines(code, forbidden)
                .into_iter()
                .map(|line| format!("{path}:{line}: `{forbidden}`: {instead}")),
        );
    }
    found.extend(
        nested_imports(code)
            .into_iter()
            .map(|line| format!("{path}:{line}: import std's modules one by one, so that this rule can see them")),
    );
    found
}

/// The index of the `#[cfg(test)]` before a module, which by convention ends the file.
fn test_module(tokens: &[Token<'_>]) -> usize {
    let shape = [
        Kind::Ident("cfg"),
        Kind::Punct('('),
        Kind::Ident("test"),
        Kind::Punct(')'),
        Kind::Punct(']'),
        Kind::Ident("mod"),
    ];
    tokens
        .windows(shape.len())
        .position(|w| w.iter().map(|t| t.kind).eq(shape))
        .unwrap_or(tokens.len())
}

/// `use std::{…, fs, …}` would hide a module from [`path_lines`]; the line of each forbidden name in such a list.
fn nested_imports(tokens: &[Token<'_>]) -> Vec<usize> {
    let head = [
        Kind::Ident("use"),
        Kind::Ident("std"),
        Kind::Punct(':'),
        Kind::Punct(':'),
        Kind::Punct('{'),
    ];
    let mut found = Vec::new();
    for (start, _) in tokens
        .windows(head.len())
        .enumerate()
        .filter(|(_, w)| w.iter().map(|t| t.kind).eq(head))
    {
        let list = tokens[start..].iter().take_while(|t| t.kind != Kind::Punct(';'));
        found.extend(
            list.filter(|t| {
                matches!(
                    t.kind,
                    Kind::Ident("fs" | "thread" | "env" | "TcpStream" | "TcpListener")
                )
            })
            .map(|t| t.line),
        );
    }
    found
}

/// Memory safety is argued in three crates only.
pub fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    if UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
        return Vec::new();
    }
    let found = tokens(text).into_iter().filter(|t| t.kind == Kind::Ident("unsafe"));
    found
        .map(|t| format!("{path}:{}: `unsafe` belongs in {} only", t.line, UNSAFE.join(", ")))
        .collect()
}

#[test]
fn docs_must_come_first_and_say_something() {
    assert!(opens_with_docs("a.rs", "\n//! What it is for.\nfn f() {}").is_empty());
    for bad in [
        "",
        "fn f() {}",
        "/// Not inner.\nfn f() {}",
        "//!\n",
        "//! Placeholder.\n",
        "use x;\n//! Too late.",
    ] {
        assert_eq!(opens_with_docs("a.rs", bad).len(), 1, "{bad:?}");
    }
}

#[test]
fn long_files_are_found() {
    assert!(length("a.rs", &"\n".repeat(LINES_MAX)).is_empty());
    assert_eq!(length("a.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
}

#[test]
fn banned_words_are_found_where_they_stand_alone() {
    for (word, _) in BANNED {
        assert_eq!(
            banned_words("a.rs", &format!("fine\n// {word}: later")).len(),
            1,
            "{word}"
        );
        assert!(
            banned_words("a.rs", &format!("// {word}: later"))[0].starts_with("a.rs:1:"),
            "{word}"
        );
    }
    assert!(banned_words("a.rs", &format!("let A{}S = 1; {}_LIST", BANNED[0].0, BANNED[0].0)).is_empty());
    assert_eq!(
        banned_words("notes.md", &format!("{}(finish)", BANNED[3].0)).len(),
        1,
        "in every kind of file"
    );
}

#[test]
fn statics_are_found_and_static_lifetimes_are_not() {
    let bad = "static A: u8 = 1;\nfn f() { static B: u8 = 2; }\nthread_local! { static C: u8 = 3 }";
    assert_eq!(statics("settlement/src/a.rs", bad).len(), 4);
    assert!(statics("settlement/src/a.rs", "const A: &'static str = \"static\"; // static").is_empty());
    assert!(statics("scenarios/cli/src/a.rs", bad).is_empty(), "tools may");
    assert!(statics("settlement/tests/a.rs", bad).is_empty(), "tests may");
}

#[test]
fn ambient_inputs_are_found_outside_tests() {
    let path = "settlement/src/wal/file.rs";
    for bad in [
        "use std::fs;",
        "std::fs::read(x);",
        "use std::{fmt, fs};",
        "std::thread::current()",
        "use std::{net::{TcpStream}};",
        "std::env::args()",
    ] {
        assert_eq!(ambient(path, bad).len(), 1, "{bad}");
    }
    assert!(
        ambient(
            path,
            "use tokio::fs;\nuse std::net::SocketAddr;\n#[cfg(test)]\nmod tests { use std::fs; }"
        )
        .is_empty()
    );
    assert!(ambient("settlement/src/main.rs", "use std::env;").is_empty());
    assert!(
        ambient("scenarios/cli/src/a.rs", "use std::fs;").is_empty(),
        "tools may"
    );
}

#[test]
fn unsafe_code_is_found() {
    assert_eq!(unsafe_code("settlement/src/a.rs", "fn f() { unsafe { g() } }").len(), 1);
    assert!(unsafe_code("sim/world/src/a.rs", "unsafe { g() }").is_empty());
    assert!(unsafe_code("settlement/src/a.rs", "// unsafe\nlet unsafe_code = \"unsafe\";").is_empty());
}
