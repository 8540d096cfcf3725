//! `GET /metrics` for Prometheus and `GET /health` for people and load balancers. Only in the program: the library has no
//! server, and the simulator reads the metrics directly.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use axum::serve::Listener;
use serde::Serialize;
use settlement::{Metrics, MetricsSnapshot};
use tokio::net::{TcpListener, TcpStream};

/// What [`Metrics::encode`] writes; without it a reader of OpenMetrics takes it for something older.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers in the background for as long as the program lives. Where, which is news if the port was 0.
pub async fn spawn(address: &str, metrics: Arc<Metrics>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("metrics_addr {address} cannot be listened on: {error}. Set it to an address of this machine and a free port"),
        )
    })?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(numbers))
        .route("/health", get(health))
        .with_state(metrics);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(Listening(listener), router).await {
            tracing::error!(target: "settlement", error = %error, "the metrics endpoint ended");
        }
    });
    Ok(address)
}

async fn numbers(State(metrics): State<Arc<Metrics>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.encode())
}

#[derive(Serialize)]
struct Health {
    healthy: bool,
    /// What is wrong, in words.
    problems: Vec<String>,
    metrics: MetricsSnapshot,
}

/// 200 when nothing waits for a person, else 503 with what does.
async fn health(State(metrics): State<Arc<Metrics>>) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let snapshot = metrics.snapshot();
    let mut problems: Vec<String> = metrics
        .stalled_events
        .list()
        .into_iter()
        .map(|(sequence, why)| format!("event {sequence} is stalled: {why}"))
        .collect();
    if snapshot.refused_pending > 0 {
        problems.push(format!(
            "{} refused events wait for an operator",
            snapshot.refused_pending
        ));
    }
    let missing = metrics.missing_events.list();
    problems.extend(
        missing
            .iter()
            .map(|(from, to)| format!("events {from} to {to} are missing and the matching engine does not serve them")),
    );
    if snapshot.durable_stalled > 0 {
        problems.push("the durable watermark waits for a node that cannot be asked".to_owned());
    }
    if snapshot.feed_connected == 0 {
        problems.push("the matching engine's feed is not connected".to_owned());
    }
    if snapshot.wal_blocked > 0 {
        problems.push("the WAL cannot be written (a full or failing disk), so no event is taken".to_owned());
    }
    let healthy = problems.is_empty();
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let health = Health {
        healthy,
        problems,
        metrics: snapshot,
    };
    let body = serde_json::to_string(&health).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

/// The facade's listener as the server wants it, so that this compiles whatever tokio is.
struct Listening(TcpListener);

impl Listener for Listening {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                // Out of file descriptors, or a connection that is gone already: wait a little and go on.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement_events::OutputSequence;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// The answer to a request, its head and its body.
    async fn get(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn the_numbers_are_served_as_what_they_are() {
        let metrics = Arc::new(Metrics::new());
        let address = spawn("127.0.0.1:0", metrics.clone()).await.expect("a free port");
        metrics.retries.inc_by(3);
        let (head, body) = get(address, "/metrics").await;
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
        assert!(head.contains(&format!("content-type: {OPEN_METRICS}")), "{head}");
        assert!(body.contains("\nsettlement_retries_total 3\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        let (head, body) = get(address, "/health").await;
        assert!(head.starts_with("http/1.1 503"), "no feed: {head}");
        assert!(body.contains("\"retries\":3"), "{body}");
        assert!(get(address, "/").await.0.starts_with("http/1.1 404"));
        let taken = spawn(&address.to_string(), metrics)
            .await
            .expect_err("it is taken")
            .to_string();
        assert!(
            taken.contains(&format!("metrics_addr {address} cannot be listened on")),
            "{taken}"
        );
    }

    async fn said(metrics: &Arc<Metrics>) -> (u16, serde_json::Value) {
        let (status, _, body) = health(State(metrics.clone())).await;
        (status.as_u16(), serde_json::from_str(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn each_problem_alone_is_enough_to_be_unhealthy() {
        let problems: [fn(&Metrics); 6] = [
            |metrics| metrics.missing_events.put(OutputSequence(5), OutputSequence(9)),
            |metrics| {
                metrics.stalled_events.put(OutputSequence(3), "write timeout".into());
            },
            |metrics| {
                metrics.refused_pending.set(2);
            },
            |metrics| {
                metrics.durable_stalled.set(1);
            },
            |metrics| {
                metrics.wal_blocked.set(1);
            },
            |metrics| {
                metrics.feed_connected.set(0);
            },
        ];
        for (nth, problem) in problems.into_iter().enumerate() {
            let metrics = Arc::new(Metrics::new());
            metrics.feed_connected.set(1);
            problem(&metrics);
            let (status, health) = said(&metrics).await;
            assert_eq!(
                (status, &health["healthy"]),
                (503, &false.into()),
                "problem {nth}: {health}"
            );
            assert_eq!(
                health["problems"].as_array().map(Vec::len),
                Some(1),
                "problem {nth}: {health}"
            );
        }
    }

    #[tokio::test]
    async fn health_says_what_waits_for_a_person_and_which_events_are_missing() {
        let metrics = Arc::new(Metrics::new());
        metrics.feed_connected.set(1);
        let (status, health) = said(&metrics).await;
        assert_eq!((status, &health["healthy"]), (200, &true.into()));
        assert_eq!(health["problems"], serde_json::json!([]));
        assert_eq!(health["metrics"]["feed_connected"], 1);

        metrics.missing_events.put(OutputSequence(5), OutputSequence(9));
        metrics.stalled_events.put(OutputSequence(3), "write timeout".into());
        metrics.refused_pending.set(2);
        metrics.durable_stalled.set(1);
        metrics.wal_blocked.set(1);
        metrics.feed_connected.set(0);
        let (status, health) = said(&metrics).await;
        assert_eq!((status, &health["healthy"]), (503, &false.into()));
        assert_eq!(
            health["problems"],
            serde_json::json!([
                "event 3 is stalled: write timeout",
                "2 refused events wait for an operator",
                "events 5 to 9 are missing and the matching engine does not serve them",
                "the durable watermark waits for a node that cannot be asked",
                "the matching engine's feed is not connected",
                "the WAL cannot be written (a full or failing disk), so no event is taken",
            ])
        );
    }
}
