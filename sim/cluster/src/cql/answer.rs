//! What the core answers, in the words of the flavour: error codes and texts, warnings, and the options a server says it
//! supports. Sources of the texts: Cassandra 5.0.5 as observed; ScyllaDB's `exceptions/exceptions.cc`.

use super::bind::ddl::schema_error;
use super::dialect::Dialect;
use super::error::{CqlError, Detail};
use super::frame::{BODY_BYTES_MAX, VERSION, lowest, v5};
use super::system::NodeView;
use crate::core::config::ClusterConfig;
use crate::core::flavor::Flavor;
use crate::model::{Consistency, CoordinatorError, FailureReason, NodeIdx, Schema, Table, TableId, Warning, WriteType};

/// Scylla ignores this many of a token's high bits when it picks a shard.
const SHARDING_IGNORE_MSB: u32 = 12;

/// What the words of an error depend on.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// The flavour.
    pub flavor: Flavor,
    /// The cluster, for addresses of nodes.
    pub config: &'a ClusterConfig,
    /// The first table of the request.
    pub table: Option<&'a Table>,
}

/// The versions of the protocol up to this one, as servers list them.
fn versions(greatest: u8) -> Vec<String> {
    let beta = |v| if v == v5::BETA_VERSION { "-beta" } else { "" };
    (lowest(greatest)..=greatest)
        .map(|v| format!("{v}/v{v}{}", beta(v)))
        .collect()
}

/// The options of SUPPORTED, where protocol versions up to `greatest` are spoken.
pub fn supported(node: &NodeView<'_>, greatest: u8) -> Vec<(&'static str, Vec<String>)> {
    let dialect = Dialect::of(node.config.flavor);
    let mut options = vec![
        ("CQL_VERSION", vec![dialect.cql_version.to_string()]),
        // The key must be there for the Python driver; nothing is offered.
        ("COMPRESSION", Vec::new()),
        ("PROTOCOL_VERSIONS", versions(greatest)),
    ];
    if dialect.offers_shards {
        // One shard, so that a driver opens one connection per node, on the one port there is.
        options.extend([
            ("SCYLLA_SHARD", vec!["0".to_string()]),
            ("SCYLLA_NR_SHARDS", vec!["1".to_string()]),
            (
                "SCYLLA_PARTITIONER",
                vec!["org.apache.cassandra.dht.Murmur3Partitioner".to_string()],
            ),
            (
                "SCYLLA_SHARDING_ALGORITHM",
                vec!["biased-token-round-robin".to_string()],
            ),
            ("SCYLLA_SHARDING_IGNORE_MSB", vec![SHARDING_IGNORE_MSB.to_string()]),
        ]);
    }
    options
}

/// The refusal of a protocol version, in the words that make drivers try a lower one.
pub fn wrong_version(flavor: Flavor, greatest: u8, version: u8) -> CqlError {
    if version == v5::BETA_VERSION && version <= greatest {
        return CqlError::protocol("Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset");
    }
    let supported = match flavor {
        Flavor::Cassandra => format!("supported versions are ({})", versions(greatest).join(", ")),
        Flavor::Scylla => format!("the lowest supported version is {VERSION} and the greatest is {greatest}"),
    };
    CqlError::protocol(format!(
        "Invalid or unsupported protocol version ({version}); {supported}"
    ))
}

/// The refusal of a frame above the limit.
pub fn too_long(length: u32) -> CqlError {
    CqlError::invalid(format!(
        "Request is too big: length {length} exceeds maximum allowed length {BODY_BYTES_MAX}."
    ))
}

/// The text of a warning.
pub fn warning(schema: &Schema, warning: &Warning) -> String {
    let names = |tables: &[TableId]| {
        let names: Vec<String> = tables
            .iter()
            .filter_map(|t| schema.table(*t))
            .map(|t| format!("{}.{}", t.keyspace, t.name))
            .collect();
        format!("[{}]", names.join(", "))
    };
    match warning {
        Warning::BatchSize {
            size_bytes,
            threshold_bytes,
            tables,
        } => format!(
            "Batch for {} is of size {size_bytes}, exceeding specified threshold of {threshold_bytes} by {}.",
            names(tables),
            size_bytes.saturating_sub(*threshold_bytes)
        ),
        Warning::UnloggedPartitions { partitions, tables } => format!(
            "Unlogged batch covering {partitions} partitions detected against table{} {}. You should use a logged batch \
             for atomicity, or asynchronous writes for performance.",
            if tables.len() == 1 { "" } else { "s" },
            names(tables)
        ),
    }
}

/// The error as the client reads it.
pub fn error(words: &Words<'_>, error: &CoordinatorError) -> CqlError {
    let wire = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    match error {
        CoordinatorError::Unavailable {
            consistency,
            required,
            alive,
            batchlog,
        } => CqlError {
            message: unavailable(words.flavor, *consistency, *required, *alive, *batchlog),
            detail: Detail::Unavailable {
                consistency: consistency.code(),
                required: wire(*required),
                alive: wire(*alive),
            },
        },
        CoordinatorError::WriteTimeout {
            consistency,
            received,
            required,
            write_type,
        } => CqlError {
            message: timed_out(words, *consistency, *received, *required, Some(*write_type)),
            detail: Detail::WriteTimeout {
                consistency: consistency.code(),
                received: wire(*received),
                required: wire(*required),
                write_type: write_type.name(),
            },
        },
        CoordinatorError::CasTimeout {
            consistency,
            received,
            required,
            contentions,
            unknown,
        } => CqlError {
            message: match (words.flavor, unknown) {
                (Flavor::Scylla, _) => timed_out(words, *consistency, *received, *required, Some(WriteType::Cas)),
                (Flavor::Cassandra, true) => {
                    format!("CAS operation result is unknown - proposal accepted by {received} but not a quorum.")
                }
                (Flavor::Cassandra, false) => format!(
                    "CAS operation timed out: received {received} of {required} required responses after {contentions} \
                     contention retries"
                ),
            },
            detail: Detail::WriteTimeout {
                consistency: consistency.code(),
                received: wire(*received),
                required: wire(*required),
                write_type: WriteType::Cas.name(),
            },
        },
        CoordinatorError::ReadTimeout {
            consistency,
            received,
            required,
            data_present,
        } => CqlError {
            message: timed_out(words, *consistency, *received, *required, None),
            detail: Detail::ReadTimeout {
                consistency: consistency.code(),
                received: wire(*received),
                required: wire(*required),
                data_present: *data_present,
            },
        },
        CoordinatorError::WriteFailure {
            consistency,
            received,
            required,
            failures,
            write_type,
        } => CqlError {
            message: failed(words, *consistency, *received, *required, failures, Some(*write_type)),
            detail: Detail::WriteFailure {
                consistency: consistency.code(),
                received: wire(*received),
                required: wire(*required),
                failures: failures.len() as i32,
                write_type: write_type.name(),
            },
        },
        CoordinatorError::ReadFailure {
            consistency,
            received,
            required,
            failures,
            data_present,
        } => CqlError {
            message: failed(words, *consistency, *received, *required, failures, None),
            detail: Detail::ReadFailure {
                consistency: consistency.code(),
                received: wire(*received),
                required: wire(*required),
                failures: failures.len() as i32,
                data_present: *data_present,
            },
        },
        other => simple(other),
    }
}

/// Errors without counts.
fn simple(error: &CoordinatorError) -> CqlError {
    match error {
        CoordinatorError::Overloaded { what } => CqlError {
            message: what.clone(),
            detail: Detail::Overloaded,
        },
        CoordinatorError::BatchTooLarge { .. } => CqlError::invalid("Batch too large"),
        CoordinatorError::Schema(e) => schema_error(e),
        CoordinatorError::Truncate => CqlError {
            message: error.to_string(),
            detail: Detail::Truncate,
        },
        CoordinatorError::Unsupported { what } => CqlError::unsupported(what.clone()),
        CoordinatorError::SchemaUnknown { .. } => CqlError::server(error.to_string()),
        // Invalid and BadConsistency; the others are worded by `error`.
        _ => CqlError::invalid(error.to_string()),
    }
}

fn unavailable(flavor: Flavor, consistency: Consistency, required: u32, alive: u32, batchlog: bool) -> String {
    match flavor {
        Flavor::Scylla => {
            format!("Cannot achieve consistency level for cl {consistency}. Requires {required}, alive {alive}")
        }
        Flavor::Cassandra if batchlog => format!(
            "Cannot achieve consistency level {consistency} for batchlog in local DC, required:{required}, available:{alive}"
        ),
        Flavor::Cassandra => format!("Cannot achieve consistency level {consistency}"),
    }
}

/// The table that Scylla names: the batchlog's own for its writes.
fn table_name(words: &Words<'_>, write_type: Option<WriteType>) -> String {
    match (write_type, words.table) {
        (Some(WriteType::BatchLog), _) => "system.batchlog".into(),
        (_, Some(table)) => format!("{}.{}", table.keyspace, table.name),
        (_, None) => ".".into(),
    }
}

fn timed_out(
    words: &Words<'_>,
    consistency: Consistency,
    received: u32,
    required: u32,
    write_type: Option<WriteType>,
) -> String {
    match words.flavor {
        Flavor::Cassandra => format!("Operation timed out - received only {received} responses."),
        Flavor::Scylla => format!(
            "Operation timed out for {} - received only {received} responses from {required} CL={consistency}.",
            table_name(words, write_type)
        ),
    }
}

fn failed(
    words: &Words<'_>,
    consistency: Consistency,
    received: u32,
    required: u32,
    failures: &[(NodeIdx, FailureReason)],
    write_type: Option<WriteType>,
) -> String {
    match words.flavor {
        Flavor::Scylla => format!(
            "Operation failed for {} - received {received} responses and {} failures from {required} CL={consistency}.",
            table_name(words, write_type),
            failures.len()
        ),
        Flavor::Cassandra => {
            let each: Vec<String> = failures
                .iter()
                .map(|(node, reason)| {
                    let reason = match reason {
                        FailureReason::Unknown => "UNKNOWN",
                        FailureReason::ReadTooManyTombstones => "READ_TOO_MANY_TOMBSTONES",
                        FailureReason::IncompatibleSchema => "INCOMPATIBLE_SCHEMA",
                    };
                    let ip = words
                        .config
                        .nodes
                        .get(usize::from(node.0))
                        .map(|n| n.ip.to_string())
                        .unwrap_or_default();
                    format!("{reason} from /{ip}:7000")
                })
                .collect();
            format!(
                "Operation failed - received {received} responses and {} failures: {}",
                failures.len(),
                each.join(", ")
            )
        }
    }
}
