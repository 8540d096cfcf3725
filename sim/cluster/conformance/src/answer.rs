//! An answer of a server as lines of text: what cases expect, and what is compared.
//!
//! ```text
//! void
//! rows k:bigint v:text                      one line for each row follows: 1 | 'a'
//! more pages                                last line of rows with a paging state
//! prepared (k:bigint) key 0 -> v:text       markers, key markers, columns of the result
//! schema change CREATED TABLE conf t
//! keyspace conf
//! error 0x2200 TEXT
//! error 0x1100 WriteTimeout QUORUM received 1 required 2 SIMPLE: TEXT
//! warning TEXT                              one line for each warning, after the rest
//! ```
//!
//! The value of a `writetime(…)` column near the server's clock is `now`: no two runs agree on it.

use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::response::error::{DbError, Error, WriteType};
use scylla_cql::frame::response::event::{SchemaChangeEvent, SchemaChangeType};
use scylla_cql::frame::response::result::{
    CollectionType, ColumnSpec, ColumnType, Prepared, ResultWithDeserializedMetadata as Outcome,
};
use scylla_cql::value::{CqlValue, Row};

/// How far a write time may be from the clock to be `now`: the longest case, and clocks that are not quite equal.
const NOW_US: i64 = 120_000_000;

/// The lines of a result; `now_us` is the server's clock.
///
/// # Errors
/// Rows that are not what their metadata say.
pub fn of_result(outcome: &Outcome, now_us: i64) -> Result<Vec<String>, String> {
    Ok(match outcome {
        Outcome::Void => vec!["void".into()],
        Outcome::SetKeyspace(set) => vec![format!("keyspace {}", set.keyspace_name)],
        Outcome::SchemaChange(change) => vec![of_change(&change.event)],
        Outcome::Prepared(prepared) => vec![of_prepared(prepared)],
        Outcome::Rows((rows, paging)) => {
            let columns = rows.metadata().col_specs();
            let typed = rows.rows_iter::<Row>().map_err(|e| e.to_string())?;
            let found = typed.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            let mut lines = of_rows(columns, &found, now_us);
            if !paging.finished() {
                lines.push("more pages".into());
            }
            lines
        }
    })
}

/// The lines of rows.
pub fn of_rows(columns: &[ColumnSpec<'_>], rows: &[Row], now_us: i64) -> Vec<String> {
    let mut lines = vec![format!("rows {}", of_columns(columns)).trim_end().to_owned()];
    for row in rows {
        let cells = row.columns.iter().zip(columns);
        let cells: Vec<String> = cells.map(|(v, c)| of_cell(v.as_ref(), c, now_us)).collect();
        lines.push(cells.join(" | "));
    }
    lines
}

fn of_cell(value: Option<&CqlValue>, column: &ColumnSpec<'_>, now_us: i64) -> String {
    match value {
        None => "null".into(),
        Some(CqlValue::BigInt(us))
            if column.name().starts_with("writetime(") && us.abs_diff(now_us) < NOW_US as u64 =>
        {
            "now".into()
        }
        // An empty text is '' and an empty value of another type is not.
        Some(CqlValue::Empty) => "empty".into(),
        Some(value) => value.to_string(),
    }
}

fn of_columns(columns: &[ColumnSpec<'_>]) -> String {
    let one = |c: &ColumnSpec<'_>| format!("{}:{}", c.name(), of_type(c.typ()));
    columns.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn of_type(typ: &ColumnType<'_>) -> String {
    match typ {
        ColumnType::Native(native) => format!("{native:?}").to_lowercase(),
        ColumnType::Collection { typ, .. } => match typ {
            CollectionType::List(of) => format!("list<{}>", of_type(of)),
            CollectionType::Set(of) => format!("set<{}>", of_type(of)),
            CollectionType::Map(from, to) => format!("map<{},{}>", of_type(from), of_type(to)),
            other => format!("{other:?}"),
        },
        ColumnType::Vector { typ, dimensions } => format!("vector<{},{dimensions}>", of_type(typ)),
        ColumnType::UserDefinedType { definition, .. } => format!("{}.{}", definition.keyspace, definition.name),
        ColumnType::Tuple(items) => {
            let items: Vec<String> = items.iter().map(of_type).collect();
            format!("tuple<{}>", items.join(","))
        }
        other => format!("{other:?}"),
    }
}

fn of_prepared(prepared: &Prepared) -> String {
    let meta = &prepared.prepared_metadata;
    let mut line = format!("prepared ({})", of_columns(&meta.col_specs));
    if !meta.pk_indexes.is_empty() {
        let mut keys: Vec<_> = meta.pk_indexes.iter().collect();
        keys.sort_by_key(|k| k.sequence);
        line += " key";
        keys.iter().for_each(|k| line += &format!(" {}", k.index));
    }
    if prepared.result_metadata.col_count() > 0 {
        line += &format!(" -> {}", of_columns(prepared.result_metadata.col_specs()));
    }
    line
}

fn of_change(event: &SchemaChangeEvent) -> String {
    use SchemaChangeEvent::{AggregateChange, FunctionChange, KeyspaceChange, TableChange, TypeChange};
    match event {
        KeyspaceChange {
            change_type,
            keyspace_name,
        } => format!("schema change {} KEYSPACE {keyspace_name}", upper(change_type)),
        TableChange {
            change_type,
            keyspace_name,
            object_name,
        } => format!(
            "schema change {} TABLE {keyspace_name} {object_name}",
            upper(change_type)
        ),
        TypeChange {
            change_type,
            keyspace_name,
            type_name,
        } => format!("schema change {} TYPE {keyspace_name} {type_name}", upper(change_type)),
        FunctionChange { .. } | AggregateChange { .. } => format!("schema change {event:?}"),
    }
}

fn upper(change: &SchemaChangeType) -> String {
    format!("{change:?}").to_uppercase()
}

/// The line of an error.
pub fn of_error(error: &Error, features: &ProtocolFeatures) -> String {
    let code = error.error.code(features);
    let counts = of_counts(&error.error);
    // A text of several lines stays one line here.
    let text = without_addresses(&error.reason.replace('\n', "\\n"));
    match counts {
        Some(counts) => format!("error 0x{code:04x} {counts}: {text}"),
        None => format!("error 0x{code:04x} {text}"),
    }
}

/// Which replica failed, and how, is told by addresses; these are the backend's own.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split(" from /");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(',').map_or("", |at| &part[at..]);
        out.push_str(" from a node");
        out.push_str(rest);
    }
    out
}

fn of_counts(error: &DbError) -> Option<String> {
    let level = |c: &scylla_cql::Consistency| crate::wire::level_name(*c);
    Some(match error {
        DbError::Unavailable {
            consistency,
            required,
            alive,
        } => format!("Unavailable {} required {required} alive {alive}", level(consistency)),
        DbError::WriteTimeout {
            consistency,
            received,
            required,
            write_type,
        } => format!(
            "WriteTimeout {} received {received} required {required} {}",
            level(consistency),
            of_write_type(write_type)
        ),
        DbError::ReadTimeout {
            consistency,
            received,
            required,
            data_present,
        } => format!(
            "ReadTimeout {} received {received} required {required} data {data_present}",
            level(consistency)
        ),
        DbError::WriteFailure {
            consistency,
            received,
            required,
            numfailures,
            write_type,
        } => format!(
            "WriteFailure {} received {received} required {required} failed {numfailures} {}",
            level(consistency),
            of_write_type(write_type)
        ),
        DbError::ReadFailure {
            consistency,
            received,
            required,
            numfailures,
            data_present,
        } => format!(
            "ReadFailure {} received {received} required {required} failed {numfailures} data {data_present}",
            level(consistency)
        ),
        DbError::AlreadyExists { keyspace, table } => format!("AlreadyExists '{keyspace}' '{table}'"),
        DbError::Unprepared { statement_id } => format!("Unprepared {}", hex::encode(statement_id)),
        _ => return None,
    })
}

/// As it is on the wire.
fn of_write_type(write_type: &WriteType) -> &str {
    match write_type {
        WriteType::Simple => "SIMPLE",
        WriteType::Batch => "BATCH",
        WriteType::UnloggedBatch => "UNLOGGED_BATCH",
        WriteType::Counter => "COUNTER",
        WriteType::BatchLog => "BATCH_LOG",
        WriteType::Cas => "CAS",
        WriteType::View => "VIEW",
        WriteType::Cdc => "CDC",
        WriteType::Other(name) => name,
    }
}
