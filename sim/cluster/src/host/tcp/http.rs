//! The control endpoint: faults, status and trace over HTTP, for tests in any language. JSON in and out; what is wrong is
//! told in words, with the status code that fits.

use super::faults::{self, Fault, FaultSpec, InjectError};
use super::{Body, TRACE_LINES_MAX};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use serde::Serialize;
use std::sync::{Arc, Weak};
use tokio::net::TcpListener;

/// Bytes of a request at most: a thousand faults are far fewer.
const BODY_BYTES_MAX: usize = 1 << 20;

const ROUTES: &str = "\
scylla-sim control endpoint

  GET    /status            nodes: state, rows, log bytes, what they see of each other
  GET    /faults            all faults with their state
  POST   /faults            inject: one fault {\"do\": ...} or several [{...}, {...}]; answers their ids
  GET    /faults/{id}       one fault
  DELETE /faults/{id}       take it back; what it does just now is ended
  DELETE /faults            take all back
  GET    /trace?after=N&limit=M   what happened, as JSON lines; the last 20000 are kept
";

type Shared = State<Weak<Body>>;

/// Serves until it is dropped.
pub(super) async fn serve(body: Weak<Body>, listener: TcpListener) {
    let app = Router::new()
        .route("/", get(async || ROUTES.to_owned() + "\n" + &faults::help()))
        .route("/status", get(status))
        .route("/faults", get(list).post(inject).delete(cancel_all))
        .route("/faults/{id}", get(one).merge(delete(cancel)))
        .route("/trace", get(trace))
        .fallback(async || told(StatusCode::NOT_FOUND, format!("there is no such page.\n\n{ROUTES}")))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(body);
    // It never returns: what fails, fails for one connection.
    let _never = axum::serve(listener, app).await;
}

fn told(code: StatusCode, text: impl Into<String>) -> Response {
    (code, text.into() + "\n").into_response()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => told(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The cluster, or the answer that it is ending.
#[expect(clippy::result_large_err, reason = "it is answered at once")]
fn body(State(body): Shared) -> Result<Arc<Body>, Response> {
    body.upgrade()
        .ok_or_else(|| told(StatusCode::SERVICE_UNAVAILABLE, "the cluster is stopping"))
}

async fn status(shared: Shared) -> Result<Response, Response> {
    #[derive(Serialize)]
    struct Status {
        nodes: Vec<super::NodeStatus>,
    }
    let nodes = body(shared)?.status();
    Ok(json(&Status { nodes }))
}

async fn list(shared: Shared) -> Result<Response, Response> {
    Ok(json(&body(shared)?.faults.all()))
}

fn find(body: &Body, id: u32) -> Option<Fault> {
    body.faults.all().into_iter().find(|f| f.id == id)
}

fn no_fault(id: u32) -> Response {
    told(StatusCode::NOT_FOUND, format!("there is no fault {id}"))
}

async fn one(shared: Shared, Path(id): Path<u32>) -> Result<Response, Response> {
    find(&*body(shared)?, id)
        .map(|fault| json(&fault))
        .ok_or_else(|| no_fault(id))
}

/// One fault, or several.
fn read_faults(bytes: &[u8]) -> Result<Vec<FaultSpec>, serde_json::Error> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return serde_json::from_slice(bytes);
    }
    serde_json::from_slice(bytes).map(|one| vec![one])
}

async fn inject(shared: Shared, bytes: Bytes) -> Result<Response, Response> {
    let body = body(shared)?;
    let specs = read_faults(&bytes).map_err(|e| {
        told(
            StatusCode::BAD_REQUEST,
            format!("{e}\n\nGET / says what can be written"),
        )
    })?;
    // All or none.
    for (i, spec) in specs.iter().enumerate() {
        if let Err(error) = body.faults.check(spec) {
            let place = if specs.len() > 1 {
                format!("fault {}: ", i + 1)
            } else {
                String::new()
            };
            return Err(told(StatusCode::BAD_REQUEST, format!("{place}{error}")));
        }
    }
    let mut ids = Vec::new();
    for spec in specs {
        match body.inject(spec) {
            Ok(id) => ids.push(id),
            Err(error @ InjectError::TooMany) => return Err(told(StatusCode::TOO_MANY_REQUESTS, error.to_string())),
            Err(error) => return Err(told(StatusCode::BAD_REQUEST, error.to_string())),
        }
    }
    #[derive(Serialize)]
    struct Ids {
        ids: Vec<u32>,
    }
    Ok(json(&Ids { ids }))
}

async fn cancel(shared: Shared, Path(id): Path<u32>) -> Result<Response, Response> {
    let body = body(shared)?;
    if body.faults.cancel(body.shared.clock.now_us(), id) {
        return Ok(told(StatusCode::OK, format!("fault {id} is taken back")));
    }
    match find(&body, id) {
        Some(_) => Err(told(StatusCode::CONFLICT, format!("fault {id} is over"))),
        None => Err(no_fault(id)),
    }
}

async fn cancel_all(shared: Shared) -> Result<Response, Response> {
    let body = body(shared)?;
    let cancelled = body.faults.cancel_all(body.shared.clock.now_us());
    Ok(told(StatusCode::OK, format!("{cancelled} faults are taken back")))
}

/// Which lines are asked for.
#[derive(Debug, PartialEq)]
struct Window {
    after: u64,
    limit: usize,
}

/// The window that a query string asks for: `after=N&limit=M`, each if wanted.
fn window(query: &str) -> Result<Window, String> {
    let mut window = Window {
        after: 0,
        limit: TRACE_LINES_MAX,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number: u64 = value
            .parse()
            .map_err(|_| format!("`{name}` is a number, not \"{value}\""))?;
        match name {
            "after" => window.after = number,
            "limit" => window.limit = usize::try_from(number).unwrap_or(TRACE_LINES_MAX),
            _ => return Err(format!("`{name}` means nothing here: after=N and limit=M do")),
        }
    }
    Ok(window)
}

async fn trace(shared: Shared, request: Request) -> Result<Response, Response> {
    let asked = window(request.uri().query().unwrap_or_default()).map_err(|e| told(StatusCode::BAD_REQUEST, e))?;
    let lines = body(shared)?.trace.lines(asked.after, asked.limit);
    let mut text = String::new();
    for line in lines {
        match serde_json::to_string(&line) {
            Ok(json) => text += &(json + "\n"),
            Err(error) => return Err(told(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}
