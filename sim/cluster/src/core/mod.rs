//! The cluster's core: replicas and coordinators as a state machine, without I/O, clock or executor.
//!
//! [`Node::step`] takes something that happened and the time, and appends what is to be done. Nothing else goes in or
//! out. The same code serves the simulator, a cluster on real sockets, and unit tests that step nodes by hand.
//!
//! | module | what |
//! |---|---|
//! | [`config`], [`flavor`], [`knobs`] | what a cluster is made of; where ScyllaDB and Cassandra differ, in one table; which of it nobody knows |
//! | [`node`] | a node: state, [`Node::step`], dispatch |
//! | [`message`] | inputs, effects, messages between nodes, facts for the trace |
//! | [`boundary`] | the points of a request's life at which a fault may strike |
//! | `lies` | anomalies on record, on command |
//! | `plan`, `write`, `verdict` | coordinating writes, batches included: checks, steps, and what hooks make of them |
//! | `waking` | what a node that stood still makes of answers, requests and messages that waited for it |
//! | `reads`, `derived` | coordinating reads, whom they ask, and writes that need them |
//! | `counters` | additions, led by one replica each |
//! | [`paxos`] | conditional writes and serial reads, replica and coordinator |
//! | `replica`, `persist`, `compact` | applying, acknowledging, the life of the log, its compaction |
//! | `purge` | major compaction on command: what gc_grace keeps no longer |
//! | `sweep`, `join` | anti-entropy repair on demand, range by range; a node in the place of a lost one |
//! | [`views`] | materialized views: what is written to them, sending it, building them |
//! | `gossip`, `hints`, `replay`, `agree`, `behind` | failure detection, handoff, batchlog replay, schema and truncation, nodes whose schema is old |
//! | [`store`], `rowmap`, [`row`], [`partition`], [`key`], [`log`] | tables, cells and their merge, what partitions have beside rows, storage keys, the commit log |
//! | [`seal`], [`query`], [`repair`] | requests to mutations; replica reads and their merge; read repair |
//! | [`snapshot`], [`marks`] | what a replica holds, and what changed since, for judges |
//! | [`ring`], [`levels`], [`murmur3`] | placement, consistency levels, tokens |
//! | [`clock`], [`rng`], `timers`, `fold` | a node's clock, its draws, its timers; hashes of contents |

mod agree;
mod behind;
pub mod boundary;
pub mod clock;
mod compact;
pub mod config;
mod counters;
mod derived;
pub mod flavor;
mod fold;
mod gossip;
mod hints;
mod join;
pub mod key;
pub mod knobs;
pub mod levels;
mod lies;
pub mod log;
pub mod marks;
pub mod message;
pub mod murmur3;
pub mod node;
pub mod partition;
pub mod paxos;
mod persist;
mod plan;
mod purge;
pub mod query;
mod reads;
pub mod repair;
mod replay;
pub mod replica;
pub mod ring;
pub mod rng;
pub mod row;
mod rowmap;
pub mod seal;
pub mod snapshot;
pub mod store;
mod sweep;
pub mod timers;
mod verdict;
pub mod views;
mod waking;
mod write;

pub use boundary::{BatchInfo, Boundary, BoundaryHook, Point, RowInfo, Then, Told, Verdict};
pub use config::{
    ClockSpec, ClusterConfig, CommitlogSync, GossipConfig, HintConfig, Kindness, NodeSpec, Timeouts, ViewConfig,
};
pub use flavor::Flavor;
pub use gossip::NodeFacts;
pub use knobs::Knob;
pub use lies::Lie;
pub use message::{BatchId, ClientRef, Effect, Event, Input, Msg, OpId};
pub use node::{Node, Phase};
pub use persist::Start;
pub use ring::NodeSet;
pub use sweep::{RepairScope, RepairState};
pub use views::{ViewBuilds, ViewFault};
