//! Scenarios: what runs, what is looked at, and what the verdict is.
//!
//! | module | job |
//! |---|---|
//! | [`protocol`] | what the command and the worker say to each other |
//! | [`scenario`] | scenario files and the catalog |
//! | [`rows`] | rows as the judge decodes them |
//! | [`client`] | the judge as an ordinary client |
//! | [`facts`] | what the engine's log says happened |
//! | [`convert`] | from the engine's events to the oracle's facts |
//! | [`evidence`] | everything the judge has in hand |
//! | [`invariants`] | one checker per file |
//! | [`causes`] | what became of money that is wrong |
//! | [`verdict`] | what is said about a run in the end |
//! | [`tape`] | whether the settled trades are those of the tape's file |
//! | [`aftermath`] | what the rows say of a failure, in a line or two |
//! | [`job`] | from what is asked for to what can be run |
//! | [`reader`] | reads balances beside the workload |
//! | [`setup`] | what the programs are started with |
//! | [`timeline`] | the lines that explain a failure |
//! | `sim` | runs a seed in the simulated world (only there) |
//! | `live` | runs a scenario with real processes against a real database (only in the production build) |
pub mod aftermath;
pub mod causes;
pub mod client;
pub mod convert;
pub mod evidence;
pub mod facts;
pub mod invariants;
pub mod job;
pub mod knobs;
#[cfg(not(madsim))]
pub mod live;
pub mod protocol;
pub mod reader;
pub mod rows;
pub mod scenario;
pub mod setup;
#[cfg(madsim)]
pub mod sim;
pub mod tape;
pub mod timeline;
pub mod verdict;

pub use job::{catalog, check};
#[cfg(madsim)]
pub use sim::run_seed;
