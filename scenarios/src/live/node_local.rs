//! Every replica's rows, one node at a time. Read over the bare protocol and not through the driver: NODE_LOCAL, the
//! consistency at which a Cassandra that allows it answers from its own storage and asks nobody, is not among the driver's;
//! and the judge wants the very node that it asks. Where a server does not allow it, rows are read at ALL, once.
use crate::rows::{COLUMNS_MAX, Cell, TableKind, Tables};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use settlement::config::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Rows per page.
const PAGE_ROWS: i32 = 1_000;
/// One answer takes no longer; above the server's range timeout of 10 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is taken: a page of our widest rows is far smaller.
const FRAME_MAX_BYTES: usize = 64 << 20;
/// Tables that settling again may change.
const NOT_COMPARED: [&str; 4] = ["settlement_checkpoint", "dead_letters", "skips", "schema_migrations"];

/// Whose storage answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The node that is asked, alone.
    NodeLocal,
    /// All replicas.
    All,
}

impl Level {
    fn code(self) -> u16 {
        match self {
            Level::NodeLocal => 11,
            Level::All => 5,
        }
    }
}

/// A connection to one node.
pub struct Node {
    stream: TcpStream,
    address: SocketAddr,
}

/// Rows of one table, each row's values in the order of the columns.
type Rows = Vec<Vec<Option<Bytes>>>;

/// A table, and its columns that have timestamps of their own.
struct Table {
    name: String,
    keys: Vec<String>,
    values: Vec<String>,
}

/// What one node, or all, hold of the tables that settling again must not change: whole rows with their timestamps.
pub type Held = BTreeMap<String, BTreeSet<Vec<Option<Bytes>>>>;

impl Node {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// In words, with the address.
    pub async fn connect(address: SocketAddr, credentials: Option<&Credentials>) -> Result<Node, String> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| format!("{address} does not answer"))?;
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let mut node = Node { stream, address };
        let mut options = BytesMut::new();
        options.put_u16(1);
        put_string(&mut options, "CQL_VERSION");
        put_string(&mut options, "3.0.0");
        let (opcode, _) = node.ask(opcode::STARTUP, &options).await?;
        if opcode == opcode::AUTHENTICATE {
            let known = credentials.ok_or_else(|| format!("{address} wants a user and a password"))?;
            let token = format!("\0{}\0{}", known.user, known.password);
            let mut body = BytesMut::new();
            put_bytes(&mut body, token.as_bytes());
            node.ask(opcode::AUTH_RESPONSE, &body).await?;
        }
        Ok(node)
    }

    /// Whether the node answers to anything at all within `patience`.
    pub async fn answers(address: SocketAddr, patience: Duration) -> bool {
        let asked = async {
            let stream = TcpStream::connect(address).await.ok()?;
            let mut node = Node { stream, address };
            node.exchange(opcode::OPTIONS, &[]).await.ok()
        };
        timeout(patience, asked).await.ok().flatten().is_some()
    }

    /// Whether the node answers from its own storage alone.
    ///
    /// # Errors
    /// No answer at all; a refusal is one.
    pub async fn allows_node_local(&mut self) -> Result<bool, String> {
        match self.query("SELECT key FROM system.local", Level::NodeLocal).await {
            Ok(_) => Ok(true),
            Err(why) if why.contains(": error 0x") => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// The judge's tables as this node has them.
    pub async fn tables(
        &mut self,
        keyspace: &str,
        symbols: &BTreeMap<String, u32>,
        level: Level,
    ) -> Result<Tables, String> {
        let mut tables = Tables::default();
        for table in self.schema(keyspace).await? {
            let symbol = symbols.get(&table.name).copied().unwrap_or(0);
            let Some(kind) = TableKind::of(&table.name, symbol) else {
                continue;
            };
            let columns = kind.columns();
            let is_there = |column: &&str| table.keys.iter().chain(&table.values).any(|known| known == column);
            let wanted: Vec<&str> = columns.iter().copied().filter(is_there).collect();
            let places: Vec<usize> = (0..columns.len()).filter(|at| is_there(&columns[*at])).collect();
            let cql = format!("SELECT {} FROM {keyspace}.{}", wanted.join(", "), table.name);
            for row in self.query(&cql, level).await? {
                let mut cells: [Cell<'_>; COLUMNS_MAX] = [None; COLUMNS_MAX];
                for (place, value) in places.iter().zip(&row) {
                    cells[*place] = value.as_deref();
                }
                tables.add(kind, &table.name, &cells[..columns.len()]);
            }
        }
        Ok(tables)
    }

    /// Every row with the timestamp of every cell.
    pub async fn held(&mut self, keyspace: &str, level: Level) -> Result<Held, String> {
        let mut held = Held::new();
        for table in self.schema(keyspace).await? {
            if NOT_COMPARED.contains(&table.name.as_str()) {
                continue;
            }
            let times = table.values.iter().map(|column| format!("WRITETIME({column})"));
            let columns: Vec<String> = table.keys.iter().chain(&table.values).cloned().chain(times).collect();
            let cql = format!("SELECT {} FROM {keyspace}.{}", columns.join(", "), table.name);
            let rows = self.query(&cql, level).await?;
            held.insert(table.name, rows.into_iter().collect());
        }
        Ok(held)
    }

    async fn schema(&mut self, keyspace: &str) -> Result<Vec<Table>, String> {
        let cql = format!(
            "SELECT table_name, column_name, kind FROM system_schema.columns WHERE keyspace_name = '{keyspace}'"
        );
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let text = |value: &Option<Bytes>| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
        // A node's schema is in its own tables: any level that one node can give will do.
        for row in self.query(&cql, Level::All).await? {
            let [table, column, kind] = row.as_slice() else {
                continue;
            };
            let entry = tables.entry(text(table)).or_insert_with(|| Table {
                name: text(table),
                keys: Vec::new(),
                values: Vec::new(),
            });
            if text(kind) == "regular" {
                entry.values.push(text(column));
            } else {
                entry.keys.push(text(column));
            }
        }
        Ok(tables.into_values().collect())
    }

    /// All rows of a query.
    async fn query(&mut self, cql: &str, level: Level) -> Result<Rows, String> {
        let mut rows = Rows::new();
        let mut state: Option<Bytes> = None;
        loop {
            let mut body = BytesMut::new();
            body.put_i32(i32::try_from(cql.len()).unwrap_or(i32::MAX));
            body.put_slice(cql.as_bytes());
            body.put_u16(level.code());
            body.put_u8(0x04 | if state.is_some() { 0x08 } else { 0 });
            body.put_i32(PAGE_ROWS);
            if let Some(state) = &state {
                put_bytes(&mut body, state);
            }
            let (opcode, answer) = self.ask(opcode::QUERY, &body).await?;
            if opcode != opcode::RESULT {
                return Err(format!("{}: `{cql}` was answered with opcode {opcode}", self.address));
            }
            state = page(answer, &mut rows).ok_or_else(|| format!("{}: `{cql}`: a malformed answer", self.address))?;
            if state.is_none() {
                return Ok(rows);
            }
        }
    }

    /// One frame there, one back; an ERROR becomes an error.
    async fn ask(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Bytes), String> {
        let address = self.address;
        let asked = timeout(PATIENCE, self.exchange(opcode, body)).await;
        let answer = asked.map_err(|_| format!("{address} gave no answer within {} s", PATIENCE.as_secs()))?;
        let (opcode, mut body) = answer.map_err(|error| format!("{address}: {error}"))?;
        if opcode != opcode::ERROR {
            return Ok((opcode, body));
        }
        let code = if body.len() >= 4 { body.get_u32() } else { 0 };
        let text = get_string(&mut body).unwrap_or_default();
        Err(format!("{address}: error {code:#06x}: {text}"))
    }

    async fn exchange(&mut self, opcode: u8, body: &[u8]) -> std::io::Result<(u8, Bytes)> {
        let mut frame = BytesMut::with_capacity(9 + body.len());
        frame.put_slice(&[0x04, 0, 0, 0, opcode]);
        frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        frame.put_slice(body);
        self.stream.write_all(&frame).await?;
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        if length > FRAME_MAX_BYTES {
            return Err(std::io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        // Flags: 0x08 puts warnings before the body. Tracing and payloads were not asked for.
        if header[1] & 0x08 != 0 {
            skip_warnings(&mut answer).ok_or_else(|| std::io::Error::other("malformed warnings"))?;
        }
        Ok((header[4], answer))
    }
}

/// Opcodes of protocol version 4.
mod opcode {
    pub const ERROR: u8 = 0x00;
    pub const STARTUP: u8 = 0x01;
    pub const AUTHENTICATE: u8 = 0x03;
    pub const OPTIONS: u8 = 0x05;
    pub const QUERY: u8 = 0x07;
    pub const RESULT: u8 = 0x08;
    pub const AUTH_RESPONSE: u8 = 0x0F;
}

/// Reads the rows of a RESULT; returns the paging state of the next page. None if it is malformed.
#[allow(clippy::option_option, reason = "no page is not the same as no next page")]
fn page(mut body: Bytes, rows: &mut Rows) -> Option<Option<Bytes>> {
    const ROWS: i32 = 2;
    const GLOBAL_TABLE: i32 = 0x01;
    const HAS_MORE: i32 = 0x02;
    if get_i32(&mut body)? != ROWS {
        return Some(None);
    }
    let flags = get_i32(&mut body)?;
    let columns = usize::try_from(get_i32(&mut body)?).ok()?;
    let next = if flags & HAS_MORE != 0 {
        get_bytes(&mut body)?
    } else {
        None
    };
    if flags & GLOBAL_TABLE != 0 {
        get_string(&mut body)?;
        get_string(&mut body)?;
    }
    for _ in 0..columns {
        if flags & GLOBAL_TABLE == 0 {
            get_string(&mut body)?;
            get_string(&mut body)?;
        }
        get_string(&mut body)?;
        skip_type(&mut body)?;
    }
    for _ in 0..get_i32(&mut body)? {
        let row = (0..columns).map(|_| get_bytes(&mut body)).collect::<Option<Vec<_>>>()?;
        rows.push(row);
    }
    Some(next)
}

/// A type's description: its number, and what custom types, lists, maps and sets add.
fn skip_type(body: &mut Bytes) -> Option<()> {
    const CUSTOM: u16 = 0x00;
    const LIST: u16 = 0x20;
    const MAP: u16 = 0x21;
    const SET: u16 = 0x22;
    match get_u16(body)? {
        CUSTOM => get_string(body).map(drop),
        LIST | SET => skip_type(body),
        MAP => skip_type(body).and_then(|()| skip_type(body)),
        _ => Some(()),
    }
}

fn skip_warnings(body: &mut Bytes) -> Option<()> {
    for _ in 0..get_u16(body)? {
        get_string(body)?;
    }
    Some(())
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

fn get_u16(body: &mut Bytes) -> Option<u16> {
    (body.len() >= 2).then(|| body.get_u16())
}

fn get_i32(body: &mut Bytes) -> Option<i32> {
    (body.len() >= 4).then(|| body.get_i32())
}

fn get_string(body: &mut Bytes) -> Option<String> {
    let length = usize::from(get_u16(body)?);
    let bytes = (body.len() >= length).then(|| body.split_to(length))?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A value: null is None within.
#[allow(
    clippy::option_option,
    reason = "a value that is not there is not the same as a null"
)]
fn get_bytes(body: &mut Bytes) -> Option<Option<Bytes>> {
    let Ok(length) = usize::try_from(get_i32(body)?) else {
        return Some(None);
    };
    (body.len() >= length).then(|| Some(body.split_to(length)))
}

/// What is different after settling again, in words. A row that another node had before is no difference: settling again
/// is how it comes to a node that lacked it.
pub fn differences(before: &[(String, Held)], after: &[(String, Held)]) -> Vec<String> {
    const SHOWN_MAX: usize = 10;
    let nothing = BTreeSet::new();
    let mut texts = Vec::new();
    for ((node, before_here), (_, after_here)) in before.iter().zip(after) {
        for table in before_here.keys().filter(|table| !after_here.contains_key(*table)) {
            texts.push(format!("{table} on {node} is gone"));
        }
        if after_here.values().all(BTreeSet::is_empty) {
            texts.push(format!("{node} holds nothing at all, so there is nothing to compare"));
        }
        for (table, rows) in after_here {
            let known = |row: &&Vec<Option<Bytes>>| {
                before
                    .iter()
                    .any(|(_, held)| held.get(table).is_some_and(|rows| rows.contains(*row)))
            };
            let new = rows.iter().filter(|row| !known(row)).count();
            let gone = before_here.get(table).unwrap_or(&nothing).difference(rows).count();
            for (count, what) in [
                (new, "are new or have other values or timestamps"),
                (gone, "are no longer as they were"),
            ] {
                if count > 0 {
                    texts.push(format!("{table} on {node}: {count} rows {what}"));
                }
            }
        }
    }
    texts.truncate(SHOWN_MAX);
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(rows: &[&'static str]) -> Held {
        let rows = rows.iter().map(|row| vec![Some(Bytes::from_static(row.as_bytes()))]);
        Held::from([("orders".to_string(), rows.collect())])
    }

    fn nodes(rows: [&[&'static str]; 2]) -> Vec<(String, Held)> {
        let [one, two] = rows;
        vec![("n1".into(), held(one)), ("n2".into(), held(two))]
    }

    #[test]
    fn what_another_node_had_is_no_difference_and_everything_else_is() {
        let before = nodes([&["a", "b"], &["a"]]);
        assert!(differences(&before, &nodes([&["a", "b"], &["a", "b"]])).is_empty());
        let new = differences(&before, &nodes([&["a", "b", "c"], &["a"]]));
        assert_eq!(new, ["orders on n1: 1 rows are new or have other values or timestamps"]);
        let gone = differences(&before, &nodes([&["a"], &["a"]]));
        assert_eq!(gone, ["orders on n1: 1 rows are no longer as they were"]);
    }

    /// A page as a Cassandra sends it: two columns of one table, a null, and more to come.
    #[test]
    fn a_page_is_read_and_a_cut_one_is_refused() {
        let mut body = BytesMut::new();
        for n in [2, 0x03, 2] {
            body.put_i32(n);
        }
        put_bytes(&mut body, b"more");
        for text in ["k", "t"] {
            put_string(&mut body, text);
        }
        put_string(&mut body, "id");
        body.put_u16(0x02);
        put_string(&mut body, "names");
        body.put_u16(0x20);
        body.put_u16(0x0D);
        body.put_i32(1);
        put_bytes(&mut body, &7i64.to_be_bytes());
        body.put_i32(-1);
        let body = body.freeze();
        let mut rows = Rows::new();
        assert_eq!(page(body.clone(), &mut rows), Some(Some(Bytes::from_static(b"more"))));
        assert_eq!(rows, [vec![Some(Bytes::copy_from_slice(&7i64.to_be_bytes())), None]]);
        for cut in 0..body.len() {
            assert_eq!(page(body.slice(..cut), &mut Rows::new()), None, "cut at {cut}");
        }
    }
}
