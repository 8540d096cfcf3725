//! Faults as data: what may go wrong, where and when, drawn from a seed into a plan within a written budget.
//!
//! | module | job |
//! |---|---|
//! | [`class`] | the registry of fault classes: name, what it does, when it has bitten |
//! | [`plan`] | one run's faults as versioned, serialisable data |
//! | [`draw`] | a plan from a seed and a profile, swarm style |
//! | [`bit`] | when a fault has bitten, as predicates over the trace |
//! | [`budget`] | which faults may coexist and still be survivable |
//! | [`live`] | carries a plan out on real processes |
//! | `sim` | carries a plan out in the simulated world (only there) |
//!
//! A new fault is one variant in [`class::Class`], one in [`plan::Action`], one arm in [`draw`], one in `sim` and one in
//! [`live`].
pub mod bit;
pub mod budget;
pub mod class;
pub mod draw;
pub mod live;
pub mod plan;
#[cfg(madsim)]
pub mod sim;

pub use class::Class;
pub use plan::{Action, Fault, Plan, When};
