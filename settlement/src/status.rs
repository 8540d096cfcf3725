//! `settlement status`: what the database says about a stream, without touching anything. The numbers of a running
//! service are in its metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use settlement_events::OutputSequence;

use crate::checkpoint::Checkpoints;
use crate::config::{Config, DesignName};
use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::designs::prepare::Preparer;
use crate::durable::Probe;
use crate::error::ServeError;
use crate::foreign;
use crate::probe;
use crate::session;
use crate::wal::Position;

/// A refused event beyond the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which event.
    pub sequence: OutputSequence,
    /// Why.
    pub letter: DeadLetter,
    /// The reason of the operator's decision to skip it, if there is one.
    pub skipped: Option<String>,
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which stream.
    pub stream: String,
    /// In which keyspace.
    pub keyspace: String,
    /// For which design.
    pub design: DesignName,
    /// The durable checkpoint.
    pub checkpoint: Option<Position>,
    /// The nodes, and which processes they are.
    pub nodes: Probe,
    /// The refused events beyond the checkpoint, as far as its bucket and the next one reach.
    pub refused: Vec<Refused>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "stream      {} -> keyspace {} (design {})",
            self.stream, self.keyspace, self.design
        )?;
        match &self.checkpoint {
            Some(at) => writeln!(
                f,
                "durable     event {} of epoch {}, digest {:.16}",
                at.seq, at.epoch, at.digest
            )?,
            None => writeln!(f, "durable     nothing yet: there is no checkpoint")?,
        }
        let asked = self
            .nodes
            .nodes
            .values()
            .filter(|generation| generation.is_some())
            .count();
        writeln!(f, "nodes       {asked} of {} answer", self.nodes.nodes.len())?;
        for (node, generation) in &self.nodes.nodes {
            let generation = generation.map_or("does not answer".to_owned(), |number| format!("generation {number}"));
            writeln!(f, "            {node:032x}  {generation}")?;
        }
        if self.refused.is_empty() {
            return write!(f, "refused     none");
        }
        writeln!(f, "refused     {}", self.refused.len())?;
        for Refused {
            sequence,
            letter,
            skipped,
        } in &self.refused
        {
            writeln!(f, "            event {sequence}  {}: {}", letter.code, letter.detail)?;
            match skipped {
                Some(reason) => writeln!(f, "                skipped: {reason}")?,
                None => writeln!(f, "                waits: settlement skip {sequence} --reason …")?,
            }
        }
        Ok(())
    }
}

/// Reads it all.
pub async fn status(config: &Config) -> Result<Status, ServeError> {
    config.validate()?;
    let session = Arc::new(session::connect(config).await?);
    let defs: Arc<[_]> = schema::check(&session, &config.target()).await?.into();
    let preparer = Preparer {
        session: &session,
        keyspace: config.keyspace(),
        defs: &defs,
    };
    let checkpoints = Checkpoints::prepare(session.clone(), preparer, &config.stream, config.generation).await?;
    foreign::check(&session, config, &defs).await?;
    let checkpoint = checkpoints.read().await?;
    let after = checkpoint.map_or(OutputSequence(0), |at| at.seq);
    let store = DeadLetters::new(session.clone(), config.keyspace(), defs.clone(), config.generation);
    let until = OutputSequence(after.0.saturating_add(schema::keys::BUCKET_SEQUENCES));
    let mut refused = Vec::new();
    for (sequence, letter) in store.read(after, until).await?.split_off(&OutputSequence(after.0 + 1)) {
        let skipped = store.read_skip(sequence).await?.map(|skip| skip.reason);
        refused.push(Refused {
            sequence,
            letter,
            skipped,
        });
    }
    let nodes = probe::ask_all(session, Duration::from_millis(config.durable.probe_timeout_ms)).await;
    Ok(Status {
        stream: config.stream.clone(),
        keyspace: config.keyspace().to_owned(),
        design: config.design,
        checkpoint,
        nodes,
        refused,
    })
}
