//! How conditional writes of one row come out when several clients outbid each other: applied or not, unknown, given up.
//! `ci/contention` runs it on three nodes of a real Cassandra and on three of scylla-sim.
//!
//! `contention HOST:PORT`: it makes the keyspace `quench_contention` there and drops it. Every client sends the next write
//! when its last one was answered; half of them insert the row if it is not there, half delete it if it is.

#[cfg(madsim)]
fn main() {
    eprintln!("this example measures the production world: cargo run --release -p sim-cluster --example contention");
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    measured::run("contention", measure::all())
}

#[cfg(not(madsim))]
mod measured;

#[cfg(not(madsim))]
mod measure {
    use crate::measured::Failure;
    use scylla::client::session::Session;
    use scylla::client::session_builder::SessionBuilder;
    use scylla::errors::{DbError, ExecutionError, RequestAttemptError, WriteType};
    use scylla::statement::prepared::PreparedStatement;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::Instant;

    const CLIENTS: [usize; 4] = [3, 10, 30, 100];
    /// One after the other.
    const WRITES_PER_CLIENT: usize = 30;
    /// Of other rows, one at a time, before anything counts: compilers of the JVM need it.
    const WARM_UP: i32 = 2_000;
    /// Above every timeout of the servers.
    const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

    /// How many writes ended in which way.
    #[derive(Default)]
    struct Outcomes {
        applied: usize,
        not_applied: usize,
        /// Accepted by some replicas and not by a quorum: error 1700, which protocol 4 tells as a write timeout of the type
        /// CAS that counts those replicas.
        unknown: usize,
        /// Outbid until the contention timeout: a write timeout of the type CAS that counts none.
        given_up: usize,
    }

    impl Outcomes {
        fn count(&mut self, of: Outcomes) {
            self.applied += of.applied;
            self.not_applied += of.not_applied;
            self.unknown += of.unknown;
            self.given_up += of.given_up;
        }

        fn all(&self) -> usize {
            self.applied + self.not_applied + self.unknown + self.given_up
        }
    }

    pub async fn all() -> Result<(), Failure> {
        let address = std::env::args().nth(1).ok_or("an address is wanted, as HOST:PORT")?;
        let session = SessionBuilder::new()
            .known_node(&address)
            .build()
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        for statement in [
            "DROP KEYSPACE IF EXISTS quench_contention",
            "CREATE KEYSPACE quench_contention WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
            "CREATE TABLE quench_contention.rows (k int PRIMARY KEY, v int)",
        ] {
            session.query_unpaged(statement, ()).await?;
        }
        let session = Arc::new(session);
        let insert = prepared(
            &session,
            "INSERT INTO quench_contention.rows (k, v) VALUES (?, 0) IF NOT EXISTS",
        )
        .await?;
        let delete = prepared(&session, "DELETE FROM quench_contention.rows WHERE k = ? IF EXISTS").await?;
        println!("{}", alone(&session, &insert).await?);
        for clients in CLIENTS {
            let begun = Instant::now();
            let workers: Vec<_> = (0..clients)
                .map(|client| [&insert, &delete][client % 2].clone())
                .map(|statement| tokio::spawn(writes(session.clone(), statement)))
                .collect();
            let mut outcomes = Outcomes::default();
            for worker in workers {
                outcomes.count(worker.await??);
            }
            println!("{}", line(clients, &outcomes, begun.elapsed()));
        }
        session.query_unpaged("DROP KEYSPACE quench_contention", ()).await?;
        Ok(())
    }

    async fn prepared(session: &Session, statement: &str) -> Result<PreparedStatement, Failure> {
        let mut statement = session.prepare(statement).await?;
        statement.set_request_timeout(Some(CLIENT_TIMEOUT));
        Ok(statement)
    }

    /// What a write takes that nobody outbids.
    async fn alone(session: &Session, insert: &PreparedStatement) -> Result<String, Failure> {
        let mut took_us = Vec::new();
        for row in 1..=WARM_UP {
            let begun = Instant::now();
            session.execute_unpaged(insert, (row,)).await?;
            took_us.push(begun.elapsed().as_micros());
        }
        let mut last = took_us.split_off(took_us.len() / 2);
        last.sort_unstable();
        let at = |tenth: usize| last[last.len() * tenth / 10] as f64 / 1000.0;
        Ok(format!(
            "alone: p10 {:.1}, p50 {:.1}, p90 {:.1} ms",
            at(1),
            at(5),
            at(9)
        ))
    }

    async fn writes(session: Arc<Session>, statement: PreparedStatement) -> Result<Outcomes, Failure> {
        let mut outcomes = Outcomes::default();
        for _ in 0..WRITES_PER_CLIENT {
            match session.execute_unpaged(&statement, (0,)).await {
                Ok(answer) => {
                    let rows = answer.into_rows_result()?;
                    // The first column is `[applied]`; what was found follows.
                    let (applied,) = match rows.column_specs().len() {
                        1 => rows.single_row::<(bool,)>()?,
                        _ => (rows.single_row::<(bool, Option<i32>, Option<i32>)>()?.0,),
                    };
                    match applied {
                        true => outcomes.applied += 1,
                        false => outcomes.not_applied += 1,
                    }
                }
                Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                    DbError::WriteTimeout {
                        received,
                        write_type: WriteType::Cas,
                        ..
                    },
                    _,
                ))) => match received {
                    0 => outcomes.given_up += 1,
                    _ => outcomes.unknown += 1,
                },
                Err(other) => return Err(other.into()),
            }
        }
        Ok(outcomes)
    }

    fn line(clients: usize, outcomes: &Outcomes, took: Duration) -> String {
        let percent = |count: usize| 100.0 * count as f64 / outcomes.all() as f64;
        format!(
            "{clients:>3} clients: {:>4} applied, {:>4} not, unknown {:>4} ({:>4.1} %), given up {:>4} ({:>4.1} %), {:.1} s",
            outcomes.applied,
            outcomes.not_applied,
            outcomes.unknown,
            percent(outcomes.unknown),
            outcomes.given_up,
            percent(outcomes.given_up),
            took.as_secs_f64()
        )
    }
}
