//! `settlement skip SEQ --reason …`: an operator's decision that a refused event is passed over, recorded for ever. The
//! running service finds it and goes on; nothing else ever passes a refused event.

use std::fmt;
use std::sync::Arc;

use settlement_events::{Digest, OutputSequence};

use crate::config::{Config, ConfigError};
use crate::dead_letters::{DeadLetter, DeadLetterError, DeadLetters, Skip};
use crate::foreign::{self, ForeignError};
use crate::session::{self, SessionError};

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which event.
    pub sequence: OutputSequence,
    /// Why it had been refused.
    pub letter: DeadLetter,
    /// Whether the same decision stood there already.
    pub stood_already: bool,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sequence,
            letter,
            stood_already,
        } = self;
        let said = if *stood_already { "stood already" } else { "is recorded" };
        write!(
            f,
            "the decision to skip event {sequence} ({}: {}) {said}; a running settlement follows it within its \
             retry.skip_poll_ms",
            letter.code, letter.detail
        )
    }
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkipError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The keyspace is not the one expected.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// The rows of the keyspace are not ours.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The tables cannot be read or written.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// No reason was given.
    #[error("say why: --reason \"…\"; it is recorded with the decision and cannot be changed later")]
    NoReason,
    /// The event is not refused.
    #[error(
        "event {sequence} is not refused: only an event in dead_letters can be skipped. `settlement status` lists \
         them; an event that is merely late or stalled is tried until it succeeds"
    )]
    NotRefused {
        /// Which event.
        sequence: OutputSequence,
    },
    /// Another decision stands.
    #[error("event {sequence} is skipped already, for another reason: {reason:?}; the first decision stands")]
    Decided {
        /// Which event.
        sequence: OutputSequence,
        /// The reason recorded.
        reason: String,
    },
    /// A decision stands that names another content, which nobody follows.
    #[error(
        "event {sequence} has a decision in skips already, about another content (digest {theirs:.16}…; refused is \
         {ours:.16}…): it is not followed, and the first decision stands. The same event was refused twice, each time \
         with other words: find out which engine sent which before anything else"
    )]
    OtherContent {
        /// Which event.
        sequence: OutputSequence,
        /// What the decision names.
        theirs: Digest,
        /// What is refused.
        ours: Digest,
    },
}

/// Records the decision. Doing it twice with the same reason changes nothing.
pub async fn skip(config: &Config, sequence: OutputSequence, reason: &str) -> Result<Skipped, SkipError> {
    config.validate()?;
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(SkipError::NoReason);
    }
    let store = open(config).await?;
    let letter = store
        .read(sequence, sequence)
        .await?
        .remove(&sequence)
        .ok_or(SkipError::NotRefused { sequence })?;
    let decision = Skip {
        reason: reason.to_owned(),
        digest: letter.digest,
    };
    let stands = store.read_skip(sequence).await?;
    let stood_already = stands.is_some();
    match stands {
        Some(other) if other.digest != decision.digest => {
            return Err(SkipError::OtherContent {
                sequence,
                theirs: other.digest,
                ours: decision.digest,
            });
        }
        Some(other) if other != decision => {
            return Err(SkipError::Decided {
                sequence,
                reason: other.reason,
            });
        }
        Some(_) => {}
        None => store.write_skip(sequence, &decision).await?,
    }
    Ok(Skipped {
        sequence,
        letter,
        stood_already,
    })
}

/// Connects to the tables of refused events.
async fn open(config: &Config) -> Result<DeadLetters, SkipError> {
    let session = Arc::new(session::connect(config).await?);
    let defs = schema::check(&session, &config.target()).await?;
    foreign::check(&session, config, &defs).await?;
    Ok(DeadLetters::new(
        session,
        config.keyspace(),
        defs.into(),
        config.generation,
    ))
}
