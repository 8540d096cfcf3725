//! `GET /metrics` for Prometheus and `GET /health` for people and load balancers. Only in the program: the library has no
//! server, and the simulator reads the metrics directly.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use axum::serve::Listener;
use serde::Serialize;
use settlement::{Metrics, MetricsSnapshot};
use tokio::net::{TcpListener, TcpStream};

/// Answers in the background for as long as the program lives.
pub async fn spawn(address: &str, metrics: Arc<Metrics>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("metrics_addr {address} cannot be listened on: {error}. Set it to an address of this machine and a free port"),
        )
    })?;
    let router = Router::new()
        .route(
            "/metrics",
            get(|State(metrics): State<Arc<Metrics>>| async move { metrics.encode() }),
        )
        .route("/health", get(health))
        .with_state(metrics);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(Listening(listener), router).await {
            tracing::error!(target: "settlement", error = %error, "the metrics endpoint ended");
        }
    });
    Ok(())
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
    if snapshot.missing > 0 {
        problems.push(format!(
            "{} events are missing and not served by the matching engine",
            snapshot.missing
        ));
    }
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
    type Addr = std::net::SocketAddr;

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
