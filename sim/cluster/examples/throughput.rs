//! Simple writes and reads per second of several servers, side by side in one run: they take turns, round by round, so that
//! a noisy machine is noisy for all of them. `ci/throughput` runs it on scylla-sim and on one node of a real Cassandra.
//!
//! `throughput NAME=HOST:PORT [NAME=HOST:PORT ...]`: the first is measured against each of the others. It makes the keyspace
//! `quench_throughput` on each server and drops it.
//!
//! The last lines are for scripts: `KIND: FIRST : OTHER = RATIO (by round: …)`. A ratio is that of the medians.

#[cfg(madsim)]
fn main() {
    eprintln!("this example measures the production world: cargo run --release -p sim-cluster --example throughput");
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    measured::run("throughput", measure::all())
}

#[cfg(not(madsim))]
mod measured;

#[cfg(not(madsim))]
mod measure {
    use crate::measured::Failure;
    use scylla::client::execution_profile::ExecutionProfile;
    use scylla::client::session::Session;
    use scylla::client::session_builder::SessionBuilder;
    use scylla::statement::Consistency;
    use scylla::statement::prepared::PreparedStatement;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;
    use tokio::time::Instant;

    /// Requests under way at a time; enough for both servers to be busy all the time.
    const IN_FLIGHT: usize = 64;
    /// Rows that are written, again and again, and read.
    const KEYS: i64 = 100_000;
    /// Bytes of a row's value.
    const VALUE_BYTES: usize = 100;
    /// Of each kind on each server before anything counts: compilers of the JVM need it.
    const WARM_UP: Duration = Duration::from_secs(12);
    /// One turn of one kind on one server.
    const TURN: Duration = Duration::from_secs(3);
    const ROUNDS: usize = 7;

    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Write,
        Read,
    }

    impl Kind {
        fn name(self) -> &'static str {
            match self {
                Kind::Write => "writes",
                Kind::Read => "reads",
            }
        }
    }

    struct Server {
        name: String,
        session: Session,
        insert: PreparedStatement,
        select: PreparedStatement,
        next_key: AtomicI64,
    }

    /// What one turn did.
    struct Turn {
        per_s: f64,
        latencies_us: Vec<u32>,
    }

    pub async fn all() -> Result<(), Failure> {
        let mut servers = Vec::new();
        for argument in std::env::args().skip(1) {
            let (name, address) = argument
                .split_once('=')
                .ok_or_else(|| format!("{argument}: NAME=HOST:PORT is wanted"))?;
            servers.push(Arc::new(connect(name, address).await?));
        }
        if servers.len() < 2 {
            return Err("at least two servers are wanted, as NAME=HOST:PORT".into());
        }
        for kind in [Kind::Write, Kind::Read] {
            side_by_side(&servers, kind).await?;
        }
        for server in &servers {
            server
                .session
                .query_unpaged("DROP KEYSPACE quench_throughput", ())
                .await?;
        }
        Ok(())
    }

    async fn connect(name: &str, address: &str) -> Result<Server, Failure> {
        let profile = ExecutionProfile::builder().consistency(Consistency::LocalOne).build();
        let session = SessionBuilder::new()
            .known_node(address)
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .map_err(|error| format!("{name} at {address}: {error}"))?;
        for statement in [
            "DROP KEYSPACE IF EXISTS quench_throughput",
            "CREATE KEYSPACE quench_throughput WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1}",
            "CREATE TABLE quench_throughput.rows (k bigint PRIMARY KEY, v text)",
        ] {
            session.query_unpaged(statement, ()).await?;
        }
        let insert = session.prepare("INSERT INTO quench_throughput.rows (k, v) VALUES (?, ?)");
        let insert = insert.await?;
        let select = session
            .prepare("SELECT v FROM quench_throughput.rows WHERE k = ?")
            .await?;
        Ok(Server {
            name: name.to_string(),
            session,
            insert,
            select,
            next_key: AtomicI64::new(0),
        })
    }

    /// The value of a row: its key, and enough to be of the wanted length.
    fn value_of(key: i64) -> String {
        format!("{key:0>VALUE_BYTES$}")
    }

    async fn side_by_side(servers: &[Arc<Server>], kind: Kind) -> Result<(), Failure> {
        for server in servers {
            turn(server, kind, WARM_UP).await?;
            if kind == Kind::Write {
                fill(server).await?;
            }
        }
        let mut turns: Vec<Vec<Turn>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (server, turns) in servers.iter().zip(&mut turns) {
                turns.push(turn(server, kind, TURN).await?);
            }
        }
        for (server, turns) in servers.iter().zip(&turns) {
            println!("{}", line(server, kind, turns));
        }
        for (other, theirs) in servers.iter().zip(&turns).skip(1) {
            let ratio = median(&turns[0]) / median(theirs);
            let by_round: Vec<String> = turns[0]
                .iter()
                .zip(theirs)
                .map(|(a, b)| format!("{:.2}", a.per_s / b.per_s))
                .collect();
            let (first, other) = (&servers[0].name, &other.name);
            println!(
                "{}: {first} : {other} = {ratio:.2} (by round: {})",
                kind.name(),
                by_round.join(", ")
            );
        }
        Ok(())
    }

    /// Every row once, so that every read finds one.
    async fn fill(server: &Arc<Server>) -> Result<(), Failure> {
        server.next_key.store(0, Ordering::Relaxed);
        while server.next_key.load(Ordering::Relaxed) < KEYS {
            turn(server, Kind::Write, Duration::from_millis(500)).await?;
        }
        Ok(())
    }

    async fn turn(server: &Arc<Server>, kind: Kind, length: Duration) -> Result<Turn, Failure> {
        let begun = Instant::now();
        let workers: Vec<_> = (0..IN_FLIGHT)
            .map(|_| tokio::spawn(requests(server.clone(), kind, begun + length)))
            .collect();
        let mut latencies_us = Vec::new();
        for worker in workers {
            latencies_us.extend(worker.await??);
        }
        latencies_us.sort_unstable();
        Ok(Turn {
            per_s: latencies_us.len() as f64 / begun.elapsed().as_secs_f64(),
            latencies_us,
        })
    }

    async fn requests(server: Arc<Server>, kind: Kind, until: Instant) -> Result<Vec<u32>, Failure> {
        let mut latencies_us = Vec::new();
        let mut now = Instant::now();
        while now < until {
            let key = server.next_key.fetch_add(1, Ordering::Relaxed) % KEYS;
            match kind {
                Kind::Write => {
                    let row = (key, value_of(key));
                    server.session.execute_unpaged(&server.insert, row).await?;
                }
                Kind::Read => read(&server, key).await?,
            }
            let then = std::mem::replace(&mut now, Instant::now());
            latencies_us.push((now - then).as_micros() as u32);
        }
        Ok(latencies_us)
    }

    async fn read(server: &Server, key: i64) -> Result<(), Failure> {
        let answer = server.session.execute_unpaged(&server.select, (key,)).await?;
        let rows = answer.into_rows_result()?;
        let (found,): (&str,) = rows.single_row()?;
        match found == value_of(key) {
            true => Ok(()),
            false => Err(format!("{}: row {key} has the value {found}", server.name).into()),
        }
    }

    fn line(server: &Server, kind: Kind, turns: &[Turn]) -> String {
        let mut all: Vec<u32> = turns.iter().flat_map(|turn| &turn.latencies_us).copied().collect();
        all.sort_unstable();
        let at = |share: f64| {
            all.get((all.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        format!(
            "{:<8}{:<14}{:>8.0} per second   p50 {:>6} us   p99 {:>6} us   {} requests",
            kind.name(),
            server.name,
            median(turns),
            at(0.50),
            at(0.99),
            all.len()
        )
    }

    fn median(turns: &[Turn]) -> f64 {
        let mut per_s: Vec<f64> = turns.iter().map(|turn| turn.per_s).collect();
        per_s.sort_by(f64::total_cmp);
        per_s[per_s.len() / 2]
    }
}
