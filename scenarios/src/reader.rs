//! The reader that runs beside the workload: every so often it reads one user's balances at QUORUM, as a gateway would,
//! and notes what it saw together with what had been acknowledged, and was durable, before it asked.
use crate::client::Client;
use crate::evidence::BalanceRead;
use scylla::statement::prepared::PreparedStatement;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time between two reads. Reads cost as much as a batch, so there are few enough to leave the workload its share and
/// enough to fall into most windows of a second.
const EVERY: Duration = Duration::from_millis(250);

/// What the reader has seen so far.
pub type Seen = Arc<Mutex<Vec<BalanceRead>>>;

/// What the reader knows of the run that it reads beside.
pub trait Beside {
    /// ms since the start.
    fn now_ms(&self) -> u64;
    /// The acknowledged watermark now, or an older one.
    fn acknowledged(&self) -> u64;
    /// The durable watermark now, or an older one.
    fn durable(&self) -> u64;
    /// A number below `bound`, from a stream of the reader's own.
    fn below(&mut self, bound: u64) -> u64;
}

/// Reads until it is aborted. A request that fails proves nothing and leaves nothing.
pub async fn run(client: Client, users: Vec<u64>, seen: Seen, mut beside: impl Beside) {
    let query = prepared(&client).await;
    loop {
        tokio::time::sleep(EVERY).await;
        let user = users[beside.below(users.len() as u64) as usize];
        let (acknowledged_before, durable_before) = (beside.acknowledged(), beside.durable());
        let Some(rows) = client.balances(&query, user).await else {
            continue;
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(BalanceRead {
            at_ms: beside.now_ms(),
            user,
            acknowledged_before,
            durable_before,
            rows,
        });
    }
}

/// The query, once the database lets it be prepared: it may be away when the run begins.
async fn prepared(client: &Client) -> PreparedStatement {
    loop {
        match client.balances_query().await {
            Ok(query) => return query,
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}
