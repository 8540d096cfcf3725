//! The core's semantics, stepped by hand without an executor: each file is one chapter of what real clusters do.
mod batches;
mod boundaries;
mod compaction;
mod counters;
mod detection;
mod durability;
mod handoff;
mod harness;
mod healthy;
mod judging;
mod merging;
mod parts;
mod paxos;
mod reading;
mod replay;
mod schema;
mod views;
