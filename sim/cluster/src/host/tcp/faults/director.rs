//! Does to nodes what faults say, in time: a task with a list of what is due when.

use super::super::Body;
use super::{Deed, number};
use crate::core::ViewFault;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// Something for the director.
#[derive(Debug)]
pub(in crate::host::tcp) enum Order {
    /// Something is to be done.
    Due(Due),
    /// A fault is taken back: what of it is due is not done, except that what began is ended now.
    Cancel { id: u32, was_active: bool },
}

/// A deed of a fault, and when it is due.
#[derive(Debug)]
pub(in crate::host::tcp) struct Due {
    at_us: u64,
    id: u32,
    deed: Deed,
    /// Whether the fault strikes with it.
    begins: bool,
    /// Whether the fault is over with it.
    ends: bool,
}

impl Order {
    pub(super) fn at(at_us: u64, id: u32, deed: Deed, begins: bool, ends: bool) -> Order {
        Order::Due(Due {
            at_us,
            id,
            deed,
            begins,
            ends,
        })
    }
}

impl Deed {
    /// Whether it goes on until something ends it.
    pub(super) fn lasts(&self) -> bool {
        match self {
            Deed::Freeze(_) | Deed::Cut(_) | Deed::HoldSchema { on: true, .. } => true,
            Deed::ViewUpdates { fault, .. } => *fault != ViewFault::None,
            _ => false,
        }
    }

    /// Whether it takes its time, and ends by itself.
    pub(super) fn is_long(&self) -> bool {
        matches!(self, Deed::Repair { .. } | Deed::Replace(_))
    }

    /// What ends it, if it lasts.
    fn undone(&self) -> Option<Deed> {
        match self {
            Deed::Freeze(node) => Some(Deed::Resume(*node)),
            Deed::Cut(_) => Some(Deed::Heal),
            Deed::HoldSchema { node, on: true } => Some(Deed::HoldSchema { node: *node, on: false }),
            Deed::ViewUpdates { nodes, fault } if *fault != ViewFault::None => Some(Deed::ViewUpdates {
                nodes: nodes.clone(),
                fault: ViewFault::None,
            }),
            _ => None,
        }
    }

    /// For people.
    fn told(&self) -> String {
        let all = |nodes: &[crate::model::NodeIdx]| {
            let names: Vec<String> = nodes.iter().map(|n| number(*n).to_string()).collect();
            names.join(", ")
        };
        match self {
            Deed::Kill { node, power: false } => format!("node {} is killed", number(*node)),
            Deed::Kill { node, .. } => format!("node {} loses power", number(*node)),
            Deed::Bury(node) => format!("node {} is down", number(*node)),
            Deed::Start(node) => format!("node {} is started", number(*node)),
            Deed::Freeze(node) => format!("node {} stands still", number(*node)),
            Deed::Resume(node) => format!("node {} goes on", number(*node)),
            Deed::Cut(links) => {
                let names = links.iter().map(|(a, b)| format!("{} to {}", number(*a), number(*b)));
                format!("links are cut: {}", names.collect::<Vec<_>>().join(", "))
            }
            Deed::Heal => "links are whole again".to_owned(),
            Deed::LoseHints { nodes, off: false } => format!("hints are lost on {}", all(nodes)),
            Deed::LoseHints { nodes, .. } => format!("hints are lost on {}, and none are kept", all(nodes)),
            Deed::ViewUpdates { nodes, fault } => {
                let what = match fault {
                    ViewFault::None => "go their way again",
                    ViewFault::Hold => "are held back",
                    ViewFault::Lose => "are lost",
                };
                format!("updates for views {what} on {}", all(nodes))
            }
            Deed::KeepHints(nodes) => format!("hints are kept again on {}", all(nodes)),
            Deed::Clock { node, skew_ms } => format!("the clock of node {} is off by {skew_ms} ms", number(*node)),
            Deed::FailDisk(node) => format!("node {} cannot write its log", number(*node)),
            Deed::Replace(node) => format!("another node in the place of node {}", number(*node)),
            Deed::HoldSchema { node, on: true } => format!("node {} learns of no change to the schema", number(*node)),
            Deed::HoldSchema { node, .. } => format!("node {} learns of changes to the schema again", number(*node)),
            Deed::Compact { node, keyspace, table } => {
                let table = table.as_ref().map_or_else(String::new, |t| format!(".{t}"));
                format!("compaction of {keyspace}{table} on node {}", number(*node))
            }
            Deed::Repair { by, scope } => {
                let by = by.map_or_else(String::new, |n| format!(" by node {}", number(n)));
                let table = scope.table.as_ref().map_or_else(String::new, |t| format!(".{t}"));
                format!("repair of {}{table}{by}", scope.keyspace)
            }
        }
    }
}

/// What is due, by time and in order of arrival.
type Agenda = BTreeMap<(u64, u64), Due>;

/// Runs for as long as the cluster.
pub(in crate::host::tcp) async fn direct(body: Weak<Body>, mut orders: Receiver<Order>) {
    let mut agenda = Agenda::new();
    let mut arrived = 0;
    // What lasts, by fault: what would end it.
    let mut lasting: BTreeMap<u32, Deed> = BTreeMap::new();
    // What takes its time; the agenda goes on meanwhile. As many as there are faults, at most.
    let mut long = JoinSet::new();
    loop {
        let next = agenda.first_key_value().map(|(key, _)| key.0);
        let Some(clock) = body.upgrade().map(|b| b.shared.clock) else {
            return;
        };
        let wait = async {
            match next {
                Some(at_us) => sleep_until(clock.instant(at_us)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                None => return,
                Some(Order::Due(due)) => {
                    arrived += 1;
                    agenda.insert((due.at_us, arrived), due);
                }
                Some(Order::Cancel { id, was_active }) => {
                    let rest: Vec<(u64, u64)> = agenda.iter().filter(|(_, d)| d.id == id).map(|(k, _)| *k).collect();
                    let mut end = lasting.remove(&id);
                    for due in rest.into_iter().filter_map(|key| agenda.remove(&key)) {
                        end = Some(due.deed).filter(|_| due.ends).or(end);
                    }
                    if let Some(deed) = end.filter(|_| was_active) {
                        let Some(body) = body.upgrade() else { return };
                        carry_out(&body, Due { at_us: 0, id, deed, begins: false, ends: true }).await;
                    }
                }
            },
            () = wait => {
                let Some(body) = body.upgrade() else { return };
                if let Some((_, due)) = agenda.pop_first() {
                    match due.deed.undone().filter(|_| due.begins) {
                        Some(end) => drop(lasting.insert(due.id, end)),
                        None if due.ends => drop(lasting.remove(&due.id)),
                        None => {}
                    }
                    if due.deed.is_long() {
                        let told = format!("{} begins", due.deed.told());
                        body.faults.was_done(body.shared.clock.now_us(), due.id, true, false, told, None);
                        long.spawn(async move { carry_out(&body, Due { begins: false, ..due }).await });
                    } else {
                        carry_out(&body, due).await;
                    }
                }
            }
            Some(_over) = long.join_next() => {}
        }
    }
}

async fn carry_out(body: &Arc<Body>, due: Due) {
    let Due {
        id, deed, begins, ends, ..
    } = due;
    let mut told = deed.told();
    let (done, failed) = match body.perform(id, deed).await {
        Ok(done) => (done, None),
        Err(error) => (error.clone(), Some(error)),
    };
    if !done.is_empty() {
        told = format!("{told}: {done}");
    }
    let now_us = body.shared.clock.now_us();
    body.faults.was_done(now_us, id, begins, ends, told, failed);
}
