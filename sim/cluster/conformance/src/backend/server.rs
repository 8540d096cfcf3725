//! A real server at an address, Cassandra or ScyllaDB, and a command that does things to its nodes.

use crate::case::{Case, Fault};
use crate::frequency::summary::Observation;
use crate::frequency::{self, Experiment};
use crate::report::Outcome;
use crate::target::{Done, NodeControl, Target};
use sim_cluster::core::Flavor;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

/// Which server, and where.
#[derive(Debug, Clone)]
pub struct Server {
    /// The CQL address of its first node.
    pub contact: SocketAddr,
    /// How many nodes it has; the others have the addresses after the first and the same port.
    pub nodes: usize,
    /// What it is.
    pub flavor: Flavor,
    /// A command that takes `kill|freeze|resume|revive|cut|join N` and `repair|compact N KEYSPACE`.
    pub control: Option<String>,
}

struct Control(String);

impl Control {
    fn command(&self, words: String) -> Done<'_> {
        let text = format!("{} {words}", self.0);
        Box::pin(async move {
            let command = text.clone();
            let run = move || Command::new("bash").arg("-c").arg(command).output();
            let output = tokio::task::spawn_blocking(run).await.map_err(|e| e.to_string())?;
            let output = output.map_err(|e| format!("{text}: {e}"))?;
            match output.status.success() {
                true => Ok(()),
                false => Err(format!("{text}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            }
        })
    }
}

impl NodeControl for Control {
    fn disturb(&self, fault: Fault, node: usize) -> Done<'_> {
        self.command(format!("{} {node}", format!("{fault:?}").to_lowercase()))
    }

    fn repair(&self, node: usize, keyspace: &str) -> Done<'_> {
        self.command(format!("repair {node} {keyspace}"))
    }

    fn compact(&self, node: usize, keyspace: &str) -> Done<'_> {
        self.command(format!("compact {node} {keyspace}"))
    }
}

/// The machine's clock, microseconds since the epoch.
pub fn machine_clock_us() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a real server stamps writes with the machine's wall clock"
    )]
    let wall = std::time::SystemTime::now();
    wall.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

/// Runs the cases that such a server can run.
///
/// # Errors
/// The server does not answer, or refuses the schema.
pub async fn run_all(
    cases: &[Case],
    server: &Server,
    label: &str,
    tell: &(dyn Fn(&Outcome) + Sync),
) -> Result<Vec<Outcome>, String> {
    let target = target(server, label)?;
    target.prepare().await?;
    Ok(super::run_all(cases, &target, tell).await)
}

/// Does an experiment so many times.
///
/// # Errors
/// The server does not answer or refuses the schema, or its nodes cannot be disturbed.
pub async fn measure(
    experiment: &Experiment,
    injections: u64,
    server: &Server,
    label: &str,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Observation>, String> {
    frequency::measure(&target(server, label)?, experiment, 1..=injections, tell).await
}

fn target(server: &Server, label: &str) -> Result<Target, String> {
    let mut target = Target::new(label, server.flavor, contacts(server)?, machine_clock_us);
    target.is_ours = false;
    if let Some(command) = &server.control {
        target = target.controlled_by(Box::new(Control(command.clone())));
    }
    Ok(target)
}

fn contacts(server: &Server) -> Result<Vec<SocketAddr>, String> {
    let IpAddr::V4(first) = server.contact.ip() else {
        return match server.nodes {
            1 => Ok(vec![server.contact]),
            _ => Err("several nodes need IPv4 addresses".into()),
        };
    };
    let after = |n: usize| Ipv4Addr::from(u32::from(first) + n as u32);
    Ok((0..server.nodes)
        .map(|n| SocketAddr::from((after(n), server.contact.port())))
        .collect())
}
