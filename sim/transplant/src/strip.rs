//! The head of a lib.rs, made fit for `include!`.
//!
//! An included file may carry neither inner doc comments nor inner attributes, and those of a crate stand before its
//! first item. They are removed here and nothing else is touched: line breaks stay, so that a panic or a backtrace names
//! the line of the published source. Attributes that change what the code means (`recursion_limit`, `feature`, `no_std`)
//! have to stand in our own lib.rs instead; [`missing_attributes`] says which do not.

/// The result of [`strip_head`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stripped {
    /// The text without inner docs and attributes; as many lines as before.
    pub body: String,
    /// The content of each removed `#![…]`, white space between tokens removed.
    pub attributes: Vec<String>,
}

/// Removes the inner docs and attributes before the first item. Never fails: what is not understood is left to the
/// compiler, which then refuses it.
pub fn strip_head(text: &str) -> Stripped {
    let mut body = String::with_capacity(text.len());
    let mut attributes = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    loop {
        let (taken, kind) = next_piece(rest);
        let (piece, after) = rest.split_at(taken);
        match kind {
            Piece::Kept => body.push_str(piece),
            Piece::Doc => keep_lines(&mut body, piece),
            Piece::Attribute => {
                keep_lines(&mut body, piece);
                attributes.push(normalise(attribute_content(piece)));
            }
            Piece::Item => {
                body.push_str(rest);
                return Stripped { body, attributes };
            }
        }
        rest = after;
    }
}

enum Piece {
    /// White space or an ordinary comment.
    Kept,
    /// An inner doc comment.
    Doc,
    /// An inner attribute.
    Attribute,
    /// The first item, or the end.
    Item,
}

/// The length and kind of what `text` begins with.
fn next_piece(text: &str) -> (usize, Piece) {
    let white = text.len() - text.trim_start().len();
    if white > 0 {
        return (white, Piece::Kept);
    }
    let line = text.find('\n').unwrap_or(text.len());
    if text.starts_with("//!") {
        return (line, Piece::Doc);
    }
    // `///` and `/**` document an item; four slashes and `/***` are ordinary comments again.
    if text.starts_with("//") && (!text.starts_with("///") || text.starts_with("////")) {
        return (line, Piece::Kept);
    }
    if text.starts_with("/*!") {
        return (block_comment(text), Piece::Doc);
    }
    let documents = text.starts_with("/**") && !text.starts_with("/***") && !text.starts_with("/**/");
    if text.starts_with("/*") && !documents {
        return (block_comment(text), Piece::Kept);
    }
    if let Some(length) = inner_attribute(text) {
        return (length, Piece::Attribute);
    }
    (0, Piece::Item)
}

/// The length of the (nesting) block comment that `text` begins with.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += char_len(here);
        }
    }
    text.len()
}

/// The length of the `#![…]` that `text` begins with, over as many lines as it takes.
fn inner_attribute(text: &str) -> Option<usize> {
    let open = text.strip_prefix('#')?.trim_start().strip_prefix('!')?.trim_start();
    if !open.starts_with('[') {
        return None;
    }
    let mut at = text.len() - open.len();
    let mut depth = 0;
    while at < text.len() {
        let here = &text[at..];
        if let Some(length) = literal_or_comment(here) {
            at += length;
            continue;
        }
        match here.as_bytes()[0] {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        at += char_len(here);
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The length of the string, character or comment that `text` begins with, if it does: brackets in them do not count.
fn literal_or_comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            return Some(
                text[start..]
                    .find(&close)
                    .map_or(text.len(), |end| start + end + close.len()),
            );
        }
    }
    match text.as_bytes().first() {
        Some(b'"') => Some(quoted(text, '"')),
        // 'x' and '\x', but not the lifetime 'a.
        Some(b'\'') if text[1..].starts_with('\\') || text[1..].chars().nth(1) == Some('\'') => {
            Some(quoted(text, '\''))
        }
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn char_len(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

fn keep_lines(body: &mut String, piece: &str) {
    body.extend(piece.chars().filter(|c| *c == '\n'));
}

fn attribute_content(piece: &str) -> &str {
    let open = piece.find('[').map_or(0, |at| at + 1);
    piece.get(open..piece.len() - 1).unwrap_or_default()
}

/// Without comments, and without white space outside literals.
fn normalise(text: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < text.len() {
        let here = &text[at..];
        let literal = literal_or_comment(here);
        let length = literal.unwrap_or_else(|| char_len(here));
        let piece = &here[..length];
        let comment = literal.is_some() && piece.starts_with('/');
        if !comment && (literal.is_some() || !piece.trim().is_empty()) {
            out.push_str(piece);
        }
        at += length;
    }
    out
}

/// The attributes of upstream that must stand in our lib.rs and do not. Lints, docs and what only rustdoc or tests see
/// may go; everything else, known or unknown, must be carried, plainly or within `cfg_attr(madsim, …)`.
pub fn missing_attributes(theirs: &[String], ours: &[String]) -> Vec<String> {
    let mut carried: Vec<&str> = Vec::new();
    for attribute in ours {
        match cfg_attr(attribute) {
            Some(("madsim", attributes)) => carried.extend(attributes),
            _ => carried.push(attribute),
        }
    }
    theirs
        .iter()
        .filter(|a| !may_be_dropped(a) && !carried.contains(&a.as_str()))
        .cloned()
        .collect()
}

fn may_be_dropped(attribute: &str) -> bool {
    const DROPPED: [&str; 6] = ["doc", "allow", "expect", "warn", "deny", "forbid"];
    const UNSEEN: [&str; 6] = ["docsrs", "doc", "doctest", "test", "doc_auto_cfg", "miri"];
    if let Some((predicate, attributes)) = cfg_attr(attribute) {
        return UNSEEN.contains(&predicate) || attributes.iter().all(|a| may_be_dropped(a));
    }
    let end = attribute
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(attribute.len());
    DROPPED.contains(&&attribute[..end]) || attribute.starts_with("rustfmt::") || attribute.starts_with("clippy::")
}

/// Splits a normalised `cfg_attr(predicate,attribute,…)`.
fn cfg_attr(attribute: &str) -> Option<(&str, Vec<&str>)> {
    let inside = attribute.strip_prefix("cfg_attr(")?.strip_suffix(')')?;
    let mut parts = Vec::new();
    let (mut start, mut at, mut depth) = (0, 0, 0);
    while at < inside.len() {
        let here = &inside[at..];
        let length = literal_or_comment(here).unwrap_or_else(|| char_len(here));
        match here.as_bytes()[0] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += length;
    }
    if start < inside.len() {
        parts.push(&inside[start..]);
    }
    let (predicate, attributes) = parts.split_first()?;
    Some((predicate, attributes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> (String, Vec<String>) {
        let result = strip_head(text);
        assert_eq!(
            result.body.matches('\n').count(),
            text.matches('\n').count(),
            "line numbers must not move"
        );
        (result.body, result.attributes)
    }

    #[test]
    fn inner_docs_and_attributes_go_and_lines_stay() {
        let (body, attributes) = stripped("//! Docs.\n#![recursion_limit = \"1024\"]\n\nmod a;\n");
        assert_eq!(body, "\n\n\nmod a;\n");
        assert_eq!(attributes, ["recursion_limit=\"1024\""]);
    }

    #[test]
    fn attributes_over_several_lines_go_whole() {
        let (body, attributes) =
            stripped("#![deny(\n    missing_docs, // ] not the end\n    unsafe_code,\n)]\nmod a;\n");
        assert_eq!(body, "\n\n\n\nmod a;\n");
        assert_eq!(attributes, ["deny(missing_docs,unsafe_code,)"]);
    }

    #[test]
    fn brackets_in_literals_do_not_end_an_attribute() {
        let (body, attributes) = stripped("#![doc = \"a ] \\\" b\"]#![doc = r#\"c ]\" d\"#]\nmod a;\n");
        assert_eq!(body, "\nmod a;\n");
        assert_eq!(attributes, ["doc=\"a ] \\\" b\"", "doc=r#\"c ]\" d\"#"]);
    }

    #[test]
    fn only_the_head_is_touched() {
        let text = "mod a {\n    //! Inner docs of a module.\n    #![doc = include_str!(\"x.md\")]\n}\n";
        assert_eq!(stripped(text), (text.to_owned(), Vec::new()));
    }

    #[test]
    fn ordinary_comments_stay_and_the_docs_of_an_item_end_the_head() {
        let text =
            "// Copyright.\n/* more /* nested */ */\n#![no_std]\n/// An item.\n//! not ours to judge\nstruct A;\n";
        let (body, attributes) = stripped(text);
        assert_eq!(body, text.replace("#![no_std]", ""));
        assert_eq!(attributes, ["no_std"]);
    }

    #[test]
    fn block_docs_go() {
        assert_eq!(stripped("/*! a\n b */ mod c;").0, "\n mod c;");
    }

    #[test]
    fn an_outer_attribute_is_an_item() {
        let text = "#[cfg(test)]\n#![allow(x)]\nmod a;";
        assert_eq!(stripped(text), (text.to_owned(), Vec::new()));
    }

    #[test]
    fn broken_or_empty_text_is_left_to_the_compiler() {
        for text in ["", "\n", "#![allow(", "/*! never closed", "//! only docs", "#!"] {
            strip_head(text);
        }
        assert_eq!(stripped("#![allow(").0, "#![allow(");
    }

    fn owned(attributes: &[&str]) -> Vec<String> {
        attributes.iter().map(|a| normalise(a)).collect()
    }

    #[test]
    fn what_changes_meaning_must_be_carried() {
        let theirs = owned(&[
            "recursion_limit = \"1024\"",
            "feature(never_type)",
            "no_std",
            "some_new_attribute",
        ]);
        assert_eq!(missing_attributes(&theirs, &[]), theirs);
        let ours = owned(&[
            "cfg_attr(madsim, recursion_limit = \"1024\", feature(never_type))",
            "no_std",
        ]);
        assert_eq!(missing_attributes(&theirs, &ours), ["some_new_attribute"]);
        let other = owned(&["cfg_attr(madsim, recursion_limit = \"512\")"]);
        assert_eq!(
            missing_attributes(&theirs[..1], &other),
            ["recursion_limit=\"1024\""],
            "another value is not the same attribute"
        );
    }

    #[test]
    fn lints_and_docs_may_go() {
        let theirs = owned(&[
            "allow(dead_code)",
            "deny(missing_docs)",
            "doc(html_root_url = \"x\")",
            "cfg_attr(docsrs, feature(doc_cfg))",
            "cfg_attr(not(feature = \"x\"), allow(dead_code), warn(unused))",
            "rustfmt::skip",
        ]);
        assert!(missing_attributes(&theirs, &[]).is_empty());
        let theirs = owned(&["cfg_attr(not(feature = \"std\"), no_std)"]);
        assert_eq!(missing_attributes(&theirs, &[]), theirs);
    }
}
