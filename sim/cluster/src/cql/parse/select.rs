//! Grammar of SELECT.

use super::ast::{Select, Selectable, Selector};
use super::lexer::Kind;
use super::{Parse, ParseError, Parser};

/// Functions that real servers know and this cluster does not carry out (CQL reference, "Functions"); any other name is
/// unknown to them too.
const NATIVE_FUNCTIONS: [&str; 40] = [
    "abs",
    "avg",
    "bigintasblob",
    "blobasbigint",
    "blobasint",
    "blobastext",
    "cast",
    "collection_avg",
    "collection_count",
    "collection_max",
    "collection_min",
    "collection_sum",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_timeuuid",
    "currentdate",
    "currenttimestamp",
    "exp",
    "floor",
    "fromjson",
    "from_json",
    "intasblob",
    "log",
    "map_keys",
    "map_values",
    "max",
    "maxtimeuuid",
    "max_timeuuid",
    "maxwritetime",
    "min",
    "mintimeuuid",
    "min_timeuuid",
    "now",
    "round",
    "sum",
    "textasblob",
    "tojson",
    "to_json",
    "uuid",
];

impl Parser<'_> {
    pub(super) fn select(&mut self) -> Parse<Select> {
        self.expect_word("select")?;
        // `json` and `distinct` may also be column names.
        let is_modifier = !matches!(self.peek_at(1), Kind::Symbol("," | "("))
            && !self.is_keyword_at(1, "from")
            && !self.is_keyword_at(1, "as");
        if is_modifier && self.is_keyword("json") {
            return Err(ParseError::Unsupported("SELECT JSON".into()));
        }
        let distinct = is_modifier && self.accept_word("distinct");
        let selectors = if self.accept("*") {
            Vec::new()
        } else {
            self.comma_list(Self::selector)?
        };
        self.expect_word("from")?;
        let table = self.table_name()?;
        let relations = if self.accept_word("where") {
            self.relations()?
        } else {
            Vec::new()
        };
        if self.accept_words(&["group", "by"]) {
            return Err(ParseError::Unsupported("GROUP BY".into()));
        }
        let order_by = if self.accept_words(&["order", "by"]) {
            let list = self.comma_list(Self::ordered_name)?;
            if self.is_keyword("ann") {
                return Err(ParseError::Unsupported("ORDER BY … ANN OF".into()));
            }
            list
        } else {
            Vec::new()
        };
        let per_partition_limit = if self.accept_words(&["per", "partition", "limit"]) {
            Some(self.term()?)
        } else {
            None
        };
        let limit = if self.accept_word("limit") {
            Some(self.term()?)
        } else {
            None
        };
        let allow_filtering = self.accept_words(&["allow", "filtering"]);
        // BYPASS CACHE changes no result, and there is no cache.
        self.accept_words(&["bypass", "cache"]);
        let timeout = if self.accept_words(&["using", "timeout"]) {
            Some(self.term()?)
        } else {
            None
        };
        Ok(Select {
            distinct,
            selectors,
            table,
            relations,
            order_by,
            per_partition_limit,
            limit,
            allow_filtering,
            timeout,
        })
    }

    fn selector(&mut self) -> Parse<Selector> {
        let selectable = self.selectable()?;
        if matches!(self.peek(), Kind::Symbol("+" | "-" | "/" | "%" | "*" | "[" | ".")) {
            return Err(ParseError::Unsupported(format!(
                "the operator {} in a selection",
                self.token_text(self.at)
            )));
        }
        let alias = if self.accept_word("as") {
            Some(self.name()?)
        } else {
            None
        };
        Ok(Selector { selectable, alias })
    }

    fn selectable(&mut self) -> Parse<Selectable> {
        let is_call = matches!(self.peek_at(1), Kind::Symbol("("));
        if !is_call {
            return match self.peek() {
                Kind::Word(_) | Kind::Quoted(_) => self.name().map(Selectable::Column),
                Kind::Symbol("(" | "?" | ":" | "[" | "{") | Kind::Str(_) | Kind::Integer(_) => Err(
                    ParseError::Unsupported("constants, casts and markers in a selection".into()),
                ),
                _ => Err(self.no_alternative().into()),
            };
        }
        let Kind::Word(function) = self.peek().clone() else {
            return Err(self.no_alternative().into());
        };
        match function.to_ascii_lowercase().as_str() {
            "writetime" => self.call_of_column().map(Selectable::WriteTime),
            "ttl" => self.call_of_column().map(Selectable::Ttl),
            "token" => {
                self.at += 1;
                self.parenthesised(Self::name).map(Selectable::Token)
            }
            "count" => self.count(),
            other if NATIVE_FUNCTIONS.contains(&other) => Err(ParseError::Unsupported(format!(
                "the function {other}() in a selection"
            ))),
            other => Err(ParseError::Invalid(format!("Unknown function '{other}'"))),
        }
    }

    fn call_of_column(&mut self) -> Parse<String> {
        self.at += 1;
        self.expect("(")?;
        let column = self.name()?;
        self.expect(")")?;
        Ok(column)
    }

    fn count(&mut self) -> Parse<Selectable> {
        self.at += 1;
        self.expect("(")?;
        let all = self.accept("*") || matches!(self.peek(), Kind::Integer(n) if n == "1");
        if !all {
            return Err(ParseError::Unsupported("COUNT of a column (only COUNT(*))".into()));
        }
        if !self.is_symbol(")") {
            self.at += 1;
        }
        self.expect(")")?;
        Ok(Selectable::Count)
    }
}
