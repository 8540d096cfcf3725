//! The parsed form of a statement: names as written, values as terms, nothing resolved against a schema.

use std::collections::BTreeMap;

/// A table name, with its keyspace if the text gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Keyspace, `None` means the connection's.
    pub keyspace: Option<String>,
    /// Table.
    pub table: String,
}

/// A statement with the names of its bind markers in order (`None` for `?`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Names of the markers.
    pub markers: Vec<Option<String>>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// USE.
    Use(String),
    /// CREATE KEYSPACE.
    CreateKeyspace(CreateKeyspace),
    /// DROP KEYSPACE.
    DropKeyspace {
        /// Keyspace.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE TABLE.
    CreateTable(CreateTable),
    /// ALTER TABLE.
    AlterTable {
        /// Table.
        table: TableName,
        /// IF EXISTS.
        if_exists: bool,
        /// The change.
        change: AlterTable,
    },
    /// ALTER KEYSPACE.
    AlterKeyspace {
        /// Keyspace.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
        /// Properties.
        options: BTreeMap<String, PropertyValue>,
    },
    /// CREATE [CUSTOM] INDEX.
    CreateIndex(CreateIndex),
    /// DROP INDEX.
    DropIndex {
        /// Index; the name of an index where that of a table would be.
        name: TableName,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE TYPE.
    CreateType {
        /// Type.
        name: TableName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Its fields.
        fields: Vec<(String, TypeAst)>,
    },
    /// ALTER TYPE.
    AlterType {
        /// Type.
        name: TableName,
        /// IF EXISTS.
        if_exists: bool,
        /// The change.
        change: AlterType,
    },
    /// DROP TYPE.
    DropType {
        /// Type.
        name: TableName,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// DROP TABLE.
    DropTable {
        /// Table.
        table: TableName,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE MATERIALIZED VIEW.
    CreateView(Box<CreateView>),
    /// ALTER MATERIALIZED VIEW … WITH.
    AlterView {
        /// View.
        name: TableName,
        /// IF EXISTS.
        if_exists: bool,
        /// Properties.
        options: BTreeMap<String, PropertyValue>,
    },
    /// DROP MATERIALIZED VIEW.
    DropView {
        /// View.
        name: TableName,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// TRUNCATE.
    Truncate(TableName),
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// BEGIN … BATCH … APPLY BATCH.
    Batch(Batch),
    /// SELECT.
    Select(Select),
    /// DESCRIBE.
    Describe(Describe),
}

/// What DESCRIBE is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Describe {
    /// CLUSTER.
    Cluster,
    /// KEYSPACES.
    Keyspaces,
    /// TABLES: of the connection's keyspace, or of all.
    Tables,
    /// TYPES: of the connection's keyspace, or of all.
    Types,
    /// FUNCTIONS, AGGREGATES: there are none here.
    NoneOfThem,
    /// TYPE.
    Type(TableName),
    /// INDEX.
    Index(TableName),
    /// SCHEMA.
    Schema,
    /// [ONLY] KEYSPACE.
    Keyspace {
        /// Keyspace, `None` means the connection's.
        name: Option<String>,
        /// Without its tables.
        only: bool,
    },
    /// TABLE.
    Table(TableName),
    /// MATERIALIZED VIEW.
    View(TableName),
    /// A name: a keyspace's, a table's or a view's.
    Other(TableName),
}

/// CREATE [CUSTOM] INDEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Table.
    pub table: TableName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// `keys`, `values`, `entries` or `full`, if there is one of them.
    pub part: Option<&'static str>,
    /// Column.
    pub column: String,
    /// CUSTOM.
    pub is_custom: bool,
    /// USING.
    pub class: Option<String>,
    /// WITH OPTIONS.
    pub options: BTreeMap<String, String>,
}

/// CREATE KEYSPACE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKeyspace {
    /// Keyspace.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Properties.
    pub options: BTreeMap<String, PropertyValue>,
}

/// CREATE TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// Table.
    pub table: TableName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns in the order of the text.
    pub columns: Vec<ColumnAst>,
    /// Partition key in order.
    pub partition_key: Vec<String>,
    /// Clustering key in order.
    pub clustering_key: Vec<String>,
    /// CLUSTERING ORDER BY: column and whether descending.
    pub clustering_order: Vec<(String, bool)>,
    /// Other properties.
    pub options: BTreeMap<String, PropertyValue>,
}

/// CREATE MATERIALIZED VIEW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateView {
    /// View.
    pub name: TableName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Selectors; none means `*`.
    pub selectors: Vec<Selector>,
    /// FROM.
    pub base: TableName,
    /// WHERE.
    pub relations: Vec<ViewRelation>,
    /// Partition key in order.
    pub partition_key: Vec<String>,
    /// Clustering key in order.
    pub clustering_key: Vec<String>,
    /// CLUSTERING ORDER BY: column and whether descending.
    pub clustering_order: Vec<(String, bool)>,
    /// Other properties.
    pub options: BTreeMap<String, PropertyValue>,
}

/// One condition of a view's WHERE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewRelation {
    /// `column IS NOT NULL`.
    NotNull(String),
    /// As in SELECT.
    Other(Relation),
}

/// A column definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnAst {
    /// Name.
    pub name: String,
    /// Type.
    pub cql_type: TypeAst,
    /// STATIC.
    pub is_static: bool,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeAst {
    /// A name without parameters, in lower case.
    Named(String),
    /// `frozen<…>`.
    Frozen(Box<TypeAst>),
    /// `list<…>`.
    List(Box<TypeAst>),
    /// `set<…>`.
    Set(Box<TypeAst>),
    /// `map<…, …>`.
    Map(Box<TypeAst>, Box<TypeAst>),
    /// `tuple<…>`.
    Tuple(Vec<TypeAst>),
    /// `vector<…, n>`.
    Vector(Box<TypeAst>, String),
    /// A user-defined type: its keyspace if it was given, and its name as it is.
    User(Option<String>, String),
}

impl TypeAst {
    /// The type as real servers print it before they know it.
    pub fn text(&self) -> String {
        match self {
            TypeAst::Named(name) | TypeAst::User(None, name) => name.clone(),
            TypeAst::User(Some(keyspace), name) => format!("{keyspace}.{name}"),
            TypeAst::Frozen(inner) => format!("frozen<{}>", inner.text()),
            TypeAst::List(inner) => format!("list<{}>", inner.text()),
            TypeAst::Set(inner) => format!("set<{}>", inner.text()),
            TypeAst::Map(k, v) => format!("map<{}, {}>", k.text(), v.text()),
            TypeAst::Vector(inner, n) => format!("vector<{}, {n}>", inner.text()),
            TypeAst::Tuple(items) => {
                let items: Vec<String> = items.iter().map(TypeAst::text).collect();
                format!("tuple<{}>", items.join(", "))
            }
        }
    }
}

/// ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterTable {
    /// DROP: names of columns.
    Drop {
        /// IF EXISTS.
        if_exists: bool,
        /// The columns.
        columns: Vec<String>,
        /// USING TIMESTAMP.
        timestamp: Option<Term>,
    },
    /// RENAME: old and new names.
    Rename(Vec<(String, String)>),
    /// ADD.
    Add {
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// The new columns.
        columns: Vec<ColumnAst>,
    },
    /// WITH.
    With(BTreeMap<String, PropertyValue>),
}

/// ALTER TYPE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterType {
    /// ADD.
    Add {
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// The new fields.
        fields: Vec<(String, TypeAst)>,
    },
    /// RENAME: old and new names.
    Rename(Vec<(String, String)>),
}

/// Value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// A constant, its text.
    Simple(String),
    /// A map of constants.
    Map(BTreeMap<String, String>),
}

/// A constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// `'…'`.
    Str(String),
    /// Whole number.
    Integer(String),
    /// Number with a fraction.
    Float(String),
    /// `true`, `false`.
    Boolean(bool),
    /// UUID.
    Uuid(String),
    /// `0x…`.
    Hex(String),
    /// Duration.
    Duration(String),
}

/// A value in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// Bind marker by its index in [`Parsed::markers`].
    Marker(usize),
    /// Constant.
    Literal(Literal),
    /// NULL.
    Null,
    /// `[…]`.
    List(Vec<Term>),
    /// `{…}` without colons; the empty one may also be a map.
    Set(Vec<Term>),
    /// `{k: v, …}`.
    Map(Vec<(Term, Term)>),
    /// `{field: v, …}`: a user-defined type.
    Fields(Vec<(String, Term)>),
    /// `(a, b)`.
    Tuple(Vec<Term>),
    /// `(type) term`.
    Cast(Box<TypeAst>, Box<Term>),
    /// `function(a, b)`.
    Call(String, Vec<Term>),
}

impl Term {
    /// The term as real servers print it.
    pub fn text(&self) -> String {
        let join = |terms: &[Term]| terms.iter().map(Term::text).collect::<Vec<_>>().join(", ");
        match self {
            Term::Marker(_) => "?".into(),
            Term::Null => "NULL".into(),
            Term::Literal(l) => match l {
                Literal::Str(s) => format!("'{s}'"),
                Literal::Hex(s) => format!("0x{s}"),
                Literal::Boolean(b) => b.to_string(),
                Literal::Integer(s) | Literal::Float(s) | Literal::Uuid(s) | Literal::Duration(s) => s.clone(),
            },
            Term::List(items) => format!("[{}]", join(items)),
            Term::Set(items) => format!("{{{}}}", join(items)),
            Term::Tuple(items) => format!("({})", join(items)),
            Term::Map(entries) => {
                let each = entries.iter().map(|(k, v)| format!("{}: {}", k.text(), v.text()));
                format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
            }
            Term::Fields(entries) => {
                let each = entries.iter().map(|(k, v)| format!("{k}: {}", v.text()));
                format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
            }
            Term::Cast(ty, term) => format!("({}){}", ty.text(), term.text()),
            Term::Call(function, arguments) => format!("{function}({})", join(arguments)),
        }
    }
}

/// USING of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Using {
    /// TIMESTAMP.
    pub timestamp: Option<Term>,
    /// TTL.
    pub ttl: Option<Term>,
    /// TIMEOUT.
    pub timeout: Option<Term>,
}

/// INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// Table.
    pub table: TableName,
    /// Columns in the order of the text.
    pub columns: Vec<String>,
    /// Their values.
    pub values: Vec<Term>,
    /// USING.
    pub using: Using,
    /// IF NOT EXISTS.
    pub conditions: Option<Conditions>,
}

/// IF of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conditions {
    /// IF NOT EXISTS.
    NotExists,
    /// IF EXISTS.
    Exists,
    /// IF column = …, joined by AND.
    Columns(Vec<ColumnCondition>),
}

/// One condition on a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnCondition {
    /// Column.
    pub column: String,
    /// Which part of it.
    pub part: Option<Accessor>,
    /// Comparison; `None` is `!=`, which WHERE does not know.
    pub operator: Option<Operator>,
    /// Right side.
    pub object: Object,
}

/// A part of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accessor {
    /// `[key]`, `[index]`.
    Key(Term),
    /// `.field`.
    Field(String),
}

impl Accessor {
    /// As written.
    pub fn text(&self) -> String {
        match self {
            Accessor::Key(term) => format!("[{}]", term.text()),
            Accessor::Field(name) => format!(".{name}"),
        }
    }
}

/// A change to what a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `c = c + term`.
    Add,
    /// `c = c - term`.
    Subtract,
    /// `c = term + c`.
    Prepend,
}

/// One operation of SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetOperation {
    /// `column = term`.
    Assign {
        /// Column.
        column: String,
        /// Value.
        value: Term,
    },
    /// `column = column + term` and its like, which only counters and collections know.
    Delta {
        /// Column.
        column: String,
        /// What.
        change: Change,
        /// Operand.
        value: Term,
    },
    /// `column[key] = term`, `column.field = term`.
    Part {
        /// Column.
        column: String,
        /// Which part.
        part: Accessor,
        /// Value.
        value: Term,
    },
}

impl SetOperation {
    /// The column.
    pub fn column(&self) -> &str {
        match self {
            SetOperation::Assign { column, .. }
            | SetOperation::Delta { column, .. }
            | SetOperation::Part { column, .. } => column,
        }
    }

    /// The operation as real servers print it. C prints `-` for the `+` of a prepending (seen).
    pub fn text(&self) -> String {
        match self {
            SetOperation::Assign { column, value } => format!("{column} = {}", value.text()),
            SetOperation::Delta { column, change, value } => match change {
                Change::Add => format!("{column} = {column} + {}", value.text()),
                Change::Subtract => format!("{column} = {column} - {}", value.text()),
                Change::Prepend => format!("{column} = {} - {column}", value.text()),
            },
            SetOperation::Part { column, part, value } => format!("{column}{} = {}", part.text(), value.text()),
        }
    }
}

/// UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Table.
    pub table: TableName,
    /// SET.
    pub set: Vec<SetOperation>,
    /// WHERE.
    pub relations: Vec<Relation>,
    /// USING.
    pub using: Using,
    /// IF.
    pub conditions: Option<Conditions>,
}

/// DELETE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Table.
    pub table: TableName,
    /// Columns, or parts of them; none means whole rows.
    pub columns: Vec<(String, Option<Accessor>)>,
    /// WHERE.
    pub relations: Vec<Relation>,
    /// USING.
    pub using: Using,
    /// IF.
    pub conditions: Option<Conditions>,
}

/// Kind of a batch in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// LOGGED, the default.
    Logged,
    /// UNLOGGED.
    Unlogged,
    /// COUNTER.
    Counter,
}

/// BEGIN … BATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Kind.
    pub kind: BatchKind,
    /// USING.
    pub using: Using,
    /// INSERT, UPDATE and DELETE only.
    pub statements: Vec<Statement>,
}

/// Comparison of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `IN`
    In,
    /// `CONTAINS`
    Contains,
    /// `CONTAINS KEY`
    ContainsKey,
}

impl Operator {
    /// As written.
    pub fn text(self) -> &'static str {
        match self {
            Operator::Eq => "=",
            Operator::Lt => "<",
            Operator::Le => "<=",
            Operator::Gt => ">",
            Operator::Ge => ">=",
            Operator::In => "IN",
            Operator::Contains => "CONTAINS",
            Operator::ContainsKey => "CONTAINS KEY",
        }
    }
}

/// Left side of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A column.
    Column(String),
    /// `column[key]`.
    Element(String, Term),
    /// `token(a, b)`.
    Token(Vec<String>),
    /// `(a, b)`.
    Tuple(Vec<String>),
}

/// Right side of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// One value; for IN a marker holding a list.
    One(Term),
    /// `(a, b, …)`: the values of IN, or of a tuple.
    Many(Vec<Term>),
}

/// One condition of WHERE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Left side.
    pub subject: Subject,
    /// Comparison.
    pub operator: Operator,
    /// Right side.
    pub object: Object,
}

impl Relation {
    /// What stands behind the column, as real servers print it.
    pub fn rest_text(&self) -> String {
        let object = match &self.object {
            Object::One(term) => term.text(),
            Object::Many(terms) => {
                let all: Vec<String> = terms.iter().map(Term::text).collect();
                format!("({})", all.join(", "))
            }
        };
        format!("{} {object}", self.operator.text())
    }
}

/// What a selector computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selectable {
    /// A column.
    Column(String),
    /// `WRITETIME(…)`, `MAXWRITETIME(…)`, `TTL(…)` of a column or a part of one; the name in lower case.
    Of(&'static str, Box<Selectable>),
    /// `COUNT(*)`, `COUNT(1)`.
    Count,
    /// `selectable[key]`.
    Element(Box<Selectable>, Term),
    /// `selectable.field`.
    Field(Box<Selectable>, String),
    /// `function(…)`, `token` and aggregates among them; the name in lower case.
    Call(String, Vec<Selectable>),
    /// `CAST(… AS type)`.
    Cast(Box<Selectable>, Box<TypeAst>),
    /// A constant.
    Term(Term),
}

/// One selected thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// What.
    pub selectable: Selectable,
    /// AS.
    pub alias: Option<String>,
}

/// SELECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// DISTINCT.
    pub distinct: bool,
    /// Selectors; none means `*`.
    pub selectors: Vec<Selector>,
    /// Table.
    pub table: TableName,
    /// WHERE.
    pub relations: Vec<Relation>,
    /// GROUP BY.
    pub group_by: Vec<String>,
    /// ORDER BY: column and whether descending.
    pub order_by: Vec<(String, bool)>,
    /// PER PARTITION LIMIT.
    pub per_partition_limit: Option<Term>,
    /// LIMIT.
    pub limit: Option<Term>,
    /// ALLOW FILTERING.
    pub allow_filtering: bool,
    /// USING TIMEOUT.
    pub timeout: Option<Term>,
}
