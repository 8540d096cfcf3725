//! Conformance: the same cases against the simulated cluster, against `scylla-sim` on TCP, and against a real server.
//!
//! - [`case`]: what a case is: data, from the TOML files in `cases/`,
//! - [`bind`], [`answer`]: values and answers as text,
//! - [`wire`], [`driver`]: asking one node below the driver, or a cluster through it,
//! - [`target`]: a cluster to ask, and what can be done to its nodes,
//! - [`run`]: runs a case,
//! - [`backend`]: the clusters: simulated (`--cfg madsim`), on TCP in this process, or whatever answers at an address,
//! - [`report`]: what was found,
//! - [`frequency`]: faults under load: outcomes counted, with their shares and delays.
//!
//! One source, two builds: with `--cfg madsim` the backend is the simulator, without it the other two.
//! To add a case, write it into the file of its group; `cases/README.md` has the format.

pub mod answer;
pub mod backend;
pub mod bind;
pub mod case;
pub mod driver;
pub mod frequency;
pub mod report;
pub mod run;
pub mod target;
pub mod wire;
