//! What start-up reads in the tables before it believes or writes anything: are these the books of our stream, and are
//! their rows written by settlement? Two streams in one keyspace would overwrite each other's rows under equal
//! timestamps, and a row written by hand, under a clock's timestamp, outranks every version for ever (rule 2).
//!
//! Start-up looks at a bounded number of rows of each table, so that its cost does not grow with the books; it finds a
//! wrong keyspace and a tool that writes, not a single bad row in a million. Columns and types are `schema::check`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use schema::{ColumnKind, RowTimestamp, TableDef, TimestampRule, keys};
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::{Consistency, Statement};
use scylla::value::{CqlValue, Row};
use settlement_events::{Digest, OutputSequence};

use crate::config::Config;

/// The table that names its stream.
const CHECKPOINT: &str = "settlement_checkpoint";
/// How long a node may take to say which streams it knows: a healthy one takes milliseconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Rows that are looked at in each table.
const ROWS_MAX: usize = 32;
/// Events behind the durable one whose identity is read.
const EVENTS_MAX: usize = 64;

/// Digests that `settled_events` holds, by event.
pub type Identities = BTreeMap<OutputSequence, Digest>;

/// Why the rows of a keyspace are not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The database did not answer.
    #[error(
        "table {table} cannot be read: {source}. Check that the nodes are up and that the user may read it; nothing was \
         changed"
    )]
    Database {
        /// With its keyspace.
        table: String,
        /// What the driver says.
        source: Box<ExecutionError>,
    },
    /// The books of another stream.
    #[error(
        "keyspace {keyspace} holds the books of stream {found:?}, not of stream {expected:?}: two streams in one \
         keyspace would overwrite each other's rows. Set `stream` or `keyspace` to the one that was meant; nothing was \
         changed"
    )]
    OtherStream {
        /// Where.
        keyspace: String,
        /// Whose.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A row that settlement cannot have written.
    #[error(
        "a row of table {table} was not written by settlement: {detail}. Rows of this keyspace carry timestamps made of \
         versions, so that a write by hand or by another program outranks them for ever. Find out what wrote it, and \
         that `keyspace` is the one that was meant; nothing was changed"
    )]
    Timestamp {
        /// With its keyspace.
        table: String,
        /// Which row, and what is wrong with it.
        detail: String,
    },
    /// An event with another content than the one that is here.
    #[error(
        "event {sequence} is settled in keyspace {keyspace} with digest {found:.16}, and here it has digest {ours:.16}: \
         one of them belongs to another stream. Check `keyspace`, `stream` and `data_dir`; nothing was changed"
    )]
    OtherContent {
        /// Which event.
        sequence: OutputSequence,
        /// Where.
        keyspace: String,
        /// The digest in the keyspace.
        found: Digest,
        /// The digest of the checkpoint or of the WAL.
        ours: Digest,
    },
}

impl ForeignError {
    /// Whether trying again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Database { .. })
    }
}

/// Checks that the keyspace has no other stream's books and no rows that settlement cannot have written.
pub async fn check(session: &Session, config: &Config, defs: &[TableDef]) -> Result<(), ForeignError> {
    check_streams(session, config).await?;
    let pinned = defs.iter().filter(|def| def.is_pinned());
    try_join_all(pinned.map(|def| check_rows(session, config.keyspace(), def))).await?;
    Ok(())
}

/// Every node is asked by itself, and a majority has to answer: as strong as a quorum where each node has every row, without
/// the wait for a frozen one that a scan at QUORUM would be.
async fn check_streams(session: &Session, config: &Config) -> Result<(), ForeignError> {
    let table = format!("{}.{CHECKPOINT}", config.keyspace());
    let query = format!("SELECT stream FROM {table} LIMIT {ROWS_MAX}");
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let questions = nodes.iter().map(|node| {
        let mut question = Statement::new(query.as_str());
        question.set_consistency(Consistency::LocalOne);
        question.set_request_timeout(Some(ANSWER_PATIENCE));
        let target = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None);
        question.set_load_balancing_policy(Some(target));
        read(session, &table, question)
    });
    let (answers, failures): (Vec<_>, Vec<_>) = join_all(questions).await.into_iter().partition(Result::is_ok);
    if answers.len() <= nodes.len() / 2
        && let Some(Err(error)) = failures.into_iter().next()
    {
        return Err(error);
    }
    for row in answers.into_iter().flatten().flatten() {
        if let Some(Some(CqlValue::Text(found))) = row.columns.into_iter().next()
            && found != config.stream
        {
            return Err(ForeignError::OtherStream {
                keyspace: config.keyspace().to_owned(),
                found,
                expected: config.stream.clone(),
            });
        }
    }
    Ok(())
}

/// Checks `WRITETIME(row) = f(row)` of some rows.
async fn check_rows(session: &Session, keyspace: &str, def: &TableDef) -> Result<(), ForeignError> {
    let values: Vec<&str> = def
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnKind::Regular))
        .map(|column| column.name.as_str())
        .collect();
    let times: Vec<String> = values.iter().map(|name| format!("WRITETIME({name})")).collect();
    let version = match def.timestamp {
        TimestampRule::FromColumn(column) => column,
        // The version is a constant, so any column will do in its place.
        TimestampRule::Fixed(_) => &def.columns[0].name,
        TimestampRule::ServerClock => return Ok(()),
    };
    let table = format!("{keyspace}.{}", def.name);
    let query = format!("SELECT {version}, {} FROM {table} LIMIT {ROWS_MAX}", times.join(", "));
    for row in look(session, &table, query).await? {
        let mut cells = row.columns.into_iter();
        let first = cells.next().flatten();
        let times: Vec<Option<i64>> = cells.map(|cell| cell.as_ref().and_then(CqlValue::as_bigint)).collect();
        row_is_ours(def.timestamp, first.as_ref(), &values, &times).map_err(|detail| ForeignError::Timestamp {
            table: table.clone(),
            detail,
        })?;
    }
    Ok(())
}

/// Whether the timestamps of a row's values are those of its version; `None` for a value that is not set.
fn row_is_ours(
    rule: TimestampRule,
    first: Option<&CqlValue>,
    values: &[&str],
    times: &[Option<i64>],
) -> Result<(), String> {
    let (what, version) = match rule {
        TimestampRule::ServerClock => return Ok(()),
        TimestampRule::Fixed(version) => ("version".to_owned(), Some(version)),
        TimestampRule::FromColumn(column) => {
            let number = first.and_then(CqlValue::as_bigint);
            (column.to_owned(), number.and_then(|number| u64::try_from(number).ok()))
        }
    };
    let Some(version) = version else {
        return Err(format!("its {what} is empty or negative"));
    };
    for (value, time) in values.iter().zip(times) {
        let Some(micros) = time else { continue };
        let is_ours = RowTimestamp::from_micros(*micros).is_ok_and(|stamp| stamp.version() == version);
        if !is_ours {
            return Err(format!(
                "where {what} is {version}, the timestamp of {value} is {micros}, which is not {version} << 12 and a \
                 generation"
            ));
        }
    }
    Ok(())
}

/// What `settled_events` holds of the events behind `after`, at most of the first [`EVENTS_MAX`].
pub async fn identities(session: &Session, config: &Config, after: OutputSequence) -> Result<Identities, ForeignError> {
    let table = format!("{}.settled_events", config.keyspace());
    let first = OutputSequence(after.0.saturating_add(1));
    let bucket = keys::bucket(first);
    let query = format!(
        "SELECT output_sequence, digest FROM {table} WHERE bucket = {bucket} AND output_sequence >= {first} LIMIT \
         {EVENTS_MAX}"
    );
    let mut identities = Identities::new();
    for row in read(session, &table, query).await? {
        if let [Some(CqlValue::BigInt(sequence)), Some(CqlValue::Blob(digest))] = row.columns.as_slice()
            && let (Ok(sequence), Ok(digest)) = (u64::try_from(*sequence), digest.as_slice().try_into())
        {
            identities.insert(OutputSequence(sequence), Digest(digest));
        }
    }
    Ok(identities)
}

/// Checks that the events which are settled are those that are here.
pub fn compare(
    config: &Config,
    settled: &Identities,
    here: impl Fn(OutputSequence) -> Option<Digest>,
) -> Result<(), ForeignError> {
    for (&sequence, &found) in settled {
        if let Some(ours) = here(sequence)
            && ours != found
        {
            return Err(ForeignError::OtherContent {
                sequence,
                keyspace: config.keyspace().to_owned(),
                found,
                ours,
            });
        }
    }
    Ok(())
}

/// Some rows of a table, wherever they are. One replica is enough for that: no server asks another one when a replica that
/// it chose for a scan is silent, so that a scan at QUORUM beside a frozen node takes its whole timeout, 10 s.
async fn look(session: &Session, table: &str, query: String) -> Result<Vec<Row>, ForeignError> {
    let mut query = Statement::new(query);
    query.set_consistency(Consistency::LocalOne);
    read(session, table, query).await
}

async fn read(session: &Session, table: &str, query: impl Into<Statement>) -> Result<Vec<Row>, ForeignError> {
    let result = session.query_unpaged(query, ()).await;
    let result = result.map_err(|source| ForeignError::Database {
        table: table.to_owned(),
        source: Box::new(source),
    })?;
    let unreadable = |detail: String| ForeignError::Timestamp {
        table: table.to_owned(),
        detail,
    };
    let rows = result
        .into_rows_result()
        .map_err(|error| unreadable(error.to_string()))?;
    let rows = rows.rows::<Row>().map_err(|error| unreadable(error.to_string()))?;
    rows.collect::<Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_ours_when_every_value_carries_its_own_version() {
        let rule = TimestampRule::FromColumn("version");
        let version = CqlValue::BigInt(77);
        let ours = |times: &[Option<i64>]| row_is_ours(rule, Some(&version), &["avail", "frozen"], times);
        let stamp = (77 << 12) | 3;
        assert_eq!(ours(&[Some(stamp), Some(stamp)]), Ok(()));
        assert_eq!(
            ours(&[Some(stamp), None]),
            Ok(()),
            "a value that is not set has no timestamp"
        );
        let by_a_clock = ours(&[Some(stamp), Some(1_700_000_000_000_000)]).expect_err("must be refused");
        insta::assert_snapshot!(by_a_clock, @"where version is 77, the timestamp of frozen is 1700000000000000, which is not 77 << 12 and a generation");
        assert!(ours(&[Some(78 << 12), None]).is_err(), "another version's");
        assert!(
            row_is_ours(rule, None, &[], &[]).is_err()
                && row_is_ours(rule, Some(&CqlValue::BigInt(-1)), &[], &[]).is_err()
        );
        assert_eq!(
            row_is_ours(TimestampRule::Fixed(1), None, &["statement"], &[Some(1 << 12)]),
            Ok(())
        );
        assert_eq!(
            row_is_ours(TimestampRule::ServerClock, None, &["a"], &[Some(5)]),
            Ok(())
        );
    }
}
