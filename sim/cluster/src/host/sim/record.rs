//! What happens in the cluster, as the trace records it. What a timeline or a predicate over the trace can use is kept;
//! what happens for every batch only enters the hash, unless the run records all.

use super::Cluster;
use crate::core::Lie;
use crate::core::boundary::{Then, Verdict};
use crate::core::message::{BatchId, Event};
use crate::cql::front::Pending;
use crate::model::{CoordinatorError, NodeIdx, WriteType};
use sim_world::trace::{ClusterRecord, CqlOp, CqlRecord, FIRST_FREE_CODE, HostId, Kind, WriteKind};
use std::sync::atomic::Ordering::Relaxed;

/// Codes of high-rate events. The world leaves codes from [`FIRST_FREE_CODE`] on to other crates; these are the cluster's.
mod code {
    use super::FIRST_FREE_CODE;
    pub const DELIVERED: u32 = FIRST_FREE_CODE + 64;
    pub const BATCH_KEPT: u32 = FIRST_FREE_CODE + 65;
    pub const BATCH_FORGOTTEN: u32 = FIRST_FREE_CODE + 66;
    pub const APPLIED: u32 = FIRST_FREE_CODE + 67;
    pub const HINT_STORED: u32 = FIRST_FREE_CODE + 68;
    pub const HINT_DELIVERED: u32 = FIRST_FREE_CODE + 69;
}

fn name(batch: &BatchId) -> String {
    format!("{}/{}/{}", batch.coordinator, batch.generation, batch.number)
}

fn write_kind(write_type: WriteType) -> WriteKind {
    match write_type {
        WriteType::Simple => WriteKind::Simple,
        WriteType::Batch => WriteKind::Batch,
        WriteType::UnloggedBatch => WriteKind::UnloggedBatch,
        WriteType::Counter => WriteKind::Counter,
        WriteType::BatchLog => WriteKind::BatchLog,
        WriteType::Cas => WriteKind::Cas,
        WriteType::View => WriteKind::View,
        WriteType::Cdc => WriteKind::Cdc,
    }
}

/// A message arrived, now.
pub(super) fn delivered(cluster: &Cluster, to: NodeIdx, from: NodeIdx) {
    cluster.trace.emit_fast(
        code::DELIVERED,
        u64::from(from.0) << 8 | u64::from(to.0),
        cluster.world.now_ns(),
    );
}

/// A node cannot go on.
pub(super) fn halted(cluster: &Cluster, node: NodeIdx, reason: String) {
    other(cluster, node, "halted", reason);
}

fn lied(cluster: &Cluster, host: HostId, lie: Lie) {
    cluster.trace.mark(lie.name());
    let record = ClusterRecord::Lied {
        lie: lie.name().to_owned(),
    };
    cluster.trace.emit(Some(host), Kind::Cluster(record));
}

fn other(cluster: &Cluster, node: NodeIdx, what: &str, detail: String) {
    let record = ClusterRecord::Other {
        what: what.to_owned(),
        detail,
    };
    cluster.trace.emit(Some(cluster.host_id(node)), Kind::Cluster(record));
}

/// A client is told of an error.
pub(super) fn answered_error(cluster: &Cluster, node: NodeIdx, conn: u64, pending: &Pending, error: &CoordinatorError) {
    let host = cluster.host_id(node);
    let op = CqlOp::Response {
        outcome: error.to_string(),
        error: true,
    };
    let record = CqlRecord {
        node: host,
        conn,
        stream: pending.stream(),
        op,
        label: pending.label(),
    };
    cluster.trace.emit(Some(host), Kind::Cql(record));
}

/// A fact of the core.
pub(super) fn event(cluster: &Cluster, node: NodeIdx, event: &Event) {
    let trace = &cluster.trace;
    let host = cluster.host_id(node);
    let keep = |record: ClusterRecord| trace.emit(Some(host), Kind::Cluster(record));
    let rated = |code: u32, a: u64, b: u64, record: &dyn Fn() -> ClusterRecord| {
        trace.emit_rated(code, a, b, Some(host), || Kind::Cluster(record()));
    };
    let at = u64::from(node.0);
    match event {
        Event::BatchKept { batch, mutations } => {
            rated(code::BATCH_KEPT, at, batch.number, &|| ClusterRecord::BatchlogWritten {
                batch: name(batch),
                holder: host,
                entries: *mutations,
            })
        }
        Event::BatchForgotten { batch } => rated(code::BATCH_FORGOTTEN, at, batch.number, &|| {
            ClusterRecord::BatchlogRemoved {
                batch: name(batch),
                holder: host,
            }
        }),
        Event::BatchReplayed {
            batch,
            complete,
            age_us,
        } => {
            trace.mark(if *complete {
                "batchlog replayed"
            } else {
                "batchlog replay incomplete"
            });
            if *complete {
                keep(ClusterRecord::BatchlogReplayed {
                    batch: name(batch),
                    holder: host,
                    age_ms: age_us / 1000,
                });
            } else {
                other(
                    cluster,
                    node,
                    "replay incomplete",
                    format!("{} after {} ms", name(batch), age_us / 1000),
                );
            }
        }
        Event::Applied { mutations, bytes } => {
            rated(
                code::APPLIED,
                at << 32 | u64::from(*mutations),
                u64::from(*bytes),
                &|| ClusterRecord::Other {
                    what: "applied".into(),
                    detail: format!("{mutations} mutations, {bytes} bytes"),
                },
            );
        }
        Event::Expired { from } => {
            trace.mark("message expired");
            other(
                cluster,
                node,
                "expired",
                format!("a message of {from} came after its deadline"),
            );
        }
        Event::HintStored { peer } => {
            trace.mark("hint stored");
            let target = cluster.host_id(*peer);
            rated(code::HINT_STORED, at, u64::from(peer.0), &|| {
                ClusterRecord::HintStored { holder: host, target }
            });
        }
        Event::HintRefused { peer } => {
            trace.mark("hint dropped");
            keep(ClusterRecord::HintDropped {
                holder: host,
                target: cluster.host_id(*peer),
                hints: 1,
            });
        }
        Event::HintDelivered { peer } => {
            trace.mark("hint delivered");
            let target = cluster.host_id(*peer);
            rated(code::HINT_DELIVERED, at, u64::from(peer.0), &|| {
                ClusterRecord::HintDelivered {
                    holder: host,
                    target,
                    hints: 1,
                }
            });
        }
        Event::SchemaUnknown { from } => {
            trace.mark("schema unknown");
            let detail = format!("{from} asked about something that its schema does not have");
            other(cluster, node, "schema unknown", detail);
        }
        Event::Joining { host_id } => {
            trace.mark("node joining");
            other(
                cluster,
                node,
                "joining",
                format!("in the place of a lost node, as {host_id}"),
            );
        }
        Event::Joined { mutations } => {
            trace.mark("node joined");
            other(cluster, node, "joined", format!("with {mutations} mutations of others"));
        }
        Event::Purged { table, rows } => {
            trace.mark("table compacted");
            other(cluster, node, "compacted", format!("table {}: {rows} rows", table.0));
        }
        Event::RepairBegun { number, what, ranges } => {
            trace.mark("repair begun");
            let detail = format!("repair {number} of {what}: {ranges} ranges");
            other(cluster, node, "repair begun", detail);
        }
        Event::RepairEnded {
            number,
            mutations,
            failed,
        } => {
            let outcome = failed.as_ref().map_or("done", |_| "failed");
            trace.mark(if failed.is_some() {
                "repair failed"
            } else {
                "repair done"
            });
            let why = failed.as_ref().map_or_else(String::new, |f| format!(": {f}"));
            let detail = format!("repair {number} {outcome}, {mutations} mutations{why}");
            other(cluster, node, "repair ended", detail);
        }
        Event::Status { peer, up } => keep(status(cluster.host_id(*peer), host, *up)),
        answer => self::answer(cluster, node, answer),
    }
}

fn status(node: HostId, seen_by: HostId, up: bool) -> ClusterRecord {
    if up {
        ClusterRecord::NodeUp { node, seen_by }
    } else {
        ClusterRecord::NodeDown { node, seen_by }
    }
}

/// What clients were told, and what is rare.
fn answer(cluster: &Cluster, node: NodeIdx, event: &Event) {
    let trace = &cluster.trace;
    let host = cluster.host_id(node);
    let keep = |record: ClusterRecord| trace.emit(Some(host), Kind::Cluster(record));
    match event {
        Event::WriteTimeout {
            write_type,
            consistency,
            received,
            required,
        } => {
            trace.mark("write timeout");
            let (write, consistency) = (write_kind(*write_type), consistency.name().to_owned());
            keep(ClusterRecord::WriteTimeout {
                write,
                received: *received,
                required: *required,
                consistency,
            });
        }
        Event::WriteFailure {
            write_type,
            received,
            required,
            ..
        } => {
            trace.mark("write failure");
            let write = write_kind(*write_type);
            keep(ClusterRecord::WriteFailure {
                write,
                received: *received,
                required: *required,
                failures: 1,
            });
        }
        Event::Unavailable { required, alive, .. } => {
            trace.mark("unavailable");
            keep(ClusterRecord::Unavailable {
                required: *required,
                alive: *alive,
            });
        }
        Event::ReadTimeout { received, required, .. } => {
            trace.mark("read timeout");
            keep(ClusterRecord::ReadTimeout {
                received: *received,
                required: *required,
            });
        }
        Event::ReadRepair { replicas } => {
            trace.mark("read repair");
            other(cluster, node, "read repair", format!("{replicas} replicas"));
        }
        Event::Forced { verdict } => {
            trace.mark("verdict carried out");
            if let Verdict::Timeout {
                then: Then::ExecuteLate { after_ms },
                ..
            } = verdict
            {
                cluster.late_ms.store(*after_ms, Relaxed);
            }
            other(cluster, node, "forced", format!("{verdict:?}"));
        }
        Event::ExecutedLate { timestamp_us } => {
            trace.mark("executed late");
            let label = format!("default timestamp {timestamp_us}");
            keep(ClusterRecord::ExecutedLate {
                label,
                delay_ms: cluster.late_ms.load(Relaxed),
            });
        }
        Event::Recovered {
            valid_bytes,
            lost_bytes,
            ..
        } => {
            keep(ClusterRecord::LogRecovered { bytes: *valid_bytes });
            if *lost_bytes > 0 {
                trace.mark("log torn");
                keep(ClusterRecord::LogLost { bytes: *lost_bytes });
            }
        }
        Event::Schema { change, version } => {
            other(cluster, node, "schema", format!("change {change}, version {version}"));
        }
        Event::Lied { lie } => lied(cluster, host, *lie),
        Event::ViewUpdatesLost { .. } => lied(cluster, host, Lie::LoseViewUpdates),
        Event::Truncated { table } => other(cluster, node, "truncated", format!("table {}", table.0)),
        Event::RolledBack { batch } => other(cluster, node, "rolled back", name(batch)),
        // Told by `event`.
        _ => {}
    }
}
