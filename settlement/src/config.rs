//! What settlement is told: a TOML file, overridden by `SETTLEMENT_…` variables, or the same built in code. Every value
//! has a default where one makes sense, a stated bound and a reason; [`Config::validate`] checks them all at once,
//! so that a wrong one stops the program before it touches anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
pub use schema::DesignName;
use schema::Generation;
use serde::{Deserialize, Serialize};
use settlement_events::{Epoch, Registry};

use crate::designs::group;
use crate::pipeline::in_flight::Bounds;
use crate::wal::{Position, WalConfig, WalError};

/// The prefix of environment variables; `__` separates levels: `SETTLEMENT_DURABLE__SLACK_MS`.
pub const ENV_PREFIX: &str = "SETTLEMENT_";

/// Everything settlement needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How events become rows.
    #[serde(default)]
    pub design: DesignName,
    /// Some nodes of the database, `host:port`. One that answers is enough to find the others.
    pub contact_points: Vec<String>,
    /// The keyspace; without one, the design's own.
    #[serde(default)]
    pub keyspace: Option<String>,
    /// How many copies of every row a data centre keeps: `settlement migrate` creates the keyspace with so many, and
    /// nothing is written to a keyspace with fewer.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: u8,
    /// Who settlement is to the database; without it, no authentication.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Whose answers make a write acknowledged.
    #[serde(default)]
    pub consistency: Consistency,
    /// The matching engine's PUB socket, `tcp://host:port`.
    pub publish_addr: String,
    /// Its REP socket for head and replay.
    pub replay_addr: String,
    /// The name of the stream: the checkpoint and the WAL carry it.
    #[serde(default = "default_stream")]
    pub stream: String,
    /// The life of the stream that is settled.
    #[serde(default = "default_epoch")]
    pub epoch: Epoch,
    /// The generation of the rows: raised only by an authorised repair or a new row format.
    #[serde(default)]
    pub generation: Generation,
    /// Where the WAL is.
    pub data_dir: PathBuf,
    /// Assets, symbols, fee accounts.
    pub registry: Registry,
    /// Where `GET /metrics` and `GET /health` answer, `host:port`; without it, nowhere.
    #[serde(default)]
    pub metrics_addr: Option<String>,
    /// Queues and caches.
    #[serde(default)]
    pub limits: Limits,
    /// The write-ahead log.
    #[serde(default)]
    pub wal: WalLimits,
    /// Requests to the database.
    #[serde(default)]
    pub database: Database,
    /// Retries.
    #[serde(default)]
    pub retry: Retry,
    /// Rule 8.
    #[serde(default)]
    pub durable: Durable,
    /// Patience with the feed.
    #[serde(default)]
    pub feed: FeedLimits,
}

/// A user of the database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password. Better in `SETTLEMENT_CREDENTIALS__PASSWORD` than in a file.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Whose answers make a write acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// A majority of the replicas in the data centre that is asked. Right for one data centre, and for several when
    /// all writers and readers that matter are in one.
    #[default]
    LocalQuorum,
    /// A majority of all replicas, wherever they are.
    Quorum,
}

/// The bounds of queues and caches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most batches in flight at once, 1 to 4096. A node works on them in parallel, so this is what throughput is
    /// bought with; how many there are within these bounds follows the database's answers
    /// ([`crate::pipeline::in_flight`]). 256 answered in 5 ms each are 50,000 events a second. Designs that settle one
    /// event at a time ignore it.
    pub in_flight_max: usize,
    /// The fewest, 1 to 4096: what a database that is slow or coming back still gets. More than `in_flight_max` counts
    /// as that.
    pub in_flight_min: usize,
    /// Where it begins, 1 to 4096, between the two: enough for a healthy database, and no flood for one that is not.
    pub in_flight_initial: usize,
    /// Batches that take longer on average wait behind each other, 1 to 60,000: then there are to be fewer in flight.
    /// An order of magnitude above what an idle database takes, and far below its own timeout (2 s).
    pub in_flight_quick_ms: u64,
    /// The most events that share a batch, 1 to 64; events that are ready at the same moment do
    /// ([`crate::designs::group`]). 1: each goes alone.
    pub batch_events_max: usize,
    /// The most that several events in one batch weigh by the database's own count, bytes, 1,024 to 1,048,576. What the
    /// database warns at, if that is less: it is asked for ([`crate::batch_limit`]); Scylla's default is 128 KiB, Cassandra's
    /// 5 KiB, which is one trade. Beyond 32 KiB little more is shared, and more has to be sent again after a timeout.
    pub batch_bytes_max: usize,
    /// Events in memory that wait for a place in flight, 1 to 1,000,000. What does not fit waits in the WAL and is
    /// read back.
    pub ready_max: usize,
    /// How far past a gap events still go on settling, 1 to 1,000,000 (rule 6).
    pub ahead_max: u64,
    /// Accounts, and as many orders, that verification remembers, 2 to 10,000,000 (rule 5); about 100 bytes each.
    pub verify_entries_max: usize,
    /// Old duplicates compared with the database at once, 1 to 1,000; beyond it they are dropped and counted.
    pub lookups_max: usize,
}

/// The bounds of the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WalLimits {
    /// A segment file is closed above this size, 64 KiB to 1 GiB.
    pub segment_bytes: u32,
    /// The bound of the whole log. It must cover the longest outage of the database that is to be survived without
    /// replay: rate x outage x about 500 bytes a trade.
    pub max_bytes: u64,
    /// What one fsync covers at most, 16 KiB up to a segment.
    pub group_bytes_max: u32,
    /// What to do with records that were durable once and are damaged now.
    pub on_damage: OnDamage,
    /// The pause after a sync that failed, 1 to 60,000.
    pub retry_ms: u64,
}

/// What to do with a damaged log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDamage {
    /// Stop, and say which file at which place.
    #[default]
    Refuse,
    /// Go on without the damaged records and fetch the events again (rule 10).
    SetAside,
}

/// Requests to the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// The client's patience with one request. Longer than the server's own write timeout (2 s), so that the server's
    /// answer, which says more, is heard.
    pub request_timeout_ms: u64,
    /// How long opening a connection may take.
    pub connect_timeout_ms: u64,
    /// A connection is asked for a sign of life so often, and given as long again to answer. A node that is silent
    /// without closing its connections is noticed by nothing else: a frozen node holds up a start for twice this long, because
    /// the driver waits for its first connection to every node, and the time it gives a connection does not cover the
    /// server's greeting. Much shorter, and a node's pause for collecting garbage costs its connections.
    pub keepalive_ms: u64,
    /// How long start-up goes on trying to reach the database before it says that it cannot.
    pub start_patience_ms: u64,
}

/// Retries: bounded in rate and, by `in_flight_max`, in concurrency; never in number (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The pause after the first failed attempt; doubles.
    pub pause_min_ms: u64,
    /// Where that ends.
    pub pause_max_ms: u64,
    /// After so many failed attempts an event counts as stalled, and a person is paged.
    pub stalled_after: u32,
    /// How often the database is asked whether an operator has said to skip a refused event.
    pub skip_poll_ms: u64,
}

/// Rule 8: when an acknowledged event is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Durable {
    /// The database's `commitlog_sync_period`.
    pub sync_period_ms: u64,
    /// How much later than that a node's sync may be and still be within the fault budget.
    pub slack_ms: u64,
    /// The shortest time between two rounds of asking the nodes.
    pub probe_interval_ms: u64,
    /// How long one node is given to answer.
    pub probe_timeout_ms: u64,
}

/// Patience with the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedLimits {
    /// Events that one replay asks for.
    pub replay_chunk: u64,
    /// How long a replay may take at first; doubles.
    pub replay_timeout_ms: u64,
    /// Without any message for so long the feed is connected anew. A few heartbeats' time.
    pub silence_ms: u64,
    /// The longest pause between two questions for the same events.
    pub backoff_max_ms: u64,
}

impl Limits {
    /// What the number of batches in flight may be.
    #[must_use]
    pub const fn in_flight(&self) -> Bounds {
        Bounds {
            min: self.in_flight_min,
            initial: self.in_flight_initial,
            max: self.in_flight_max,
            quick: Duration::from_millis(self.in_flight_quick_ms),
        }
    }

    /// What may share a batch on a database that warns above so many bytes.
    #[must_use]
    pub fn group(&self, warned_bytes: usize) -> group::Bounds {
        group::Bounds {
            events: self.batch_events_max,
            bytes: self.batch_bytes_max.min(warned_bytes),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            in_flight_min: 4,
            in_flight_initial: 16,
            in_flight_quick_ms: 50,
            batch_events_max: 16,
            batch_bytes_max: 32 << 10,
            ready_max: 4_096,
            ahead_max: 4_096,
            verify_entries_max: 100_000,
            lookups_max: 64,
        }
    }
}

impl Default for WalLimits {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            max_bytes: 1 << 30,
            group_bytes_max: 1 << 20,
            on_damage: OnDamage::Refuse,
            retry_ms: 100,
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            request_timeout_ms: 5_000,
            connect_timeout_ms: 2_000,
            keepalive_ms: 2_000,
            start_patience_ms: 30_000,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            pause_min_ms: 20,
            pause_max_ms: 2_000,
            stalled_after: 10,
            skip_poll_ms: 5_000,
        }
    }
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            sync_period_ms: 10_000,
            slack_ms: 2_000,
            probe_interval_ms: 2_000,
            probe_timeout_ms: 2_000,
        }
    }
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            replay_chunk: 512,
            replay_timeout_ms: 500,
            silence_ms: 1_000,
            backoff_max_ms: 1_000,
        }
    }
}

fn default_replication_factor() -> u8 {
    3
}

fn default_stream() -> String {
    "me".to_owned()
}

fn default_epoch() -> Epoch {
    Epoch(1)
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(String),
    /// A value that cannot be.
    #[error("{}", list(.0))]
    Invalid(Vec<String>),
}

fn list(problems: &[String]) -> String {
    format!("the configuration is not usable:\n  - {}", problems.join("\n  - "))
}

impl Config {
    /// The least one has to say, and defaults for the rest.
    #[must_use]
    pub fn new(
        contact_points: Vec<String>,
        publish_addr: impl Into<String>,
        replay_addr: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        registry: Registry,
    ) -> Self {
        Self {
            design: DesignName::default(),
            contact_points,
            keyspace: None,
            replication_factor: default_replication_factor(),
            credentials: None,
            consistency: Consistency::default(),
            publish_addr: publish_addr.into(),
            replay_addr: replay_addr.into(),
            stream: default_stream(),
            epoch: default_epoch(),
            generation: Generation::FIRST,
            data_dir: data_dir.into(),
            registry,
            metrics_addr: None,
            limits: Limits::default(),
            wal: WalLimits::default(),
            database: Database::default(),
            retry: Retry::default(),
            durable: Durable::default(),
            feed: FeedLimits::default(),
        }
    }

    /// Reads a TOML file, then `SETTLEMENT_…` variables over it, then `over` (what the command line said), and
    /// validates the result.
    pub fn load(file: &Path, over: impl Serialize) -> Result<Self, ConfigError> {
        if !file.is_file() {
            let text = format!(
                "{} is not a file: name the configuration with --config FILE",
                file.display()
            );
            return Err(ConfigError::Unreadable(text));
        }
        let figment = Figment::new()
            .merge(Toml::file_exact(file))
            .merge(Env::prefixed(ENV_PREFIX).split("__"))
            .merge(Serialized::defaults(over));
        Self::from_figment(&figment).map_err(|error| match error {
            ConfigError::Unreadable(text) => ConfigError::Unreadable(format!("{}: {text}", file.display())),
            invalid => invalid,
        })
    }

    /// These values instead of a file; `SETTLEMENT_…` variables and `over` count as they do in [`Self::load`].
    pub fn load_over(defaults: &Self, over: impl Serialize) -> Result<Self, ConfigError> {
        let figment = Figment::new()
            .merge(Serialized::defaults(defaults))
            .merge(Env::prefixed(ENV_PREFIX).split("__"))
            .merge(Serialized::defaults(over));
        Self::from_figment(&figment)
    }

    /// Reads the TOML form, and validates it.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_figment(&Figment::new().merge(Toml::string(text)))
    }

    fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        let config: Self = figment.extract().map_err(|errors| {
            let texts: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
            ConfigError::Unreadable(texts.join("; "))
        })?;
        config.validate()?;
        Ok(config)
    }

    /// The keyspace that is used.
    #[must_use]
    pub fn keyspace(&self) -> &str {
        self.keyspace
            .as_deref()
            .unwrap_or_else(|| self.design.default_keyspace())
    }

    /// What the keyspace must be.
    #[must_use]
    pub fn target(&self) -> schema::Target<'_> {
        schema::Target {
            design: self.design,
            keyspace: self.keyspace(),
            replication_factor: self.replication_factor,
            registry: &self.registry,
        }
    }

    /// The sync period plus slack of rule 8.
    #[must_use]
    pub fn settle_time(&self) -> Duration {
        Duration::from_millis(self.durable.sync_period_ms.saturating_add(self.durable.slack_ms))
    }

    /// How the log is opened, when the database says that the stream is durable up to `start`.
    #[must_use]
    pub const fn wal_config(&self, start: Position) -> WalConfig {
        WalConfig {
            start,
            segment_bytes: self.wal.segment_bytes,
            max_bytes: self.wal.max_bytes,
            group_bytes_max: self.wal.group_bytes_max,
            on_damage: match self.wal.on_damage {
                OnDamage::Refuse => crate::wal::OnDamage::Refuse,
                OnDamage::SetAside => crate::wal::OnDamage::SetAside,
            },
        }
    }

    /// Checks every value; the error lists all that are wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        problems.require(!self.contact_points.is_empty(), || {
            "contact_points is empty: name at least one node".into()
        });
        for (name, address) in [("publish_addr", &self.publish_addr), ("replay_addr", &self.replay_addr)] {
            problems.require(address.starts_with("tcp://"), || {
                format!("{name} = {address:?}: write tcp://host:port")
            });
        }
        problems.require(!self.stream.is_empty() && self.stream.len() <= 255, || {
            format!("stream = {:?}: 1 to 255 bytes", self.stream)
        });
        problems.require(!self.registry.symbols().is_empty(), || "registry has no symbols".into());
        problems.within("replication_factor", self.replication_factor, 1, u8::MAX);
        let statements = schema::ddl(
            self.design,
            self.keyspace(),
            self.replication_factor.max(1),
            &self.registry,
        );
        if let Err(error) = statements {
            problems.require(false, || format!("keyspace or registry: {error}"));
        }
        self.validate_limits(&mut problems);
        self.validate_times(&mut problems);
        problems.into_result()
    }

    fn validate_limits(&self, problems: &mut Problems) {
        let limits = &self.limits;
        problems.within("limits.in_flight_max", limits.in_flight_max, 1, 4_096);
        problems.within("limits.in_flight_min", limits.in_flight_min, 1, 4_096);
        problems.within("limits.in_flight_initial", limits.in_flight_initial, 1, 4_096);
        problems.within("limits.in_flight_quick_ms", limits.in_flight_quick_ms, 1, 60_000);
        problems.within("limits.batch_events_max", limits.batch_events_max, 1, 64);
        problems.within("limits.batch_bytes_max", limits.batch_bytes_max, 1_024, 1 << 20);
        problems.within("limits.ready_max", limits.ready_max, 1, 1_000_000);
        problems.within("limits.ahead_max", limits.ahead_max, 1, 1_000_000);
        problems.within("limits.verify_entries_max", limits.verify_entries_max, 2, 10_000_000);
        problems.within("limits.lookups_max", limits.lookups_max, 1, 1_000);
        problems.within("feed.replay_chunk", self.feed.replay_chunk, 1, 100_000);
        problems.within("wal.retry_ms", self.wal.retry_ms, 1, 60_000);
        // The log knows how large an event may be, wherever it begins.
        let log = self.wal_config(Position::start_of(Epoch(0)));
        if let Err(WalError::Config(why)) = log.check() {
            problems.require(false, || format!("wal.{why}"));
        }
    }

    fn validate_times(&self, problems: &mut Problems) {
        const DAY_MS: u64 = 86_400_000;
        problems.within(
            "database.request_timeout_ms",
            self.database.request_timeout_ms,
            1,
            DAY_MS,
        );
        problems.within(
            "database.connect_timeout_ms",
            self.database.connect_timeout_ms,
            1,
            DAY_MS,
        );
        problems.within("database.keepalive_ms", self.database.keepalive_ms, 1, DAY_MS);
        problems.within(
            "database.start_patience_ms",
            self.database.start_patience_ms,
            0,
            365 * DAY_MS,
        );
        problems.within(
            "retry.pause_min_ms",
            self.retry.pause_min_ms,
            1,
            self.retry.pause_max_ms,
        );
        problems.within("retry.pause_max_ms", self.retry.pause_max_ms, 1, DAY_MS);
        problems.within("retry.skip_poll_ms", self.retry.skip_poll_ms, 1, DAY_MS);
        problems.within("durable.sync_period_ms", self.durable.sync_period_ms, 0, DAY_MS);
        problems.within("durable.slack_ms", self.durable.slack_ms, 1, DAY_MS);
        problems.within("durable.probe_interval_ms", self.durable.probe_interval_ms, 1, DAY_MS);
        problems.within("durable.probe_timeout_ms", self.durable.probe_timeout_ms, 1, DAY_MS);
        problems.within("feed.replay_timeout_ms", self.feed.replay_timeout_ms, 1, DAY_MS);
        problems.within("feed.silence_ms", self.feed.silence_ms, 1, DAY_MS);
        problems.within("feed.backoff_max_ms", self.feed.backoff_max_ms, 1, DAY_MS);
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, name: &str, value: T, min: T, max: T) {
        self.require(min <= value && value <= max, || {
            format!("{name} = {value}: must be {min} to {max}")
        });
    }

    fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        let nodes = vec!["10.0.1.1:9042".to_owned()];
        Config::new(
            nodes,
            "tcp://10.0.2.1:5556",
            "tcp://10.0.2.1:5557",
            "data",
            Registry::example(),
        )
    }

    fn toml_of(config: &Config) -> String {
        toml::to_string(config).expect("plain tables")
    }

    #[test]
    fn the_defaults_are_valid_and_survive_toml() {
        let config = example();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(Config::from_toml(&toml_of(&config)), Ok(config.clone()));
        assert_eq!(config.keyspace(), "trading");
        assert_eq!(config.settle_time(), Duration::from_secs(12));
    }

    #[test]
    fn the_example_file_is_valid() {
        let config = Config::from_toml(include_str!("../settlement.example.toml")).expect("is valid");
        assert_eq!(config.registry.symbols().len(), 3);
        assert_eq!(config.durable, Durable::default());
    }

    #[test]
    fn all_wrong_values_are_told_at_once() {
        let mut config = example();
        config.contact_points.clear();
        config.publish_addr = "10.0.2.1:5556".into();
        config.limits.in_flight_max = 0;
        config.durable.slack_ms = 0;
        config.retry.pause_min_ms = 5_000;
        config.wal.max_bytes = 4_096;
        insta::assert_snapshot!(config.validate().expect_err("must be refused"));
    }

    #[test]
    fn a_batch_is_never_larger_than_what_the_database_takes_without_a_warning() {
        let limits = Limits::default();
        for (warned_bytes, bytes) in [(5_120, 5_120), (128 << 10, limits.batch_bytes_max)] {
            let expected = group::Bounds {
                events: limits.batch_events_max,
                bytes,
            };
            assert_eq!(limits.group(warned_bytes), expected);
        }
    }

    #[test]
    fn a_misspelt_name_and_an_unknown_design_are_told() {
        let text = toml_of(&example()).replace("[limits]", "[limits]\nin_flite_max = 3");
        let error = Config::from_toml(&text).expect_err("must be refused").to_string();
        assert!(error.contains("in_flite_max"), "{error}");
        let text = toml_of(&example()).replace("design = \"ledger\"", "design = \"ledgr\"");
        let error = Config::from_toml(&text).expect_err("must be refused").to_string();
        assert!(error.contains("ledgr") && error.contains("logged-rmw"), "{error}");
    }

    #[test]
    fn a_password_is_not_printed() {
        let credentials = Credentials {
            user: "settlement".into(),
            password: "secret".into(),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
