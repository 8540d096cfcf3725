//! Grammar of SELECT.

use super::ast::{Select, Selectable, Selector};
use super::lexer::Kind;
use super::{DEPTH_MAX, Parse, ParseError, Parser};

/// Functions that real servers know and this cluster does not carry out (CQL reference, "Functions"); any other name is
/// unknown to them too.
const NOT_HERE: [&str; 14] = [
    "collection_avg",
    "collection_count",
    "collection_max",
    "collection_min",
    "collection_sum",
    "exp",
    "floor",
    "fromjson",
    "from_json",
    "log",
    "map_keys",
    "map_values",
    "tojson",
    "to_json",
];

/// Functions of times of cells.
const OF_CELLS: [&str; 3] = ["writetime", "maxwritetime", "ttl"];

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
        let group_by = if self.accept_words(&["group", "by"]) {
            self.comma_list(Self::name)?
        } else {
            Vec::new()
        };
        let order_by = if self.accept_words(&["order", "by"]) {
            let list = self.comma_list(Self::ordered_name)?;
            if self.is_keyword("ann") {
                return Err(ParseError::Unsupported("ORDER BY … ANN OF".into()));
            }
            last_of_each(list)
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
            group_by,
            order_by,
            per_partition_limit,
            limit,
            allow_filtering,
            timeout,
        })
    }

    pub(super) fn selector(&mut self) -> Parse<Selector> {
        let selectable = self.selectable(0)?;
        if depth_of(&selectable) > DEPTH_MAX {
            return Err(too_deep());
        }
        if matches!(self.peek(), Kind::Symbol("+" | "-" | "/" | "%" | "*")) {
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

    fn selectable(&mut self, depth: usize) -> Parse<Selectable> {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        let mut selectable = self.simple_selectable(depth)?;
        for _ in 0..DEPTH_MAX {
            if self.accept("[") {
                let key = self.term()?;
                if self.is_symbol(".") {
                    return Err(ParseError::Unsupported("a range of elements in a selection".into()));
                }
                self.expect("]")?;
                selectable = Selectable::Element(Box::new(selectable), key);
            } else if self.accept(".") {
                selectable = Selectable::Field(Box::new(selectable), self.name()?);
            } else {
                return Ok(selectable);
            }
        }
        Err(too_deep())
    }

    fn simple_selectable(&mut self, depth: usize) -> Parse<Selectable> {
        let is_call = matches!(self.peek_at(1), Kind::Symbol("("));
        if !is_call {
            return match self.peek() {
                Kind::Word(w) if self.is_constant_word(w) || w.eq_ignore_ascii_case("null") => {
                    self.term().map(Selectable::Term)
                }
                Kind::Word(_) | Kind::Quoted(_) => self.name().map(Selectable::Column),
                Kind::Symbol("-") => Err(ParseError::Unsupported("arithmetic in a selection".into())),
                Kind::Symbol("(" | "[" | "{" | "?" | ":")
                | Kind::Str(_)
                | Kind::Integer(_)
                | Kind::Float(_)
                | Kind::Uuid(_)
                | Kind::Hex(_)
                | Kind::Duration(_) => self.term().map(Selectable::Term),
                _ => Err(self.no_alternative().into()),
            };
        }
        let Kind::Word(function) = self.peek().clone() else {
            return Err(self.no_alternative().into());
        };
        let function = function.to_ascii_lowercase();
        self.at += 1;
        self.expect("(")?;
        let selectable = match function.as_str() {
            name if OF_CELLS.contains(&name) => {
                let name = OF_CELLS.into_iter().find(|f| *f == name).unwrap_or("ttl");
                Selectable::Of(name, Box::new(self.selectable(depth + 1)?))
            }
            "count" if self.accept("*") => Selectable::Count,
            "count" if matches!(self.peek(), Kind::Integer(n) if n == "1") => {
                self.at += 1;
                Selectable::Count
            }
            "cast" => {
                let inner = Box::new(self.selectable(depth + 1)?);
                self.expect_word("as")?;
                Selectable::Cast(inner, Box::new(self.cql_type(0)?))
            }
            name if NOT_HERE.contains(&name) => {
                return Err(ParseError::Unsupported(format!("the function {name}() in a selection")));
            }
            _ if self.is_symbol(")") => Selectable::Call(function, Vec::new()),
            _ => Selectable::Call(function, self.comma_list(|parser| parser.selectable(depth + 1))?),
        };
        self.expect(")")?;
        Ok(selectable)
    }
}

fn too_deep() -> ParseError {
    ParseError::Invalid(format!("selections nested deeper than {DEPTH_MAX}"))
}

fn depth_of(selectable: &Selectable) -> usize {
    match selectable {
        Selectable::Element(inner, _) | Selectable::Field(inner, _) => 1 + depth_of(inner),
        Selectable::Of(_, inner) | Selectable::Cast(inner, _) => 1 + depth_of(inner),
        Selectable::Call(_, arguments) => 1 + arguments.iter().map(depth_of).max().unwrap_or(0),
        Selectable::Column(_) | Selectable::Term(_) | Selectable::Count => 0,
    }
}

/// Of a column that is ordered by twice, the place of the first and the direction of the last (seen).
fn last_of_each(given: Vec<(String, bool)>) -> Vec<(String, bool)> {
    let mut list: Vec<(String, bool)> = Vec::with_capacity(given.len());
    for (name, descending) in given {
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = descending,
            None => list.push((name, descending)),
        }
    }
    list
}
