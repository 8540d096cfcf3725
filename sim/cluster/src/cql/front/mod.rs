//! The CQL front of one node without I/O: bytes of a connection in, answers appended to its output, and requests for
//! the core out. What a statement means is `bind`'s; what a request does is the core's; here are the conversation, the
//! prepared statements of the node, and the words of its errors.
//!
//! A front lives as long as the node's process: a restarted node has a new, empty one, and answers EXECUTE with
//! UNPREPARED, as real nodes do.

mod batch;
mod checks;
mod derived;
mod login;
mod reading;
mod segments;
mod tracing;

use super::answer::{self, Words};
use super::bind::write::{self, Scratch};
use super::bind::{Context, Owned, Plan, Prepared, Server, ddl, ddl_views, prepare, statement_id};
use super::cas;
use super::describe;
use super::dialect::Dialect;
use super::error::CqlError;
use super::frame::response::{self, Event};
use super::frame::{self, Front as Bytes, HEADER_BYTES, Header, Opcode, Params, Request, VERSION, Value, flag, v5};
use super::parse;
pub use super::registry::Registry;
use super::roles::Roles;
use super::statements::Statements;
use super::system::{self, NodeView};
use super::traces::Traces;
use crate::core::config::ClusterConfig;
use crate::core::flavor::Flavor;
use crate::model::{self, Consistency, Response, Schema, Table, WriteKind, WriteRequest, WriteSet};
use checks::{
    check_startup, custom_batch_timestamp, level, moment, only_counted, only_timely, only_unconditional, register,
    request_name,
};
use login::Login;
use reading::PendingRead;
use segments::Segments;
use std::cell::Cell;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// What a client has told on one connection.
#[derive(Debug, Default)]
pub struct Connection {
    keyspace: Option<String>,
    started: bool,
    status_events: bool,
    topology_events: bool,
    schema_events: bool,
    /// Bytes of a refused frame that are still to come and mean nothing.
    skip_bytes: usize,
    login: Login,
    client: Option<IpAddr>,
    /// Version of the protocol that its first frame had.
    version: u8,
    segments: Segments,
}

impl Connection {
    /// The connection of a client at this address.
    pub fn from(client: IpAddr) -> Connection {
        Connection {
            client: Some(client),
            ..Connection::default()
        }
    }

    /// Whether bytes of a refused frame are still to come.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skip_bytes > 0
    }

    /// Whether the client registered for events of this kind.
    pub fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Status { .. } => self.status_events,
            Event::Topology { .. } => self.topology_events,
            Event::Schema(_) => self.schema_events,
        }
    }
}

/// What became of the bytes at the front of a connection's input.
#[derive(Debug)]
pub enum Outcome {
    /// They are not a whole frame yet.
    Incomplete,
    /// They were answered.
    Answered,
    /// They are a request for the core; its answer goes to [`Front::complete`].
    Submit(Submission),
    /// They cannot be followed by anything this server understands: send what is written and close.
    Close,
}

/// A request for the core, and what to remember until its answer.
#[derive(Debug)]
pub struct Submission {
    /// The request.
    pub request: model::Request,
    /// What [`Front::complete`] needs.
    pub pending: Pending,
}

/// What to remember of a request until its answer.
#[derive(Debug)]
pub struct Pending {
    stream: i16,
    warnings: Vec<String>,
    kind: PendingKind,
    trace: Option<NonZeroU32>,
}

#[derive(Debug)]
enum PendingKind {
    Write {
        first: Option<Arc<Table>>,
    },
    Read(Box<PendingRead>),
    Cas {
        conditions: Arc<cas::Conditions>,
        skip_metadata: bool,
    },
    Schema {
        /// Whether the client is warned of views if it is done.
        warns: bool,
    },
}

/// The front of one node's process.
#[derive(Debug)]
pub struct Front {
    server: Server,
    flavor: Flavor,
    statements: Statements,
    registry: Option<Registry>,
    scratch: Scratch,
    /// Uuids made so far.
    uuids: Cell<u64>,
    roles: Option<Arc<Roles>>,
    traces: Option<Arc<Traces>>,
    greatest_version: u8,
}

type Answer<T> = Result<T, CqlError>;

/// One request being handled.
struct Call<'a> {
    node: &'a NodeView<'a>,
    stream: i16,
    warnings: Vec<String>,
    out: &'a mut Vec<u8>,
}

impl Front {
    /// The front of a process that just started. Statements it prepares are also told to `registry`.
    pub fn new(node: &NodeView<'_>, registry: Option<Registry>) -> Self {
        Self {
            server: server(node.config),
            flavor: node.config.flavor,
            statements: Statements::default(),
            registry,
            scratch: Scratch::default(),
            uuids: Cell::new(0),
            roles: None,
            traces: None,
            greatest_version: VERSION,
        }
    }

    /// Handles the frame at the front of `input`, if it is whole: returns how many bytes it took.
    pub fn next(
        &mut self,
        node: &NodeView<'_>,
        connection: &mut Connection,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Outcome) {
        if connection.version > VERSION && connection.started {
            return self.next_in_segments(node, connection, input, out);
        }
        self.next_frame(node, connection, input, out)
    }

    fn next_frame(
        &mut self,
        node: &NodeView<'_>,
        connection: &mut Connection,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Outcome) {
        if connection.skip_bytes > 0 {
            let n = connection.skip_bytes.min(input.len());
            connection.skip_bytes -= n;
            return (n, if n > 0 { Outcome::Answered } else { Outcome::Incomplete });
        }
        let refuse = |connection: &mut Connection, header: Header, out: &mut Vec<u8>, error: CqlError| {
            response::error(out, header.stream, &[], &error);
            connection.skip_bytes = header.length as usize;
            (HEADER_BYTES, Outcome::Answered)
        };
        match frame::peek_up_to(self.greatest_version, input) {
            Bytes::Incomplete => (0, Outcome::Incomplete),
            Bytes::AncientVersion(version) => {
                response::error(out, 0, &[], &self.wrong_version(version));
                (input.len(), Outcome::Close)
            }
            Bytes::OtherVersion(header) => refuse(connection, header, out, self.wrong_version(header.version)),
            Bytes::TooLong(header) => refuse(connection, header, out, answer::too_long(header.length)),
            Bytes::Frame(header) => {
                let length = HEADER_BYTES + header.length as usize;
                connection.version = header.version;
                (
                    length,
                    self.frame(node, connection, &header, &input[HEADER_BYTES..length], out),
                )
            }
        }
    }

    fn wrong_version(&self, version: u8) -> CqlError {
        answer::wrong_version(self.flavor, self.greatest_version, version)
    }

    fn frame(
        &mut self,
        node: &NodeView<'_>,
        connection: &mut Connection,
        header: &Header,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut call = Call {
            node,
            stream: header.stream,
            warnings: Vec::new(),
            out,
        };
        let mut traced = None;
        let handled = match Request::parse(header, body) {
            Ok(request) => {
                if header.flags & flag::TRACING != 0 {
                    traced = self.begin_trace(&mut call, connection, header, &request);
                }
                self.request(&mut call, connection, request)
            }
            Err(malformed) => Err(malformed.into()),
        };
        match handled {
            Ok(None) => {}
            Ok(Some((request, kind))) => {
                let is_batch = header.opcode == Opcode::Batch as u8;
                let pending = Pending {
                    trace: self.submit_trace(traced, node, (&request, &kind), is_batch),
                    stream: call.stream,
                    warnings: call.warnings,
                    kind,
                };
                return Outcome::Submit(Submission { request, pending });
            }
            Err(error) => response::error(call.out, call.stream, &call.warnings, &error),
        }
        self.end_trace(traced, call.out);
        Outcome::Answered
    }

    fn request(
        &mut self,
        call: &mut Call<'_>,
        connection: &mut Connection,
        request: Request<'_>,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        if !connection.started {
            return match request {
                Request::Options => self.options(call),
                Request::Startup(options) => self.startup(call, connection, &options),
                other => Err(CqlError::protocol(format!(
                    "Unexpected message {}, expecting STARTUP or OPTIONS",
                    request_name(&other)
                ))),
            };
        }
        if connection.login == Login::Asked {
            return self.authenticate(call, connection, &request).map(|()| None);
        }
        match request {
            Request::Batch(batch) => self.batch(call, connection, batch),
            Request::Execute {
                id,
                metadata_id,
                mut params,
            } => {
                let statement = self.statements.get(id, call.node.schema)?.clone();
                if let Some(given) = metadata_id {
                    params.skip_metadata &= knows_columns(connection, call.stream, &statement, given);
                }
                self.execute(call, connection, &statement, &params, true)
            }
            Request::Query { text, .. } if self.role_statement(call, connection, text)? => Ok(None),
            Request::Query { text, params } => {
                let keyspace = params.keyspace.or(connection.keyspace.as_deref());
                let statement = self.resolve(call, keyspace, text)?;
                self.execute(call, connection, &Arc::new(statement), &params, false)
            }
            Request::Prepare { text, keyspace } => {
                self.prepare(call, keyspace.or(connection.keyspace.as_deref()), text)
            }
            Request::Options => self.options(call),
            Request::Register(types) => register(call, connection, &types),
            Request::Startup(_) => Err(CqlError::protocol(
                "Unexpected message STARTUP, the connection is already initialized",
            )),
            // Seen of a server that asks for a password; one that does not has nobody who could have been asked.
            Request::AuthResponse(token) => match &self.roles {
                Some(roles) => {
                    roles.login(token.unwrap_or_default())?;
                    response::auth_success(call.out, call.stream);
                    Ok(None)
                }
                None => Err(CqlError::protocol(
                    "Unexpected message AUTH_RESPONSE, it is not a request this server takes",
                )),
            },
        }
    }

    fn startup(
        &self,
        call: &mut Call<'_>,
        connection: &mut Connection,
        options: &[(&str, &str)],
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        check_startup(options)?;
        self.welcome(call, connection);
        Ok(None)
    }

    fn options(&self, call: &mut Call<'_>) -> Answer<Option<(model::Request, PendingKind)>> {
        response::supported(
            call.out,
            call.stream,
            &answer::supported(call.node, self.greatest_version),
        );
        Ok(None)
    }

    fn resolve(&self, call: &Call<'_>, keyspace: Option<&str>, text: &str) -> Answer<Prepared> {
        let context = Context {
            schema: call.node.schema,
            keyspace,
            server: &self.server,
        };
        let same_name = match self.server.dialect.markers_share_names {
            true => parse::Markers::Shared,
            false => parse::Markers::Apart,
        };
        prepare(&context, text, parse::parse_as(text, same_name)?)
    }

    fn prepare(
        &mut self,
        call: &mut Call<'_>,
        keyspace: Option<&str>,
        text: &str,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let id = statement_id(keyspace, text);
        let statement = match self.statements.get(&id, call.node.schema) {
            Ok(known) => known.clone(),
            Err(_) => {
                let new = Arc::new(self.resolve(call, keyspace, text)?);
                self.remember(new.clone(), call.node.schema);
                new
            }
        };
        response::prepared(
            call.out,
            call.stream,
            &call.warnings,
            &statement.id,
            &statement.binds,
            &statement.partition_key_indexes,
            statement.result.as_ref(),
        );
        Ok(None)
    }

    fn remember(&mut self, statement: Arc<Prepared>, schema: &Arc<Schema>) {
        let checked_at = schema.change;
        if let Some(registry) = &self.registry {
            registry.note(&statement, schema);
        }
        self.statements.insert(statement, checked_at);
    }

    fn execute(
        &mut self,
        call: &mut Call<'_>,
        connection: &mut Connection,
        statement: &Arc<Prepared>,
        params: &Params<'_>,
        is_prepared: bool,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let consistency = level(params.consistency)?;
        let mut bound = Vec::new();
        statement.bind(params.values, &mut bound, |markers, given| {
            if is_prepared {
                format!("there were {markers} markers(?) in CQL but {given} bound variables")
            } else {
                "Invalid amount of bind variables".to_string()
            }
        })?;
        let owned = self.owned(call.node, statement, &bound)?;
        if !owned.is_empty() {
            bound = owned.with(&bound);
        }
        match &statement.plan {
            Plan::Write(write) if write.conditions.is_some() => {
                if write.has_timestamp() {
                    return Err(CqlError::invalid(
                        "Cannot provide custom timestamp for conditional updates",
                    ));
                }
                let mut gathered = cas::Gathered::new(self.server.dialect, false);
                gathered.add(statement, 0, &bound, &mut self.scratch)?;
                let serial = params.serial_consistency;
                submit_cas(call, gathered, consistency, serial, params.skip_metadata)
            }
            Plan::Batch(batch) if batch.is_conditional() => {
                if batch.has_timestamp() {
                    return Err(custom_batch_timestamp());
                }
                let mut gathered = cas::Gathered::new(self.server.dialect, true);
                for i in 0..batch.statements.len() {
                    gathered.add(statement, i, &bound, &mut self.scratch)?;
                }
                let serial = params.serial_consistency;
                submit_cas(call, gathered, consistency, serial, params.skip_metadata)
            }
            Plan::Write(write) => {
                only_unconditional(consistency)?;
                only_timely(call, || write.own_timestamp(&bound))?;
                if write.needs_read() {
                    let mut derived = derived::Gathered::new(WriteKind::Single);
                    derived.add(statement, 0, &bound)?;
                    let timeout_ms = write.timeout_ms();
                    return Ok(Some(derived.finish(consistency, params.timestamp_us, timeout_ms)));
                }
                let mut writes = WriteSet::new();
                write.execute(&bound, &mut self.scratch, &mut writes)?;
                if write.is_of_traces() {
                    self.delete_traces(&write.table, &writes);
                    response::void(call.out, call.stream, &call.warnings);
                    return Ok(None);
                }
                let (timeout_ms, first) = (write.timeout_ms(), Some(write.table.clone()));
                let kind = if write.is_counter {
                    only_counted(consistency, first.as_deref())?;
                    WriteKind::Counter
                } else {
                    WriteKind::Single
                };
                let request = WriteRequest {
                    kind,
                    consistency,
                    writes,
                    timestamp_us: params.timestamp_us,
                    timeout_ms,
                };
                Ok(submit_write(call, request, first))
            }
            Plan::Batch(batch) if batch.statements.iter().any(write::WritePlan::needs_read) => {
                batch.timestamps(&bound, |given| only_timely(call, || given))?;
                let mut derived = derived::Gathered::new(batch.kind);
                for i in 0..batch.statements.len() {
                    derived.add(statement, i, &bound)?;
                }
                let timestamp_us = batch.timestamp_us(&bound)?.or(params.timestamp_us);
                Ok(Some(derived.finish(consistency, timestamp_us, batch.timeout_ms())))
            }
            Plan::Batch(batch) => {
                batch.timestamps(&bound, |given| only_timely(call, || given))?;
                let mut writes = WriteSet::new();
                for write in &batch.statements {
                    write.execute(&bound, &mut self.scratch, &mut writes)?;
                }
                let timestamp_us = batch.timestamp_us(&bound)?.or(params.timestamp_us);
                let first = batch.statements.first().map(|w| w.table.clone());
                let (kind, timeout_ms) = (batch.kind, batch.timeout_ms());
                if kind.is_counter() {
                    only_counted(consistency, first.as_deref())?;
                }
                Ok(submit_write(
                    call,
                    WriteRequest {
                        kind,
                        consistency,
                        writes,
                        timestamp_us,
                        timeout_ms,
                    },
                    first,
                ))
            }
            Plan::Select(select) if select.is_system => {
                let traces = self.trace_rows(&select.table);
                let rows = traces.unwrap_or_else(|| system::rows(call.node, &select.table));
                self.system_rows(call, statement, &rows, &bound, params)
            }
            Plan::Select(_) => self.select(call, statement, consistency, &bound, params),
            Plan::Schema(ast) => {
                let keyspace = params.keyspace.or(connection.keyspace.as_deref());
                let context = Context {
                    schema: call.node.schema,
                    keyspace,
                    server: &self.server,
                };
                let ddl = ddl::resolve(&context, ast)?;
                let warns = ddl_views::warns(&context, ast);
                match ddl {
                    ddl::Ddl::Change(change) => {
                        call.warnings.extend(ddl::warning(&context, &change));
                        Ok(Some((model::Request::Schema(change), PendingKind::Schema { warns })))
                    }
                    ddl::Ddl::Nothing => {
                        call.warnings.extend(warns.then(|| ddl_views::EXPERIMENTAL.to_owned()));
                        response::void(call.out, call.stream, &call.warnings);
                        Ok(None)
                    }
                }
            }
            Plan::Truncate(table) => {
                let kind = PendingKind::Write {
                    first: Some(table.clone()),
                };
                Ok(Some((model::Request::Truncate(table.id), kind)))
            }
            Plan::Describe(what) => {
                let answer = describe::describe(call.node, connection.keyspace.as_deref(), what)?;
                answer.put(call.out, call.stream, &call.warnings);
                Ok(None)
            }
            Plan::Use(keyspace) => {
                if !system::is_system_keyspace(keyspace) && !call.node.schema.keyspaces.contains_key(keyspace) {
                    return Err(CqlError::invalid(format!("Keyspace '{keyspace}' does not exist")));
                }
                connection.keyspace = Some(keyspace.clone());
                response::set_keyspace(call.out, call.stream, keyspace);
                Ok(None)
            }
        }
    }

    /// The values of a statement that are computed when it is executed.
    fn owned(&self, node: &NodeView<'_>, statement: &Prepared, bound: &[Value<'_>]) -> Answer<Owned> {
        if statement.takes_as_sent() {
            return Ok(Owned::default());
        }
        statement.owned(bound, &moment(node, &self.uuids))
    }

    /// Writes the answer of the core to a request handed out as [`Outcome::Submit`].
    ///
    /// Events for other connections are the host's: every node tells its own clients when its schema changes.
    pub fn complete(&self, node: &NodeView<'_>, pending: Pending, response: Response, out: &mut Vec<u8>) {
        let traced = self.resume_trace(&pending, &response, out);
        self.answer(node, pending, response, out);
        self.end_trace(traced, out);
    }

    fn answer(&self, node: &NodeView<'_>, pending: Pending, response: Response, out: &mut Vec<u8>) {
        let Pending {
            stream,
            mut warnings,
            kind,
            ..
        } = pending;
        match (response, kind) {
            (Response::Done { warnings: more }, _) => {
                warnings.extend(more.iter().map(|w| answer::warning(node.schema, w)));
                response::void(out, stream, &warnings);
            }
            (Response::Schema(effect), kind) => {
                if let PendingKind::Schema { warns: true } = kind {
                    warnings.push(ddl_views::EXPERIMENTAL.to_owned());
                }
                match ddl::wire_change(&effect) {
                    Some(change) => response::schema_change(out, stream, &warnings, &change),
                    None => response::void(out, stream, &warnings),
                }
            }
            (Response::Rows(result), PendingKind::Read(read)) => {
                if !result.scanned.is_empty() {
                    warnings.extend(read.tombstones(&result, self.flavor.rules().read_tombstones_warn));
                }
                if let Err(error) = read.answer(&result, stream, &warnings, out) {
                    response::error(out, stream, &warnings, &error);
                }
            }
            (
                Response::Cas { applied, read },
                PendingKind::Cas {
                    conditions,
                    skip_metadata,
                },
            ) => conditions.answer(applied, &read, stream, &warnings, skip_metadata, out),
            (Response::Rows(_) | Response::Cas { .. }, _) => {
                response::error(
                    out,
                    stream,
                    &warnings,
                    &CqlError::server("rows in answer to something else"),
                );
            }
            (Response::Error(error), kind) => {
                let words = Words {
                    flavor: self.flavor,
                    config: node.config,
                    table: kind.table(),
                };
                response::error(out, stream, &warnings, &answer::error(&words, &error));
            }
        }
    }
}

impl Pending {
    /// Stream of the request.
    pub fn stream(&self) -> i16 {
        self.stream
    }

    /// What it was, for people: the kind of request and its first table.
    pub fn label(&self) -> String {
        let kind = match &self.kind {
            PendingKind::Write { .. } => "write",
            PendingKind::Read(_) => "read",
            PendingKind::Cas { .. } => "conditional write",
            PendingKind::Schema { .. } => "schema",
        };
        match self.kind.table() {
            Some(table) => format!("{kind} {}.{}", table.keyspace, table.name),
            None => kind.to_string(),
        }
    }
}

impl PendingKind {
    /// The first table it is about.
    fn table(&self) -> Option<&Table> {
        match self {
            PendingKind::Write { first } => first.as_deref(),
            PendingKind::Read(read) => match &read.statement.plan {
                Plan::Select(select) => Some(&select.table),
                _ => None,
            },
            PendingKind::Cas { conditions, .. } => Some(conditions.table()),
            PendingKind::Schema { .. } => None,
        }
    }
}

/// A write without any operation (an empty batch, an UPDATE that sets nothing) is done at once.
fn submit_write(
    call: &mut Call<'_>,
    request: WriteRequest,
    first: Option<Arc<Table>>,
) -> Option<(model::Request, PendingKind)> {
    if request.writes.is_empty() {
        response::void(call.out, call.stream, &call.warnings);
        return None;
    }
    Some((model::Request::Write(request), PendingKind::Write { first }))
}

/// Hands a conditional statement or batch to the core.
fn submit_cas(
    call: &mut Call<'_>,
    gathered: cas::Gathered,
    commit: Consistency,
    serial: Option<u16>,
    skip_metadata: bool,
) -> Answer<Option<(model::Request, PendingKind)>> {
    let serial = serial.map_or(Ok(Consistency::Serial), level)?;
    if !matches!(serial, Consistency::Serial | Consistency::LocalSerial) {
        return Err(CqlError::invalid(
            "Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL",
        ));
    }
    if matches!(commit, Consistency::Serial | Consistency::LocalSerial) {
        return Err(CqlError::invalid(format!(
            "{commit} is not supported as conditional update commit consistency. Use ANY if you mean \"make sure it is \
             accepted but I don't care how many replicas commit it for non-SERIAL reads\""
        )));
    }
    let Some((request, conditions)) = gathered.finish(serial, commit) else {
        response::void(call.out, call.stream, &call.warnings);
        return Ok(None);
    };
    let pending = PendingKind::Cas {
        conditions,
        skip_metadata,
    };
    Ok(Some((model::Request::Cas(Box::new(request)), pending)))
}

/// Whether a client of protocol 5 has the columns of a statement's result; it is told of them if it has others. What a
/// conditional statement returns depends on what it finds, so its columns are always told and no news.
fn knows_columns(connection: &mut Connection, stream: i16, statement: &Prepared, given: &[u8]) -> bool {
    let Plan::Select(_) = statement.plan else {
        return false;
    };
    let specs = statement.result.as_ref().map_or(&[][..], |columns| &columns.specs);
    let knows = v5::metadata_id(specs) == given;
    if !knows {
        connection.segments.changed(stream);
    }
    knows
}

/// What preparing statements depends on, for this cluster.
pub fn server(config: &ClusterConfig) -> Server {
    let mut datacenters: Vec<String> = config.nodes.iter().map(|n| n.dc.clone()).collect();
    datacenters.sort();
    datacenters.dedup();
    Server {
        dialect: Dialect::of(config.flavor),
        datacenters,
    }
}
