//! A cluster in somebody's own test: five lines with which a service on tokio and the `scylla` driver is tried against a
//! cluster that fails, in simulated time (`--cfg madsim`) or on real sockets, from the same source.
//!
//! ```ignore
#![doc = include_str!("../examples/own_test.rs")]
//! ```
//!
//! (Tests of both worlds run this example: `tests/driver` and `tests/tcp`.)
//!
//! A project of its own needs what the service here needs: `tokio = { package = "sim-tokio", … }` and `scylla = { package =
//! "madsim-scylla", … }` in place of the two crates, and the flag for its simulated tests. In the simulated world the same
//! seed gives the same run; what more can be done to the cluster there (hooks at each step of a write, links, clocks,
//! what replicas hold) is behind [`Cluster::sim`]. On real sockets faults are those of [`crate::host::tcp::faults`], behind
//! `Cluster::tcp`.

use crate::core::{ClusterConfig, Flavor};
use std::net::SocketAddr;

/// A cluster that runs, and what can be done to its nodes, which count from 0. Clones are the same cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Inner,
}

#[cfg(madsim)]
type Inner = crate::host::sim::SimCluster;
#[cfg(not(madsim))]
type Inner = std::sync::Arc<crate::host::tcp::TcpCluster>;

/// The longest a simulated test may take, in simulated time.
#[cfg(madsim)]
const TIME_LIMIT_NS: u64 = 3_600_000_000_000;

/// Runs a test against a new cluster of three nodes with the schema that these statements make.
///
/// In the simulated world everything that happens is drawn from the seed, and time passes as fast as it can. In the
/// production world the seed means nothing; the nodes listen on 127.0.0.1 to 127.0.0.3 and a free port, and their data are
/// in a directory of the system's temporary folder that is gone when the test ends well.
///
/// # Panics
/// When the test panics, a statement is refused, or the cluster cannot start.
pub fn run<F, Fut>(seed: u64, flavor: Flavor, ddl: &[&str], test: F)
where
    F: FnOnce(Cluster) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    run_with(seed, ClusterConfig::new(3, flavor), ddl, test);
}

#[cfg(madsim)]
fn run_with<F, Fut>(seed: u64, config: ClusterConfig, ddl: &[&str], test: F)
where
    F: FnOnce(Cluster) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    use sim_world::{Seed, World, WorldConfig};
    let world_config = WorldConfig {
        time_limit_ns: Some(TIME_LIMIT_NS),
        ..WorldConfig::default()
    };
    let ddl: Vec<String> = ddl.iter().map(|text| (*text).to_owned()).collect();
    let outcome = World::run(Seed(seed), world_config, |world| async move {
        let inner = Inner::start_with(&world, config, &ddl).unwrap_or_else(|error| panic!("the schema: {error}"));
        inner.ready().await;
        let client = world.host("client", CLIENT.into());
        let ended = client.spawn(test(Cluster { inner })).await;
        ended.unwrap_or_else(|error| panic!("the test: {error}"));
    });
    if let Err(error) = outcome {
        panic!("seed {seed}: {error}");
    }
}

/// The address of the machine on which a simulated test runs.
#[cfg(madsim)]
const CLIENT: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 1);

#[cfg(not(madsim))]
fn run_with<F, Fut>(_seed: u64, config: ClusterConfig, ddl: &[&str], test: F)
where
    F: FnOnce(Cluster) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    use crate::host::tcp::{Options, TcpCluster};
    let data_dir = std::env::temp_dir().join(format!("scylla-sim-{}-{}", std::process::id(), number()));
    let options = Options {
        nodes: config.nodes.len(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        knobs: Default::default(),
        data_dir: data_dir.clone(),
        flavor: config.flavor,
        commitlog_sync: config.commitlog_sync,
        auth: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("the runtime: {error}"));
    runtime.block_on(async {
        let started = TcpCluster::start(options, std::sync::Arc::new(|_| {})).await;
        let inner = std::sync::Arc::new(started.unwrap_or_else(|error| panic!("the cluster: {error}")));
        for text in ddl {
            make(inner.contact_points()[0], text).await;
        }
        let ended = tokio::spawn(test(Cluster { inner })).await;
        ended.unwrap_or_else(|error| panic!("the test: {error}"));
    });
    // What is left of a cluster that is gone is nobody's.
    let _left = std::fs::remove_dir_all(&data_dir);
}

/// Tells the clusters of one process apart.
#[cfg(not(madsim))]
fn number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Carries out one statement of the schema, without a driver.
#[cfg(not(madsim))]
async fn make(node: SocketAddr, text: &str) {
    use crate::cql::frame::{HEADER_BYTES, Opcode};
    use crate::host::hostile::{query, startup};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(node).await?;
        let mut refusal = None;
        for request in [startup(1), query(2, text)] {
            stream.write_all(&request).await?;
            let mut header = [0; HEADER_BYTES];
            stream.read_exact(&mut header).await?;
            let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).await?;
            if header[4] == Opcode::Error as u8 {
                refusal = Some(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned());
            }
        }
        Ok::<_, std::io::Error>(refusal)
    };
    match talk.await {
        Ok(None) => {}
        Ok(Some(refusal)) => panic!("the schema: {refusal}: {text}"),
        Err(error) => panic!("the schema: {error}"),
    }
}

impl Cluster {
    /// The CQL addresses of all nodes.
    pub fn contact_points(&self) -> Vec<SocketAddr> {
        self.inner.contact_points().to_vec()
    }
}

#[cfg(madsim)]
impl Cluster {
    /// kill -9 of a node.
    pub fn kill(&self, node: usize) {
        self.inner.kill(index(node));
    }

    /// Starts a killed node again.
    ///
    /// # Panics
    /// Its address was taken, or its log cannot be read (on real sockets only).
    pub async fn restart(&self, node: usize) {
        self.inner.restart(index(node));
        self.inner.ready().await;
    }

    /// SIGSTOP of a node.
    pub fn pause(&self, node: usize) {
        self.inner.pause(index(node));
    }

    /// SIGCONT of a paused node.
    pub fn resume(&self, node: usize) {
        self.inner.resume(index(node));
    }

    /// The simulated cluster, with everything that it can do.
    pub fn sim(&self) -> &crate::host::sim::SimCluster {
        &self.inner
    }
}

#[cfg(madsim)]
fn index(node: usize) -> crate::model::NodeIdx {
    crate::model::NodeIdx(node as u8)
}

#[cfg(not(madsim))]
impl Cluster {
    /// kill -9 of a node.
    pub fn kill(&self, node: usize) {
        self.inner.kill(node);
    }

    /// Starts a killed node again.
    ///
    /// # Panics
    /// Its address was taken, or its log cannot be read (on real sockets only).
    pub async fn restart(&self, node: usize) {
        let revived = self.inner.revive(node).await;
        revived.unwrap_or_else(|error| panic!("node {node}: {error}"));
    }

    /// SIGSTOP of a node.
    pub fn pause(&self, node: usize) {
        self.inner.freeze(node);
    }

    /// SIGCONT of a paused node.
    pub fn resume(&self, node: usize) {
        self.inner.resume(node);
    }

    /// The cluster on real sockets, with everything that it can do.
    pub fn tcp(&self) -> &crate::host::tcp::TcpCluster {
        &self.inner
    }
}
