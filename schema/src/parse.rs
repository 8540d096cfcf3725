//! Reads the `CREATE TABLE` statements of this crate's own `.cql` files, so that a table's columns stand in one place
//! only. Not a CQL parser: it knows the one shape in which those files are written, and a file in another shape fails
//! the tests.

use std::fmt;

/// The types our tables use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CqlType {
    /// 64 bits, signed.
    Bigint,
    /// 32 bits, signed.
    Int,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
    /// True or false.
    Boolean,
    /// 64 bits, signed, that can only be added to. A table has counters alone beside its key, or none.
    Counter,
}

impl CqlType {
    const ALL: [Self; 6] = [
        Self::Bigint,
        Self::Int,
        Self::Text,
        Self::Blob,
        Self::Boolean,
        Self::Counter,
    ];

    /// The name in CQL and in `system_schema.columns`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Int => "int",
            Self::Text => "text",
            Self::Blob => "blob",
            Self::Boolean => "boolean",
            Self::Counter => "counter",
        }
    }
}

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The order of the rows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusteringOrder {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// What a column is in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnKind {
    /// Part of the partition key, at this place.
    PartitionKey(usize),
    /// A clustering column, at this place.
    Clustering(usize, ClusteringOrder),
    /// A value.
    Regular,
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartitionKey(place) => write!(f, "partition key {place}"),
            Self::Clustering(place, ClusteringOrder::Asc) => write!(f, "clustering {place} ascending"),
            Self::Clustering(place, ClusteringOrder::Desc) => write!(f, "clustering {place} descending"),
            Self::Regular => f.write_str("regular"),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub cql_type: CqlType,
    /// What it is in the table.
    pub kind: ColumnKind,
}

/// Why a `.cql` file cannot be read. Only a defect of this crate can cause it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the .cql file of table {table} is not in the expected shape: {detail}")]
pub struct ParseError {
    /// Which table.
    pub table: String,
    /// What was not understood.
    pub detail: String,
}

/// A `.cql` file without comments, without its closing semicolon, and with runs of white space made one blank.
#[must_use]
pub fn statement(file: &str) -> String {
    let mut words = Vec::new();
    for line in file.lines() {
        let code = line.split_once("--").map_or(line, |(before, _)| before);
        words.extend(code.split_whitespace());
    }
    words.join(" ").trim_end_matches(';').to_owned()
}

/// The columns of a `CREATE TABLE`, in the order in which the file lists them.
pub fn columns(table: &str, file: &str) -> Result<Vec<ColumnDef>, ParseError> {
    let problem = |detail: String| ParseError {
        table: table.to_owned(),
        detail,
    };
    let statement = statement(file);
    let (_, rest) = statement
        .split_once(" (")
        .ok_or_else(|| problem("no column list".into()))?;
    let (body, rest) = rest
        .split_once("PRIMARY KEY (")
        .ok_or_else(|| problem("no PRIMARY KEY".into()))?;
    let (key, options) = rest
        .split_once(") )")
        .ok_or_else(|| problem("PRIMARY KEY is not closed".into()))?;
    let (partition, clustering) = key
        .strip_prefix('(')
        .and_then(|key| key.split_once(')'))
        .ok_or_else(|| problem("no partition key".into()))?;
    let partition = names(partition);
    let clustering = names(clustering);
    let mut columns = Vec::new();
    for definition in body
        .split(',')
        .map(str::trim)
        .filter(|definition| !definition.is_empty())
    {
        let (name, type_name) = definition
            .split_once(' ')
            .ok_or_else(|| problem(format!("column {definition:?} has no type")))?;
        let cql_type = CqlType::ALL
            .into_iter()
            .find(|known| known.as_str() == type_name)
            .ok_or_else(|| problem(format!("column {name} has the unknown type {type_name}")))?;
        let place = |names: &[&str]| names.iter().position(|candidate| *candidate == name);
        let kind = match (place(&partition), place(&clustering)) {
            (Some(at), _) => ColumnKind::PartitionKey(at),
            (None, Some(at)) => ColumnKind::Clustering(at, order(options, name)),
            (None, None) => ColumnKind::Regular,
        };
        columns.push(ColumnDef {
            name: name.to_owned(),
            cql_type,
            kind,
        });
    }
    let keys = columns
        .iter()
        .filter(|column| column.kind != ColumnKind::Regular)
        .count();
    if keys != partition.len() + clustering.len() {
        return Err(problem("a key column is not among the columns".into()));
    }
    Ok(columns)
}

fn names(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn order(options: &str, column: &str) -> ClusteringOrder {
    if options.contains(&format!("{column} DESC")) {
        ClusteringOrder::Desc
    } else {
        ClusteringOrder::Asc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- Says what it is, with a (bracket) and a ; in it.\nCREATE TABLE IF NOT EXISTS {keyspace}.t (\n    \
        a bigint,\n    b int, -- the second\n    c text,\n    v blob,\n    PRIMARY KEY ((a, b), c)\n) WITH CLUSTERING \
        ORDER BY (c DESC);\n";

    #[test]
    fn a_statement_loses_its_comments_and_its_semicolon() {
        assert_eq!(
            statement(FILE),
            "CREATE TABLE IF NOT EXISTS {keyspace}.t ( a bigint, b int, c text, v blob, PRIMARY KEY ((a, b), c) ) \
             WITH CLUSTERING ORDER BY (c DESC)"
        );
    }

    #[test]
    fn columns_have_their_types_and_places() {
        let columns = columns("t", FILE).expect("is in shape");
        let kinds: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.cql_type, c.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("a", CqlType::Bigint, ColumnKind::PartitionKey(0)),
                ("b", CqlType::Int, ColumnKind::PartitionKey(1)),
                ("c", CqlType::Text, ColumnKind::Clustering(0, ClusteringOrder::Desc)),
                ("v", CqlType::Blob, ColumnKind::Regular),
            ]
        );
    }

    #[test]
    fn another_shape_is_an_error() {
        for (file, part) in [
            ("CREATE TABLE t (a bigint)", "no PRIMARY KEY"),
            ("CREATE TABLE t (a frozen, PRIMARY KEY ((a)) )", "unknown type frozen"),
            ("CREATE TABLE t (a bigint, PRIMARY KEY ((z)) )", "not among the columns"),
        ] {
            let error = columns("t", file).expect_err("must be refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
