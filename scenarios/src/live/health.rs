//! What settlement says of itself: its numbers, asked over HTTP as a monitoring system would, and the highest watermarks
//! and summed counters over all its starts. Nothing here is evidence about the books; it says when to look and when to strike.
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A process that is stopped or starting does not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Numbers by name, as `settlement_<name>`.
pub type Numbers = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Answer {
    metrics: Numbers,
}

/// Asks once. None if nothing answers.
pub async fn ask(address: &str) -> Option<Numbers> {
    timeout(PATIENCE, fetch(address)).await.ok().flatten()
}

async fn fetch(address: &str) -> Option<Numbers> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends when the sender goes, or with the process that it leads to.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = Request::get("/health")
        .header(header::HOST, address)
        .body(Empty::<Bytes>::new())
        .ok()?;
    let body = sender
        .send_request(request)
        .await
        .ok()?
        .into_body()
        .collect()
        .await
        .ok()?;
    let answer: Answer = serde_json::from_slice(&body.to_bytes()).ok()?;
    Some(answer.metrics)
}

/// What was seen so far, over all starts of settlement.
#[derive(Clone, Default)]
pub struct Seen {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The start that the last numbers are of.
    start: u32,
    last: Numbers,
    /// Counters of the starts before.
    past: Numbers,
    acknowledged: u64,
    durable: u64,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the numbers of settlement's `start`-th start.
    pub fn note(&self, start: u32, numbers: Numbers) {
        let mut state = self.lock();
        if start != state.start {
            for (name, value) in std::mem::take(&mut state.last) {
                *state.past.entry(name).or_default() += value;
            }
            state.start = start;
        }
        state.acknowledged = state.acknowledged.max(number(&numbers, "acknowledged"));
        state.durable = state.durable.max(number(&numbers, "durable"));
        state.last = numbers;
    }

    /// The last numbers of the present start; none if it has not answered yet.
    pub fn last(&self, start: u32) -> Option<Numbers> {
        let state = self.lock();
        (state.start == start).then(|| state.last.clone())
    }

    /// The highest acknowledged watermark.
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    /// The highest durable watermark.
    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// A counter, summed over all starts.
    pub fn total(&self, name: &str) -> u64 {
        let state = self.lock();
        number(&state.past, name) + number(&state.last, name)
    }
}

/// A number, 0 if it is not there.
pub fn number(numbers: &Numbers, name: &str) -> u64 {
    numbers.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_starts_and_watermarks_are_not() {
        let numbers = |acknowledged, retries| {
            Numbers::from([
                ("acknowledged".to_string(), acknowledged),
                ("retries".to_string(), retries),
            ])
        };
        let seen = Seen::default();
        seen.note(1, numbers(10, 2));
        seen.note(1, numbers(12, 3));
        seen.note(2, numbers(5, 4));
        assert_eq!((seen.acknowledged(), seen.total("retries")), (12, 7));
        assert!(seen.last(1).is_none());
        assert_eq!(seen.last(2).map(|last| number(&last, "acknowledged")), Some(5));
        assert_eq!(seen.total("no such counter"), 0);
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        assert!(ask("127.0.0.1:1").await.is_none());
    }
}
