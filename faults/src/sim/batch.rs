//! Faults on the batch of an event. The database's boundary shows each write at each step; the event is recognised by the
//! `output_sequence` that its rows carry; several events may share a batch, and then it is the batch of each of them. What
//! settlement is about to send is seen by a tap on its connections.
//!
//! For every event that a fault names, arrivals at a coordinator go into the trace: that is what the predicates for
//! "bit" look at, whoever caused them.
use super::{Executor, WeakExecutor};
use crate::plan::{Action, BatchPoint, Fault, Plan, TimeoutWorld, When};
use sim_cluster::core::{BatchInfo, Boundary, BoundaryHook, Point, Then, Told, Verdict};
use sim_cluster::host::sim::CQL_PORT;
use sim_cluster::host::tap::WriteReader;
use sim_cluster::model::{WriteKind, WriteType};
use sim_world::trace::{CqlOp, CqlRecord, Kind};
use sim_world::{ConnInfo, TapVerdict, TcpTap};
use std::collections::{BTreeMap, BTreeSet};

/// An event without a batch of its own (a design may have none for it) is passed over in favour of the next that has
/// one, once events this far behind it have arrived: batches of neighbours may overtake each other by a few places.
const PASS_OVER: u64 = 4;

/// Installs the hook and, where a fault wants it, the tap.
pub(super) fn install(executor: &Executor, plan: &Plan) {
    let wanted = plan
        .faults
        .iter()
        .filter(|fault| matches!(fault.when, When::Batch { .. }))
        .cloned();
    let (leaving, hooked): (Vec<Fault>, Vec<Fault>) = wanted.partition(|fault| strikes_leaving(&fault.action));
    let watched = plan.faults.iter().filter_map(|fault| match fault.when {
        When::Batch { output_sequence, .. } => Some(output_sequence),
        _ => None,
    });
    let hook = Hook {
        executor: executor.weak(),
        waiting: hooked,
        attempts: BTreeMap::new(),
        watched: watched.collect(),
    };
    executor.machines().cluster.hook(Box::new(hook));
    if !leaving.is_empty() {
        let machines = executor.machines();
        let decoder = WriteReader::new(machines.cluster.registry());
        let tap = LeavingTap {
            executor: executor.weak(),
            waiting: leaving,
            decoder,
        };
        executor.keep(executor.world().tap(machines.settlement.id(), CQL_PORT, Box::new(tap)));
    }
}

fn strikes_leaving(action: &Action) -> bool {
    matches!(
        action,
        Action::CrashSettlement {
            point: BatchPoint::Leaving,
            ..
        }
    )
}

/// Whether `fault` names this event's batch on this attempt.
fn names(fault: &Fault, event: u64, attempt: u32) -> bool {
    let When::Batch {
        output_sequence,
        attempt: wanted,
    } = fault.when
    else {
        return false;
    };
    let exact = output_sequence == event && wanted == attempt;
    exact || (wanted == 1 && attempt == 1 && event >= output_sequence + PASS_OVER)
}

struct Hook {
    executor: WeakExecutor,
    waiting: Vec<Fault>,
    /// How often each event's batch has arrived.
    attempts: BTreeMap<u64, u32>,
    /// Events whose arrivals are recorded.
    watched: BTreeSet<u64>,
}

impl BoundaryHook for Hook {
    fn at(&mut self, boundary: &Boundary<'_>) -> Verdict {
        // Nothing is left to be done or to be written down.
        if self.waiting.is_empty() && self.watched.is_empty() {
            return Verdict::Continue;
        }
        let Some(batch) = boundary.batch.filter(|batch| batch.kind() != WriteKind::Single) else {
            return Verdict::Continue;
        };
        let Some(executor) = self.executor.upgrade() else {
            return Verdict::Continue;
        };
        let events = events_of(batch);
        if boundary.point == Point::RequestArrived {
            self.arrived(&executor, boundary, &events);
        }
        let node = u16::from(boundary.node.0);
        let found = self.waiting.iter().enumerate().find_map(|(index, fault)| {
            let may = strikes_at(&fault.action, boundary.point) && may_strike(&executor, &fault.action, node);
            let event = events.iter().find(|event| {
                let attempt = self.attempts.get(event).copied().unwrap_or(1);
                may && names(fault, **event, attempt)
            });
            event.map(|event| (index, *event))
        });
        let Some((index, event)) = found else {
            return Verdict::Continue;
        };
        let fault = self.waiting.remove(index);
        if self.watched.insert(event) {
            self.record(&executor, boundary, event);
        }
        strike(&executor, &fault, boundary, event)
    }
}

/// The events whose rows a batch has, in the order of the stream.
fn events_of(batch: &BatchInfo<'_>) -> BTreeSet<u64> {
    let sequences = batch.rows().filter_map(|row| row.number("output_sequence"));
    sequences.filter_map(|sequence| u64::try_from(sequence).ok()).collect()
}

impl Hook {
    fn arrived(&mut self, executor: &Executor, boundary: &Boundary<'_>, events: &BTreeSet<u64>) {
        for &event in events {
            *self.attempts.entry(event).or_insert(0) += 1;
            if self.watched.contains(&event) {
                self.record(executor, boundary, event);
            }
        }
    }

    fn record(&self, executor: &Executor, boundary: &Boundary<'_>, event: u64) {
        let node = executor.machines().cluster.host(boundary.node).id();
        let op = CqlOp::Request { kind: "batch".into() };
        let record = CqlRecord {
            node,
            conn: 0,
            stream: 0,
            op,
            label: label(event),
        };
        executor.world().trace().emit(Some(node), Kind::Cql(record));
    }
}

/// A coordinator is killed only while no other node is impaired; the fault waits for the batch of a later event.
fn may_strike(executor: &Executor, action: &Action, node: u16) -> bool {
    match *action {
        Action::KillCoordinatorAfterBatchlog { restart_after_ms }
        | Action::KillCoordinatorMidBatch { restart_after_ms, .. } => executor.is_free(node, restart_after_ms),
        _ => true,
    }
}

/// How the batch of an event is called in the trace.
pub fn label(event: u64) -> String {
    format!("batch of event {event}")
}

/// The boundary point at which an action strikes.
fn strikes_at(action: &Action, point: Point) -> bool {
    match action {
        Action::CrashSettlement {
            point: BatchPoint::Arrived,
            ..
        } => point == Point::RequestArrived,
        Action::CrashSettlement {
            point: BatchPoint::Answering,
            ..
        } => point == Point::ResponseLeaving,
        Action::KillCoordinatorAfterBatchlog { .. } => point == Point::BatchlogWritten,
        Action::KillCoordinatorMidBatch { mutations, .. } => after(point, (*mutations).try_into().unwrap_or(u16::MAX)),
        Action::TimeOutBatch(TimeoutWorld::NeverApplied | TimeoutWorld::ExecutedLate { .. })
        | Action::RefuseYetApply { .. }
        | Action::RejectBatch => point == Point::RequestArrived,
        Action::TimeOutBatch(TimeoutWorld::AppliedAtOnce) => point == Point::ResponseLeaving,
        Action::TimeOutBatch(TimeoutWorld::AppliedByReplay { after_mutations: 0 }) => point == Point::BatchlogWritten,
        Action::TimeOutBatch(TimeoutWorld::AppliedByReplay { after_mutations }) => {
            after_but_last(point, *after_mutations)
        }
        _ => false,
    }
}

/// After `k` mutations, or after the last where there are fewer.
fn after(point: Point, k: u16) -> bool {
    matches!(point, Point::MutationsSent { k: sent, of } if sent == k.min(of))
}

/// After `k` mutations, or before the last where there are no more.
fn after_but_last(point: Point, k: u16) -> bool {
    matches!(point, Point::MutationsSent { k: sent, of } if sent == k.min(of.saturating_sub(1)))
}

fn strike(executor: &Executor, fault: &Fault, boundary: &Boundary<'_>, event: u64) -> Verdict {
    let (node, now_ms) = (u16::from(boundary.node.0), executor.now_ms());
    let batch = label(event);
    let Some(fault) = executor.take(fault.id) else {
        return Verdict::Continue;
    };
    match fault.action {
        Action::CrashSettlement { restart_after_ms, .. } => {
            let weak = executor.weak();
            // Not from inside the database's step: a moment later, at the same instant.
            executor.world().call_at(executor.world().now_ns(), move || {
                if let Some(executor) = weak.upgrade() {
                    executor.killed_at_batch(&fault, restart_after_ms, format!("settlement killed at the {batch}"));
                }
            });
            Verdict::Continue
        }
        Action::KillCoordinatorAfterBatchlog { restart_after_ms }
        | Action::KillCoordinatorMidBatch { restart_after_ms, .. } => {
            if !executor.reserve(node, restart_after_ms) {
                executor.left_out(&fault, format!("another node is impaired at {now_ms} ms"));
                return Verdict::Continue;
            }
            let detail = format!("node {node}, coordinator of the {batch}, killed, back after {restart_after_ms} ms");
            executor.fired_until(&fault, now_ms + restart_after_ms, detail);
            executor.restart_node(&fault, node, now_ms + restart_after_ms);
            Verdict::KillNode
        }
        Action::TimeOutBatch(world) => {
            let until_ms = now_ms
                + if let TimeoutWorld::ExecutedLate { after_ms } = world {
                    after_ms
                } else {
                    0
                };
            executor.fired_until(
                &fault,
                until_ms,
                format!("{batch} answered with a write timeout by node {node}: {world:?}"),
            );
            timeout(world)
        }
        Action::RefuseYetApply { by_replay } => {
            let how = if by_replay { "by replay" } else { "at once" };
            let detail = format!("{batch} answered Unavailable by node {node}, and applied {how}");
            executor.fired_until(&fault, now_ms, detail);
            Verdict::Refuse {
                told: Told::Unavailable { required: 2, alive: 1 },
                then: if by_replay { Then::ByReplay } else { Then::ApplyNow },
            }
        }
        Action::RejectBatch => {
            let detail = format!("{batch} rejected as too large by node {node}");
            executor.fired_until(&fault, now_ms, detail);
            Verdict::Refuse {
                told: Told::BatchTooLarge,
                then: Then::NeverApply,
            }
        }
        _ => Verdict::Continue,
    }
}

/// The answer that a client gets in each world, with the counts a real coordinator would give.
fn timeout(world: TimeoutWorld) -> Verdict {
    let (write_type, received, required, then) = match world {
        TimeoutWorld::NeverApplied => (WriteType::BatchLog, 0, 1, Then::NeverApply),
        TimeoutWorld::AppliedAtOnce => (WriteType::Batch, 1, 2, Then::ApplyNow),
        TimeoutWorld::AppliedByReplay { .. } => (WriteType::Batch, 1, 2, Then::ByReplay),
        TimeoutWorld::ExecutedLate { after_ms } => (WriteType::BatchLog, 0, 1, Then::ExecuteLate { after_ms }),
    };
    Verdict::Timeout {
        write_type,
        received,
        required,
        then,
    }
}

/// Kills settlement as the batch of an event is about to leave it.
struct LeavingTap {
    executor: WeakExecutor,
    waiting: Vec<Fault>,
    decoder: WriteReader,
}

impl TcpTap for LeavingTap {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        if !conn.to_server {
            return TapVerdict::Pass;
        }
        let mut events = Vec::new();
        self.decoder.requests(conn.id, bytes, |write| {
            if write.info().kind() != WriteKind::Single {
                events.extend(events_of(&write.info()));
            }
        });
        for event in events {
            let Some(index) = self.waiting.iter().position(|fault| names(fault, event, 1)) else {
                continue;
            };
            let fault = self.waiting.remove(index);
            let Some(executor) = self.executor.upgrade() else {
                return TapVerdict::Pass;
            };
            let Some(fault) = executor.take(fault.id) else { continue };
            let Action::CrashSettlement { restart_after_ms, .. } = fault.action else {
                continue;
            };
            executor.killed_by_tap(
                &fault,
                restart_after_ms,
                format!("settlement killed as the {} leaves", label(event)),
            );
            return TapVerdict::KillSender;
        }
        TapVerdict::Pass
    }
}
