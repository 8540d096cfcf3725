//! The reader that runs beside the workload: every so often it reads one user's balances at QUORUM, as a gateway would,
//! and notes what it saw together with what had been acknowledged before it asked.
use crate::client::Client;
use crate::evidence::BalanceRead;
use sim_world::World;
use sim_world::seed::Stream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Simulated time between two reads. Reads cost as much as a batch, so there are few enough to leave the workload its
/// share and enough to fall into most windows of a second.
pub const EVERY_MS: u64 = 250;

/// What the reader has seen so far.
pub type Seen = Arc<Mutex<Vec<BalanceRead>>>;

/// Reads until it is aborted. `acknowledged` tells the acknowledged watermark now.
pub async fn run(client: Client, users: Vec<u64>, stream: Stream, seen: Seen, acknowledged: impl Fn() -> u64) {
    let Ok(query) = client.balances_query().await else {
        return;
    };
    let world = World::current();
    loop {
        tokio::time::sleep(Duration::from_millis(EVERY_MS)).await;
        let user = users[stream.below(users.len() as u64) as usize];
        let acknowledged_before = acknowledged();
        let Some(rows) = client.balances(&query, user).await else {
            continue;
        };
        let at_ms = world.now_ns() / 1_000_000;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (asset, version, avail, frozen) in rows {
            seen.push(BalanceRead {
                at_ms,
                user,
                asset: asset as u32,
                version,
                avail,
                frozen,
                acknowledged_before,
            });
        }
    }
}
