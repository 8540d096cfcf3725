//! The simulated world: a fresh one with a fresh cluster for each case, from the same seed.

use super::{failed, not_run};
use crate::case::{self, Case, Fault};
use crate::report::Outcome;
use crate::run;
use crate::target::{Done, NodeControl, Target};
use sim_cluster::core::Flavor;
use sim_cluster::core::config::{ClusterConfig, DEFAULT_WALL_BASE_US};
use sim_cluster::host::sim::SimCluster;
use sim_cluster::model::NodeIdx;
use sim_world::{Seed, World, WorldConfig};

/// A case that simulates more than this is stuck: the longest waits a minute.
const CASE_LIMIT_NS: u64 = 900_000_000_000;

struct Control(SimCluster);

impl NodeControl for Control {
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_> {
        let node = NodeIdx((node - 1) as u8);
        match fault {
            Fault::Kill => self.0.kill(node),
            Fault::Freeze => self.0.pause(node),
            Fault::Resume => self.0.resume(node),
            Fault::Revive => self.0.restart(node),
            Fault::Repair => {}
        }
        Box::pin(async { Ok(()) })
    }

    fn repair(&self, node: usize, keyspace: &str) -> Done<'_> {
        let (node, keyspace) = (NodeIdx((node - 1) as u8), keyspace.to_owned());
        Box::pin(async move { self.0.repair(Some(node), &keyspace, None).await.map(drop) })
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

fn run_one(case: &Case, flavor: Flavor, label: &str) -> Outcome {
    if !case.flavors.contains(&flavor) {
        return not_run(case, label, format!("not for flavour {}", flavor.name()));
    }
    let nodes = case.nodes.unwrap_or(1);
    let world = WorldConfig {
        time_limit_ns: Some(CASE_LIMIT_NS),
        ..WorldConfig::default()
    };
    let (of_world, name) = (case.clone(), label.to_owned());
    let outcome = World::run(Seed(1), world, move |world| async move {
        let config = ClusterConfig::new(nodes, flavor);
        let cluster = SimCluster::start_with(&world, config, &case::schema(nodes)).map_err(|e| e.to_string())?;
        cluster.ready().await;
        let address = "10.0.2.1".parse().map_err(|e| format!("{e}"))?;
        let client = world.host("client", address);
        let clock = world.clone();
        let now_us = move || DEFAULT_WALL_BASE_US + (clock.now_ns() / 1000) as i64;
        let mut target =
            Target::new(&name, flavor, cluster.contact_points(), now_us).controlled_by(Box::new(Control(cluster)));
        target.slack_ms = 0;
        let work = client.spawn(async move { run::run(&of_world, &target).await });
        work.await.map_err(|e| e.to_string())
    });
    match outcome {
        Ok((Ok(outcome), _)) => outcome,
        Ok((Err(error), _)) => failed(case, label, error),
        Err(error) => failed(case, label, error.to_string()),
    }
}
