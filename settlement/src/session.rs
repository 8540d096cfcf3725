//! The connection to the database: every setting of the driver that has a meaning for the books, explicit, with its
//! reason; and the errors of not getting a connection, told apart.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError, NewSessionError,
};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency as CqlConsistency;
use tokio::time::{Instant, sleep};

use crate::config::{Config, Consistency};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Nobody answers.
    #[error(
        "no node of the database can be reached ({nodes}; {attempts} attempts in {:.1} s): {source}. Check \
         `contact_points`, that the nodes are up, and that nothing on the way blocks the port; to wait longer, raise \
         `database.start_patience_ms`. Nothing was lost, the WAL is untouched",
        waited.as_secs_f64()
    )]
    Unreachable {
        /// What was tried.
        nodes: String,
        /// How often.
        attempts: u32,
        /// For how long.
        waited: Duration,
        /// What the driver says.
        source: Box<NewSessionError>,
    },
    /// The database does not let us in.
    #[error(
        "the database refuses user {user:?}: {source}. Set `credentials.user` and `credentials.password` (better: the \
         variable SETTLEMENT_CREDENTIALS__PASSWORD) to a user of this database"
    )]
    Refused {
        /// As whom.
        user: String,
        /// What the driver says.
        source: Box<NewSessionError>,
    },
}

impl Consistency {
    /// The driver's word for it.
    #[must_use]
    pub const fn to_cql(self) -> CqlConsistency {
        match self {
            Self::LocalQuorum => CqlConsistency::LocalQuorum,
            Self::Quorum => CqlConsistency::Quorum,
        }
    }
}

/// Connects, trying again for as long as the configuration says.
pub async fn connect(config: &Config) -> Result<Session, SessionError> {
    let patience = Duration::from_millis(config.database.start_patience_ms);
    let began = Instant::now();
    let mut pause = Duration::from_millis(config.retry.pause_min_ms);
    let pause_max = Duration::from_millis(config.retry.pause_max_ms);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match builder(config).build().await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        if is_refusal(&error) {
            let user = config
                .credentials
                .as_ref()
                .map_or("", |credentials| &credentials.user)
                .to_owned();
            return Err(SessionError::Refused {
                user,
                source: Box::new(error),
            });
        }
        let nodes = config.contact_points.join(", ");
        if began.elapsed() + pause > patience {
            return Err(SessionError::Unreachable {
                nodes,
                attempts,
                waited: began.elapsed(),
                source: Box::new(error),
            });
        }
        // Once: the error at the end counts the attempts.
        if attempts == 1 {
            tracing::warn!(target: "settlement", %nodes, %error, patience_ms = config.database.start_patience_ms,
                "the database cannot be reached; trying again until it answers or the patience ends");
        }
        sleep(pause).await;
        pause = (pause * 2).min(pause_max);
    }
}

fn builder(config: &Config) -> SessionBuilder {
    let profile = ExecutionProfile::builder()
        .consistency(config.consistency.to_cql())
        // No conditional writes anywhere (rule 2), so no serial consistency.
        .serial_consistency(None)
        // Longer than the server's own timeouts: its answer says what happened, our own only that we stopped waiting.
        .request_timeout(Some(Duration::from_millis(config.database.request_timeout_ms)))
        // The driver never retries by itself: its default policy retries `Unavailable` even of writes that are not
        // idempotent, and a retry that a design does not know of is an attempt it cannot count.
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        // To a replica first, and to another one next time: replicas are shuffled per request.
        .load_balancing_policy(DefaultPolicy::builder().token_aware(true).build())
        .build();
    let keepalive = Duration::from_millis(config.database.keepalive_ms);
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        // One connection to a node carries 32,768 requests at a time, far more than `in_flight_max`.
        .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::MIN))
        .connection_timeout(Duration::from_millis(config.database.connect_timeout_ms))
        // A node that dies without closing its connections is noticed by nothing but these.
        .keepalive_interval(keepalive)
        .keepalive_timeout(keepalive)
        // No timestamp generator: rows of the ledger name their own timestamps, and where they do not, the source's
        // design means the coordinator's clock. The driver's generator would read the wall clock here.
        // Routing needs the keyspace's replication and nothing of any other keyspace.
        .keyspaces_to_fetch([config.keyspace()])
        .fetch_full_schema_metadata(false)
        .tcp_nodelay(true);
    if let Some(credentials) = &config.credentials {
        builder = builder.user(&credentials.user, &credentials.password);
    }
    builder
}

/// Whether it is us that the database does not want, so that trying again is pointless.
fn is_refusal(error: &NewSessionError) -> bool {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
    })) = error
    else {
        return false;
    };
    matches!(
        setup.get_error(),
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::Unauthorized, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication
    )
}
