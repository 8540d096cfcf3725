//! Runs one seed in the simulated world and judges it. The same steps for every scenario:
//!
//! | module | job |
//! |---|---|
//! | [`plant`] | builds the machines and the programs on them from a resolved job |
//! | [`feed`] | faults on the feed, handed to the engine's publisher |
//! | [`operator`] | the person who decides about refused events |
//! | [`requests`] | what settlement sends to the database, as bytes |
//! | [`storage`] | what the disks hold of event identities |
//! | [`watch`] | looks at durability and bounds while the run goes on |
//! | [`alarms`] | whether settlement's alarms ring while there is a reason |
//! | [`claims`] | whether it calls durable what rule 8 lets it |
//! | [`collect`] | what replicas hold, as rows |
//! | [`timestamps`] | under which timestamps they hold it |
//! | [`stops`] | whether settlement had a reason to stop |
//! | [`run`] | the course of a run: faults, heal, liveness, evidence |
//! | [`report`] | from the evidence to the report |
mod alarms;
mod claims;
mod collect;
mod feed;
mod frames;
mod operator;
mod plant;
mod report;
mod requests;
mod run;
mod stops;
mod storage;
mod timestamps;
mod watch;

pub use run::{run_seed, warm_up};
