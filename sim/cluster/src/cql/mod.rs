//! front.
pub mod answer;
pub mod bind;
pub mod error;
pub mod frame;
pub mod front;
pub mod parse;
mod registry;
mod statements;
pub mod system;
#[cfg(test)]
mod tests;
pub mod types;
pub mod values;

/// Version of the CQL language that is reported. Source: the servers' own (Scylla 3.3.1, Cassandra 5.0 3.4.7).
pub const CQL_VERSION: &str = "3.3.1";
