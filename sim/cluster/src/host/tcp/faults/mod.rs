//! Faults on command: what `--plan`, the control endpoint and tests inject into a running cluster.
//!
//! - `spec`: a fault as people write it, in TOML or JSON, and what is told when it is wrong,
//! - `values`: durations, row values,
//! - `aim`: what it does: a deed done to nodes, or a verdict at a boundary point of the core,
//! - `director`: the task that does the deeds in time.
//!
//! Here is the list of all of them. Statements are struck through [`BoundaryHook`], the same that the simulator's faults
//! use: this file only decides which fault strikes which statement.

mod aim;
pub(super) mod director;
mod spec;
mod values;

pub(super) use aim::Deed;
pub use spec::{
    Action, Applied, Direction, FaultSpec, PlanError, PointName, SpecError, Statements, WriteTypeName, help, read_plan,
};
pub use values::{Millis, RowValue, Skew};

use super::trace::Trace;
use crate::core::{BatchInfo, Boundary, BoundaryHook, Point, Verdict};
use crate::model::NodeIdx;
use aim::Aim;
use director::Order;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Orders that wait for the director: two for each fault that can be in the list, and some for what strikes meanwhile.
pub(super) const ORDERS_MAX: usize = 4 * FAULTS_MAX;
/// Faults that are kept in the list. Above it those that are over are forgotten, oldest first; when none is over, new ones
/// are refused.
pub const FAULTS_MAX: usize = 1_000;

/// How far a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultState {
    /// It waits for its time or for its statements.
    Waiting,
    /// It is being done: a node stands still or is down, links are cut.
    Active,
    /// It is over, or could not be done ([`Fault::failed`]).
    Done,
    /// It was taken back before it was over.
    Cancelled,
}

impl FaultState {
    fn is_over(self) -> bool {
        matches!(self, FaultState::Done | FaultState::Cancelled)
    }
}

/// A fault in the list.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Its number, from 1 in order of arrival.
    pub id: u32,
    /// How far it is.
    pub state: FaultState,
    /// How often it struck.
    pub struck: u32,
    /// Why it could not be done, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What it is.
    pub fault: FaultSpec,
    /// Statements that it let pass or struck.
    #[serde(skip)]
    seen: u32,
}

/// A fault that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There are too many.
    #[error("{FAULTS_MAX} faults wait or are being done: cancel some")]
    TooMany,
}

#[derive(Debug)]
struct List {
    faults: Vec<Fault>,
    last_id: u32,
    nodes: usize,
}

/// All faults of a cluster.
#[derive(Debug)]
pub(super) struct Faults {
    list: Mutex<List>,
    /// Faults that wait for statements: while there are none, a request costs one load.
    armed: AtomicUsize,
    orders: Sender<Order>,
    trace: Arc<Trace>,
}

impl Faults {
    pub(super) fn new(nodes: usize, orders: Sender<Order>, trace: Arc<Trace>) -> Faults {
        Faults {
            list: Mutex::new(List {
                faults: Vec::new(),
                last_id: 0,
                nodes,
            }),
            armed: AtomicUsize::new(0),
            orders,
            trace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        // Without a director the cluster is ending. One that is so far behind works on a node that does not start.
        if let Err(TrySendError::Full(order)) = self.orders.try_send(order) {
            self.trace.note(0, None, "fault-lost", None, format!("{order:?}"));
        }
    }

    /// Whether a fault is right for this cluster.
    pub(super) fn check(&self, spec: &FaultSpec) -> Result<(), SpecError> {
        Aim::of(spec, self.lock().nodes).map(drop)
    }

    /// Arms a fault now; returns its number.
    pub(super) fn inject(&self, now_us: u64, spec: FaultSpec) -> Result<u32, InjectError> {
        let mut list = self.lock();
        let aim = Aim::of(&spec, list.nodes)?;
        list.make_room()?;
        list.last_id += 1;
        let id = list.last_id;
        self.trace.note(now_us, None, "fault-armed", Some(id), label(&spec));
        list.faults.push(Fault {
            id,
            state: FaultState::Waiting,
            struck: 0,
            failed: None,
            fault: spec,
            seen: 0,
        });
        match aim {
            Aim::Statements => self.count_armed(&list),
            Aim::Nodes { at_ms, begin, end } => {
                let begin_us = now_us + at_ms * 1000;
                let ends = end.is_some();
                self.order(Order::at(begin_us, id, begin.clone(), true, !ends && !begin.lasts()));
                if let Some((ms, deed)) = end {
                    self.order(Order::at(begin_us + ms * 1000, id, deed, false, true));
                }
            }
        }
        Ok(id)
    }

    /// All faults in the list.
    pub(super) fn all(&self) -> Vec<Fault> {
        self.lock().faults.clone()
    }

    /// Takes a fault back, or ends it now if it is being done. False if there is none, or it is over.
    pub(super) fn cancel(&self, now_us: u64, id: u32) -> bool {
        let mut list = self.lock();
        let Some(fault) = list.find(id).filter(|f| !f.state.is_over()) else {
            return false;
        };
        let was_active = fault.state == FaultState::Active;
        fault.state = FaultState::Cancelled;
        self.trace
            .note(now_us, None, "fault-cancelled", Some(id), label(&fault.fault));
        self.count_armed(&list);
        self.order(Order::Cancel { id, was_active });
        true
    }

    /// Takes all faults back; returns how many.
    pub(super) fn cancel_all(&self, now_us: u64) -> usize {
        let ids: Vec<u32> = self.all().iter().map(|f| f.id).collect();
        ids.into_iter().filter(|id| self.cancel(now_us, *id)).count()
    }

    /// The director did what a fault says.
    pub(super) fn was_done(
        &self,
        now_us: u64,
        id: u32,
        began: bool,
        is_over: bool,
        told: String,
        failed: Option<String>,
    ) {
        let mut list = self.lock();
        let Some(fault) = list.find(id) else { return };
        if began {
            fault.struck += 1;
        }
        if failed.is_some() {
            fault.failed = failed;
        }
        if !fault.state.is_over() {
            fault.state = if is_over { FaultState::Done } else { FaultState::Active };
        }
        let event = if began { "fault-struck" } else { "fault-ended" };
        self.trace.note(now_us, None, event, Some(id), told);
    }

    fn count_armed(&self, list: &List) {
        let waiting = list.faults.iter().filter(|f| f.waits_for_statements());
        self.armed.store(waiting.count(), Ordering::Release);
    }

    /// Something that decides over statements, while there are faults that wait for them.
    pub(super) fn hook(&self) -> Option<Hook<'_>> {
        (self.armed.load(Ordering::Acquire) > 0).then_some(Hook(self))
    }

    /// The fault that strikes here, if one does, and what it does.
    fn strike(&self, boundary: &Boundary<'_>) -> Verdict {
        let mut list = self.lock();
        for fault in &mut list.faults {
            if !fault.waits_for_statements() || !aim::strikes_at(&fault.fault, boundary) {
                continue;
            }
            fault.seen += 1;
            if fault.seen <= fault.fault.skip.unwrap_or(0) {
                continue;
            }
            fault.struck += 1;
            if fault.struck >= fault.fault.count.unwrap_or(1) {
                fault.state = FaultState::Done;
            }
            let (id, verdict) = (fault.id, aim::verdict(&fault.fault, boundary));
            let told = format!("{} on {}", label(&fault.fault), subject(boundary));
            self.trace
                .note(boundary.now_us, Some(boundary.node), "fault-struck", Some(id), told);
            let restart = fault.fault.restart_after;
            self.follow(boundary, id, verdict, restart);
            self.count_armed(&list);
            return verdict;
        }
        Verdict::Continue
    }

    /// What has to follow a verdict in time.
    fn follow(&self, boundary: &Boundary<'_>, id: u32, verdict: Verdict, restart: Option<Millis>) {
        let (now_us, node) = (boundary.now_us, boundary.node);
        match verdict {
            Verdict::KillNode => {
                self.order(Order::at(now_us, id, Deed::Bury(node), false, restart.is_none()));
                if let Some(ms) = restart {
                    self.order(Order::at(now_us + ms.0 * 1000, id, Deed::Start(node), false, true));
                }
            }
            Verdict::PauseNode { ms } => {
                self.order(Order::at(now_us + ms * 1000, id, Deed::Resume(node), false, true));
            }
            _ => {}
        }
    }
}

impl List {
    fn find(&mut self, id: u32) -> Option<&mut Fault> {
        self.faults.iter_mut().find(|f| f.id == id)
    }

    fn make_room(&mut self) -> Result<(), InjectError> {
        if self.faults.len() < FAULTS_MAX {
            return Ok(());
        }
        let over = self.faults.iter().position(|f| f.state.is_over());
        self.faults.remove(over.ok_or(InjectError::TooMany)?);
        Ok(())
    }
}

impl Fault {
    fn waits_for_statements(&self) -> bool {
        self.state == FaultState::Waiting && self.fault.action.is_on_statements()
    }
}

/// A fault, for people.
fn label(spec: &FaultSpec) -> String {
    match &spec.name {
        Some(name) => format!("{} ({name})", spec.action.name()),
        None => spec.action.name().to_owned(),
    }
}

/// What a boundary is about, for people.
fn subject(boundary: &Boundary<'_>) -> String {
    let name = |t: &crate::model::Table| format!("{}.{}", t.keyspace, t.name);
    let of = |id| boundary.schema.table(id).map_or_else(String::new, |t| name(t));
    match (boundary.batch, boundary.read, boundary.conditional) {
        (Some(write), ..) => {
            let rows = write.rows().count();
            let first = write.rows().next().map_or_else(String::new, |row| name(row.table));
            format!("a write of {rows} rows, the first of {first}")
        }
        (_, Some(table), _) => format!("a read of {}", of(table)),
        (_, _, Some(table)) => format!("a conditional statement on {}", of(table)),
        _ => "a statement".to_owned(),
    }
}

/// Decides over statements.
pub(super) struct Hook<'a>(&'a Faults);

impl BoundaryHook for Hook<'_> {
    fn watches(&mut self, write: &BatchInfo<'_>) -> bool {
        let list = self.0.lock();
        let mut waiting = list.faults.iter().filter(|f| f.waits_for_statements());
        waiting.any(|f| aim::strikes_write(&f.fault, write))
    }

    fn at(&mut self, boundary: &Boundary<'_>) -> Verdict {
        let is_seen = boundary.batch.is_some() || boundary.point == Point::RequestArrived;
        if is_seen {
            self.0.strike(boundary)
        } else {
            Verdict::Continue
        }
    }
}

/// A node as people count it.
pub(super) fn number(node: NodeIdx) -> u16 {
    u16::from(node.0) + 1
}
