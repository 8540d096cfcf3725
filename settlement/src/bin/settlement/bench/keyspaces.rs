//! The keyspaces of a bench: created by it, filled by it, dropped by it. One that is there already is somebody's, and is
//! refused; what cannot be dropped is named.

use std::sync::Arc;

use schema::{SchemaError, Target};
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use settlement::{Config, DesignName};

use super::error::BenchError;

/// Every keyspace of a bench begins like this.
const PREFIX: &str = "quench_bench_";

/// What this run created, and has not dropped yet.
pub struct Keyspaces {
    session: Arc<Session>,
    created: Vec<String>,
    /// Its creation was not answered yet.
    creating: Option<String>,
}

/// The keyspace of a design.
pub fn name_of(design: DesignName) -> String {
    format!("{PREFIX}{}", design.as_str().replace('-', "_"))
}

impl Keyspaces {
    /// None yet.
    pub const fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            created: Vec::new(),
            creating: None,
        }
    }

    /// Creates the keyspace of a design with its tables.
    pub async fn create(&mut self, config: &Config, design: DesignName, copies: u8) -> Result<String, BenchError> {
        let keyspace = name_of(design);
        self.creating = Some(keyspace.clone());
        let statement = format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': \
             {copies}}}"
        );
        // Without IF NOT EXISTS: that it was not there is what makes it ours to drop.
        let created = self.session.query_unpaged(statement, ()).await;
        match created {
            Ok(_) => {}
            Err(error) => {
                if is_answer(&error) {
                    self.creating = None;
                }
                return Err(if exists(&error) {
                    BenchError::KeyspaceExists { keyspace }
                } else {
                    let source = Box::new(error);
                    BenchError::KeyspaceRefused { keyspace, source }
                });
            }
        }
        self.creating = None;
        self.created.push(keyspace.clone());
        let target = Target {
            design,
            keyspace: &keyspace,
            replication_factor: copies,
            registry: &config.registry,
        };
        match schema::migrate(&self.session, &target).await {
            Ok(_) => Ok(keyspace),
            Err(source) if is_refusal(&source) => Err(BenchError::Unsupported {
                design,
                source: Box::new(source),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops one keyspace of this run.
    pub async fn drop_one(&mut self, keyspace: &str) -> Result<(), ExecutionError> {
        self.session
            .query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ())
            .await?;
        self.created.retain(|created| created != keyspace);
        Ok(())
    }

    /// Drops what is left. Those that cannot be dropped, each with the reason.
    pub async fn drop_all(&mut self) -> Vec<String> {
        let mut remaining = Vec::new();
        for keyspace in self.created.clone() {
            if let Err(error) = self.drop_one(&keyspace).await {
                remaining.push(format!("keyspace {keyspace} remains: {error}"));
            }
        }
        if let Some(keyspace) = self.creating.take() {
            remaining.push(format!(
                "keyspace {keyspace} may remain: this ended before its creation was answered"
            ));
        }
        remaining
    }

    /// What this run created and has not dropped.
    pub fn names(&self) -> &[String] {
        &self.created
    }
}

/// Whether the database itself said no, so that nothing was done.
fn is_answer(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::AlreadyExists { .. }
                | DbError::Unauthorized
                | DbError::Invalid
                | DbError::ConfigError
                | DbError::SyntaxError,
            _
        ))
    )
}

fn exists(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::AlreadyExists { .. }, _))
    )
}

/// Whether the server does not have such tables, so that trying again changes nothing.
fn is_refusal(error: &SchemaError) -> bool {
    let SchemaError::Statement { source, .. } = error else {
        return false;
    };
    matches!(
        **source,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid | DbError::ConfigError | DbError::SyntaxError,
            _
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_design_has_a_keyspace_of_its_own_which_no_service_uses() {
        for design in DesignName::ALL {
            let name = name_of(*design);
            assert!(name.starts_with(PREFIX) && name != design.default_keyspace());
            assert!(schema::ddl(*design, &name, 1, &settlement_events::Registry::example()).is_ok());
        }
    }
}
