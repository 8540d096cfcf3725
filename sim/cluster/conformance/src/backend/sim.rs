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
use std::future::Future;
use tokio::time::{Duration, sleep};

/// A case that simulates more than this is stuck: the longest waits a minute.
const CASE_LIMIT_NS: u64 = 900_000_000_000;

/// From the first to the last rule of the firewall that cut a real node off.
const CUT_TAKES: Duration = Duration::from_millis(40);
/// Hints, batchlogs: what nodes do again and again.
const PERIOD: Duration = Duration::from_secs(10);
/// How much one injection may simulate, with the making of its world and the recovery.
const EXPERIMENT_LIMIT_NS: u64 = 900_000_000_000;
/// Heartbeats of the loaded machine.
const SLOWER_PERCENT: u64 = 20;

struct Control {
    cluster: SimCluster,
    world: World,
}

impl Control {
    /// Lets a node and all others hear each other, or not. Clients reach it as before. As with `ci/cassandra cut`, what is
    /// for the node is lost first: that takes one command for each rule of the firewall.
    fn cut(&self, node: NodeIdx, cut: bool) -> impl Future<Output = ()> + Send + use<> {
        let links = self.world.links();
        let one = self.cluster.host(node).id();
        let others = self.cluster.nodes().filter(|n| *n != node);
        let others: Vec<HostId> = others.map(|n| self.cluster.host(n).id()).collect();
        for other in &others {
            links.cut_class(Class::Peer, *other, one, cut);
        }
        async move {
            if cut {
                sleep(CUT_TAKES).await;
            }
            for other in others {
                links.cut_class(Class::Peer, one, other, cut);
            }
        }
    }
}

fn done<'a>(work: impl Future<Output = ()> + Send + 'a) -> Done<'a> {
    Box::pin(async {
        work.await;
        Ok(())
    })
}

impl NodeControl for Control {
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_> {
        let node = NodeIdx((node - 1) as u8);
        match fault {
            Fault::Kill => self.cluster.kill(node),
            Fault::Freeze => self.cluster.pause(node),
            Fault::Resume => self.cluster.resume(node),
            Fault::Revive => self.cluster.restart(node),
            Fault::Cut => return done(self.cut(node, true)),
            Fault::Join => return done(self.cut(node, false)),
            Fault::Repair | Fault::Compact => {}
        }
        done(async {})
    }

    fn repair(&self, node: usize, keyspace: &str) -> Done<'_> {
        let (node, keyspace) = (NodeIdx((node - 1) as u8), keyspace.to_owned());
        Box::pin(async move { self.cluster.repair(Some(node), &keyspace, None).await.map(drop) })
    }

    fn compact(&self, node: usize, keyspace: &str) -> Done<'_> {
        let (node, keyspace) = (NodeIdx((node - 1) as u8), keyspace.to_owned());
        Box::pin(async move { self.cluster.compact(node, &keyspace, None).await })
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

/// Does an experiment so many times, each in a world of its own: where clocks and rings lie is drawn for each.
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
    for number in 1..=injections {
        let of_world = experiment.clone();
        let work = move |target: Target| async move {
            // What nodes do every ten seconds, they do at another moment before the strike each time.
            sleep(PERIOD.mul_f64((number as f64 * 0.618_034).fract())).await;
            frequency::measure(&target, &of_world, number..=number, &|_| {}).await
        };
        let (nodes, limit_ns) = (frequency::NODES, EXPERIMENT_LIMIT_NS);
        let seed = (number, Some(loaded_links()));
        seen.extend(on_cluster(seed, nodes, flavor, label, limit_ns, work)??);
        tell(number);
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
