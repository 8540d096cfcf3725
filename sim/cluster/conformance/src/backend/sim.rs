//! The simulated world: a fresh one with a fresh cluster for each case, from the same seed.

use super::{failed, not_run};
use crate::case::{self, Case, Fault};
use crate::frequency::summary::Observation;
use crate::frequency::{self, Experiment};
use crate::report::Outcome;
use crate::run;
use crate::target::{Done, NodeControl, Target};
use sim_cluster::core::Flavor;
use sim_cluster::core::config::{ClusterConfig, DEFAULT_WALL_BASE_US};
use sim_cluster::host::sim::SimCluster;
use sim_cluster::model::NodeIdx;
use sim_world::trace::{Class, HostId};
use sim_world::{Link, Seed, World, WorldConfig};

/// A case that simulates more than this is stuck: the longest waits a minute.
const CASE_LIMIT_NS: u64 = 900_000_000_000;

/// Injections done in one world, and how much it may simulate for them: each is under a minute, and the recovery as much.
const INJECTIONS_OF_WORLD: u64 = 5;
const EXPERIMENT_LIMIT_NS: u64 = 3_600_000_000_000;
/// Heartbeats of the loaded machine.
const SLOWER_PERCENT: u64 = 20;

struct Control {
    cluster: SimCluster,
    world: World,
}

impl Control {
    /// Lets a node and all others hear each other, or not. Clients reach it as before.
    fn cut(&self, node: NodeIdx, cut: bool) {
        let links = self.world.links();
        let one = self.cluster.host(node).id();
        for other in self.cluster.nodes().filter(|n| *n != node) {
            let other = self.cluster.host(other).id();
            links.cut_class(Class::Peer, one, other, cut);
            links.cut_class(Class::Peer, other, one, cut);
        }
    }
}

impl NodeControl for Control {
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_> {
        let node = NodeIdx((node - 1) as u8);
        match fault {
            Fault::Kill => self.cluster.kill(node),
            Fault::Freeze => self.cluster.pause(node),
            Fault::Resume => self.cluster.resume(node),
            Fault::Revive => self.cluster.restart(node),
            Fault::Cut => self.cut(node, true),
            Fault::Join => self.cut(node, false),
            Fault::Repair => {}
        }
        Box::pin(async { Ok(()) })
    }

    fn repair(&self, node: usize, keyspace: &str) -> Done<'_> {
        let (node, keyspace) = (NodeIdx((node - 1) as u8), keyspace.to_owned());
        Box::pin(async move { self.cluster.repair(Some(node), &keyspace, None).await.map(drop) })
    }
}

/// Runs the cases of a flavour, each on as many nodes as it wants.
pub fn run_all(cases: &[Case], flavor: Flavor, label: &str, tell: &dyn Fn(&Outcome)) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in cases {
        let outcome = run_one(case, flavor, label);
        tell(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

/// What lies between the nodes of a loaded machine, as the real ones were measured on: writes took 3 ms in the middle and up
/// to 100 ms and more in one of ten. How many statements are under way at a strike depends on it.
fn loaded_links() -> Link {
    Link {
        base_ns: 500_000,
        jitter_ns: 1_500_000,
        tail: Link::share(1, 10),
        tail_extra_ns: 100_000_000,
        ..Link::default()
    }
}

fn run_one(case: &Case, flavor: Flavor, label: &str) -> Outcome {
    if !case.flavors.contains(&flavor) {
        return not_run(case, label, format!("not for flavour {}", flavor.name()));
    }
    let of_world = case.clone();
    let work = move |target: Target| async move { run::run(&of_world, &target).await };
    let nodes = case.nodes.unwrap_or(1);
    match on_cluster((1, None), nodes, flavor, label, CASE_LIMIT_NS, work) {
        Ok(outcome) => outcome,
        Err(error) => failed(case, label, error),
    }
}

/// Does an experiment so many times, a few times in each of several worlds: where clocks and rings lie is drawn for each.
///
/// # Errors
/// What kept it from being done.
pub fn measure(
    experiment: &Experiment,
    injections: u64,
    flavor: Flavor,
    label: &str,
    tell: &dyn Fn(u64),
) -> Result<Vec<Observation>, String> {
    let mut seen = Vec::new();
    for first in (0..injections).step_by(INJECTIONS_OF_WORLD as usize) {
        let (of_world, here) = (experiment.clone(), INJECTIONS_OF_WORLD.min(injections - first));
        let work = move |target: Target| async move { frequency::measure(&target, &of_world, here, &|_| {}).await };
        let (nodes, limit_ns) = (frequency::NODES, EXPERIMENT_LIMIT_NS);
        seen.extend(on_cluster(
            (1 + first, Some(loaded_links())),
            nodes,
            flavor,
            label,
            limit_ns,
            work,
        )??);
        tell(first + here);
    }
    Ok(seen)
}

/// Gives the links between the nodes of a cluster this behaviour, and requests of a client their wait in the queue of the
/// node: as long as a round trip to another one. What is in it when the node dies never happened.
fn set_links(world: &World, cluster: &SimCluster, client: HostId, link: Link) {
    let requests = Link {
        base_ns: 2 * link.base_ns,
        jitter_ns: 2 * link.jitter_ns,
        tail_extra_ns: 2 * link.tail_extra_ns,
        ..link
    };
    let hosts: Vec<_> = cluster.nodes().map(|node| cluster.host(node).id()).collect();
    for from in &hosts {
        world.links().set(client, *from, requests);
        for to in hosts.iter().filter(|to| *to != from) {
            world.links().set(*from, *to, link);
        }
    }
}

/// Does something on a new cluster in a new world of this seed; on a loaded machine with these links between its nodes.
fn on_cluster<T, F, Fut>(
    (seed, loaded): (u64, Option<Link>),
    nodes: usize,
    flavor: Flavor,
    label: &str,
    limit_ns: u64,
    work: F,
) -> Result<T, String>
where
    T: Send + 'static,
    F: FnOnce(Target) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let config = WorldConfig {
        time_limit_ns: Some(limit_ns),
        ..WorldConfig::default()
    };
    let label = label.to_owned();
    let outcome = World::run(Seed(seed), config, move |world| async move {
        let mut config = ClusterConfig::new(nodes, flavor);
        if loaded.is_some() {
            config.gossip.slower_percent = SLOWER_PERCENT;
        }
        let cluster = SimCluster::start_with(&world, config, &case::schema(nodes)).map_err(|e| e.to_string())?;
        cluster.ready().await;
        let address = "10.0.2.1".parse().map_err(|e| format!("{e}"))?;
        let client = world.host("client", address);
        if let Some(link) = loaded {
            set_links(&world, &cluster, client.id(), link);
        }
        let clock = world.clone();
        let now_us = move || DEFAULT_WALL_BASE_US + (clock.now_ns() / 1000) as i64;
        let contacts = cluster.contact_points();
        let control = Control { cluster, world };
        let mut target = Target::new(&label, flavor, contacts, now_us).controlled_by(Box::new(control));
        target.slack_ms = 0;
        client.spawn(work(target)).await.map_err(|e| e.to_string())
    });
    match outcome {
        Ok((done, _)) => done,
        Err(error) => Err(error.to_string()),
    }
}
