//! Why a cluster on real sockets and files cannot start: each says what is wrong, with what, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// A cluster that did not start. Nothing of an existing data directory was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The number of nodes is not possible.
    #[error("a cluster has 1 to {most} nodes, and {asked} were asked for")]
    Nodes {
        /// What was asked for.
        asked: usize,
        /// The most there can be.
        most: usize,
    },
    /// There are not enough addresses after the first.
    #[error(
        "{nodes} nodes need {nodes} addresses from {first} on, and there are not so many in its last part: give a lower \
         one with --listen, such as 127.0.0.1:9042"
    )]
    Addresses {
        /// Nodes.
        nodes: usize,
        /// The first address.
        first: SocketAddr,
    },
    /// Something else listens there.
    #[error(
        "{address}, the address of node {node}, is taken by another program. Stop that one (`ss -ltnp 'sport = :{}'` \
         shows which it is), or take another port with --listen {other}",
        address.port()
    )]
    PortTaken {
        /// The address.
        address: SocketAddr,
        /// Its node, counted from 1.
        node: usize,
        /// Another one to try, for the first node.
        other: SocketAddr,
    },
    /// The machine does not have this address.
    #[error(
        "{}, the address of node {node}, is none of this machine's. On Linux all of 127.x.x.x are; on macOS `sudo \
         ifconfig lo0 alias {} up` adds it. One node needs no second address: --nodes 1",
        address.ip(), address.ip()
    )]
    NoSuchAddress {
        /// The address.
        address: SocketAddr,
        /// Its node, counted from 1.
        node: usize,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}, the address of node {node}: {source}{}", hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its node, counted from 1.
        node: usize,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be {what}: {source}. Give one that you may write to with --data", path.display())]
    Directory {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A log cannot be opened or read.
    #[error("the commit log {} cannot be opened: {source}. Without it its node would forget what it acknowledged", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "the data directory {} is in use by another scylla-sim{}: stop that one, or give another directory with --data",
        path.display(),
        if process.is_empty() { String::new() } else { format!(" (process {process})") }
    )]
    InUse {
        /// Which.
        path: PathBuf,
        /// The process, if it is known.
        process: String,
    },
    /// The directory holds something else.
    #[error(
        "{} is not empty and holds no data of scylla-sim: nothing in it was touched. Give an empty or a new directory \
         with --data",
        path.display()
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// The directory holds another cluster.
    #[error(
        "{} holds a cluster of {nodes} nodes of flavour {flavor}, and {asked_nodes} of flavour {asked_flavor} were asked \
         for. Start it with --nodes {nodes} --flavor {flavor}, or give another directory with --data",
        path.display()
    )]
    OtherCluster {
        /// Which.
        path: PathBuf,
        /// Nodes there.
        nodes: usize,
        /// Flavour there.
        flavor: &'static str,
        /// Nodes asked for.
        asked_nodes: usize,
        /// Flavour asked for.
        asked_flavor: &'static str,
    },
    /// The directory was written by another version.
    #[error(
        "{} was written in format {there}, and this scylla-sim reads format {ours} only: use the version that wrote it, \
         or give another directory with --data",
        path.display()
    )]
    OtherVersion {
        /// Which.
        path: PathBuf,
        /// Format there.
        there: u32,
        /// Format of this program.
        ours: u32,
    },
    /// The file that says what the directory holds cannot be understood.
    #[error("{} cannot be understood: {reason}. It is written once and not to be changed", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        ". Ports below 1024 are the administrator's: take a higher one with --listen"
    } else {
        ""
    }
}
