//! The facade suite: the same test bodies pass on real Linux with plain tokio and in the simulator. What only a simulator
//! can do is in `sim_runs.rs` and the files beside it.

extern crate sim_tokio as tokio;

#[path = "suite/fs.rs"]
mod fs;
#[path = "suite/task.rs"]
mod task;
#[path = "suite/tcp.rs"]
mod tcp;
#[path = "suite/time.rs"]
mod time;
