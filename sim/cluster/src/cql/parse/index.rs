//! Grammar of CREATE INDEX and DROP INDEX.

use super::ast::{CreateIndex, PropertyValue, Statement};
use super::lexer::Kind;
use super::{Parse, ParseError, Parser};
use std::collections::BTreeMap;

/// What of a collection can be indexed.
const PARTS: [&str; 4] = ["keys", "values", "entries", "full"];

impl Parser<'_> {
    /// INDEX or CUSTOM INDEX, if it stands here: whether it is a custom one.
    pub(super) fn accept_index(&mut self) -> Option<bool> {
        let is_custom = self.accept_words(&["custom", "index"]);
        (is_custom || self.accept_word("index")).then_some(is_custom)
    }

    /// The rest of CREATE [CUSTOM] INDEX.
    pub(super) fn create_index(&mut self, is_custom: bool) -> Parse<Statement> {
        let if_not_exists = self.if_not_exists()?;
        let name = match self.is_keyword("on") {
            true => None,
            false => Some(self.name()?),
        };
        self.expect_word("on")?;
        let table = self.table_name()?;
        self.expect("(")?;
        let is_part = matches!(self.peek_at(1), Kind::Symbol("("));
        let part = PARTS.into_iter().find(|p| is_part && self.accept_word(p));
        let column = match part {
            Some(_) => {
                self.expect("(")?;
                let column = self.name()?;
                self.expect(")")?;
                column
            }
            None => self.name()?,
        };
        if self.is_symbol(",") {
            return Err(ParseError::Unsupported("an index of several columns".into()));
        }
        self.expect(")")?;
        let class = match self.accept_word("using") {
            true => Some(self.string()?),
            false => None,
        };
        let options = self.index_options()?;
        Ok(Statement::CreateIndex(CreateIndex {
            name,
            table,
            if_not_exists,
            part,
            column,
            is_custom,
            class,
            options,
        }))
    }

    fn index_options(&mut self) -> Parse<BTreeMap<String, String>> {
        if !self.accept_word("with") {
            return Ok(BTreeMap::new());
        }
        let mut given = BTreeMap::new();
        self.properties(&mut given)?;
        match given.pop_first() {
            Some((name, PropertyValue::Map(options))) if name == "options" && given.is_empty() => Ok(options),
            _ => Err(ParseError::Invalid("Only OPTIONS can be given to an index".into())),
        }
    }
}
