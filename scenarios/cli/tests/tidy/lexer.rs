//! Just enough of Rust's tokens for the tidy rules: identifiers, strings and punctuation with their lines, without
//! comments. It is no parser; what it gets wrong in odd code, it gets wrong loudly, as a violation that names the line.

/// A token and the line it begins on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind<'a>,
    pub line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    Ident(&'a str),
    /// The content of a string literal, escapes as written.
    Str(&'a str),
    /// A lifetime, a character or a number: no rule looks at them.
    Other,
    Punct(char),
}

/// The tokens of `text`.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let (length, kind) = next(&text[at..]);
        if let Some(kind) = kind {
            tokens.push(Token { kind, line });
        }
        line += text[at..at + length].matches('\n').count();
        at += length;
    }
    tokens
}

fn next(text: &str) -> (usize, Option<Kind<'_>>) {
    let first = text.chars().next().unwrap_or(' ');
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), None);
    }
    if text.starts_with("/*") {
        return (block_comment(text), None);
    }
    if let Some((length, content)) = string(text) {
        return (length, Some(Kind::Str(content)));
    }
    if first == '\'' {
        return (quote(text), Some(Kind::Other));
    }
    if first.is_alphanumeric() || first == '_' {
        let length = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let kind = if first.is_ascii_digit() {
            Kind::Other
        } else {
            Kind::Ident(&text[..length])
        };
        return (length, Some(kind));
    }
    (first.len_utf8(), Some(Kind::Punct(first)))
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
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
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A string literal of any kind: its length and its content.
fn string(text: &str) -> Option<(usize, &str)> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).unwrap_or_default();
        rest.starts_with('"')
            || (prefix.ends_with('r') && rest.trim_start_matches('#').starts_with('"') && rest.starts_with('#'))
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        let end = text[start..].find(&close).map_or(text.len(), |end| start + end);
        return Some(((end + close.len()).min(text.len()), &text[start..end]));
    }
    let start = prefix.len() + 1;
    let end = start + escaped_end(&text[start..], '"');
    Some(((end + 1).min(text.len()), &text[start..end]))
}

/// Where the unescaped `quote` stands, or the end.
fn escaped_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal or a lifetime.
fn quote(text: &str) -> usize {
    let rest = &text[1..];
    let is_char = rest.starts_with('\\') || rest.chars().nth(1) == Some('\'');
    if is_char {
        return (1 + escaped_end(rest, '\'') + 1).min(text.len());
    }
    1 + rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len())
}

/// Where `path`, given as identifiers joined by `::`, stands in the tokens; also as the head of a longer path.
pub fn path_lines(tokens: &[Token<'_>], path: &str) -> Vec<usize> {
    let mut wanted = Vec::new();
    for (i, part) in path.split("::").enumerate() {
        if i > 0 {
            wanted.extend([Kind::Punct(':'), Kind::Punct(':')]);
        }
        wanted.push(Kind::Ident(part));
    }
    tokens
        .windows(wanted.len())
        .filter(|w| w.iter().map(|t| t.kind).eq(wanted.iter().copied()))
        .map(|w| w[0].line)
        .collect()
}

#[test]
fn comments_and_literals_are_no_identifiers() {
    let text = "let a = \"static b\"; // static c\n/* static /* d */ */ 'static r#\"static\"# 'x' '\\'' b\"e\" f\n";
    let idents: Vec<_> = tokens(text)
        .into_iter()
        .filter_map(|t| matches!(t.kind, Kind::Ident(_)).then_some((t.kind, t.line)))
        .collect();
    assert_eq!(
        idents,
        [(Kind::Ident("let"), 1), (Kind::Ident("a"), 1), (Kind::Ident("f"), 2)]
    );
}

#[test]
fn strings_keep_their_content() {
    let strings: Vec<_> = tokens("\"a\\\"b\" r##\"c\"#d\"## b\"\" rest")
        .into_iter()
        .map(|t| t.kind)
        .collect();
    assert_eq!(
        strings,
        [
            Kind::Str("a\\\"b"),
            Kind::Str("c\"#d"),
            Kind::Str(""),
            Kind::Ident("rest")
        ]
    );
}

#[test]
fn unfinished_text_ends() {
    for text in ["\"abc", "r#\"abc", "/* abc", "'", "'\\", "// abc", "b\""] {
        tokens(text);
    }
}

#[test]
fn paths_are_found_across_white_space() {
    let tokens = tokens("use std :: fs;\nstd::fs::read();\nmystd::fs; std::fsx");
    assert_eq!(path_lines(&tokens, "std::fs"), [1, 2]);
}
