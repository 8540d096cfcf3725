//! A ScyllaDB/Cassandra cluster as a state machine.
pub mod core;
pub mod cql;
pub mod host;
pub mod model;
pub mod testing;
