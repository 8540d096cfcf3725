//! The kinds of statements that are measured: what is sent, and what tells whether it took effect.

use crate::bind;
use crate::wire::{BatchStatement, Parameters, Request};
use scylla_cql::Consistency;
use serde::{Deserialize, Serialize};

/// A kind of statement. Each statement has a row (or two) of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A write at QUORUM.
    Write,
    /// A write at ALL.
    WriteAll,
    /// A LOGGED batch of two partitions.
    Logged,
    /// An UNLOGGED batch of two partitions.
    Unlogged,
    /// INSERT … IF NOT EXISTS.
    Cas,
    /// A counter plus one.
    Counter,
    /// A write to a table with a view, three copies of both.
    Viewed,
    /// The same with one copy of each: the rows of base and view lie on different nodes, mostly.
    ViewedOnce,
    /// A read at QUORUM of a row that is there.
    Read,
    /// A read at SERIAL of a row that is there.
    SerialRead,
}

impl Kind {
    /// All that are sent at an even pace.
    pub const ALL: [Kind; 10] = [
        Kind::Write,
        Kind::WriteAll,
        Kind::Logged,
        Kind::Unlogged,
        Kind::Cas,
        Kind::Counter,
        Kind::Viewed,
        Kind::ViewedOnce,
        Kind::Read,
        Kind::SerialRead,
    ];
    /// Those of which many are kept in flight.
    pub const IN_FLIGHT: [Kind; 2] = [Kind::Logged, Kind::Unlogged];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Write => "write at QUORUM",
            Kind::WriteAll => "write at ALL",
            Kind::Logged => "LOGGED batch of two partitions",
            Kind::Unlogged => "UNLOGGED batch of two partitions",
            Kind::Cas => "INSERT IF NOT EXISTS",
            Kind::Counter => "counter",
            Kind::Viewed => "write with a view",
            Kind::ViewedOnce => "write with a view, one copy",
            Kind::Read => "read at QUORUM",
            Kind::SerialRead => "read at SERIAL",
        }
    }

    /// Whether it writes, so that it can be asked whether it took effect.
    pub fn is_write(self) -> bool {
        !matches!(self, Kind::Read | Kind::SerialRead)
    }

    /// The request of the statement with this number.
    ///
    /// # Errors
    /// Never with the texts here.
    pub fn request(self, id: i64) -> Result<Request, String> {
        let query = |text: String| Ok(Request::Query(text, bind::values(&[])?));
        let batch = |kind| {
            let one = |table: &str| {
                Ok::<_, String>(BatchStatement {
                    what: Ok(format!("INSERT INTO freq.{table} (k, v) VALUES ({id}, 1)")),
                    values: bind::values(&[])?,
                })
            };
            // Two tables and two keys: the same key in both would be one mutation for Cassandra.
            let mut statements = vec![one("kv")?];
            statements.push(BatchStatement {
                what: Ok(format!("INSERT INTO freq.other (k, v) VALUES ({}, 1)", second(id))),
                values: bind::values(&[])?,
            });
            Ok(Request::Batch(kind, statements))
        };
        match self {
            Kind::Write | Kind::WriteAll => query(format!("INSERT INTO freq.kv (k, v) VALUES ({id}, 1)")),
            Kind::Logged => batch(0),
            Kind::Unlogged => batch(1),
            Kind::Cas => query(format!("INSERT INTO freq.kv (k, v) VALUES ({id}, 1) IF NOT EXISTS")),
            Kind::Counter => query(format!("UPDATE freq.hits SET n = n + 1 WHERE k = {id}")),
            Kind::Viewed => query(format!("INSERT INTO freq.base (k, g) VALUES ({id}, {})", second(id))),
            Kind::ViewedOnce => query(format!("INSERT INTO freq1.base (k, g) VALUES ({id}, {})", second(id))),
            Kind::Read | Kind::SerialRead => query("SELECT v FROM freq.fixed WHERE k = 1".into()),
        }
    }

    /// The level it is sent at.
    pub fn parameters(self) -> Parameters {
        parameters(match self {
            Kind::WriteAll => Consistency::All,
            Kind::SerialRead => Consistency::Serial,
            _ => Consistency::Quorum,
        })
    }

    /// Reads, each of which finds one part of its effect.
    pub fn looks(self, id: i64) -> Vec<String> {
        let kv = format!("SELECT k FROM freq.kv WHERE k = {id}");
        match self {
            Kind::Write | Kind::WriteAll | Kind::Cas => vec![kv],
            Kind::Logged | Kind::Unlogged => vec![kv, format!("SELECT k FROM freq.other WHERE k = {}", second(id))],
            Kind::Counter => vec![format!("SELECT n FROM freq.hits WHERE k = {id}")],
            Kind::Viewed => views("freq", id),
            Kind::ViewedOnce => views("freq1", id),
            Kind::Read | Kind::SerialRead => vec![],
        }
    }
}

fn views(keyspace: &str, id: i64) -> Vec<String> {
    vec![
        format!("SELECT k FROM {keyspace}.base WHERE k = {id}"),
        format!("SELECT k FROM {keyspace}.by_g WHERE g = {} AND k = {id}", second(id)),
    ]
}

/// The key of a statement's second row.
fn second(id: i64) -> i64 {
    -id
}

/// Parameters with nothing but a level.
pub fn parameters(level: Consistency) -> Parameters {
    Parameters {
        level,
        serial: None,
        timestamp: None,
        page: None,
        paging_state: None,
    }
}
