//! Grammar of INSERT, UPDATE, DELETE, BATCH, of WHERE and of IF.

use super::ast::{
    Accessor, Batch, BatchKind, Change, ColumnCondition, Conditions, Delete, Insert, Object, Operator, Relation,
    SetOperation, Statement, Subject, Term, Update, Using,
};
use super::lexer::Kind;
use super::{Parse, ParseError, Parser};

impl Parser<'_> {
    pub(super) fn insert(&mut self) -> Parse<Insert> {
        self.expect_word("insert")?;
        self.expect_word("into")?;
        let table = self.table_name()?;
        if self.accept_word("json") {
            return Err(ParseError::Unsupported("INSERT … JSON".into()));
        }
        let columns = self.parenthesised(Self::name)?;
        self.expect_word("values")?;
        let values = self.parenthesised(Self::term)?;
        if columns.len() != values.len() {
            return Err(ParseError::Invalid("Unmatched column names/values".into()));
        }
        if (1..columns.len()).any(|i| columns[..i].contains(&columns[i])) {
            return Err(ParseError::Invalid("The column names contains duplicates".into()));
        }
        let conditions = self.accept_word("if").then(|| self.not_exists()).transpose()?;
        let using = self.using()?;
        Ok(Insert {
            table,
            columns,
            values,
            using,
            conditions,
        })
    }

    fn not_exists(&mut self) -> Parse<Conditions> {
        self.expect_word("not")?;
        self.expect_word("exists")?;
        Ok(Conditions::NotExists)
    }

    /// IF at the end of UPDATE and DELETE.
    fn conditions(&mut self) -> Parse<Option<Conditions>> {
        if !self.accept_word("if") {
            return Ok(None);
        }
        // A column may be called `exists`; then something follows it.
        let is_last = matches!(self.peek_at(1), Kind::End | Kind::Symbol(";")) || self.is_next_in_batch(1);
        if is_last && self.accept_word("exists") {
            return Ok(Some(Conditions::Exists));
        }
        let mut list = vec![self.column_condition()?];
        while self.accept_word("and") {
            list.push(self.column_condition()?);
        }
        Ok(Some(Conditions::Columns(list)))
    }

    /// Whether the next statement of a batch, or its end, stands there: semicolons between them are optional.
    fn is_next_in_batch(&self, ahead: usize) -> bool {
        ["insert", "update", "delete", "apply"]
            .iter()
            .any(|w| self.is_keyword_at(ahead, w))
    }

    fn column_condition(&mut self) -> Parse<ColumnCondition> {
        let column = self.name()?;
        let part = self.accessor()?;
        if self.accept("!=") {
            let object = Object::One(self.term()?);
            return Ok(ColumnCondition {
                column,
                part,
                operator: None,
                object,
            });
        }
        let operator = self.operator()?;
        let object = self.object(&Subject::Column(column.clone()), operator)?;
        Ok(ColumnCondition {
            column,
            part,
            operator: Some(operator),
            object,
        })
    }

    fn using(&mut self) -> Parse<Using> {
        let mut using = Using::default();
        if !self.accept_word("using") {
            return Ok(using);
        }
        loop {
            let Some(attribute) = ["timestamp", "ttl", "timeout"]
                .into_iter()
                .find(|a| self.accept_word(a))
            else {
                return Err(self.no_alternative().into());
            };
            if attribute != "timeout" && matches!(self.peek(), Kind::Str(_) | Kind::Float(_)) {
                return Err(self.no_alternative().into());
            }
            let term = self.term()?;
            let slot = match attribute {
                "timestamp" => &mut using.timestamp,
                "ttl" => &mut using.ttl,
                _ => &mut using.timeout,
            };
            if slot.replace(term).is_some() {
                return Err(ParseError::Invalid(format!(
                    "Multiple definitions of {attribute} in USING"
                )));
            }
            if !self.accept_word("and") {
                return Ok(using);
            }
        }
    }

    pub(super) fn update(&mut self) -> Parse<Update> {
        self.expect_word("update")?;
        let table = self.table_name()?;
        let using = self.using()?;
        self.expect_word("set")?;
        let set = self.comma_list(Self::set_operation)?;
        self.expect_word("where")?;
        let relations = self.relations()?;
        let conditions = self.conditions()?;
        Ok(Update {
            table,
            set,
            relations,
            using,
            conditions,
        })
    }

    /// `[key]` or `.field` behind a column.
    fn accessor(&mut self) -> Parse<Option<Accessor>> {
        if self.accept("[") {
            let key = self.term()?;
            self.expect("]")?;
            return Ok(Some(Accessor::Key(key)));
        }
        if self.accept(".") {
            return Ok(Some(Accessor::Field(self.name()?)));
        }
        Ok(None)
    }

    fn set_operation(&mut self) -> Parse<SetOperation> {
        let column = self.name()?;
        if let Some(part) = self.accessor()? {
            self.expect("=")?;
            let value = self.term()?;
            return Ok(SetOperation::Part { column, part, value });
        }
        for (sign, change) in [("+", Change::Add), ("-", Change::Subtract)] {
            if self.accept(sign) {
                self.expect("=")?;
                let value = self.term()?;
                return Ok(SetOperation::Delta { column, change, value });
            }
        }
        self.expect("=")?;
        self.assigned(column)
    }

    /// What stands behind `column =`: a term, `column + term`, `column - term`, or `term + column`.
    fn assigned(&mut self, column: String) -> Parse<SetOperation> {
        if !self.begins_with_a_column() {
            let value = self.term()?;
            if !self.accept("+") {
                return Ok(SetOperation::Assign { column, value });
            }
            let change = Change::Prepend;
            return match self.name()? == column {
                true => Ok(SetOperation::Delta { column, change, value }),
                false => Err(only_of_itself("X = <value> + X")),
            };
        }
        let is_itself = self.name()? == column;
        // The lexer takes the sign with the number: `a -5` is `a + -5`.
        if matches!(self.peek(), Kind::Integer(n) if n.starts_with('-')) {
            let (value, change) = (self.term()?, Change::Add);
            return match is_itself {
                true => Ok(SetOperation::Delta { column, change, value }),
                false => Err(only_of_itself("X = X - <value>")),
            };
        }
        let change = if self.accept("+") {
            Change::Add
        } else if self.accept("-") {
            Change::Subtract
        } else {
            return Err(self.no_alternative().into());
        };
        let value = self.term()?;
        match (is_itself, change) {
            (true, _) => Ok(SetOperation::Delta { column, change, value }),
            (false, Change::Add) => Err(only_of_itself("X = X +<value>")),
            (false, _) => Err(only_of_itself("X = X -<value>")),
        }
    }

    /// Whether a name with an operation behind it stands here, rather than a term.
    fn begins_with_a_column(&self) -> bool {
        let is_name = match self.peek() {
            Kind::Quoted(_) => true,
            Kind::Word(w) => !self.is_constant_word(w) && !w.eq_ignore_ascii_case("null"),
            _ => false,
        };
        is_name
            && match self.peek_at(1) {
                Kind::Symbol(s) => matches!(*s, "+" | "-"),
                Kind::Integer(n) => n.starts_with('-'),
                _ => false,
            }
    }

    pub(super) fn delete(&mut self) -> Parse<Delete> {
        self.expect_word("delete")?;
        let columns = if self.is_keyword("from") {
            Vec::new()
        } else {
            self.comma_list(Self::deleted_column)?
        };
        self.expect_word("from")?;
        let table = self.table_name()?;
        let using = self.using()?;
        self.expect_word("where")?;
        let relations = self.relations()?;
        let conditions = self.conditions()?;
        Ok(Delete {
            table,
            columns,
            relations,
            using,
            conditions,
        })
    }

    fn deleted_column(&mut self) -> Parse<(String, Option<Accessor>)> {
        Ok((self.name()?, self.accessor()?))
    }

    pub(super) fn batch(&mut self) -> Parse<Batch> {
        self.expect_word("begin")?;
        let kind = if self.accept_word("unlogged") {
            BatchKind::Unlogged
        } else if self.accept_word("counter") {
            BatchKind::Counter
        } else {
            self.accept_word("logged");
            BatchKind::Logged
        };
        self.expect_word("batch")?;
        let using = self.using()?;
        let mut statements = Vec::new();
        loop {
            while self.accept(";") {}
            if self.accept_word("apply") {
                break;
            }
            statements.push(if self.is_keyword("insert") {
                Statement::Insert(self.insert()?)
            } else if self.is_keyword("update") {
                Statement::Update(self.update()?)
            } else if self.is_keyword("delete") {
                Statement::Delete(self.delete()?)
            } else {
                return Err(self.mismatched("K_APPLY").into());
            });
        }
        self.expect_word("batch")?;
        Ok(Batch {
            kind,
            using,
            statements,
        })
    }

    /// The relations of WHERE, joined by AND.
    pub(super) fn relations(&mut self) -> Parse<Vec<Relation>> {
        let mut relations = vec![self.relation()?];
        while self.accept_word("and") {
            relations.push(self.relation()?);
        }
        Ok(relations)
    }

    pub(super) fn relation(&mut self) -> Parse<Relation> {
        let subject = if self.accept_word("token") {
            Subject::Token(self.parenthesised(Self::name)?)
        } else if self.is_symbol("(") {
            Subject::Tuple(self.parenthesised(Self::name)?)
        } else {
            if matches!(self.peek_at(1), Kind::Symbol("(")) {
                return Err(self.no_alternative_behind().into());
            }
            let name = self.name()?;
            match self.accessor()? {
                None => Subject::Column(name),
                Some(Accessor::Key(key)) => Subject::Element(name, key),
                Some(Accessor::Field(field)) => {
                    return Err(ParseError::Unsupported(format!("{name}.{field} in WHERE")));
                }
            }
        };
        self.refuse_odd_relations(&subject)?;
        let operator = self.operator()?;
        let object = self.object(&subject, operator)?;
        Ok(Relation {
            subject,
            operator,
            object,
        })
    }

    /// IS NOT NULL and `!=`, which parse and are refused.
    fn refuse_odd_relations(&mut self, subject: &Subject) -> Parse<()> {
        let name = match subject {
            Subject::Column(name) | Subject::Element(name, _) => name.clone(),
            Subject::Token(names) => format!("token({})", names.join(", ")),
            Subject::Tuple(names) => format!("({})", names.join(", ")),
        };
        if self.accept_word("is") {
            self.expect_word("not")?;
            self.expect_word("null")?;
            return Err(ParseError::Invalid(format!(
                "Unsupported restriction: {name} IS NOT NULL"
            )));
        }
        if self.accept("!=") {
            let value = self.term()?;
            return Err(ParseError::Invalid(format!(
                "Unsupported \"!=\" relation: {name} != {}",
                value.text()
            )));
        }
        Ok(())
    }

    fn operator(&mut self) -> Parse<Operator> {
        const SYMBOLS: [(&str, Operator); 5] = [
            ("=", Operator::Eq),
            ("<", Operator::Lt),
            ("<=", Operator::Le),
            (">", Operator::Gt),
            (">=", Operator::Ge),
        ];
        if let Some((_, operator)) = SYMBOLS.iter().find(|(s, _)| self.is_symbol(s)) {
            self.at += 1;
            return Ok(*operator);
        }
        if self.accept_word("in") {
            return Ok(Operator::In);
        }
        if self.accept_word("contains") {
            return Ok(match self.accept_word("key") {
                true => Operator::ContainsKey,
                false => Operator::Contains,
            });
        }
        for word in ["like", "between", "not"] {
            if self.is_keyword(word) {
                return Err(ParseError::Unsupported(format!("{} in WHERE", word.to_uppercase())));
            }
        }
        Err(self.no_alternative().into())
    }

    /// One of the values of `(a, b) IN (…)`: all are tuples, or all are markers.
    fn tuple_or_marker(&mut self) -> Parse<Term> {
        if self.is_symbol("(") {
            return self.parenthesised(Self::term).map(Term::Tuple);
        }
        match self.peek() {
            Kind::Symbol("?" | ":") if !self.is_after_tuple() => self.term(),
            _ => Err(self.mismatched("'('").into()),
        }
    }

    /// Whether a tuple of the same list stands before.
    fn is_after_tuple(&self) -> bool {
        self.at >= 2 && matches!(self.tokens[self.at - 2].kind, Kind::Symbol(")"))
    }

    fn object(&mut self, subject: &Subject, operator: Operator) -> Parse<Object> {
        match (subject, operator) {
            (Subject::Tuple(_), Operator::In) if self.is_symbol("(") => {
                self.parenthesised(Self::tuple_or_marker).map(Object::Many)
            }
            (Subject::Tuple(_), Operator::In) => self.term().map(Object::One),
            (Subject::Token(_), Operator::In) => Err(ParseError::Invalid("IN is not allowed on token()".into())),
            (Subject::Tuple(_), _) if self.is_symbol("(") => self.parenthesised(Self::term).map(Object::Many),
            (Subject::Column(_), Operator::In) => {
                if !self.accept("(") {
                    return self.term().map(Object::One);
                }
                if self.accept(")") {
                    return Ok(Object::Many(Vec::new()));
                }
                let values = self.comma_list(Self::term)?;
                self.expect(")")?;
                Ok(Object::Many(values))
            }
            _ => self.term().map(Object::One),
        }
    }
}

/// What the operations of SET may be made of, in real servers' words.
fn only_of_itself(form: &str) -> ParseError {
    ParseError::Grammar(format!("Only expressions of the form {form} are supported."))
}
