//! Grammar of CREATE, ALTER and DROP for keyspaces, tables and types (indexes: `index`); everything else one can create is refused by name.

use super::ast::{
    AlterTable, AlterType, ColumnAst, CreateKeyspace, CreateTable, PropertyValue, Statement, TableName, TypeAst,
};
use super::lexer::Kind;
use super::{DEPTH_MAX, Parse, ParseError, Parser};
use std::collections::BTreeMap;

impl Parser<'_> {
    pub(super) fn create(&mut self) -> Parse<Statement> {
        self.expect_word("create")?;
        if self.accept_word("keyspace") || self.accept_word("schema") {
            return self.create_keyspace().map(Statement::CreateKeyspace);
        }
        if self.accept_word("table") || self.accept_word("columnfamily") {
            return self.create_table().map(Statement::CreateTable);
        }
        if self.accept_word("type") {
            return Ok(Statement::CreateType {
                if_not_exists: self.if_not_exists()?,
                name: self.table_name()?,
                fields: self.parenthesised(Self::field)?,
            });
        }
        if self.accept_words(&["materialized", "view"]) {
            return self.create_view().map(|v| Statement::CreateView(Box::new(v)));
        }
        if let Some(is_custom) = self.accept_index() {
            return self.create_index(is_custom);
        }
        Err(self.unsupported_object("CREATE"))
    }

    /// The refusal for an object of CREATE, ALTER or DROP that is CQL but not carried out here.
    fn unsupported_object(&self, verb: &str) -> ParseError {
        const OBJECTS: [&str; 11] = [
            "type",
            "function",
            "aggregate",
            "or",
            "trigger",
            "role",
            "user",
            "service_level",
            "service",
            "keyspace",
            "table",
        ];
        if !OBJECTS.iter().any(|o| self.is_keyword(o)) {
            return self.no_alternative().into();
        }
        let object = match self.peek() {
            Kind::Word(w) if w.eq_ignore_ascii_case("or") => "OR REPLACE".to_string(),
            Kind::Word(w) => w.to_uppercase(),
            _ => String::new(),
        };
        ParseError::Unsupported(format!("{verb} {object}"))
    }

    pub(super) fn if_not_exists(&mut self) -> Parse<bool> {
        if !self.accept_word("if") {
            return Ok(false);
        }
        self.expect_word("not")?;
        self.expect_word("exists")?;
        Ok(true)
    }

    pub(super) fn if_exists(&mut self) -> Parse<bool> {
        if !self.accept_word("if") {
            return Ok(false);
        }
        self.expect_word("exists")?;
        Ok(true)
    }

    fn create_keyspace(&mut self) -> Parse<CreateKeyspace> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.name()?;
        let mut options = BTreeMap::new();
        self.expect_word("with")?;
        self.properties(&mut options)?;
        Ok(CreateKeyspace {
            name,
            if_not_exists,
            options,
        })
    }

    pub(super) fn properties(&mut self, options: &mut BTreeMap<String, PropertyValue>) -> Parse<()> {
        loop {
            self.property(options)?;
            if !self.accept_word("and") {
                return Ok(());
            }
        }
    }

    pub(super) fn property(&mut self, options: &mut BTreeMap<String, PropertyValue>) -> Parse<()> {
        let name = self.name()?;
        self.expect("=")?;
        let value = self.property_value()?;
        if options.insert(name.clone(), value).is_some() {
            return Err(ParseError::Invalid(format!(
                "Multiple definition for property '{name}'"
            )));
        }
        Ok(())
    }

    fn property_value(&mut self) -> Parse<PropertyValue> {
        if !self.accept("{") {
            return self.property_constant().map(PropertyValue::Simple);
        }
        let mut map = BTreeMap::new();
        if self.accept("}") {
            return Ok(PropertyValue::Map(map));
        }
        loop {
            let key = self.property_constant()?;
            self.expect(":")?;
            map.insert(key, self.property_constant()?);
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(PropertyValue::Map(map))
    }

    fn property_constant(&mut self) -> Parse<String> {
        use super::ast::Literal;
        Ok(match self.literal()? {
            Literal::Str(s)
            | Literal::Integer(s)
            | Literal::Float(s)
            | Literal::Uuid(s)
            | Literal::Hex(s)
            | Literal::Duration(s) => s,
            Literal::Boolean(b) => b.to_string(),
        })
    }

    fn create_table(&mut self) -> Parse<CreateTable> {
        let if_not_exists = self.if_not_exists()?;
        let table = self.table_name()?;
        let mut create = CreateTable {
            table,
            if_not_exists,
            columns: Vec::new(),
            partition_key: Vec::new(),
            clustering_key: Vec::new(),
            clustering_order: Vec::new(),
            options: BTreeMap::new(),
        };
        self.expect("(")?;
        loop {
            self.table_element(&mut create)?;
            if !self.accept(",") {
                break;
            }
            // A trailing comma is allowed by real servers.
            if self.is_symbol(")") {
                break;
            }
        }
        self.expect(")")?;
        if self.accept_word("with") {
            loop {
                self.table_property(&mut create)?;
                if !self.accept_word("and") {
                    break;
                }
            }
        }
        Ok(create)
    }

    fn table_element(&mut self, create: &mut CreateTable) -> Parse<()> {
        if self.accept_words(&["primary", "key"]) {
            if !create.partition_key.is_empty() {
                return Err(multiple_keys(&create.table));
            }
            (create.partition_key, create.clustering_key) = self.primary_key()?;
            return Ok(());
        }
        let name = self.name()?;
        let cql_type = self.cql_type(0)?;
        let is_static = self.accept_word("static");
        if self.accept_words(&["primary", "key"]) {
            if !create.partition_key.is_empty() {
                return Err(multiple_keys(&create.table));
            }
            create.partition_key.push(name.clone());
        }
        if create.columns.iter().any(|c| c.name == name) {
            return Err(ParseError::Invalid(format!(
                "Duplicate column '{name}' declaration for table '{}'",
                create.table.table
            )));
        }
        create.columns.push(ColumnAst {
            name,
            cql_type,
            is_static,
        });
        Ok(())
    }

    /// `(p, c, …)` or `((p, …), c, …)`, what follows PRIMARY KEY of a table and of a view: partition and clustering columns.
    pub(super) fn primary_key(&mut self) -> Parse<(Vec<String>, Vec<String>)> {
        self.expect("(")?;
        let partition = if self.is_symbol("(") {
            self.parenthesised(Self::name)?
        } else {
            vec![self.name()?]
        };
        let mut clustering = Vec::new();
        while self.accept(",") {
            clustering.push(self.name()?);
        }
        self.expect(")")?;
        Ok((partition, clustering))
    }

    fn table_property(&mut self, create: &mut CreateTable) -> Parse<()> {
        if self.accept_words(&["compact", "storage"]) {
            return Err(ParseError::Unsupported("COMPACT STORAGE".into()));
        }
        if self.accept_words(&["clustering", "order", "by"]) {
            create.clustering_order = self.parenthesised(Self::ordered_name)?;
            return Ok(());
        }
        self.property(&mut create.options)
    }

    /// `name [ASC | DESC]`, `true` for descending.
    pub(super) fn ordered_name(&mut self) -> Parse<(String, bool)> {
        let name = self.name()?;
        let descending = self.accept_word("desc");
        if !descending {
            self.accept_word("asc");
        }
        Ok((name, descending))
    }

    pub(super) fn cql_type(&mut self, depth: usize) -> Parse<TypeAst> {
        if depth > DEPTH_MAX {
            return Err(ParseError::Invalid(format!("types nested deeper than {DEPTH_MAX}")));
        }
        if let Kind::Str(class) = self.peek() {
            return Err(ParseError::Unsupported(format!("the custom type '{class}'")));
        }
        let name = match self.next() {
            Kind::Word(w) => w.to_ascii_lowercase(),
            Kind::Quoted(q) => return self.user_type(q),
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.no_alternative().into());
            }
        };
        if self.is_symbol(".") {
            return self.user_type(name);
        }
        if !self.is_symbol("<") {
            return Ok(TypeAst::Named(name));
        }
        self.expect("<")?;
        let first = Box::new(self.cql_type(depth + 1)?);
        let parsed = match name.as_str() {
            "frozen" => TypeAst::Frozen(first),
            "list" => TypeAst::List(first),
            "set" => TypeAst::Set(first),
            "map" => {
                self.expect(",")?;
                TypeAst::Map(first, Box::new(self.cql_type(depth + 1)?))
            }
            "tuple" => {
                let mut items = vec![*first];
                while self.accept(",") {
                    items.push(self.cql_type(depth + 1)?);
                }
                TypeAst::Tuple(items)
            }
            "vector" => {
                self.expect(",")?;
                match self.next() {
                    Kind::Integer(n) => TypeAst::Vector(first, n),
                    _ => {
                        self.at = self.at.saturating_sub(1);
                        return Err(self.mismatched("INTEGER").into());
                    }
                }
            }
            _ => return Err(ParseError::Unsupported(format!("the type {name}<…>"))),
        };
        self.expect(">")?;
        Ok(parsed)
    }

    /// The rest of a user-defined type's name.
    fn user_type(&mut self, first: String) -> Parse<TypeAst> {
        if self.accept(".") {
            return Ok(TypeAst::User(Some(first), self.name()?));
        }
        Ok(TypeAst::User(None, first))
    }

    /// A field of a type.
    fn field(&mut self) -> Parse<(String, TypeAst)> {
        Ok((self.name()?, self.cql_type(0)?))
    }

    /// `old TO new (AND old TO new)*`.
    fn renamings(&mut self) -> Parse<Vec<(String, String)>> {
        let mut list = Vec::new();
        loop {
            let old = self.name()?;
            self.expect_word("to")?;
            list.push((old, self.name()?));
            if !self.accept_word("and") {
                return Ok(list);
            }
        }
    }

    pub(super) fn alter(&mut self) -> Parse<Statement> {
        self.expect_word("alter")?;
        if self.accept_word("keyspace") || self.accept_word("schema") {
            let if_exists = self.if_exists()?;
            let name = self.name()?;
            let mut options = BTreeMap::new();
            self.expect_word("with")?;
            self.properties(&mut options)?;
            return Ok(Statement::AlterKeyspace {
                name,
                if_exists,
                options,
            });
        }
        if self.accept_word("type") {
            return self.alter_type();
        }
        if self.accept_words(&["materialized", "view"]) {
            return self.alter_view();
        }
        if !(self.accept_word("table") || self.accept_word("columnfamily")) {
            return Err(self.unsupported_object("ALTER"));
        }
        let if_exists = self.if_exists()?;
        let table = self.table_name()?;
        let change = self.table_change()?;
        Ok(Statement::AlterTable {
            table,
            if_exists,
            change,
        })
    }

    fn alter_type(&mut self) -> Parse<Statement> {
        let if_exists = self.if_exists()?;
        let name = self.table_name()?;
        let change = if self.accept_word("add") {
            AlterType::Add {
                if_not_exists: self.if_not_exists()?,
                fields: self.comma_list(Self::field)?,
            }
        } else if self.accept_word("rename") {
            self.if_exists()?;
            AlterType::Rename(self.renamings()?)
        } else if self.is_keyword("alter") {
            return Err(ParseError::Invalid(
                "Altering field types is no longer supported".into(),
            ));
        } else {
            return Err(self.no_alternative().into());
        };
        Ok(Statement::AlterType {
            name,
            if_exists,
            change,
        })
    }

    fn table_change(&mut self) -> Parse<AlterTable> {
        if self.accept_word("add") {
            let if_not_exists = self.if_not_exists()?;
            let in_parentheses = self.accept("(");
            let columns = self.comma_list(|p| {
                let name = p.name()?;
                let cql_type = p.cql_type(0)?;
                Ok(ColumnAst {
                    name,
                    cql_type,
                    is_static: p.accept_word("static"),
                })
            })?;
            if in_parentheses {
                self.expect(")")?;
            }
            return Ok(AlterTable::Add { if_not_exists, columns });
        }
        if self.accept_word("with") {
            let mut options = BTreeMap::new();
            self.properties(&mut options)?;
            return Ok(AlterTable::With(options));
        }
        if self.accept_word("drop") {
            let if_exists = self.if_exists()?;
            // Without parentheses it is one column (seen).
            let columns = match self.is_symbol("(") {
                true => self.parenthesised(Self::name)?,
                false => vec![self.name()?],
            };
            let timestamp = match self.accept_words(&["using", "timestamp"]) {
                true => Some(self.term()?),
                false => None,
            };
            return Ok(AlterTable::Drop {
                if_exists,
                columns,
                timestamp,
            });
        }
        if self.accept_word("rename") {
            self.if_exists()?;
            return self.renamings().map(AlterTable::Rename);
        }
        if self.is_keyword("alter") {
            return Err(ParseError::Invalid(
                "Altering column types is no longer supported".into(),
            ));
        }
        Err(self.no_alternative().into())
    }

    pub(super) fn drop_statement(&mut self) -> Parse<Statement> {
        self.expect_word("drop")?;
        if self.accept_word("keyspace") || self.accept_word("schema") {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropKeyspace {
                name: self.name()?,
                if_exists,
            });
        }
        if self.accept_word("table") || self.accept_word("columnfamily") {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropTable {
                table: self.table_name()?,
                if_exists,
            });
        }
        if self.accept_word("type") {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropType {
                name: self.table_name()?,
                if_exists,
            });
        }
        if self.accept_words(&["materialized", "view"]) {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropView {
                name: self.table_name()?,
                if_exists,
            });
        }
        if self.accept_word("index") {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropIndex {
                name: self.table_name()?,
                if_exists,
            });
        }
        Err(self.unsupported_object("DROP"))
    }
}

fn multiple_keys(table: &TableName) -> ParseError {
    let name = match &table.keyspace {
        Some(keyspace) => format!("{keyspace}.{}", table.table),
        None => table.table.clone(),
    };
    ParseError::Invalid(format!(
        "Multiple PRIMARY KEY specified for table '{name}' (exactly one required)"
    ))
}
