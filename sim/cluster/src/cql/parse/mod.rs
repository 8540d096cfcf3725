//! CQL text into the syntax tree of `ast`, by recursive descent. The grammar is the part of CQL that the simulated
//! cluster carries out; what real CQL has beyond it is recognised and refused by name ([`ParseError::Unsupported`]),
//! so that nobody takes a missing feature for a syntax error of their own. Nothing here knows a schema.

pub mod ast;
mod ddl;
mod dml;
mod index;
mod lexer;
pub mod roles;
mod select;
#[cfg(test)]
mod tests;
mod views;

use ast::{Describe, Literal, Parsed, Statement, TableName, Term};
use lexer::{Kind, Token};
use thiserror::Error;

/// Why a text is not a statement this cluster executes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// It is not CQL; answered with ERROR 0x2000.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// It parses, and is refused by the grammar all the same; answered with ERROR 0x2000.
    #[error("{0}")]
    Grammar(String),
    /// It is CQL that makes no sense whatever the schema; answered with ERROR 0x2200.
    #[error("{0}")]
    Invalid(String),
    /// It is CQL the simulated cluster does not carry out; answered with ERROR 0x2200.
    #[error("quench: not supported by the simulated cluster: {0}")]
    Unsupported(String),
}

/// A syntax error, with the text real servers print.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}:{column} {what}{snippet}")]
pub struct SyntaxError {
    /// Line from 1; 0 for an empty text.
    pub line: usize,
    /// Column from 0 in characters; -1 for an empty text.
    pub column: i64,
    /// What is wrong there.
    pub what: String,
    /// The neighbourhood with the offending token in brackets, with a leading blank, or nothing.
    pub snippet: String,
}

impl SyntaxError {
    fn at(text: &str, byte: usize, what: &str) -> Self {
        let before = &text[..byte];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let column = before[line_start..].chars().count() as i64;
        Self {
            line,
            column,
            what: what.to_string(),
            snippet: String::new(),
        }
    }
}

/// Tokens before the offending one that a syntax error shows (C `ErrorCollector.FIRST_TOKEN_OFFSET`).
const SNIPPET_TOKENS: usize = 10;
/// Nesting of terms and types at most; a bound because the descent is recursive.
const DEPTH_MAX: usize = 64;
/// Bytes of a statement's text at most; a text near the frame limit would cost seconds and no schema needs it.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Words that cannot be names without double quotes (CQL reference, appendix A).
const RESERVED: [&str; 57] = [
    "add",
    "allow",
    "alter",
    "and",
    "apply",
    "asc",
    "authorize",
    "batch",
    "begin",
    "by",
    "columnfamily",
    "create",
    "delete",
    "desc",
    "describe",
    "drop",
    "entries",
    "execute",
    "from",
    "full",
    "grant",
    "if",
    "in",
    "index",
    "infinity",
    "insert",
    "into",
    "is",
    "keyspace",
    "limit",
    "materialized",
    "modify",
    "nan",
    "norecursive",
    "not",
    "null",
    "of",
    "on",
    "or",
    "order",
    "primary",
    "rename",
    "replace",
    "revoke",
    "schema",
    "select",
    "set",
    "table",
    "to",
    "token",
    "truncate",
    "unlogged",
    "update",
    "use",
    "using",
    "view",
    "where",
];

/// Whether a word cannot be a name without double quotes.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Parses one statement, with or without a final semicolon.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(text: &str) -> Result<Parsed, ParseError> {
    parse_as(text, Markers::Apart)
}

/// What bind markers of one name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    /// A variable each: Cassandra.
    Apart,
    /// One variable: ScyllaDB (`cql_duplicate_bind_variable_names_refer_to_same_variable`, true by default).
    Shared,
}

/// As [`parse`], of a server that takes markers of one name like this.
///
/// # Errors
/// See [`ParseError`].
pub fn parse_as(text: &str, same_name: Markers) -> Result<Parsed, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError::Unsupported(format!(
            "a statement text of {} bytes (at most {TEXT_BYTES_MAX})",
            text.len()
        )));
    }
    let tokens = lexer::lex(text)?;
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        markers: Vec::new(),
        same_name,
    };
    let statement = parser.statement()?;
    while parser.accept(";") {}
    if parser.peek() != &Kind::End {
        return Err(parser.mismatched("EOF").into());
    }
    Ok(Parsed {
        statement,
        markers: parser.markers,
    })
}

type Parse<T> = Result<T, ParseError>;

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    markers: Vec<Option<String>>,
    same_name: Markers,
}

/// Primitives shared by the grammar files.
impl Parser<'_> {
    fn peek(&self) -> &Kind {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Kind {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        if self.at < self.tokens.len() - 1 {
            self.at += 1;
        }
        kind
    }

    /// Whether the token `ahead` is the unquoted word `keyword` (given in lower case).
    fn is_keyword_at(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.peek_at(ahead), Kind::Word(w) if w.eq_ignore_ascii_case(keyword))
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        self.is_keyword_at(0, keyword)
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Kind::Symbol(s) if *s == symbol)
    }

    /// Takes the words if all of them stand here in a row.
    fn accept_words(&mut self, words: &[&str]) -> bool {
        let here = words.iter().enumerate().all(|(i, w)| self.is_keyword_at(i, w));
        if here {
            self.at += words.len();
        }
        here
    }

    fn accept_word(&mut self, word: &str) -> bool {
        self.accept_words(&[word])
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let here = self.is_symbol(symbol);
        if here {
            self.at += 1;
        }
        here
    }

    fn expect_word(&mut self, word: &str) -> Parse<()> {
        if self.accept_word(word) {
            Ok(())
        } else {
            Err(self.mismatched(&format!("K_{}", word.to_uppercase())).into())
        }
    }

    fn expect(&mut self, symbol: &str) -> Parse<()> {
        if self.accept(symbol) {
            Ok(())
        } else {
            Err(self.mismatched(&format!("'{symbol}'")).into())
        }
    }

    fn token_text(&self, token: usize) -> &str {
        let t = &self.tokens[token.min(self.tokens.len() - 1)];
        match &t.kind {
            Kind::End => "<EOF>",
            Kind::Str(inside) => inside,
            _ => &self.text[t.start..t.end],
        }
    }

    fn no_alternative(&self) -> SyntaxError {
        let what = format!("no viable alternative at input '{}'", self.token_text(self.at));
        self.error_here(&what)
    }

    /// The token behind this one makes the choice impossible that begins here.
    fn no_alternative_behind(&self) -> SyntaxError {
        let what = format!("no viable alternative at input '{}'", self.token_text(self.at + 1));
        self.error_between(&what, self.at, self.at + 1)
    }

    fn no_alternative_for_term(&self) -> ParseError {
        match self.peek_at(1) {
            Kind::End | Kind::Symbol(_) => self.no_alternative().into(),
            _ => self.no_alternative_behind().into(),
        }
    }

    fn mismatched(&self, expected: &str) -> SyntaxError {
        let what = format!("mismatched input '{}' expecting {expected}", self.token_text(self.at));
        self.error_here(&what)
    }

    fn error_here(&self, what: &str) -> SyntaxError {
        self.error_between(what, self.at, self.at)
    }

    /// What is wrong at token `seen`, with `chosen`, where the parser stood, in brackets. As C's `ErrorCollector` does it
    /// (seen): ten tokens before, blanks counted, and none behind the last it looked at.
    fn error_between(&self, what: &str, chosen: usize, seen: usize) -> SyntaxError {
        let last = self.tokens.len() - 1;
        if seen >= last {
            return SyntaxError {
                line: 0,
                column: -1,
                what: what.into(),
                snippet: String::new(),
            };
        }
        let mut error = SyntaxError::at(self.text, self.tokens[seen].start, what);
        let start = self.snippet_start(chosen);
        let lead = if start > self.tokens[0].start { "..." } else { "" };
        let t = &self.tokens[chosen];
        // A constant's token begins with its quote, and has its text from elsewhere.
        let end = if matches!(t.kind, Kind::Str(_)) {
            t.start + 1
        } else {
            t.end
        };
        let shown = self.tokens[seen].end.max(end);
        let shown = if seen > chosen { shown } else { end };
        let tail = if shown < self.tokens[last - 1].end { "..." } else { "" };
        error.snippet = format!(
            " ({lead}{}[{}]{}{tail})",
            &self.text[start..t.start],
            &self.text[t.start..end],
            &self.text[end..shown],
        );
        error
    }

    /// The byte at which a snippet before this token begins.
    fn snippet_start(&self, token: usize) -> usize {
        let (mut left, mut at) = (SNIPPET_TOKENS, token);
        let mut start = self.tokens[token].start;
        while left > 0 && at > 0 {
            let before = &self.tokens[at - 1];
            if before.end < start {
                // Blanks between two tokens are a token of their own.
                start = before.end;
            } else {
                at -= 1;
                start = before.start;
            }
            left -= 1;
        }
        start
    }

    /// A name: an unreserved word in lower case, or a quoted identifier as it is.
    fn name(&mut self) -> Parse<String> {
        let name = match self.peek() {
            Kind::Word(w) => {
                let lower = w.to_ascii_lowercase();
                if RESERVED.contains(&lower.as_str()) {
                    return Err(self.no_alternative().into());
                }
                lower
            }
            Kind::Quoted(q) => q.clone(),
            _ => return Err(self.no_alternative().into()),
        };
        self.at += 1;
        Ok(name)
    }

    fn table_name(&mut self) -> Parse<TableName> {
        let first = self.name()?;
        if self.accept(".") {
            return Ok(TableName {
                keyspace: Some(first),
                table: self.name()?,
            });
        }
        Ok(TableName {
            keyspace: None,
            table: first,
        })
    }

    /// `item (, item)*`
    fn comma_list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        let mut list = vec![item(self)?];
        while self.accept(",") {
            list.push(item(self)?);
        }
        Ok(list)
    }

    /// `( item (, item)* )`
    fn parenthesised<T>(&mut self, item: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        self.expect("(")?;
        let list = self.comma_list(item)?;
        self.expect(")")?;
        Ok(list)
    }

    fn marker(&mut self, name: Option<String>) -> Term {
        let earlier = || self.markers.iter().position(|marker| *marker == name);
        if let Some(at) = earlier().filter(|_| name.is_some() && self.same_name == Markers::Shared) {
            return Term::Marker(at);
        }
        self.markers.push(name);
        Term::Marker(self.markers.len() - 1)
    }

    fn term(&mut self) -> Parse<Term> {
        self.term_at(0)
    }

    fn term_at(&mut self, depth: usize) -> Parse<Term> {
        if depth > DEPTH_MAX {
            return Err(ParseError::Invalid(format!("values nested deeper than {DEPTH_MAX}")));
        }
        match self.peek().clone() {
            Kind::Symbol("?") => {
                self.at += 1;
                Ok(self.marker(None))
            }
            Kind::Symbol(":") => {
                self.at += 1;
                let name = self.name()?;
                Ok(self.marker(Some(name)))
            }
            Kind::Symbol("[") => {
                self.at += 1;
                let items = self.items_until("]", depth)?;
                Ok(Term::List(items))
            }
            Kind::Symbol("{") => {
                self.at += 1;
                self.braces(depth)
            }
            Kind::Symbol("(") => self.tuple_or_cast(depth),
            Kind::Word(w) if w.eq_ignore_ascii_case("null") => {
                self.at += 1;
                Ok(Term::Null)
            }
            Kind::Word(w) if !self.is_constant_word(&w) => {
                if matches!(self.peek_at(1), Kind::Symbol("(")) {
                    return self.call(depth);
                }
                // What stands behind decides for real servers that this is no term.
                Err(self.no_alternative_for_term())
            }
            _ => self.literal().map(Term::Literal),
        }
    }

    fn is_constant_word(&self, word: &str) -> bool {
        ["true", "false", "nan", "infinity"]
            .iter()
            .any(|c| word.eq_ignore_ascii_case(c))
    }

    fn literal(&mut self) -> Parse<Literal> {
        let literal = match self.peek().clone() {
            Kind::Str(s) => Literal::Str(s),
            Kind::Integer(s) => Literal::Integer(s),
            Kind::Float(s) => Literal::Float(s),
            Kind::Uuid(s) => Literal::Uuid(s),
            Kind::Hex(s) => Literal::Hex(s),
            Kind::Duration(s) => Literal::Duration(s),
            Kind::Word(w) if w.eq_ignore_ascii_case("true") => Literal::Boolean(true),
            Kind::Word(w) if w.eq_ignore_ascii_case("false") => Literal::Boolean(false),
            Kind::Word(w) if self.is_constant_word(&w) => Literal::Float(w),
            Kind::Symbol("-") if self.is_constant_word_at(1) => {
                self.at += 1;
                Literal::Float(format!("-{}", self.token_text(self.at)))
            }
            _ => return Err(self.no_alternative().into()),
        };
        self.at += 1;
        Ok(literal)
    }

    fn is_constant_word_at(&self, ahead: usize) -> bool {
        self.is_keyword_at(ahead, "nan") || self.is_keyword_at(ahead, "infinity")
    }

    fn items_until(&mut self, close: &str, depth: usize) -> Parse<Vec<Term>> {
        if self.accept(close) {
            return Ok(Vec::new());
        }
        let items = self.comma_list(|p| p.term_at(depth + 1))?;
        self.expect(close)?;
        Ok(items)
    }

    /// `function(a, b)` as a value.
    fn call(&mut self, depth: usize) -> Parse<Term> {
        let Kind::Word(function) = self.next() else {
            return Err(self.no_alternative().into());
        };
        self.expect("(")?;
        let arguments = self.items_until(")", depth)?;
        Ok(Term::Call(function.to_ascii_lowercase(), arguments))
    }

    /// `(a, b)`, or `(type) term`.
    fn tuple_or_cast(&mut self, depth: usize) -> Parse<Term> {
        self.expect("(")?;
        let is_type = match (self.peek(), self.peek_at(1)) {
            (Kind::Word(w), Kind::Symbol(")")) => !self.is_constant_word(w) && !w.eq_ignore_ascii_case("null"),
            (Kind::Word(_), Kind::Symbol("<")) => true,
            _ => false,
        };
        if is_type {
            let ty = self.cql_type(depth + 1)?;
            self.expect(")")?;
            return Ok(Term::Cast(Box::new(ty), Box::new(self.term_at(depth + 1)?)));
        }
        let items = self.comma_list(|p| p.term_at(depth + 1))?;
        self.expect(")")?;
        Ok(Term::Tuple(items))
    }

    /// Whether `{field: …` stands here.
    fn is_field(&self) -> bool {
        let is_name = match self.peek() {
            Kind::Quoted(_) => true,
            Kind::Word(w) => !self.is_constant_word(w) && !w.eq_ignore_ascii_case("null"),
            _ => false,
        };
        is_name && matches!(self.peek_at(1), Kind::Symbol(":"))
    }

    fn braces(&mut self, depth: usize) -> Parse<Term> {
        if self.accept("}") {
            return Ok(Term::Set(Vec::new()));
        }
        if self.is_field() {
            let fields = self.comma_list(|p| {
                let name = p.name()?;
                p.expect(":")?;
                Ok((name, p.term_at(depth + 1)?))
            })?;
            self.expect("}")?;
            return Ok(Term::Fields(fields));
        }
        let first = self.term_at(depth + 1)?;
        if !self.accept(":") {
            let mut items = vec![first];
            while self.accept(",") {
                items.push(self.term_at(depth + 1)?);
            }
            self.expect("}")?;
            return Ok(Term::Set(items));
        }
        let mut entries = vec![(first, self.term_at(depth + 1)?)];
        while self.accept(",") {
            let key = self.term_at(depth + 1)?;
            self.expect(":")?;
            entries.push((key, self.term_at(depth + 1)?));
        }
        self.expect("}")?;
        Ok(Term::Map(entries))
    }

    fn describe(&mut self) -> Parse<Describe> {
        // Not in DESCRIBE: functions and the like, which are listed as none and found as none.
        const NOT_HERE: [&str; 3] = ["full", "function", "aggregate"];
        self.at += 1;
        if self.accept_word("cluster") {
            return Ok(Describe::Cluster);
        }
        if self.accept_word("keyspaces") {
            return Ok(Describe::Keyspaces);
        }
        if self.accept_word("tables") || self.accept_word("columnfamilies") {
            return Ok(Describe::Tables);
        }
        if self.accept_word("types") {
            return Ok(Describe::Types);
        }
        if self.is_keyword("type") && !matches!(self.peek_at(1), Kind::End | Kind::Symbol(_)) {
            self.at += 1;
            return self.table_name().map(Describe::Type);
        }
        if self.is_keyword("index") && !matches!(self.peek_at(1), Kind::End | Kind::Symbol(_)) {
            self.at += 1;
            return self.table_name().map(Describe::Index);
        }
        if self.accept_word("functions") || self.accept_word("aggregates") {
            return Ok(Describe::NoneOfThem);
        }
        if self.accept_word("schema") {
            return Ok(Describe::Schema);
        }
        let only = self.accept_words(&["only", "keyspace"]);
        if only || self.accept_word("keyspace") {
            let is_current = matches!(self.peek(), Kind::End) || self.is_symbol(";");
            let name = if is_current { None } else { Some(self.name()?) };
            return Ok(Describe::Keyspace { name, only });
        }
        if self.accept_word("table") || self.accept_word("columnfamily") {
            return self.table_name().map(Describe::Table);
        }
        if self.accept_words(&["materialized", "view"]) {
            return self.table_name().map(Describe::View);
        }
        match NOT_HERE.iter().find(|w| self.is_keyword(w)) {
            // A word that stands alone is a name.
            Some(word) if !matches!(self.peek_at(1), Kind::End | Kind::Symbol(_)) => {
                Err(ParseError::Unsupported(format!("DESCRIBE {}", word.to_uppercase())))
            }
            _ => self.table_name().map(Describe::Other),
        }
    }

    fn statement(&mut self) -> Parse<Statement> {
        let Kind::Word(word) = self.peek().clone() else {
            return Err(self.no_alternative().into());
        };
        match word.to_ascii_lowercase().as_str() {
            "select" => self.select().map(Statement::Select),
            "insert" => self.insert().map(Statement::Insert),
            "update" => self.update().map(Statement::Update),
            "delete" => self.delete().map(Statement::Delete),
            "begin" => self.batch().map(Statement::Batch),
            "create" => self.create(),
            "alter" => self.alter(),
            "drop" => self.drop_statement(),
            "truncate" => {
                self.at += 1;
                let _ = self.accept_word("table") || self.accept_word("columnfamily");
                self.table_name().map(Statement::Truncate)
            }
            "use" => {
                self.at += 1;
                self.name().map(Statement::Use)
            }
            "describe" | "desc" => self.describe().map(Statement::Describe),
            "grant" | "revoke" | "list" | "prune" | "add" | "attach" | "detach" => {
                let next = if let Kind::Word(w) = self.peek_at(1) {
                    format!(" {}", w.to_uppercase())
                } else {
                    String::new()
                };
                Err(ParseError::Unsupported(format!("{}{next}", word.to_uppercase())))
            }
            _ => Err(self.no_alternative().into()),
        }
    }
}
