//! Runs a scenario with real processes against a real database and judges it by the same books: the world `live`, and
//! with `scylla-sim` as the database the world `local`. Nothing is simulated here; what this world cannot do is said
//! before it begins.
//!
//! | module | job |
//! |---|---|
//! | [`course`] | the course of a run, from the first connection to the last row read |
//! | [`site`] | the processes of a run, and striking them |
//! | [`process`] | one program, started, watched, struck |
//! | [`control`] | the command that strikes database nodes |
//! | [`health`] | what settlement says of itself over HTTP |
//! | [`database`] | connecting, the run's own keyspace, and taking it away |
//! | [`node_local`] | every replica's rows, read one node at a time over the bare protocol |
//! | [`report`] | from the evidence to the report |
mod control;
mod course;
mod database;
mod health;
mod node_local;
mod process;
mod report;
mod site;

pub use course::run;
