//! CQL at the edge of a node, without I/O: bytes of a client in, bytes of answers out, typed requests for the core in
//! between. It is a CQL server as drivers see one (version 4; on real sockets 3 to 6-beta too), with the statements that the
//! simulated cluster carries out; what it does not carry out is refused by name, with `quench: not supported by the simulated
//! cluster: …`, never ignored.
//!
//! | module | what |
//! |---|---|
//! | [`frame`] | frames, requests and responses, every length checked |
//! | [`parse`] | text to a syntax tree |
//! | [`bind`] | a syntax tree against the schema: plans, and values to typed requests |
//! | [`types`], [`values`], [`numbers`] | CQL types and their values as bytes |
//! | [`system`], [`describe`] | `system`, `system_schema` and their like; DESCRIBE |
//! | [`functions`], [`casts`] | native functions; CAST, sums and averages |
//! | [`cas`] | conditional statements: gathered, and answered with `[applied]` |
//! | [`roles`], [`traces`] | who may log in; traces of requests whose clients asked for one |
//! | [`front`] | the conversation with one client, and the prepared statements of the node |
//! | [`answer`], [`error`] | what the core answers, in the words of the flavour |
//!
//! Not here: sockets and tasks (`crate::host`), and what a request does (`crate::core`).
//!
//! Known to be narrower than a real server: in the simulator traces are refused with a warning.

pub mod answer;
pub mod bind;
pub mod cas;
pub mod casts;
mod derived;
pub mod describe;
pub mod dialect;
pub mod error;
pub mod frame;
pub mod front;
pub mod functions;
pub mod numbers;
pub mod parse;
mod registry;
pub mod roles;
mod statements;
pub mod system;
#[cfg(test)]
mod tests;
pub mod traces;
pub mod types;
pub mod values;
