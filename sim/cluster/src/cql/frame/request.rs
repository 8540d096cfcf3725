//! Whole requests out of frame bodies. Values and texts are borrowed from the frame. The values of QUERY and EXECUTE are
//! walked once to check every bound and then iterated without failing; those of a BATCH are handed out as they are read.

use super::read::{Malformed, Reader, Value};
use super::{Header, Opcode, flag, v5};

/// Flag bits of QUERY and EXECUTE parameters (protocol 4 and 5, section 4.1.4).
mod query_flag {
    pub const VALUES: u32 = 0x01;
    pub const SKIP_METADATA: u32 = 0x02;
    pub const PAGE_SIZE: u32 = 0x04;
    pub const PAGING_STATE: u32 = 0x08;
    pub const SERIAL: u32 = 0x10;
    pub const TIMESTAMP: u32 = 0x20;
    pub const NAMES: u32 = 0x40;
    /// Of protocol 5.
    pub const KEYSPACE: u32 = 0x80;
    /// Of protocol 5.
    pub const NOW: u32 = 0x100;
}

/// One request of a client.
#[derive(Debug)]
pub enum Request<'a> {
    /// OPTIONS: what does this server support.
    Options,
    /// STARTUP with its options in the order of the frame.
    Startup(Vec<(&'a str, &'a str)>),
    /// REGISTER for these event types.
    Register(Vec<&'a str>),
    /// AUTH_RESPONSE with its token.
    AuthResponse(Option<&'a [u8]>),
    /// QUERY.
    Query {
        /// The statement's text.
        text: &'a str,
        /// Its parameters.
        params: Params<'a>,
    },
    /// PREPARE.
    Prepare {
        /// The statement's text.
        text: &'a str,
        /// The keyspace of its tables, instead of the connection's.
        keyspace: Option<&'a str>,
    },
    /// EXECUTE.
    Execute {
        /// The prepared statement's id, opaque.
        id: &'a [u8],
        /// The id of the result metadata that the client has; protocol 5.
        metadata_id: Option<&'a [u8]>,
        /// Its parameters.
        params: Params<'a>,
    },
    /// BATCH.
    Batch(Batch<'a>),
}

/// Parameters of QUERY and EXECUTE.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    /// Consistency level, raw.
    pub consistency: u16,
    /// Bound values.
    pub values: Values<'a>,
    /// The client has the result metadata and does not want them again.
    pub skip_metadata: bool,
    /// Rows per page; `None` or a value <= 0 means unpaged.
    pub page_size: Option<i32>,
    /// Where the previous page ended, as this server wrote it.
    pub paging_state: Option<&'a [u8]>,
    /// Serial consistency level, raw.
    pub serial_consistency: Option<u16>,
    /// The client's default timestamp, microseconds.
    pub timestamp_us: Option<i64>,
    /// The keyspace of the statement's tables, instead of the connection's.
    pub keyspace: Option<&'a str>,
}

impl Params<'_> {
    /// Parameters of a statement without any, at consistency level `consistency` (raw).
    pub fn bare(consistency: u16) -> Params<'static> {
        Params {
            consistency,
            values: Values::none(),
            skip_metadata: false,
            page_size: None,
            paging_state: None,
            serial_consistency: None,
            timestamp_us: None,
            keyspace: None,
        }
    }
}

/// A counted sequence of bound values, checked when it was cut out of the frame.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    count: u16,
    named: bool,
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    /// No values.
    pub fn none() -> Self {
        Self {
            count: 0,
            named: false,
            bytes: &[],
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether each carries the name of its marker.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// The values in the frame's order with their names, if they have names.
    #[inline]
    pub fn iter(&self) -> ValuesIter<'a> {
        ValuesIter {
            left: self.count,
            named: self.named,
            reader: Reader::new(self.bytes),
        }
    }

    fn read(reader: &mut Reader<'a>, named: bool) -> Result<Self, Malformed> {
        let count = reader.short()?;
        let from = reader.position();
        for _ in 0..count {
            if named {
                reader.string()?;
            }
            reader.value()?;
        }
        Ok(Self {
            count,
            named,
            bytes: reader.between(from, reader.position()),
        })
    }
}

/// Iterator over [`Values`].
#[derive(Debug, Clone)]
pub struct ValuesIter<'a> {
    left: u16,
    named: bool,
    reader: Reader<'a>,
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = (Option<&'a str>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // The bytes were walked when they were cut out: neither read can fail.
        let name = if self.named {
            Some(self.reader.string().ok()?)
        } else {
            None
        };
        Some((name, self.reader.value().ok()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

/// Kind of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// With the batchlog.
    Logged,
    /// Without.
    Unlogged,
    /// Of counter updates.
    Counter,
}

/// One statement of a BATCH frame.
#[derive(Debug, Clone, Copy)]
pub enum StatementRef<'a> {
    /// By the id of a prepared statement.
    Prepared(&'a [u8]),
    /// By its text.
    Text(&'a str),
}

/// A BATCH request whose statements are read one after the other, each once: the hot path. Parameters stand behind the
/// statements, so they are known when all of them are read.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// Its kind.
    pub kind: BatchKind,
    /// How many statements it has.
    pub count: u16,
    left: u16,
    reader: Reader<'a>,
    version: u8,
}

/// What stands behind the statements of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchParams<'a> {
    /// Consistency level, raw.
    pub consistency: u16,
    /// Serial consistency level, raw.
    pub serial_consistency: Option<u16>,
    /// The client's default timestamp, microseconds.
    pub timestamp_us: Option<i64>,
    /// The keyspace of the statements' tables, instead of the connection's.
    pub keyspace: Option<&'a str>,
}

impl<'a> Batch<'a> {
    fn parse(version: u8, mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let kind = match reader.byte()? {
            0 => BatchKind::Logged,
            1 => BatchKind::Unlogged,
            2 => BatchKind::Counter,
            n => return Err(Malformed::Invalid(format!("Invalid BATCH message type {n}"))),
        };
        let count = reader.short()?;
        Ok(Self {
            kind,
            count,
            left: count,
            reader,
            version,
        })
    }

    /// The keyspace that stands behind the statements, which must be known before they are read. Only protocol 5 has one.
    ///
    /// # Errors
    /// As [`Batch::finish`].
    pub fn keyspace(&self) -> Result<Option<&'a str>, Malformed> {
        if self.version < v5::VERSION {
            return Ok(None);
        }
        Ok(self.clone().finish()?.keyspace)
    }

    /// Room that the records of this batch will need, bytes: its own size and a header per statement.
    pub fn expected_bytes(&self) -> usize {
        /// A record's header and the lengths of its key and cells, generously.
        const OVERHEAD_BYTES: usize = 96;
        // A hostile count cannot reserve more than its frame could hold.
        self.reader.rest().len() + usize::from(self.count).min(self.reader.rest().len()) * OVERHEAD_BYTES
    }

    /// The next statement; its values replace what is in `values`. `None` after the last one.
    ///
    /// # Errors
    /// Lengths that point behind the end of the frame, or bytes that are no statement.
    #[inline]
    pub fn next_statement(&mut self, values: &mut Vec<Value<'a>>) -> Result<Option<StatementRef<'a>>, Malformed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let statement = match self.reader.byte()? {
            0 => StatementRef::Text(self.reader.long_string()?),
            1 => StatementRef::Prepared(self.reader.short_bytes()?),
            n => {
                let text = format!("Invalid query kind in BATCH messages. Must be 0 or 1 but got {n}");
                return Err(Malformed::Invalid(text));
            }
        };
        values.clear();
        let count = self.reader.short()?;
        self.reader.values(count, values)?;
        Ok(Some(statement))
    }

    /// What stands behind the statements; reads over those that are left.
    ///
    /// # Errors
    /// As [`Batch::next_statement`]; flags that are not known; bytes behind the end.
    pub fn finish(mut self) -> Result<BatchParams<'a>, Malformed> {
        let mut values = Vec::new();
        while self.next_statement(&mut values)?.is_some() {}
        let mut reader = self.reader;
        let consistency = reader.short()?;
        let flags = read_flags(&mut reader, self.version)?;
        if flags & query_flag::NAMES != 0 {
            // The names stand after the values in the specification but no server can find them there (CASSANDRA-10246).
            return Err(Malformed::Invalid(
                "values with names are not supported in BATCH (CASSANDRA-10246)".into(),
            ));
        }
        if flags & !(query_flag::SERIAL | query_flag::TIMESTAMP | query_flag::KEYSPACE | query_flag::NOW) != 0 {
            return Err(Malformed::Invalid(format!("unknown BATCH flags {flags:#04x}")));
        }
        let tail = read_tail(&mut reader, flags)?;
        reader.finish("BATCH")?;
        Ok(BatchParams {
            consistency,
            serial_consistency: tail.serial_consistency,
            timestamp_us: tail.timestamp_us,
            keyspace: tail.keyspace,
        })
    }
}

/// Flags of parameters: an [int] since protocol 5, which has more of them.
fn read_flags(reader: &mut Reader<'_>, version: u8) -> Result<u32, Malformed> {
    if version < v5::VERSION {
        // What protocol 5 calls a keyspace is no flag of protocol 4.
        let flags = u32::from(reader.byte()?);
        Ok(flags & 0x7f | (flags & 0x80) << 16)
    } else {
        Ok(reader.int()? as u32)
    }
}

/// What the parameters of all requests end with.
struct Tail<'a> {
    serial_consistency: Option<u16>,
    timestamp_us: Option<i64>,
    keyspace: Option<&'a str>,
}

fn read_tail<'a>(reader: &mut Reader<'a>, flags: u32) -> Result<Tail<'a>, Malformed> {
    let serial_consistency = if flags & query_flag::SERIAL != 0 {
        Some(reader.short()?)
    } else {
        None
    };
    let timestamp_us = if flags & query_flag::TIMESTAMP != 0 {
        Some(reader.long()?)
    } else {
        None
    };
    if timestamp_us == Some(i64::MIN) {
        return Err(Malformed::Invalid(format!(
            "Out of bound timestamp, must be in [{}, {}]",
            i64::MIN + 1,
            i64::MAX
        )));
    }
    let keyspace = if flags & query_flag::KEYSPACE != 0 {
        Some(reader.string()?)
    } else {
        None
    };
    if flags & query_flag::NOW != 0 {
        return Err(Malformed::Invalid(
            "quench: not supported by the simulated cluster: a client's own time (now_in_seconds)".into(),
        ));
    }
    Ok(Tail {
        serial_consistency,
        timestamp_us,
        keyspace,
    })
}

fn read_params<'a>(reader: &mut Reader<'a>, version: u8) -> Result<Params<'a>, Malformed> {
    let consistency = reader.short()?;
    let flags = read_flags(reader, version)?;
    let named = flags & query_flag::NAMES != 0;
    let values = if flags & query_flag::VALUES != 0 {
        Values::read(reader, named)?
    } else {
        Values::none()
    };
    let page_size = if flags & query_flag::PAGE_SIZE != 0 {
        Some(reader.int()?)
    } else {
        None
    };
    let paging_state = if flags & query_flag::PAGING_STATE != 0 {
        reader.bytes()?
    } else {
        None
    };
    let tail = read_tail(reader, flags)?;
    Ok(Params {
        consistency,
        values,
        skip_metadata: flags & query_flag::SKIP_METADATA != 0,
        page_size,
        paging_state,
        serial_consistency: tail.serial_consistency,
        timestamp_us: tail.timestamp_us,
        keyspace: tail.keyspace,
    })
}

fn read_prepare_keyspace<'a>(reader: &mut Reader<'a>, version: u8) -> Result<Option<&'a str>, Malformed> {
    const WITH_KEYSPACE: i32 = 1;
    if version < v5::VERSION || reader.int()? & WITH_KEYSPACE == 0 {
        return Ok(None);
    }
    reader.string().map(Some)
}

impl<'a> Request<'a> {
    /// Reads the body of a request whose header is known.
    pub fn parse(header: &Header, body: &'a [u8]) -> Result<Self, Malformed> {
        if header.flags & flag::COMPRESSION != 0 {
            return Err(Malformed::Invalid(
                "compressed frame, but no compression was negotiated".into(),
            ));
        }
        let mut reader = Reader::new(body);
        if header.flags & flag::CUSTOM_PAYLOAD != 0 {
            reader.skip_bytes_map()?;
        }
        let Some(opcode) = Opcode::from_byte(header.opcode) else {
            return Err(Malformed::Invalid(format!("Unknown opcode {}", header.opcode)));
        };
        let request = match opcode {
            Opcode::Options => Request::Options,
            Opcode::AuthResponse => Request::AuthResponse(reader.bytes()?),
            Opcode::Startup => Request::Startup(reader.string_map()?),
            Opcode::Register => Request::Register(reader.string_list()?),
            Opcode::Query => Request::Query {
                text: reader.long_string()?,
                params: read_params(&mut reader, header.version)?,
            },
            Opcode::Prepare => Request::Prepare {
                text: reader.long_string()?,
                keyspace: read_prepare_keyspace(&mut reader, header.version)?,
            },
            Opcode::Execute => Request::Execute {
                id: reader.short_bytes()?,
                metadata_id: (header.version >= v5::VERSION)
                    .then(|| reader.short_bytes())
                    .transpose()?,
                params: read_params(&mut reader, header.version)?,
            },
            // Its statements are read, and its end is checked, by whoever executes it.
            Opcode::Batch => return Batch::parse(header.version, reader).map(Request::Batch),
            other => {
                return Err(Malformed::Invalid(format!(
                    "Unexpected message {}, it is not a request this server takes",
                    other.name()
                )));
            }
        };
        // What stands behind the parameters is not looked at (seen): a client may mean something by it.
        if !matches!(opcode, Opcode::Query | Opcode::Execute) {
            reader.finish(opcode.name())?;
        }
        Ok(request)
    }
}
