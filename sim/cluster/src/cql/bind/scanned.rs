//! What a client is told of a read that came across many tombstones, in Cassandra's words: it shows the query as the replica
//! got it, one partition at a time, with the page's size as its limit (seen).

use super::relations::Restriction;
use super::select::{Item, SelectPlan};
use crate::cql::casts;
use crate::cql::frame::Value;
use crate::model::{Column, ColumnKind, CqlType, PartitionKey, Scanned, partition_key_components};

/// The warning; `limit` is how many rows the answer may have.
pub fn warning(
    select: &SelectPlan,
    bound: &[Value<'_>],
    (partition, scanned): (Option<&PartitionKey>, Scanned),
    limit: u32,
) -> String {
    let (live, tombstones, token) = (scanned.live, scanned.tombstones, scanned.token.0);
    let query = query(select, bound, partition, limit);
    format!(
        "Read {live} live rows and {tombstones} tombstone cells for query {query}; token {token} (see \
         tombstone_warn_threshold)"
    )
}

fn query(select: &SelectPlan, bound: &[Value<'_>], partition: Option<&PartitionKey>, limit: u32) -> String {
    let table = &select.table;
    let mut relations = partition.map_or_else(Vec::new, |key| of_partition(table.partition_key(), key));
    for (i, restriction) in &select.all {
        let column = &table.columns[*i];
        if column.kind != ColumnKind::PartitionKey || partition.is_none() {
            of_restriction(column, restriction, bound, &mut relations);
        }
    }
    let filter = match relations.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", relations.join(" AND ")),
    };
    let order = match select.reversed {
        false => String::new(),
        true => {
            let columns: Vec<String> = table.clustering().iter().map(|c| format!("{} DESC", c.name)).collect();
            format!(" ORDER BY {}", columns.join(", "))
        }
    };
    let limit = match limit {
        u32::MAX => String::new(),
        n => format!(" LIMIT {n}"),
    };
    let (columns, keyspace, name) = (columns(select), &table.keyspace, &table.name);
    format!("SELECT {columns} FROM {keyspace}.{name}{filter}{order}{limit} ALLOW FILTERING")
}

/// The columns beside the key; `*` if all there are are selected, or none of these.
fn columns(select: &SelectPlan) -> String {
    let column = |item: &Item| match item {
        Item::Column(i) | Item::Elements(i) | Item::WriteTime(i) | Item::Ttl(i) => select.table.columns.get(*i),
        Item::Token | Item::Expr(_) => None,
    };
    let mut named: Vec<&Column> = select.items.iter().filter_map(|(item, _)| column(item)).collect();
    named.sort_unstable_by_key(|c| &c.name);
    named.dedup_by_key(|c| &c.name);
    let is_cell = |c: &&&Column| matches!(c.kind, ColumnKind::Static | ColumnKind::Regular);
    let cells: Vec<&str> = named.iter().filter(is_cell).map(|c| &*c.name).collect();
    if cells.is_empty() || named.len() == select.table.columns.len() {
        return "*".into();
    }
    cells.join(", ")
}

fn of_partition(columns: &[Column], key: &PartitionKey) -> Vec<String> {
    let values = partition_key_components(&key.bytes, columns.len()).unwrap_or_default();
    let relation = |(c, value): (&Column, &[u8])| format!("{} = {}", c.name, literal(&c.ty, value));
    columns.iter().zip(values).map(relation).collect()
}

fn of_restriction(column: &Column, restriction: &Restriction, bound: &[Value<'_>], out: &mut Vec<String>) {
    let mut relation = |word: &str, value: Value<'_>| {
        if let Value::Bytes(value) = value {
            out.push(format!("{} {word} {}", column.name, literal(&column.ty, value)));
        }
    };
    match restriction {
        Restriction::Eq(value) => relation("=", value.value(bound)),
        Restriction::Slice { lower, upper } => {
            for (side, open, closed) in [(lower, ">", ">="), (upper, "<", "<=")] {
                if let Some((value, inclusive)) = side {
                    relation(if *inclusive { closed } else { open }, value.value(bound));
                }
            }
        }
        Restriction::In(_) | Restriction::Holds(_) => {}
    }
}

fn literal(ty: &CqlType, value: &[u8]) -> String {
    let text = casts::text(ty, value);
    match ty.unfrozen() {
        CqlType::Text | CqlType::Ascii | CqlType::Timestamp | CqlType::Date | CqlType::Time | CqlType::Inet => {
            format!("'{}'", text.replace('\'', "''"))
        }
        _ => text,
    }
}
