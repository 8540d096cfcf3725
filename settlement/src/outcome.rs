//! What is known after a request to the database: applied, not applied, or not known. Every error of the driver falls
//! into exactly one of these, and so does every error nobody has seen yet: it counts as not known.
//!
//! Nothing is decided here. What a design does about an indeterminate write is what tells the designs apart.

use std::fmt;

use scylla::errors::{BrokenConnectionError, DbError, ExecutionError, PrepareError, RequestAttemptError, WriteType};

/// What is known about one attempt to write.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Enough replicas said so. Whether it is durable is another question (see [`crate::durable`]).
    Applied,
    /// Certainly not: no replica was asked.
    NotApplied {
        /// What kept it from being.
        why: NotApplied,
        /// What the driver said.
        error: Box<ExecutionError>,
    },
    /// It may be applied now, later, in part until a replay completes it, or never.
    Indeterminate {
        /// What happened to the answer.
        why: Indeterminate,
        /// What the driver said.
        error: Box<ExecutionError>,
    },
}

/// Why a write certainly did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotApplied {
    /// The coordinator knew that too few replicas are up, and sent nothing.
    Unavailable,
    /// No connection to any node, so that nothing was sent.
    NoConnection,
    /// The request is wrong for this database: a table, a column, a permission or a size. Trying again changes
    /// nothing until a person does something.
    Rejected,
}

/// Why it is not known whether a write happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Indeterminate {
    /// The coordinator gave up waiting while writing the batchlog: the batch may or may not be replayed.
    BatchlogTimeout,
    /// The coordinator gave up waiting for replicas. A logged batch will be completed, at no stated time.
    WriteTimeout,
    /// A replica failed; others may have applied.
    WriteFailure,
    /// The client gave up waiting; the server carries on.
    RequestTimeout,
    /// The connection broke after the request was sent, or may have been.
    ConnectionBroken,
    /// The coordinator refused to go on: overloaded, starting, or failing inside. Some of it may have been sent.
    ServerError,
    /// An error this program does not know.
    Unknown,
}

impl Outcome {
    /// What the driver's answer means.
    #[must_use]
    pub fn of<T>(result: Result<T, ExecutionError>) -> Self {
        match result {
            Ok(_) => Self::Applied,
            Err(error) => match judge(&error) {
                Verdict::NotApplied(why) => Self::NotApplied {
                    why,
                    error: Box::new(error),
                },
                Verdict::Indeterminate(why) => Self::Indeterminate {
                    why,
                    error: Box::new(error),
                },
            },
        }
    }

    /// Whether the write is known to be applied.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }

    /// Whether the database did not take the request for what it is.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(
            self,
            Self::NotApplied {
                why: NotApplied::Rejected,
                ..
            }
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied => f.write_str("applied"),
            Self::NotApplied { why, error } => write!(f, "not applied ({}): {error}", why.as_str()),
            Self::Indeterminate { why, error } => write!(f, "not known to be applied ({}): {error}", why.as_str()),
        }
    }
}

impl NotApplied {
    /// Short, for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::NoConnection => "no_connection",
            Self::Rejected => "rejected",
        }
    }
}

impl Indeterminate {
    /// Short, for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BatchlogTimeout => "batchlog_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::WriteFailure => "write_failure",
            Self::RequestTimeout => "request_timeout",
            Self::ConnectionBroken => "connection_broken",
            Self::ServerError => "server_error",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NotApplied(NotApplied),
    Indeterminate(Indeterminate),
}

fn judge(error: &ExecutionError) -> Verdict {
    match error {
        ExecutionError::BadQuery(_) | ExecutionError::UseKeyspaceError(_) => Verdict::NotApplied(NotApplied::Rejected),
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => {
            Verdict::NotApplied(NotApplied::NoConnection)
        }
        ExecutionError::PrepareError(PrepareError::ConnectionPoolError(_)) => {
            Verdict::NotApplied(NotApplied::NoConnection)
        }
        ExecutionError::PrepareError(_) => Verdict::NotApplied(NotApplied::Rejected),
        ExecutionError::RequestTimeout(_) => Verdict::Indeterminate(Indeterminate::RequestTimeout),
        ExecutionError::LastAttemptError(attempt) => judge_attempt(attempt),
        _ => Verdict::Indeterminate(Indeterminate::Unknown),
    }
}

fn judge_attempt(error: &RequestAttemptError) -> Verdict {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            Verdict::NotApplied(NotApplied::Rejected)
        }
        // No stream id was free: the request never left.
        RequestAttemptError::UnableToAllocStreamId => Verdict::NotApplied(NotApplied::NoConnection),
        RequestAttemptError::BrokenConnectionError(broken) => judge_broken(broken),
        RequestAttemptError::DbError(error, _) => judge_db(error),
        _ => Verdict::Indeterminate(Indeterminate::Unknown),
    }
}

/// Whether the bytes had left cannot be told from the error, so a broken connection is never a definite answer.
fn judge_broken(_: &BrokenConnectionError) -> Verdict {
    Verdict::Indeterminate(Indeterminate::ConnectionBroken)
}

fn judge_db(error: &DbError) -> Verdict {
    match error {
        DbError::Unavailable { .. } => Verdict::NotApplied(NotApplied::Unavailable),
        DbError::WriteTimeout {
            write_type: WriteType::BatchLog,
            ..
        } => Verdict::Indeterminate(Indeterminate::BatchlogTimeout),
        DbError::WriteTimeout { .. } => Verdict::Indeterminate(Indeterminate::WriteTimeout),
        DbError::WriteFailure { .. } => Verdict::Indeterminate(Indeterminate::WriteFailure),
        DbError::Overloaded | DbError::IsBootstrapping | DbError::ServerError | DbError::TruncateError => {
            Verdict::Indeterminate(Indeterminate::ServerError)
        }
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::AlreadyExists { .. }
        | DbError::FunctionFailure { .. }
        | DbError::AuthenticationError
        | DbError::Unauthorized
        | DbError::ConfigError
        | DbError::ProtocolError => Verdict::NotApplied(NotApplied::Rejected),
        _ => Verdict::Indeterminate(Indeterminate::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::statement::Consistency;
    use std::time::Duration;

    fn db(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "text".into()))
    }

    fn write_timeout(write_type: WriteType) -> ExecutionError {
        db(DbError::WriteTimeout {
            consistency: Consistency::Quorum,
            received: 1,
            required: 2,
            write_type,
        })
    }

    #[test]
    fn only_what_certainly_sent_nothing_is_not_applied() {
        let unavailable = DbError::Unavailable {
            consistency: Consistency::Quorum,
            required: 2,
            alive: 1,
        };
        for (error, why) in [
            (db(unavailable), NotApplied::Unavailable),
            (db(DbError::Invalid), NotApplied::Rejected),
            (db(DbError::Unauthorized), NotApplied::Rejected),
            (ExecutionError::EmptyPlan, NotApplied::NoConnection),
        ] {
            assert_eq!(judge(&error), Verdict::NotApplied(why), "{error}");
        }
    }

    #[test]
    fn everything_else_is_indeterminate() {
        for (error, why) in [
            (write_timeout(WriteType::BatchLog), Indeterminate::BatchlogTimeout),
            (write_timeout(WriteType::Batch), Indeterminate::WriteTimeout),
            (write_timeout(WriteType::Simple), Indeterminate::WriteTimeout),
            (
                ExecutionError::RequestTimeout(Duration::from_secs(5)),
                Indeterminate::RequestTimeout,
            ),
            (db(DbError::Overloaded), Indeterminate::ServerError),
            (db(DbError::ServerError), Indeterminate::ServerError),
            (db(DbError::Other(0x4242)), Indeterminate::Unknown),
        ] {
            assert_eq!(judge(&error), Verdict::Indeterminate(why), "{error}");
        }
    }
}
