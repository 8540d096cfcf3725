//! What cases run against: the addresses of its nodes, its flavour, its clock, and what can be done to its nodes.

use crate::case::Fault;
use crate::wire::{Connection, Parameters, Request};
use scylla_cql::Consistency;
use scylla_cql::serialize::row::SerializedValues;
use sim_cluster::core::Flavor;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::time::{Duration, Instant, sleep};

/// A statement that makes or drops the schema: a real server takes a second or two for some of them.
const DDL_PATIENCE: Duration = Duration::from_secs(30);
/// All nodes know the schema by then: they poll each other every second, and a loaded machine takes a few.
const AGREEMENT: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// A look whether a cluster is whole: a healthy one answers in milliseconds.
const LOOK_PATIENCE: Duration = Duration::from_secs(6);

/// A keyspace is dropped in so many tries at most, with this between them: whoever cannot by then has another reason.
const DROP_TRIES: u32 = 5;
const DROP_REST: Duration = Duration::from_secs(2);

/// A real machine is slower than it should be now and then: upper bounds of times are wider by this much there,
/// milliseconds. Seen on two loaded cores: 2.5 s for a read of 10 ms that had to ask another replica.
const SLACK_MS: u64 = 2_000;

/// What a [`NodeControl`] returns.
pub type Done<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Whoever can kill, freeze, resume and revive the nodes of a cluster.
pub trait NodeControl: Send + Sync {
    /// Does it to a node; nodes count from 1.
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_>;
    /// Has a node repair a keyspace, and waits for the end.
    fn repair(&self, node: usize, keyspace: &str) -> Done<'_>;
    /// Has a node compact a keyspace, and waits for the end.
    fn compact(&self, node: usize, keyspace: &str) -> Done<'_>;
}

/// A cluster to run cases against.
pub struct Target {
    /// Its column in the table.
    pub label: String,
    /// Which server it is, or behaves like.
    pub flavor: Flavor,
    /// Whether it is our cluster, and not a real server.
    pub is_ours: bool,
    /// How much later than it should an answer may come, milliseconds: nothing where time is simulated.
    pub slack_ms: u64,
    contacts: Vec<SocketAddr>,
    control: Option<Box<dyn NodeControl>>,
    /// Microseconds since the epoch by the clock that stamps its writes.
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
    /// What was done to nodes and not undone.
    disturbed: Mutex<BTreeMap<usize, Fault>>,
}

impl Target {
    /// A cluster with these nodes.
    pub fn new(
        label: &str,
        flavor: Flavor,
        contacts: Vec<SocketAddr>,
        clock: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Target {
        Target {
            label: label.to_owned(),
            flavor,
            is_ours: true,
            slack_ms: SLACK_MS,
            contacts,
            control: None,
            clock: Box::new(clock),
            disturbed: Mutex::default(),
        }
    }

    /// With power over its nodes.
    pub fn controlled_by(mut self, control: Box<dyn NodeControl>) -> Target {
        self.control = Some(control);
        self
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.contacts.len()
    }

    /// All nodes.
    pub fn contacts(&self) -> &[SocketAddr] {
        &self.contacts
    }

    /// Whether nodes can be disturbed.
    pub fn can_disturb(&self) -> bool {
        self.control.is_some()
    }

    /// The time that the cluster stamps writes with, microseconds since the epoch.
    pub fn now_us(&self) -> i64 {
        (self.clock)()
    }

    /// The CQL address of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn address(&self, node: usize) -> Result<SocketAddr, String> {
        let found = node.checked_sub(1).and_then(|i| self.contacts.get(i));
        found
            .copied()
            .ok_or_else(|| format!("there is no node {node} of {}", self.contacts.len()))
    }

    /// Does something to a node.
    ///
    /// # Errors
    /// It could not be done.
    pub async fn disturb(&self, fault: Fault, node: usize) -> Result<(), String> {
        let control = self.control.as_ref().ok_or("no control over the nodes")?;
        control.disturb(fault, node).await?;
        let mut disturbed = self.disturbed.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Fault::Kill | Fault::Freeze | Fault::Cut => drop(disturbed.insert(node, fault)),
            Fault::Resume | Fault::Revive | Fault::Join => drop(disturbed.remove(&node)),
            Fault::Repair | Fault::Compact => {}
        }
        Ok(())
    }

    /// Has a node repair a keyspace.
    ///
    /// # Errors
    /// It failed.
    pub async fn repair(&self, node: usize, keyspace: &str) -> Result<(), String> {
        let control = self.control.as_ref().ok_or("no control over the nodes")?;
        control.repair(node, keyspace).await
    }

    /// Has a node compact a keyspace.
    ///
    /// # Errors
    /// It failed.
    pub async fn compact(&self, node: usize, keyspace: &str) -> Result<(), String> {
        let control = self.control.as_ref().ok_or("no control over the nodes")?;
        control.compact(node, keyspace).await
    }

    /// Undoes what was done to a node and not undone.
    ///
    /// # Errors
    /// It could not be undone.
    pub async fn heal(&self, node: usize) -> Result<(), String> {
        let done = self
            .disturbed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .copied();
        match done {
            Some(Fault::Freeze) => self.disturb(Fault::Resume, node).await,
            Some(Fault::Kill) => self.disturb(Fault::Revive, node).await,
            Some(Fault::Cut) => self.disturb(Fault::Join, node).await,
            Some(Fault::Resume | Fault::Revive | Fault::Join | Fault::Repair | Fault::Compact) | None => Ok(()),
        }
    }

    /// Makes the schema of the cases anew, and waits until all nodes have it.
    ///
    /// # Errors
    /// The statement that was refused.
    pub async fn prepare(&self) -> Result<(), String> {
        self.drop_keyspaces(&["conf"]).await?;
        self.say(&crate::case::schema(self.nodes())).await
    }

    /// Drops keyspaces that may be there.
    ///
    /// # Errors
    /// The statement that was refused, however often it was tried.
    pub async fn drop_keyspaces(&self, names: &[&str]) -> Result<(), String> {
        for name in names {
            let statement = [format!("DROP KEYSPACE IF EXISTS {name}")];
            let mut outcome = self.say(&statement).await;
            // A real server may stumble over its own flush of a table that is just going (`Unknown CF`, seen once).
            for _ in 1..DROP_TRIES {
                if outcome.is_ok() {
                    break;
                }
                sleep(DROP_REST).await;
                outcome = self.say(&statement).await;
            }
            outcome?;
        }
        Ok(())
    }

    /// Says statements that answer nothing to node 1, one after another, and waits until all nodes have their schema.
    ///
    /// # Errors
    /// The statement that was refused.
    pub async fn say(&self, statements: &[String]) -> Result<(), String> {
        let mut connection = Connection::open(self.address(1)?).await?;
        for text in statements {
            let lines = ask(&mut connection, text, Consistency::Quorum, DDL_PATIENCE).await;
            if lines[0] != "void" && !lines[0].starts_with("schema change") {
                return Err(format!("{text}: {}", lines.join("; ")));
            }
        }
        self.agreement().await
    }

    /// Waits until all nodes have the same schema.
    ///
    /// # Errors
    /// They have not in time.
    pub async fn agreement(&self) -> Result<(), String> {
        let until = Instant::now() + AGREEMENT;
        while let Err(error) = self.agrees().await {
            if Instant::now() >= until {
                return Err(format!(
                    "no agreement on the schema after {} s: {error}",
                    AGREEMENT.as_secs()
                ));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn agrees(&self) -> Result<(), String> {
        let mut versions = Vec::new();
        for address in &self.contacts {
            let mut connection = Connection::open(*address).await?;
            let text = "SELECT schema_version FROM system.local WHERE key = 'local'";
            versions.push(ask(&mut connection, text, Consistency::One, LOOK_PATIENCE).await);
        }
        match versions.windows(2).all(|w| w[0] == w[1]) {
            true => Ok(()),
            false => Err(format!("{versions:?}")),
        }
    }

    /// Whether every node serves and sees all others: each coordinates a read at ALL, and a LOGGED batch, which some
    /// servers refuse without their other nodes.
    ///
    /// # Errors
    /// The first node that does not.
    pub async fn is_whole(&self) -> Result<(), String> {
        let batch = "BEGIN BATCH INSERT INTO conf.whole (k, v) VALUES (1, 1); INSERT INTO conf.whole (k, v) VALUES (2, 1); APPLY BATCH";
        for address in &self.contacts {
            let mut connection = Connection::open(*address).await?;
            for (text, right) in [
                (batch, "void"),
                ("SELECT k FROM conf.whole WHERE k = 1", "rows k:bigint"),
            ] {
                let lines = ask(&mut connection, text, Consistency::All, LOOK_PATIENCE).await;
                if lines[0] != right {
                    return Err(format!("{address}: {}", lines[0]));
                }
            }
        }
        Ok(())
    }
}

async fn ask(connection: &mut Connection, text: &str, level: Consistency, patience: Duration) -> Vec<String> {
    let parameters = Parameters {
        level,
        serial: None,
        timestamp: None,
        page: None,
        paging_state: None,
    };
    let request = Request::Query(text.to_owned(), SerializedValues::new());
    connection.ask(&request, &parameters, patience, 0).await.lines
}
