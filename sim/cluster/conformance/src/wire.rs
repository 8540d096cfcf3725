//! One connection to one node, below the driver: requests as the cases want them, including those that no driver would
//! send, and answers as they come. No retries, no other node, no hidden statements. Frames are those of `scylla-cql`.

use crate::answer;
use bytes::BufMut;
use scylla_cql::Consistency;
use scylla_cql::frame::frame_errors::CqlRequestSerializationError;
use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::request::execute::ExecuteV2;
use scylla_cql::frame::request::query::{PagingState, Query, QueryParameters};
use scylla_cql::frame::request::{Prepare, RequestOpcode, SerializableRequest};
use scylla_cql::frame::response::ResponseV2;
use scylla_cql::frame::response::result::ResultWithDeserializedMetadata as Outcome;
use scylla_cql::frame::{self, SerializedRequest, types};
use scylla_cql::serialize::row::SerializedValues;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout, timeout_at};

/// A node that does not answer STARTUP in this time does not serve: a healthy one needs milliseconds, a starting one under
/// load a second or two.
const STARTUP_PATIENCE: Duration = Duration::from_secs(5);

/// The name of a level as CQL writes it.
pub fn level_name(level: Consistency) -> &'static str {
    LEVELS
        .iter()
        .find(|(_, l)| *l == level)
        .map_or("a level that is not known here", |(name, _)| name)
}

/// The level of this name.
pub fn level(name: &str) -> Option<Consistency> {
    LEVELS.iter().find(|(n, _)| *n == name).map(|(_, level)| *level)
}

const LEVELS: [(&str, Consistency); 11] = [
    ("ANY", Consistency::Any),
    ("ONE", Consistency::One),
    ("TWO", Consistency::Two),
    ("THREE", Consistency::Three),
    ("QUORUM", Consistency::Quorum),
    ("ALL", Consistency::All),
    ("LOCAL_QUORUM", Consistency::LocalQuorum),
    ("EACH_QUORUM", Consistency::EachQuorum),
    ("SERIAL", Consistency::Serial),
    ("LOCAL_SERIAL", Consistency::LocalSerial),
    ("LOCAL_ONE", Consistency::LocalOne),
];

/// What a request says besides its statement.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Consistency level.
    pub level: Consistency,
    /// Serial consistency level.
    pub serial: Option<Consistency>,
    /// Default timestamp, microseconds.
    pub timestamp: Option<i64>,
    /// Rows of a page.
    pub page: Option<i32>,
    /// Where to go on.
    pub paging_state: Option<Vec<u8>>,
}

/// One statement of a batch.
#[derive(Debug, Clone)]
pub struct BatchStatement {
    /// Its text, or the id it was prepared under.
    pub what: Result<String, Vec<u8>>,
    /// Its values.
    pub values: SerializedValues,
}

/// A request.
#[derive(Debug, Clone)]
pub enum Request {
    /// QUERY.
    Query(String, SerializedValues),
    /// PREPARE.
    Prepare(String),
    /// EXECUTE of an id.
    Execute(Vec<u8>, SerializedValues),
    /// BATCH: type byte, statements.
    Batch(u8, Vec<BatchStatement>),
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The answer as lines.
    pub lines: Vec<String>,
    /// Where its rows go on.
    pub paging_state: Option<Vec<u8>>,
    /// The id, if something was prepared.
    pub prepared: Option<Vec<u8>>,
    /// Whether the connection can be used on.
    pub is_alive: bool,
}

impl Reply {
    pub(crate) fn failed(line: String, is_alive: bool) -> Reply {
        Reply {
            lines: vec![line],
            paging_state: None,
            prepared: None,
            is_alive,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Number of the last request: an answer to an earlier one, given up, is passed over.
    last: i16,
    features: ProtocolFeatures,
}

impl Connection {
    /// Connects and says STARTUP.
    ///
    /// # Errors
    /// Which of the two failed, and how.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        let connected = timeout(STARTUP_PATIENCE, TcpStream::connect(address)).await;
        let stream = connected
            .map_err(|_| format!("cannot connect to {address}: no answer"))?
            .map_err(|e| format!("cannot connect to {address}: {}", e.kind()))?;
        // Requests are small and awaited. A socket that refuses the option is on its way to its end.
        let _refused = stream.set_nodelay(true);
        let mut connection = Connection {
            stream,
            last: 0,
            features: ProtocolFeatures::default(),
        };
        let until = Instant::now() + STARTUP_PATIENCE;
        let ready = connection.exchange(&Startup, until).await;
        match ready {
            Ok((ResponseV2::Ready, _)) => Ok(connection),
            Ok((other, _)) => Err(format!("{address} answers STARTUP with {other:?}")),
            Err(failure) => Err(format!("{address} does not answer STARTUP: {}", failure.line())),
        }
    }

    /// Asks, and waits for the answer for at most `patience`. `now_us` is the server's clock, for `writetime`.
    pub async fn ask(&mut self, request: &Request, parameters: &Parameters, patience: Duration, now_us: i64) -> Reply {
        let until = Instant::now() + patience;
        let answer = match request {
            Request::Query(text, values) => {
                let query = Query {
                    contents: text.as_str().into(),
                    parameters: parameters.with(values),
                };
                self.exchange(&query, until).await
            }
            Request::Prepare(text) => self.exchange(&Prepare { query: text }, until).await,
            Request::Execute(id, values) => {
                let execute = ExecuteV2 {
                    id: id.as_slice().into(),
                    result_metadata_id: None,
                    parameters: parameters.with(values),
                    tablet_version_block: None,
                };
                self.exchange(&execute, until).await
            }
            Request::Batch(kind, statements) => {
                let batch = BatchBody {
                    kind: *kind,
                    statements,
                    parameters,
                };
                self.exchange(&batch, until).await
            }
        };
        match answer {
            Ok((response, warnings)) => self.reply(response, warnings, now_us),
            Err(Failure::NoAnswer) => Reply::failed(format!("no answer within {} ms", patience.as_millis()), true),
            Err(failure) => Reply::failed(failure.line(), false),
        }
    }

    fn reply(&self, response: ResponseV2, warnings: Vec<String>, now_us: i64) -> Reply {
        let mut reply = match response {
            ResponseV2::Error(error) => Reply::failed(answer::of_error(&error, &self.features), true),
            ResponseV2::Result(result) => match result.deserialize_metadata() {
                Ok(outcome) => of_outcome(&outcome, now_us),
                Err(error) => Reply::failed(format!("unreadable result: {error}"), false),
            },
            other => Reply::failed(format!("unexpected answer {other:?}"), false),
        };
        reply.lines.extend(warnings.into_iter().map(|w| format!("warning {w}")));
        reply
    }

    /// Sends a request and waits for its answer and warnings.
    async fn exchange<R: SerializableRequest>(
        &mut self,
        request: &R,
        until: Instant,
    ) -> Result<(ResponseV2, Vec<String>), Failure> {
        self.last = self.last.wrapping_add(1).max(0);
        let mut bytes = SerializedRequest::make(request, None, false).map_err(|e| Failure::Broken(e.to_string()))?;
        bytes.set_stream(self.last);
        let broken = |e: &dyn std::fmt::Display| Failure::Broken(e.to_string());
        timeout_at(until, self.stream.write_all(bytes.get_data()))
            .await
            .map_err(|_| Failure::NoAnswer)?
            .map_err(|e| broken(&e))?;
        loop {
            let (head, opcode, body) = timeout_at(until, frame::read_response_frame(&mut self.stream))
                .await
                .map_err(|_| Failure::NoAnswer)?
                .map_err(|e| broken(&e))?;
            if head.stream != self.last {
                continue;
            }
            let extended = frame::parse_response_body_extensions(head.flags, None, body).map_err(|e| broken(&e))?;
            let response =
                ResponseV2::deserialize(&self.features, opcode, extended.body, None).map_err(|e| broken(&e))?;
            return Ok((response, extended.warnings));
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// In time.
    NoAnswer,
    /// The connection is of no use any more. The kernel's words for it differ (reset, closed, end of file), so they are
    /// kept for readers and not compared.
    Broken(String),
}

impl Failure {
    fn line(&self) -> String {
        match self {
            Failure::NoAnswer => "no answer".into(),
            Failure::Broken(why) if is_end(why) => "connection lost".into(),
            Failure::Broken(why) => format!("connection lost: {why}"),
        }
    }
}

/// Whether these are words of a kernel for a peer that is gone.
fn is_end(why: &str) -> bool {
    ["eof", "reset", "closed", "broken pipe"]
        .iter()
        .any(|words| why.to_lowercase().contains(words))
}

fn of_outcome(outcome: &Outcome, now_us: i64) -> Reply {
    let lines = match answer::of_result(outcome, now_us) {
        Ok(lines) => lines,
        Err(error) => return Reply::failed(format!("unreadable rows: {error}"), false),
    };
    let mut reply = Reply {
        lines,
        paging_state: None,
        prepared: None,
        is_alive: true,
    };
    match outcome {
        Outcome::Prepared(prepared) => reply.prepared = Some(prepared.id.to_vec()),
        Outcome::Rows((_, paging)) => {
            if let std::ops::ControlFlow::Continue(state) = paging.clone().into_paging_control_flow() {
                reply.paging_state = state.as_bytes_slice().map(|b| b.to_vec());
            }
        }
        Outcome::Void | Outcome::SetKeyspace(_) | Outcome::SchemaChange(_) => {}
    }
    reply
}

impl Parameters {
    fn with<'a>(&self, values: &'a SerializedValues) -> QueryParameters<'a> {
        QueryParameters {
            consistency: self.level,
            serial_consistency: self.serial.and_then(|s| s.try_into().ok()),
            timestamp: self.timestamp,
            page_size: self.page,
            paging_state: match &self.paging_state {
                Some(bytes) => PagingState::new_from_raw_bytes(bytes.as_slice()),
                None => PagingState::start(),
            },
            skip_metadata: false,
            values: std::borrow::Cow::Borrowed(values),
        }
    }
}

/// A STARTUP without options. That of `scylla-cql` wants a map that iterates by chance.
struct Startup;

impl SerializableRequest for Startup {
    const OPCODE: RequestOpcode = RequestOpcode::Startup;

    fn serialize(&self, buf: &mut Vec<u8>) -> Result<(), CqlRequestSerializationError> {
        types::write_short(1, buf);
        for text in ["CQL_VERSION", "3.0.0"] {
            types::write_short(text.len() as u16, buf);
            buf.put_slice(text.as_bytes());
        }
        Ok(())
    }
}

/// A BATCH. That of `scylla-cql` has no batch types that do not exist, and wants all statements to be of one sort.
struct BatchBody<'a> {
    kind: u8,
    statements: &'a [BatchStatement],
    parameters: &'a Parameters,
}

impl SerializableRequest for BatchBody<'_> {
    const OPCODE: RequestOpcode = RequestOpcode::Batch;

    fn serialize(&self, buf: &mut Vec<u8>) -> Result<(), CqlRequestSerializationError> {
        buf.put_u8(self.kind);
        // Cases have a handful of statements, and texts of a few kilobytes.
        types::write_short(self.statements.len() as u16, buf);
        for statement in self.statements {
            match &statement.what {
                Ok(text) => {
                    buf.put_u8(0);
                    buf.put_u32(text.len() as u32);
                    buf.put_slice(text.as_bytes());
                }
                Err(id) => {
                    buf.put_u8(1);
                    buf.put_u16(id.len() as u16);
                    buf.put_slice(id);
                }
            }
            statement.values.write_to_request(buf);
        }
        types::write_consistency(self.parameters.level, buf);
        let serial = self.parameters.serial;
        let timestamp = self.parameters.timestamp;
        buf.put_u8(if serial.is_some() { 0x10 } else { 0 } | if timestamp.is_some() { 0x20 } else { 0 });
        if let Some(serial) = serial {
            types::write_consistency(serial, buf);
        }
        if let Some(timestamp) = timestamp {
            types::write_long(timestamp, buf);
        }
        Ok(())
    }
}
