//! What a request is checked for before it is carried out, and the small facts that all requests share.

use super::{Answer, Call, Connection, PendingKind};
use crate::cql::error::CqlError;
use crate::cql::frame::{Request, Value, response};
use crate::cql::functions::Moment;
use crate::cql::system::NodeView;
use crate::model::{self, Consistency, Table};
use std::cell::Cell;

/// Values that this node keeps, or computed, as those of a frame.
pub(super) fn values(kept: &[Option<Vec<u8>>]) -> impl Iterator<Item = Value<'_>> {
    kept.iter().map(|v| v.as_deref().map_or(Value::Null, Value::Bytes))
}

pub(super) fn custom_batch_timestamp() -> CqlError {
    CqlError::invalid("Cannot provide custom timestamp for conditional BATCH")
}

/// What is wrong with the options of a STARTUP.
pub(super) fn check_startup(options: &[(&str, &str)]) -> Answer<()> {
    let option = |name: &str| {
        options
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|(_, v)| *v)
    };
    if option("CQL_VERSION").is_none() {
        return Err(CqlError::protocol("Missing value CQL_VERSION in STARTUP message"));
    }
    if let Some(algorithm) = option("COMPRESSION") {
        return Err(CqlError::protocol(format!(
            "Unknown compression algorithm: {algorithm}"
        )));
    }
    Ok(())
}

pub(super) fn register(
    call: &mut Call<'_>,
    connection: &mut Connection,
    types: &[&str],
) -> Answer<Option<(model::Request, PendingKind)>> {
    for ty in types {
        match *ty {
            "STATUS_CHANGE" => connection.status_events = true,
            "TOPOLOGY_CHANGE" => connection.topology_events = true,
            "SCHEMA_CHANGE" => connection.schema_events = true,
            other => return Err(CqlError::protocol(format!("Invalid value '{other}' for Type"))),
        }
    }
    response::ready(call.out, call.stream);
    Ok(None)
}

pub(super) fn request_name(request: &Request<'_>) -> &'static str {
    match request {
        Request::Options => "OPTIONS",
        Request::Startup(_) => "STARTUP",
        Request::AuthResponse(_) => "AUTH_RESPONSE",
        Request::Register(_) => "REGISTER",
        Request::Query { .. } => "QUERY",
        Request::Prepare { .. } => "PREPARE",
        Request::Execute { .. } => "EXECUTE",
        Request::Batch(_) => "BATCH",
    }
}

pub(super) fn level(code: u16) -> Answer<Consistency> {
    Consistency::from_code(code)
        .ok_or_else(|| CqlError::protocol(format!("Unknown code {code} for a consistency level")))
}

/// The levels at which counters are written (C `ConsistencyLevel.validateCounterForWrite`).
pub(super) fn only_counted(consistency: Consistency, table: Option<&Table>) -> Answer<()> {
    match consistency {
        Consistency::Any => Err(CqlError::invalid(format!(
            "Consistency level ANY is not yet supported for counter table {}",
            table.map_or("", |t| t.name.as_str())
        ))),
        Consistency::Serial | Consistency::LocalSerial => {
            Err(CqlError::invalid("Counter operations are inherently non-serializable"))
        }
        _ => Ok(()),
    }
}

/// The moment at which a statement is executed on a node.
pub(super) fn moment(node: &NodeView<'_>, uuids: &Cell<u64>) -> Moment {
    Moment {
        wall_us: node.wall_us,
        node: u64::from(node.generation as u32) << 8 | u64::from(node.me.0),
        drawn: Cell::new(uuids.replace(uuids.get() + 1) << 20),
    }
}

/// Refuses USING TIMESTAMP that is too far ahead of the node's clock.
#[inline]
pub(super) fn only_timely(call: &Call<'_>, timestamp_us: impl FnOnce() -> Answer<Option<i64>>) -> Answer<()> {
    let Some(ahead_max_us) = call.node.config.flavor.rules().timestamp_ahead_max_us else {
        return Ok(());
    };
    match timestamp_us()? {
        Some(us) if us > call.node.wall_us.saturating_add(ahead_max_us) => Err(CqlError::invalid(
            "Cannot provide a timestamp more than 3 days into the future. If this was not intended, make sure the timestamp is \
             in microseconds. You can also disable this check by setting the restrict_future_timestamp configuration option to \
             false.",
        )),
        _ => Ok(()),
    }
}

pub(super) fn only_unconditional(consistency: Consistency) -> Answer<()> {
    match consistency {
        Consistency::Serial | Consistency::LocalSerial => Err(CqlError::invalid(
            "You must use conditional updates for serializable writes",
        )),
        _ => Ok(()),
    }
}
