//! Errors as the CQL protocol knows them: a code, a text, and for some codes fields that drivers decide by. The texts
//! are those real servers were seen to send wherever they are known.

use super::frame::Malformed;
use super::parse::ParseError;
use thiserror::Error;

/// An ERROR response before it is written to the wire.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{:#06x} {message}", self.code())]
pub struct CqlError {
    /// What the client reads.
    pub message: String,
    /// The code with its fields.
    pub detail: Detail,
}

/// Error codes of protocol 4, section 9, with their extra fields. Consistency levels are raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// 0x0000: the server is at fault.
    Server,
    /// 0x000A: the request broke the protocol.
    Protocol,
    /// 0x0100: nobody may log in like that.
    BadCredentials,
    /// 0x1000: too few replicas are alive; nothing was written.
    Unavailable {
        /// Level that cannot be reached.
        consistency: u16,
        /// Replicas it needs.
        required: i32,
        /// Replicas thought alive.
        alive: i32,
    },
    /// 0x1001: the coordinator sheds load.
    Overloaded,
    /// 0x1002: the coordinator is starting.
    Bootstrapping,
    /// 0x1003: a truncation failed.
    Truncate,
    /// 0x1100: too few replicas answered a write in time.
    WriteTimeout {
        /// Level.
        consistency: u16,
        /// Answers received.
        received: i32,
        /// Answers needed.
        required: i32,
        /// `SIMPLE`, `BATCH`, `UNLOGGED_BATCH`, `BATCH_LOG`, …
        write_type: &'static str,
    },
    /// 0x1200: too few replicas answered a read in time.
    ReadTimeout {
        /// Level.
        consistency: u16,
        /// Answers received.
        received: i32,
        /// Answers needed.
        required: i32,
        /// Whether the replica asked for data answered.
        data_present: bool,
    },
    /// 0x1300: replicas failed a read.
    ReadFailure {
        /// Level.
        consistency: u16,
        /// Answers received.
        received: i32,
        /// Answers needed.
        required: i32,
        /// Replicas that failed.
        failures: i32,
        /// Whether the replica asked for data answered.
        data_present: bool,
    },
    /// 0x1500: replicas failed a write.
    WriteFailure {
        /// Level.
        consistency: u16,
        /// Answers received.
        received: i32,
        /// Answers needed.
        required: i32,
        /// Replicas that failed.
        failures: i32,
        /// As in [`Detail::WriteTimeout`].
        write_type: &'static str,
    },
    /// 0x2000: not CQL.
    Syntax,
    /// 0x2100: not allowed.
    Unauthorized,
    /// 0x2200: CQL that cannot be carried out.
    Invalid,
    /// 0x2300: a wrong option.
    Config,
    /// 0x2400: the keyspace or table is there already.
    AlreadyExists {
        /// Keyspace.
        keyspace: String,
        /// Table, empty for a keyspace.
        table: String,
    },
    /// 0x2500: no such prepared statement on this node.
    Unprepared {
        /// The id asked for.
        id: Vec<u8>,
    },
}

impl CqlError {
    /// The code on the wire.
    pub fn code(&self) -> i32 {
        match self.detail {
            Detail::Server => 0x0000,
            Detail::Protocol => 0x000A,
            Detail::BadCredentials => 0x0100,
            Detail::Unavailable { .. } => 0x1000,
            Detail::Overloaded => 0x1001,
            Detail::Bootstrapping => 0x1002,
            Detail::Truncate => 0x1003,
            Detail::WriteTimeout { .. } => 0x1100,
            Detail::ReadTimeout { .. } => 0x1200,
            Detail::ReadFailure { .. } => 0x1300,
            Detail::WriteFailure { .. } => 0x1500,
            Detail::Syntax => 0x2000,
            Detail::Unauthorized => 0x2100,
            Detail::Invalid => 0x2200,
            Detail::Config => 0x2300,
            Detail::AlreadyExists { .. } => 0x2400,
            Detail::Unprepared { .. } => 0x2500,
        }
    }

    /// 0x2200 with this text.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            detail: Detail::Invalid,
        }
    }

    /// 0x000A with this text.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            detail: Detail::Protocol,
        }
    }

    /// 0x2300 with this text.
    pub fn config(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            detail: Detail::Config,
        }
    }

    /// 0x0000 with this text.
    pub fn server(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            detail: Detail::Server,
        }
    }

    /// 0x2200 naming a feature that the simulated cluster does not have.
    pub fn unsupported(feature: impl Into<String>) -> Self {
        ParseError::Unsupported(feature.into()).into()
    }

    /// 0x2500 for `id`.
    pub fn unprepared(id: &[u8]) -> Self {
        let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            message: format!(
                "Prepared query with ID {hex} not found (either the query was not prepared on this host (maybe the \
                 host has been restarted?) or you have prepared too many queries and it has been evicted from the \
                 internal cache)"
            ),
            detail: Detail::Unprepared { id: id.to_vec() },
        }
    }

    /// 0x2400 for a keyspace or, with `table`, a table.
    pub fn already_exists(keyspace: &str, table: Option<&str>) -> Self {
        let message = match table {
            Some(t) => format!("Cannot add already existing table \"{t}\" to keyspace \"{keyspace}\""),
            None => format!("Cannot add existing keyspace \"{keyspace}\""),
        };
        let detail = Detail::AlreadyExists {
            keyspace: keyspace.into(),
            table: table.unwrap_or("").into(),
        };
        Self { message, detail }
    }
}

impl From<ParseError> for CqlError {
    fn from(error: ParseError) -> Self {
        let detail = match error {
            ParseError::Syntax(_) | ParseError::Grammar(_) => Detail::Syntax,
            ParseError::Invalid(_) | ParseError::Unsupported(_) => Detail::Invalid,
        };
        Self {
            message: error.to_string(),
            detail,
        }
    }
}

impl From<Malformed> for CqlError {
    fn from(error: Malformed) -> Self {
        Self::protocol(error.to_string())
    }
}
