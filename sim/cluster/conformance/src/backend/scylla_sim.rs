//! The cluster of `scylla-sim`, on TCP and real files, in this process: what the program runs. Its nodes can be killed,
//! frozen, resumed and revived one by one, which no signal to the one process could do.

use super::{failed, not_run};
use crate::case::{Case, Fault};
use crate::frequency::summary::Observation;
use crate::frequency::{self, Experiment};
use crate::report::Outcome;
use crate::target::{Done, NodeControl, Target};
use crate::{backend, run};
use sim_cluster::core::{CommitlogSync, Flavor};
use sim_cluster::host::tcp::{Options, TcpCluster};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Cases that disturb nodes wait most of the time, so several run at once, each on a cluster of its own: enough that all of
/// them are done in the time of the longest.
const CLUSTERS_AT_ONCE: usize = 48;
/// Starts of a cluster at most: a port that is taken on one of three addresses is rare, three times in a row it is something
/// else.
const STARTS_MAX: usize = 3;
/// The first of the loopback networks used, 127.0.<this>.0; another one for each cluster of a run.
const FIRST_NETWORK: u8 = 77;

struct Cluster {
    tcp: Arc<TcpCluster>,
    _directory: tempfile::TempDir,
}

struct Control {
    tcp: Arc<TcpCluster>,
    /// The faults that cut nodes off, by node.
    cuts: Mutex<BTreeMap<usize, u32>>,
}

impl Control {
    fn cut(&self, node: usize) -> Result<(), String> {
        let spec = serde_json::json!({"do": "cut", "node": node + 1});
        let spec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        let fault = self.tcp.inject(spec).map_err(|e| e.to_string())?;
        self.cuts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, fault);
        Ok(())
    }

    fn join(&self, node: usize) {
        if let Some(fault) = self.cuts.lock().unwrap_or_else(PoisonError::into_inner).remove(&node) {
            self.tcp.cancel(fault);
        }
    }
}

impl NodeControl for Control {
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_> {
        Box::pin(async move {
            let node = node - 1;
            match fault {
                Fault::Kill => self.tcp.kill(node),
                Fault::Freeze => self.tcp.freeze(node),
                Fault::Resume => self.tcp.resume(node),
                Fault::Revive => self.tcp.revive(node).await.map_err(|e| e.to_string())?,
                Fault::Cut => self.cut(node)?,
                Fault::Join => self.join(node),
                Fault::Repair | Fault::Compact => {}
            }
            Ok(())
        })
    }

    fn repair(&self, node: usize, keyspace: &str) -> Done<'_> {
        let keyspace = keyspace.to_owned();
        Box::pin(async move { self.tcp.repair(Some(node - 1), &keyspace, None).await.map(drop) })
    }

    fn compact(&self, node: usize, keyspace: &str) -> Done<'_> {
        let done = self.tcp.compact(node - 1, keyspace, None);
        Box::pin(async move { done })
    }
}

/// Starts a cluster. The port that is free on its first address may be taken on the next, so it is tried again.
async fn start(nodes: usize, flavor: Flavor, network: u8) -> Result<Cluster, String> {
    let mut failure = String::new();
    for _ in 0..STARTS_MAX {
        match start_once(nodes, flavor, network).await {
            Ok(cluster) => return Ok(cluster),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn start_once(nodes: usize, flavor: Flavor, network: u8) -> Result<Cluster, String> {
    let directory = tempfile::tempdir().map_err(|e| format!("no place for data: {e}"))?;
    let options = Options {
        nodes,
        listen: SocketAddr::from((Ipv4Addr::new(127, 0, network, 1), 0)),
        knobs: Default::default(),
        data_dir: directory.path().join("data"),
        flavor,
        commitlog_sync: CommitlogSync::Periodic { period_ms: 10_000 },
        auth: None,
    };
    let tcp = TcpCluster::start(options, Arc::new(|_| {})).await;
    Ok(Cluster {
        tcp: Arc::new(tcp.map_err(|e| e.to_string())?),
        _directory: directory,
    })
}

fn target(cluster: &Cluster, flavor: Flavor, label: &str) -> Target {
    let contacts = cluster.tcp.contact_points().to_vec();
    let control = Control {
        tcp: cluster.tcp.clone(),
        cuts: Mutex::default(),
    };
    Target::new(label, flavor, contacts, super::server::machine_clock_us).controlled_by(Box::new(control))
}

/// Runs the cases of a flavour: the plain ones on one node, those with their own number of nodes each on a new cluster.
pub async fn run_all(cases: &[Case], flavor: Flavor, label: &str, tell: &(dyn Fn(&Outcome) + Sync)) -> Vec<Outcome> {
    let (plain, on_own): (Vec<Case>, Vec<Case>) = cases.iter().cloned().partition(|c| c.nodes.unwrap_or(1) == 1);
    let mut outcomes = match start(1, flavor, FIRST_NETWORK).await {
        Ok(cluster) => {
            let target = target(&cluster, flavor, label);
            match target.prepare().await {
                Ok(()) => backend::run_all(&plain, &target, tell).await,
                Err(error) => plain.iter().map(|c| failed(c, label, error.clone())).collect(),
            }
        }
        Err(error) => plain.iter().map(|c| failed(c, label, error.clone())).collect(),
    };
    for at_once in on_own.chunks(CLUSTERS_AT_ONCE) {
        let mut tasks = tokio::task::JoinSet::new();
        for (i, case) in at_once.iter().cloned().enumerate() {
            let (label, network) = (label.to_owned(), FIRST_NETWORK + 1 + i as u8);
            tasks.spawn(async move { (i, run_one(&case, flavor, &label, network).await) });
        }
        let mut done = tasks.join_all().await;
        done.sort_by_key(|(i, _)| *i);
        for (_, outcome) in done {
            tell(&outcome);
            outcomes.push(outcome);
        }
    }
    outcomes
}

/// Does an experiment so many times on a new cluster.
///
/// # Errors
/// What kept it from being done.
pub async fn measure(
    experiment: &Experiment,
    injections: u64,
    flavor: Flavor,
    label: &str,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Observation>, String> {
    let cluster = start(frequency::NODES, flavor, FIRST_NETWORK).await?;
    frequency::measure(&target(&cluster, flavor, label), experiment, 1..=injections, tell).await
}

async fn run_one(case: &Case, flavor: Flavor, label: &str, network: u8) -> Outcome {
    if !case.flavors.contains(&flavor) {
        return not_run(case, label, format!("not for flavour {}", flavor.name()));
    }
    let cluster = match start(case.nodes.unwrap_or(1), flavor, network).await {
        Ok(cluster) => cluster,
        Err(error) => return failed(case, label, error),
    };
    let target = target(&cluster, flavor, label);
    match target.prepare().await {
        Ok(()) => run::run(case, &target).await,
        Err(error) => failed(case, label, error),
    }
}
