//! CQL text into tokens, with their places for error messages. Keywords are not known here: they are identifiers, and
//! the grammar asks for them by name.

use super::SyntaxError;

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An unquoted identifier or keyword, as written.
    Word(String),
    /// A double-quoted identifier, case kept.
    Quoted(String),
    /// A string constant.
    Str(String),
    /// A whole number with its sign.
    Integer(String),
    /// A number with a fraction or an exponent.
    Float(String),
    /// A UUID constant.
    Uuid(String),
    /// A blob constant without its `0x`.
    Hex(String),
    /// A duration such as `30000ms`.
    Duration(String),
    /// Punctuation: one of `( ) [ ] { } , ; : . * = < > <= >= != + - / % ?`.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// A token and the byte range it covers.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

const SYMBOLS: [&str; 24] = [
    "<=", ">=", "!=", "(", ")", "[", "]", "{", "}", ",", ";", ":", ".", "*", "=", "<", ">", "+", "-", "/", "%", "?",
    "@", "|",
];

/// Cuts `text` into tokens; the last one is [`Kind::End`].
///
/// # Errors
/// An unterminated constant or comment, or a character CQL does not use.
pub fn lex(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    while lexer.skip_blank()? {
        let start = lexer.at;
        let kind = lexer.token()?;
        lexer.tokens.push(Token {
            kind,
            start,
            end: lexer.at,
        });
    }
    let end = text.len();
    lexer.tokens.push(Token {
        kind: Kind::End,
        start: end,
        end,
    });
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, at: usize, what: &str) -> SyntaxError {
        SyntaxError::at(self.text, at, what)
    }

    /// Skips white space and comments; `false` at the end of the text.
    fn skip_blank(&mut self) -> Result<bool, SyntaxError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            let rest = self.rest();
            if rest.starts_with("--") || rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(n) => self.at += n + 2,
                    None => return Err(self.error(self.at, "unterminated comment")),
                }
            } else {
                return Ok(!rest.is_empty());
            }
        }
    }

    fn token(&mut self) -> Result<Kind, SyntaxError> {
        let start = self.at;
        let first = self.byte(0);
        if first == b'\'' {
            return self.delimited('\'').map(Kind::Str);
        }
        if first == b'"' {
            return self.delimited('"').map(Kind::Quoted);
        }
        if self.rest().starts_with("$$") {
            let body = &self.text[self.at + 2..];
            let Some(n) = body.find("$$") else {
                return Err(self.error(start, "unterminated $$ constant"));
            };
            let value = body[..n].to_string();
            self.at += n + 4;
            return Ok(Kind::Str(value));
        }
        if let Some(n) = uuid_length(self.rest().as_bytes()) {
            self.at += n;
            return Ok(Kind::Uuid(self.text[start..self.at].to_string()));
        }
        if first.is_ascii_digit() || (first == b'-' && self.byte(1).is_ascii_digit()) {
            return Ok(self.number());
        }
        if let Some(n) = calendar_duration_length(self.rest().as_bytes()) {
            self.at += n;
            return Ok(Kind::Duration(self.text[start..self.at].to_string()));
        }
        if first.is_ascii_alphabetic() {
            let n = self
                .rest()
                .bytes()
                .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                .count();
            self.at += n;
            let word = self.text[start..self.at].to_string();
            return Ok(if is_iso_duration(&word) {
                Kind::Duration(word)
            } else {
                Kind::Word(word)
            });
        }
        for symbol in SYMBOLS {
            if self.rest().starts_with(symbol) {
                self.at += symbol.len();
                return Ok(Kind::Symbol(symbol));
            }
        }
        let c = self.rest().chars().next().unwrap_or('?');
        Err(self.error(start, &format!("no viable alternative at character '{c}'")))
    }

    /// A constant between `quote`s in which a doubled quote stands for one.
    fn delimited(&mut self, quote: char) -> Result<String, SyntaxError> {
        let start = self.at;
        let mut value = String::new();
        let mut chars = self.text[start + 1..].char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if c != quote {
                value.push(c);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                value.push(quote);
            } else {
                self.at = start + 1 + i + 1;
                return Ok(value);
            }
        }
        Err(self.error(start, "unterminated constant"))
    }

    fn number(&mut self) -> Kind {
        let start = self.at;
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X') {
            let n = self.text[start + 2..].bytes().take_while(u8::is_ascii_hexdigit).count();
            self.at += 2 + n;
            return Kind::Hex(self.text[start + 2..self.at].to_string());
        }
        self.at += usize::from(self.byte(0) == b'-');
        self.digits();
        let mut float = false;
        if self.byte(0) == b'.' && self.byte(1).is_ascii_digit() {
            float = true;
            self.at += 1;
            self.digits();
        }
        if matches!(self.byte(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(1), b'+' | b'-'));
            if self.byte(1 + sign).is_ascii_digit() {
                float = true;
                self.at += 1 + sign;
                self.digits();
            }
        }
        if !float && (self.byte(0).is_ascii_alphabetic() || self.rest().starts_with('µ')) {
            let tail = self.rest();
            let n = tail
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == 'µ'))
                .unwrap_or(tail.len());
            self.at += n;
            return Kind::Duration(self.text[start..self.at].to_string());
        }
        let written = self.text[start..self.at].to_string();
        if float {
            Kind::Float(written)
        } else {
            Kind::Integer(written)
        }
    }

    fn digits(&mut self) {
        self.at += self.rest().bytes().take_while(u8::is_ascii_digit).count();
    }
}

/// Whether a word is a duration such as `P1Y2M3DT4H5M6S` or `P2W`: units in their order, in capitals.
fn is_iso_duration(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('P').filter(|r| !r.is_empty()) else {
        return false;
    };
    let (date, time) = rest.split_once('T').unwrap_or((rest, ""));
    let fits = |part: &str, units: &str| {
        let (mut digits, mut left) = (0, units);
        for c in part.chars() {
            match (c.is_ascii_digit(), left.find(c)) {
                (true, _) => digits += 1,
                (false, Some(at)) if digits > 0 => (digits, left) = (0, &left[at + 1..]),
                (false, _) => return false,
            }
        }
        digits == 0
    };
    fits(date, "YMD") && fits(time, "HMS") || time.is_empty() && fits(date, "W")
}

/// Length of a duration such as `P0001-02-03T04:05:06` at the front of `bytes`, if one stands there.
fn calendar_duration_length(bytes: &[u8]) -> Option<usize> {
    const SHAPE: &[u8] = b"P0000-00-00T00:00:00";
    let found = bytes.get(..SHAPE.len())?;
    let fits = |(byte, shape): (&u8, &u8)| byte == shape || *shape == b'0' && byte.is_ascii_digit();
    found.iter().zip(SHAPE).all(fits).then_some(SHAPE.len())
}

/// Length of a UUID constant at the front of `bytes`, if one stands there.
fn uuid_length(bytes: &[u8]) -> Option<usize> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut at = 0;
    for (i, n) in GROUPS.into_iter().enumerate() {
        if i > 0 {
            if bytes.get(at) != Some(&b'-') {
                return None;
            }
            at += 1;
        }
        if !bytes.get(at..at + n)?.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += n;
    }
    let next = bytes.get(at).copied().unwrap_or(b' ');
    (!next.is_ascii_alphanumeric() && next != b'_').then_some(at)
}
