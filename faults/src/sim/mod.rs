//! Carries a plan out in the simulated world. Timed faults are calls of the world's clock; faults on a batch are hooks at
//! the boundary of the database and taps on settlement's connections; faults on the feed are taps on its connections too.
//!
//! | module | job |
//! |---|---|
//! | here | arming, firing, undoing, and keeping within the budget at the moment of firing |
//! | [`feed`] | what is lost, doubled, held back between the engine and settlement |
//! | `lies` | anomalies on record, on command |
//! | `disk` | settlement's disk |
//! | [`batch`] | recognises the batch of an event, and what is watched of it |
//!
//! An executor decides nothing at random: all of that is in the plan.
pub mod batch;
mod disk;
pub mod feed;
mod lies;

use crate::budget::{self, Window};
use crate::plan::{Action, Fault, Lie, Plan, Target, When};
use feed::FeedPorts;
use sim_cluster::host::sim::SimCluster;
use sim_cluster::model::NodeIdx;
use sim_world::trace::{Class as Traffic, FaultRecord, FaultStage, Kind};
use sim_world::{Host, HostState, TapGuard, World};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const MS: u64 = 1_000_000;
/// How much later a timed fault is tried again that could not strike.
const WAIT_MS: u64 = 250;

/// The machines of a run.
#[derive(Clone)]
pub struct Machines {
    /// Runs settlement.
    pub settlement: Host,
    /// Runs the matching engine.
    pub engine: Host,
    /// The database.
    pub cluster: SimCluster,
    /// Database nodes.
    pub nodes: u16,
}

/// A plan being carried out.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    machines: Machines,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Faults whose moment has not come.
    waiting: Vec<Fault>,
    /// Faults that have fired, by id.
    fired: Vec<u32>,
    /// Spans in which a node was or will be impaired, power losses of everything left out.
    windows: Vec<Window>,
    /// When the last effect so far ends, simulated ms.
    last_effect_ms: u64,
    /// Anomalies that are being shown, by the fault that wants them.
    lies: Vec<(u32, Lie)>,
    /// Things the trace is told once.
    taps: Vec<TapGuard>,
}

impl Executor {
    /// Arms every fault of the plan. Call it once the machines exist and before anything runs on them.
    pub fn arm(world: &World, machines: Machines, plan: &Plan, ports: &FeedPorts) -> Executor {
        let state = State {
            waiting: plan.faults.clone(),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            world: world.clone(),
            machines,
            state: Mutex::new(state),
        });
        let executor = Executor { shared };
        for fault in &plan.faults {
            executor.record(fault, FaultStage::Planned, String::new());
            match fault.when {
                When::AtMs(at_ms) => executor.at(at_ms, fault.id),
                // By the hook and the taps below.
                When::Published { .. } | When::Batch { .. } => {}
            }
        }
        if plan.faults.iter().any(|fault| matches!(fault.when, When::Batch { .. })) {
            batch::install(&executor, plan);
        }
        feed::install(&executor, plan, ports);
        executor
    }

    /// Whether a timed fault is still to come.
    pub fn timed_pending(&self) -> bool {
        self.state()
            .waiting
            .iter()
            .any(|fault| matches!(fault.when, When::AtMs(_)))
    }

    /// When the last effect of what has fired ends or will end, simulated ms.
    pub fn last_effect_ms(&self) -> u64 {
        self.state().last_effect_ms
    }

    /// The spans in which a single node was impaired.
    pub fn windows(&self) -> Vec<Window> {
        self.state().windows.clone()
    }

    /// Ids of all faults that have fired.
    pub fn fired(&self) -> Vec<u32> {
        let mut fired = self.state().fired.clone();
        fired.sort_unstable();
        fired.dedup();
        fired
    }

    /// Ends every cut. Processes that are down stay down until the plan restarts them.
    pub fn heal_network(&self) {
        for node in 0..self.shared.machines.nodes {
            self.cut_client(node, true, true, false);
            self.cut_peer(node, true, true, false);
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.shared.world
    }

    pub(crate) fn machines(&self) -> &Machines {
        &self.shared.machines
    }

    pub(crate) fn weak(&self) -> WeakExecutor {
        WeakExecutor {
            shared: Arc::downgrade(&self.shared),
        }
    }

    pub(crate) fn keep(&self, guard: TapGuard) {
        self.state().taps.push(guard);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Simulated time, ms.
    pub fn now_ms(&self) -> u64 {
        self.shared.world.now_ns() / MS
    }

    fn at(&self, at_ms: u64, id: u32) {
        let weak = self.weak();
        self.later(at_ms, move || {
            if let Some(executor) = weak.upgrade() {
                executor.fire_timed(id);
            }
        });
    }

    fn later(&self, at_ms: u64, f: impl FnOnce() + Send + 'static) {
        self.shared.world.call_at(at_ms * MS, f);
    }

    pub(crate) fn record(&self, fault: &Fault, stage: FaultStage, detail: String) {
        let record = FaultRecord {
            id: fault.id,
            class: fault.class.name(),
            stage,
            detail,
        };
        self.shared.world.trace().emit(None, Kind::Fault(record));
    }

    /// Takes a waiting fault for firing; None if it is not waiting any more.
    pub(crate) fn take(&self, id: u32) -> Option<Fault> {
        let mut state = self.state();
        let index = state.waiting.iter().position(|fault| fault.id == id)?;
        Some(state.waiting.remove(index))
    }

    /// Notes that a fault has fired and that its effect lasts until `until_ms`.
    pub(crate) fn fired_until(&self, fault: &Fault, until_ms: u64, detail: String) {
        {
            let mut state = self.state();
            state.fired.push(fault.id);
            state.last_effect_ms = state.last_effect_ms.max(until_ms);
        }
        self.record(fault, FaultStage::Fired, detail);
    }

    /// Reserves a node for impairment, unless that would leave no quorum.
    pub(crate) fn reserve(&self, node: u16, for_ms: u64) -> bool {
        let from_ms = self.now_ms();
        let window = Window {
            node,
            from_ms,
            to_ms: from_ms + for_ms,
        };
        let mut state = self.state();
        if state.windows.iter().any(|other| other.clashes(&window)) {
            return false;
        }
        state.windows.push(window);
        true
    }

    /// Whether a node could be impaired now without leaving no quorum.
    pub(crate) fn is_free(&self, node: u16, for_ms: u64) -> bool {
        let from_ms = self.now_ms();
        let window = Window {
            node,
            from_ms,
            to_ms: from_ms + for_ms,
        };
        !self.state().windows.iter().any(|other| other.clashes(&window))
    }

    /// Whether a fault whose moment has come would strike nothing: another node is impaired, or whom it is to strike
    /// is down already. It then waits; nothing planned is dropped because of its neighbours.
    fn must_wait(&self, fault: &Fault) -> bool {
        if let Some((node, for_ms)) = budget::impairs(fault)
            && !self.is_free(node, for_ms)
        {
            return true;
        }
        let target = match fault.action {
            Action::Kill { target, .. } | Action::PowerLoss { target, .. } | Action::Pause { target, .. } => target,
            Action::TornTail { .. }
            | Action::DiskEio { .. }
            | Action::DiskFull { .. }
            | Action::DiskLost { .. }
            | Action::DiskRot { .. }
            | Action::DiskUnreadable { .. } => Target::Settlement,
            _ => return false,
        };
        self.host(target).state() != HostState::Up
    }

    fn fire_timed(&self, id: u32) {
        let now_ms = self.now_ms();
        let waits = |fault: &&Fault| fault.id == id && self.must_wait(fault);
        let waiting = self.state().waiting.clone();
        if waiting.iter().find(waits).is_some() {
            return self.at(now_ms + WAIT_MS, id);
        }
        let Some(fault) = self.take(id) else { return };
        if let Some((node, for_ms)) = budget::impairs(&fault)
            && !self.reserve(node, for_ms)
        {
            return self.left_out(&fault, format!("another node is impaired at {now_ms} ms"));
        }
        match fault.action {
            Action::Kill {
                target,
                restart_after_ms,
            } => self.outage(&fault, target, restart_after_ms, Blow::Kill),
            Action::PowerLoss {
                target,
                restart_after_ms,
            } => self.outage(&fault, target, restart_after_ms, Blow::Power),
            Action::TornTail { restart_after_ms } => self.torn_tail(fault, restart_after_ms),

            Action::KillAll { restart_after_ms } => self.strike_all(&fault, restart_after_ms, Blow::Kill),
            Action::PowerLossAll { restart_after_ms } => self.strike_all(&fault, restart_after_ms, Blow::Power),
            Action::PowerLossDatabase {
                restart_after_ms,
                apart_ms,
            } => self.power_loss_database(&fault, restart_after_ms, apart_ms),
            Action::Pause { target, for_ms } => self.pause(&fault, target, for_ms),
            Action::CutClient {
                node,
                to_node,
                from_node,
                for_ms,
            } => {
                self.cut_client(node, to_node, from_node, true);
                self.fired_until(
                    &fault,
                    now_ms + for_ms,
                    format!("settlement and node {node} cut off for {for_ms} ms"),
                );
                self.undo(now_ms + for_ms, fault, move |e| {
                    e.cut_client(node, to_node, from_node, false)
                });
            }
            Action::CutPeer {
                node,
                to_node,
                from_node,
                for_ms,
            } => {
                self.cut_peer(node, to_node, from_node, true);
                self.fired_until(
                    &fault,
                    now_ms + for_ms,
                    format!("node {node} cut off from its peers for {for_ms} ms"),
                );
                self.undo(now_ms + for_ms, fault, move |e| {
                    e.cut_peer(node, to_node, from_node, false)
                });
            }
            Action::DiskEio { writes, fsyncs } => self.disk_eio(&fault, writes, fsyncs),
            Action::DiskFull { for_ms } => self.disk_full(fault, for_ms),
            Action::DiskLost { restart_after_ms } => self.disk_lost(&fault, restart_after_ms),
            Action::DiskRot {
                place,
                at_permille,
                bit,
                restart_after_ms,
            } => self.disk_rot(
                &fault,
                disk::Rot {
                    place,
                    at_permille,
                    bit,
                },
                restart_after_ms,
            ),
            Action::DiskUnreadable {
                reads,
                restart_after_ms,
            } => self.disk_unreadable(&fault, reads, restart_after_ms),
            Action::Lie { lie, for_ms } => self.lie(&fault, lie, for_ms),
            // Those of batches and of the feed have no time of their own.
            _ => self.left_out(&fault, "this action cannot be timed".into()),
        }
    }

    /// Records that a fault's moment came and that it could not strike.
    pub(crate) fn left_out(&self, fault: &Fault, why: String) {
        self.record(fault, FaultStage::Healed, format!("left out: {why}"));
    }

    /// Has a node back that a verdict has killed.
    pub(crate) fn restart_node(&self, fault: &Fault, node: u16, at_ms: u64) {
        self.undo(at_ms, fault.clone(), move |e| e.bring_back(Target::Node(node)));
    }

    /// Kills settlement because of a batch, and has it back later.
    pub(crate) fn killed_at_batch(&self, fault: &Fault, restart_after_ms: u64, what: String) {
        if self.machines().settlement.state() == HostState::Down {
            return self.left_out(fault, "settlement is down already".into());
        }
        self.killed_by_tap(fault, restart_after_ms, what);
        self.machines().settlement.kill();
    }

    /// Notes that a tap kills settlement now, and has it back later.
    pub(crate) fn killed_by_tap(&self, fault: &Fault, restart_after_ms: u64, what: String) {
        let until_ms = self.now_ms() + restart_after_ms;
        self.fired_until(fault, until_ms, format!("{what}, back after {restart_after_ms} ms"));
        self.undo(until_ms, fault.clone(), |e| e.bring_back(Target::Settlement));
    }

    /// Runs `f` at `at_ms` and records that the fault is over.
    fn undo(&self, at_ms: u64, fault: Fault, f: impl FnOnce(&Executor) + Send + 'static) {
        let weak = self.weak();
        self.later(at_ms, move || {
            if let Some(executor) = weak.upgrade() {
                f(&executor);
                executor.record(&fault, FaultStage::Healed, "over".into());
            }
        });
    }

    fn host(&self, target: Target) -> Host {
        match target {
            Target::Settlement => self.machines().settlement.clone(),
            Target::Engine => self.machines().engine.clone(),
            Target::Node(node) => self.machines().cluster.host(index(node)),
        }
    }

    /// Strikes a machine down, and has it back after `restart_after_ms`.
    pub(crate) fn outage(&self, fault: &Fault, target: Target, restart_after_ms: u64, blow: Blow) {
        if self.host(target).state() == HostState::Down {
            return self.left_out(fault, format!("{target:?} is down already"));
        }
        let until_ms = self.now_ms() + restart_after_ms;
        let what = if blow == Blow::Kill { "killed" } else { "loses power" };
        self.fired_until(
            fault,
            until_ms,
            format!("{target:?} {what}, back after {restart_after_ms} ms"),
        );
        self.strike(target, blow);
        self.undo(until_ms, fault.clone(), move |e| e.bring_back(target));
    }

    /// The same at once, when whoever calls this is done with what it does.
    pub(crate) fn outage_now(&self, fault: &Fault, target: Target, restart_after_ms: u64, blow: Blow) {
        let (weak, fault) = (self.weak(), fault.clone());
        let world = &self.shared.world;
        world.call_at(world.now_ns(), move || {
            if let Some(executor) = weak.upgrade() {
                executor.outage(&fault, target, restart_after_ms, blow);
            }
        });
    }

    fn strike(&self, target: Target, blow: Blow) {
        match (target, blow) {
            (Target::Node(node), Blow::Kill) => self.machines().cluster.kill(index(node)),
            (Target::Node(node), Blow::Power) => self.machines().cluster.power_off(index(node)),
            (_, Blow::Kill) => self.host(target).kill(),
            (_, Blow::Power) => self.power_off(&self.host(target)),
        }
    }

    /// Power loss of a program's machine; what its disk lost is noted, because it shows nowhere else.
    fn power_off(&self, host: &Host) {
        let before = host.disk().stats().lost_bytes;
        host.power_off();
        let lost = host.disk().stats().lost_bytes - before;
        if lost > 0 {
            let text = format!("{}{lost} unsynced bytes", crate::bit::DISK_LOST_NOTE);
            self.world().trace().emit(Some(host.id()), Kind::Note { text });
        }
    }

    fn bring_back(&self, target: Target) {
        if self.host(target).state() != HostState::Down {
            return;
        }
        match target {
            Target::Node(node) => self.machines().cluster.restart(index(node)),
            _ => self.host(target).restart(),
        }
    }

    fn everyone(&self) -> Vec<Target> {
        let nodes = (0..self.machines().nodes).map(Target::Node);
        [Target::Settlement, Target::Engine].into_iter().chain(nodes).collect()
    }

    fn strike_all(&self, fault: &Fault, restart_after_ms: u64, blow: Blow) {
        let until_ms = self.now_ms() + restart_after_ms;
        let what = match blow {
            Blow::Kill => "every process is killed",
            Blow::Power => "every machine loses power",
        };
        self.fired_until(fault, until_ms, format!("{what}, back after {restart_after_ms} ms"));
        for target in self.everyone() {
            if self.host(target).state() != HostState::Down {
                self.strike(target, blow);
            }
        }
        self.undo(until_ms, fault.clone(), |e| {
            for target in e.everyone() {
                e.bring_back(target);
            }
        });
    }

    fn power_loss_database(&self, fault: &Fault, restart_after_ms: u64, apart_ms: u64) {
        let first_ms = self.now_ms() + restart_after_ms;
        let nodes = self.machines().nodes;
        self.fired_until(
            fault,
            first_ms + apart_ms * u64::from(nodes.saturating_sub(1)),
            format!("every database node loses power, the first is back after {restart_after_ms} ms, each other {apart_ms} ms later"),
        );
        for node in (0..nodes).map(Target::Node) {
            if self.host(node).state() != HostState::Down {
                self.strike(node, Blow::Power);
            }
        }
        for node in 0..nodes {
            let at_ms = first_ms + apart_ms * u64::from(node);
            self.undo(at_ms, fault.clone(), move |e| e.bring_back(Target::Node(node)));
        }
    }

    fn pause(&self, fault: &Fault, target: Target, for_ms: u64) {
        if self.host(target).state() != HostState::Up {
            return self.left_out(fault, format!("{target:?} is not up"));
        }
        let until_ms = self.now_ms() + for_ms;
        self.fired_until(fault, until_ms, format!("{target:?} stands still for {for_ms} ms"));
        match target {
            Target::Node(node) => self.machines().cluster.pause(index(node)),
            _ => self.host(target).pause(),
        }
        self.undo(until_ms, fault.clone(), move |e| {
            if e.host(target).state() == HostState::Paused {
                match target {
                    Target::Node(node) => e.machines().cluster.resume(index(node)),
                    _ => e.host(target).resume(),
                }
            }
        });
    }

    /// Has the database show an anomaly. Where several faults want the same one, it lasts until the last of them ends.
    fn lie(&self, fault: &Fault, lie: Lie, for_ms: u64) {
        if lie.node().is_some_and(|node| node >= self.machines().nodes) {
            return self.left_out(fault, format!("{lie:?}: the cluster has no such node"));
        }
        let until_ms = self.now_ms() + for_ms;
        self.state().lies.push((fault.id, lie));
        lies::show(self.machines(), lie, true);
        self.fired_until(fault, until_ms, format!("{lie:?} for {for_ms} ms"));
        let id = fault.id;
        self.undo(until_ms, fault.clone(), move |e| {
            let other = {
                let mut state = e.state();
                state.lies.retain(|(other, _)| *other != id);
                state
                    .lies
                    .iter()
                    .rev()
                    .map(|(_, lie)| *lie)
                    .find(|other| other.is_as(&lie))
            };
            lies::show(e.machines(), other.unwrap_or(lie), other.is_some());
        });
    }

    fn cut_client(&self, node: u16, to_node: bool, from_node: bool, cut: bool) {
        let (client, server) = (
            self.machines().settlement.id(),
            self.machines().cluster.host(index(node)).id(),
        );
        let links = self.world().links();
        if to_node {
            links.cut_class(Traffic::Client, client, server, cut);
        }
        if from_node {
            links.cut_class(Traffic::Client, server, client, cut);
        }
    }

    fn cut_peer(&self, node: u16, to_node: bool, from_node: bool, cut: bool) {
        let links = self.world().links();
        let this = self.machines().cluster.host(index(node)).id();
        for peer in (0..self.machines().nodes).filter(|peer| *peer != node) {
            let peer = self.machines().cluster.host(index(peer)).id();
            if to_node {
                links.cut_class(Traffic::Peer, peer, this, cut);
            }
            if from_node {
                links.cut_class(Traffic::Peer, this, peer, cut);
            }
        }
    }
}

/// A node by the number that plans use.
pub(crate) fn index(node: u16) -> NodeIdx {
    NodeIdx(u8::try_from(node).unwrap_or(u8::MAX))
}

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// kill -9.
    Kill,
    /// Power loss.
    Power,
}

/// A reference that does not keep the executor alive: hooks and timers hold it.
#[derive(Clone)]
pub(crate) struct WeakExecutor {
    shared: Weak<Shared>,
}

impl WeakExecutor {
    pub(crate) fn upgrade(&self) -> Option<Executor> {
        self.shared.upgrade().map(|shared| Executor { shared })
    }
}
