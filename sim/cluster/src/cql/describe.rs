//! DESCRIBE, as servers answer it since Cassandra 4 and ScyllaDB 5: rows with names, or with the CQL that makes a thing
//! again. cqlsh sends what a person types as it is. Result columns and texts are those of Cassandra 5.0's
//! `DescribeStatement`; of table options those are told that were given, and the two that mean something here.

use super::bind::ddl_indexes;
use super::error::CqlError;
use super::frame::response::{self, Columns, RowsBody, put_bytes};
use super::parse::ast::{Describe, TableName};
use super::system::{self, NodeView};
use super::types;
use crate::model::{
    ClusteringOrder, Column, ColumnKind, CqlType, Index, Keyspace, Replication, Schema, Table, UserType, View,
};
use std::fmt::Write;

/// The answer: columns, number of rows, and the cells of all rows as they go to the wire.
#[derive(Debug)]
pub struct Description {
    columns: Columns,
    count: usize,
    cells: Vec<u8>,
}

impl Description {
    fn new(columns: &[&str]) -> Self {
        let specs = columns.iter().map(|c| (*c, &CqlType::Text));
        Self {
            columns: types::columns("system", "describe", specs),
            count: 0,
            cells: Vec::new(),
        }
    }

    /// Writes the answer: all rows in one page, as for system tables.
    pub fn put(&self, out: &mut Vec<u8>, stream: i16, warnings: &[String]) {
        let page = RowsBody {
            count: self.count,
            cells: &self.cells,
            paging_state: None,
        };
        response::rows(out, stream, warnings, &self.columns, false, &page);
    }

    fn row(&mut self, values: &[&str]) {
        self.count += 1;
        for value in values {
            put_bytes(&mut self.cells, Some(value.as_bytes()));
        }
    }
}

/// Answers a DESCRIBE on a connection that uses `keyspace`.
///
/// # Errors
/// 0x2200 for what is not there.
pub fn describe(node: &NodeView<'_>, keyspace: Option<&str>, what: &Describe) -> Result<Description, CqlError> {
    let mut names = Description::new(&["keyspace_name", "type", "name"]);
    let mut elements = Description::new(&["keyspace_name", "type", "name", "create_statement"]);
    match what {
        Describe::Cluster => {
            let mut answer = Description::new(&["cluster", "partitioner", "snitch"]);
            answer.row(&[&node.config.name, "Murmur3Partitioner", "SimpleSnitch"]);
            return Ok(answer);
        }
        Describe::Keyspaces => {
            for name in keyspace_names(node) {
                names.row(&[&name, "keyspace", &name]);
            }
            return Ok(names);
        }
        Describe::Tables => {
            for keyspace in keyspace.map_or_else(|| keyspace_names(node), |k| vec![k.to_owned()]) {
                for table in tables(node, &keyspace) {
                    names.row(&[&keyspace, "table", &table.name]);
                }
            }
            return Ok(names);
        }
        Describe::NoneOfThem => return Ok(names),
        Describe::Types => {
            for udt in node.schema.types.values() {
                if keyspace.is_none_or(|k| k == udt.keyspace) {
                    names.row(&[&udt.keyspace, "type", &udt.name]);
                }
            }
            return Ok(names);
        }
        Describe::Type(name) => {
            let keyspace = name.keyspace.as_deref().or(keyspace).ok_or_else(no_keyspace)?;
            let udt = node.schema.user_type(keyspace, &name.table).ok_or_else(|| {
                CqlError::invalid(format!("User defined type '{}' not found in '{keyspace}'", name.table))
            })?;
            put_type(udt, &mut elements);
        }
        Describe::Index(name) => {
            let keyspace = name.keyspace.as_deref().or(keyspace).ok_or_else(no_keyspace)?;
            let table = node.schema.index_table(keyspace, &name.table).ok_or_else(|| {
                CqlError::invalid(format!(
                    "Table for existing index '{}' not found in '{keyspace}'",
                    name.table
                ))
            })?;
            put_indexes(table, |index| index.name == name.table, &mut elements);
        }
        Describe::Schema => {
            for keyspace in node.schema.keyspaces.values() {
                put_keyspace(node, keyspace, false, &mut elements);
            }
        }
        Describe::Keyspace { name, only } => {
            let name = name.as_deref().or(keyspace).ok_or_else(no_keyspace)?;
            put_keyspace(node, find_keyspace(node, name)?, *only, &mut elements);
        }
        Describe::Table(name) => {
            let table = find_table(node, keyspace, name).map_err(|e| {
                match e.message.strip_prefix(&format!("'{}' not", name.table)) {
                    Some(rest) => CqlError::invalid(format!("Table '{}' not{rest}", name.table)),
                    None => e,
                }
            })?;
            put_table(node, &table, &mut elements);
        }
        Describe::View(name) => put_view(node, &find_view(node, keyspace, name)?, &mut elements),
        Describe::Other(name) => {
            // A keyspace, or else a table.
            match node
                .schema
                .keyspaces
                .get(&name.table)
                .filter(|_| name.keyspace.is_none())
            {
                Some(found) => put_keyspace(node, found, false, &mut elements),
                None => match find_view(node, keyspace, name) {
                    Ok(view) => put_view(node, &view, &mut elements),
                    Err(_) => put_table(node, &find_table(node, keyspace, name)?, &mut elements),
                },
            }
        }
    }
    Ok(elements)
}

fn no_keyspace() -> CqlError {
    CqlError::invalid("No keyspace specified and no current keyspace")
}

fn not_a_keyspace(name: &str) -> CqlError {
    CqlError::invalid(format!("'{name}' not found in keyspaces"))
}

/// All keyspaces by name, the server's own among them.
fn keyspace_names(node: &NodeView<'_>) -> Vec<String> {
    let own = node.own_tables().map(|t| t.keyspace);
    let mut names: Vec<String> = node.schema.keyspaces.keys().cloned().chain(own).collect();
    names.sort();
    names.dedup();
    names
}

/// The tables of a keyspace by name, without views.
fn tables(node: &NodeView<'_>, keyspace: &str) -> Vec<Table> {
    let ids = node
        .schema
        .keyspaces
        .get(keyspace)
        .into_iter()
        .flat_map(|k| k.tables.values());
    let ids = ids.filter(|id| node.schema.view(**id).is_none());
    let users = ids.filter_map(|id| node.schema.table(*id)).map(|t| Table::clone(t));
    let own = node.own_tables().filter(|t| t.keyspace == keyspace);
    let mut tables: Vec<Table> = users.chain(own).collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

fn find_keyspace<'a>(node: &NodeView<'a>, name: &str) -> Result<&'a Keyspace, CqlError> {
    if system::is_system_keyspace(name) && keyspace_names(node).iter().any(|n| n == name) {
        return Err(CqlError::unsupported(format!(
            "DESCRIBE KEYSPACE {name}, the server's own"
        )));
    }
    let schema: &'a _ = node.schema;
    schema.keyspaces.get(name).ok_or_else(|| not_a_keyspace(name))
}

fn find_table(node: &NodeView<'_>, keyspace: Option<&str>, name: &TableName) -> Result<Table, CqlError> {
    let keyspace = name.keyspace.as_deref().or(keyspace).ok_or_else(no_keyspace)?;
    if !keyspace_names(node).iter().any(|k| k == keyspace) {
        return Err(not_a_keyspace(keyspace));
    }
    let mut found = tables(node, keyspace).into_iter().filter(|t| t.name == name.table);
    found
        .next()
        .ok_or_else(|| CqlError::invalid(format!("'{}' not found in keyspace '{keyspace}'", name.table)))
}

fn find_view(node: &NodeView<'_>, keyspace: Option<&str>, name: &TableName) -> Result<Table, CqlError> {
    let keyspace = name.keyspace.as_deref().or(keyspace).ok_or_else(no_keyspace)?;
    if !keyspace_names(node).iter().any(|k| k == keyspace) {
        return Err(not_a_keyspace(keyspace));
    }
    let view = node.schema.view_named(keyspace, &name.table);
    let table = view.and_then(|v| node.schema.table(v.table));
    table
        .map(|t| Table::clone(t))
        .ok_or_else(|| CqlError::invalid(format!("Materialized view '{}' not found in '{keyspace}'", name.table)))
}

fn put_keyspace(node: &NodeView<'_>, keyspace: &Keyspace, only: bool, out: &mut Description) {
    let name = &keyspace.name;
    let mut options = vec![];
    match &keyspace.replication {
        Replication::Simple { factor } => {
            options.push(("class".to_owned(), "SimpleStrategy".to_owned()));
            options.push(("replication_factor".to_owned(), factor.to_string()));
        }
        Replication::NetworkTopology(factors) => {
            options.push(("class".to_owned(), "NetworkTopologyStrategy".to_owned()));
            options.extend(factors.iter().map(|(dc, n)| (dc.clone(), n.to_string())));
        }
    }
    let options: Vec<String> = options.iter().map(|(k, v)| format!("'{k}': '{v}'")).collect();
    let text = format!(
        "CREATE KEYSPACE {} WITH replication = {{{}}}  AND durable_writes = {};",
        identifier(name),
        options.join(", "),
        keyspace.durable_writes
    );
    out.row(&[name, "keyspace", name, &text]);
    if !only {
        types_in_order(node, name).into_iter().for_each(|t| put_type(t, out));
        tables(node, name).iter().for_each(|t| put_table(node, t, out));
    }
}

/// The types of a keyspace, each behind those that it uses.
fn types_in_order<'a>(node: &NodeView<'a>, keyspace: &str) -> Vec<&'a UserType> {
    let schema: &'a Schema = node.schema;
    let mut left: Vec<&UserType> = schema.types.values().filter(|t| t.keyspace == keyspace).collect();
    let mut ordered: Vec<&UserType> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let uses_left = |t: &UserType| {
            let uses = |other: &&UserType| t.fields.iter().any(|(_, ty)| ty.uses(keyspace, &other.name));
            left.iter().any(uses)
        };
        let next = left.iter().position(|t| !uses_left(t)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

fn put_type(udt: &UserType, out: &mut Description) {
    let fields: Vec<String> = udt
        .fields
        .iter()
        .map(|(name, ty)| format!("    {} {}", identifier(name), types::name(ty)))
        .collect();
    let text = format!(
        "CREATE TYPE {}.{} (\n{}\n);",
        identifier(&udt.keyspace),
        identifier(&udt.name),
        fields.join(",\n")
    );
    out.row(&[&udt.keyspace, "type", &udt.name, &text]);
}

/// A table, and behind it its views.
fn put_table(node: &NodeView<'_>, table: &Table, out: &mut Description) {
    out.row(&[&table.keyspace, "table", &table.name, &create_table(table)]);
    put_indexes(table, |_| true, out);
    let views = node.schema.views_of(table.id);
    for view in views.filter_map(|v| node.schema.table(v.table)) {
        put_view(node, view, out);
    }
}

fn put_view(node: &NodeView<'_>, table: &Table, out: &mut Description) {
    if let Some(view) = node.schema.view(table.id)
        && let Some(base) = node.schema.table(view.base)
    {
        let text = create_view(view, table, base);
        out.row(&[&table.keyspace, "materialized_view", &table.name, &text]);
    }
}

fn create_view(view: &View, table: &Table, base: &Table) -> String {
    let mut columns: Vec<&Column> = table.values().iter().collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let keys = table.partition_key().iter().chain(table.clustering());
    let columns: Vec<String> = keys.chain(columns).map(|c| identifier(&c.name)).collect();
    let selected = if view.includes_all {
        "*".to_owned()
    } else {
        columns.join(", ")
    };
    format!(
        "CREATE MATERIALIZED VIEW {}.{} AS\n    SELECT {selected}\n    FROM {}.{}\n    WHERE {}\n    {}\n WITH {};",
        identifier(&table.keyspace),
        identifier(&table.name),
        identifier(&base.keyspace),
        identifier(&base.name),
        view.where_text(identifier),
        primary_key(table),
        properties(table, true)
    )
}

/// `PRIMARY KEY (…)`.
fn primary_key(table: &Table) -> String {
    let partition = names(table.partition_key());
    let partition = if table.partition_columns > 1 {
        format!("({partition})")
    } else {
        partition
    };
    let clustering = table.clustering().iter();
    let clustering: String = clustering.map(|c| format!(", {}", identifier(&c.name))).collect();
    format!("PRIMARY KEY ({partition}{clustering})")
}

/// What stands behind WITH. Views have no TTL of their own.
fn properties(table: &Table, is_view: bool) -> String {
    let mut text = String::new();
    if table.clustering_columns > 0 {
        let order = |c: &Column| {
            let order = if c.order == ClusteringOrder::Desc {
                "DESC"
            } else {
                "ASC"
            };
            format!("{} {order}", identifier(&c.name))
        };
        let orders: Vec<String> = table.clustering().iter().map(order).collect();
        text += &format!("CLUSTERING ORDER BY ({})\n    AND ", orders.join(", "));
    }
    let mut options: Vec<(&str, String)> = table
        .options
        .other
        .iter()
        .map(|(k, v)| (&k[..], option(k, v)))
        .collect();
    if !is_view {
        options.push(("default_time_to_live", table.options.default_ttl_s.to_string()));
    }
    options.push(("gc_grace_seconds", table.options.gc_grace_s.to_string()));
    options.sort();
    let options: Vec<String> = options.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    text + &options.join("\n    AND ")
}

fn put_indexes(table: &Table, wanted: impl Fn(&Index) -> bool, out: &mut Description) {
    for index in table.indexes.iter().filter(|i| wanted(i)) {
        let text = ddl_indexes::statement(table, index);
        out.row(&[&table.keyspace, "index", &index.name, &text]);
    }
}

fn create_table(table: &Table) -> String {
    let mut text = format!(
        "CREATE TABLE {}.{} (\n",
        identifier(&table.keyspace),
        identifier(&table.name)
    );
    let is_single = table.partition_columns == 1 && table.clustering_columns == 0;
    let mut values: Vec<&Column> = table.values().iter().collect();
    // Static ones first, and what is made of several cells last (C `ColumnMetadata.comparisonOrder`, seen).
    values.sort_by_key(|c| (c.kind != ColumnKind::Static, c.ty.is_multicell(), &c.name));
    let keys = table.partition_key().iter().chain(table.clustering());
    let mut lines: Vec<String> = Vec::new();
    for column in keys.chain(values) {
        let suffix = match column.kind {
            ColumnKind::PartitionKey if is_single => " PRIMARY KEY",
            ColumnKind::Static => " static",
            _ => "",
        };
        lines.push(format!(
            "    {} {}{suffix}",
            identifier(&column.name),
            types::name(&column.ty)
        ));
    }
    if !is_single {
        lines.push(format!("    {}", primary_key(table)));
    }
    text += &lines.join(",\n");
    text += "\n) WITH ";
    // Writing to a string cannot fail.
    let _written = write!(text, "{};", properties(table, false));
    text
}

/// An option kept as text, as it has to be written: maps, numbers and truth values as they are, the rest in quotes.
fn option(name: &str, value: &str) -> String {
    let is_plain = value.starts_with('{') || value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
    if is_plain && name != "comment" {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|c| identifier(&c.name)).collect();
    names.join(", ")
}

/// A name as it has to be written: in double quotes unless it is an unreserved word in lower case.
pub fn identifier(name: &str) -> String {
    let mut chars = name.chars();
    let is_word = chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_word && !super::parse::is_reserved(name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::ClusterConfig;
    use crate::core::flavor::Flavor;
    use crate::core::ring::Ring;
    use crate::cql::bind::ddl::schema_image;
    use crate::cql::front::server;
    use crate::cql::parse::{ast::Statement, parse};
    use crate::model::NodeIdx;
    use std::sync::Arc;

    const DDL: [&str; 3] = [
        "CREATE KEYSPACE \"Odd\" WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
        "CREATE TABLE \"Odd\".t (a int, b text, c int, d timeuuid, s text static, \"Z z\" map<text, frozen<list<int>>>, \
         \"table\" blob, PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s' AND \
         compaction = {'class': 'LeveledCompactionStrategy'} AND gc_grace_seconds = 5 AND crc_check_chance = 0.5",
        "CREATE TABLE \"Odd\".u (k int PRIMARY KEY, v text)",
    ];

    /// The last column of every row of the answer on a node with this schema.
    fn told(schema: Schema, text: &str, lists_own_tables: bool) -> Result<Vec<String>, String> {
        let config = ClusterConfig::new(1, Flavor::Cassandra);
        let (ring, schema) = (Ring::new(&config), Arc::new(schema));
        let node = NodeView {
            wall_us: 0,
            config: &config,
            ring: &ring,
            me: NodeIdx(0),
            generation: 1,
            port: 9042,
            schema: &schema,
            lists_own_tables,
            facts: &[],
            view_builds: &crate::core::ViewBuilds::new(),
        };
        let Ok(Statement::Describe(what)) = parse(text).map(|p| p.statement) else {
            panic!("not a DESCRIBE: {text}");
        };
        let answer = describe(&node, Some("Odd"), &what).map_err(|e| e.message)?;
        let mut cells = &answer.cells[..];
        let mut texts = Vec::new();
        while let Some((length, rest)) = cells.split_first_chunk::<4>() {
            let (text, rest) = rest.split_at(i32::from_be_bytes(*length) as usize);
            texts.push(String::from_utf8_lossy(text).into_owned());
            cells = rest;
        }
        Ok(texts
            .chunks(answer.columns.count)
            .map(|row| row[answer.columns.count - 1].clone())
            .collect())
    }

    fn image(ddl: &[&str]) -> Schema {
        let config = ClusterConfig::new(1, Flavor::Cassandra);
        schema_image(&server(&config), ddl).expect("a schema")
    }

    #[test]
    fn what_is_told_makes_the_same_schema_again() {
        let first = image(&DDL);
        let statements = told(first.clone(), "DESC SCHEMA", false).expect("is there");
        assert_eq!(statements.len(), 3);
        let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
        let again = image(&texts);
        for table in ["t", "u"] {
            let (old, new) = (first.table_named("Odd", table), again.table_named("Odd", table));
            let (old, new) = (old.expect("is there"), new.expect("is there"));
            assert_eq!(old.options, new.options);
            assert_eq!(
                (old.partition_key(), old.clustering()),
                (new.partition_key(), new.clustering())
            );
            let columns = |t: &Table| -> Vec<_> {
                let mut columns: Vec<_> = t
                    .values()
                    .iter()
                    .map(|c| (c.name.clone(), c.kind, c.ty.clone()))
                    .collect();
                columns.sort_by(|a, b| a.0.cmp(&b.0));
                columns
            };
            assert_eq!(columns(old), columns(new));
        }
        assert_eq!(first.keyspaces["Odd"].replication, again.keyspaces["Odd"].replication);
    }

    #[test]
    fn names_are_listed_and_what_is_not_there_is_refused() {
        let told = |text: &str| told(image(&DDL), text, true);
        assert_eq!(told("DESCRIBE TABLES").expect("a list"), ["t", "u"]);
        assert_eq!(
            told("DESC KEYSPACES;").expect("a list"),
            ["Odd", "system", "system_distributed", "system_schema", "system_traces"]
        );
        assert_eq!(told("DESC FUNCTIONS").expect("a list"), [""; 0]);
        assert_eq!(told("DESC ONLY KEYSPACE \"Odd\"").expect("one").len(), 1);
        assert_eq!(told("DESC KEYSPACE").expect("the connection's").len(), 3);
        assert_eq!(
            told("DESC u").expect("a table"),
            told("DESC TABLE \"Odd\".u").expect("a table")
        );
        assert_eq!(
            told("DESC type").expect_err("a name"),
            "'type' not found in keyspace 'Odd'"
        );
        assert_eq!(
            told("DESC TABLE a.b").expect_err("no keyspace"),
            "'a' not found in keyspaces"
        );
        assert_eq!(
            told("DESC KEYSPACE a").expect_err("no keyspace"),
            "'a' not found in keyspaces"
        );
    }
}
