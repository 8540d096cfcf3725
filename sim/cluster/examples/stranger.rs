//! The published Rust driver against a running scylla-sim, as an application uses it. Run by `ci/strangers`, beside
//! Python's and Java's:
//!
//!     stranger PORT write    connects, creates tables, writes, batches, pages, is refused
//!     stranger PORT read     after a kill -9 and a new start: everything is there; drops it
//!     stranger PORT login USER PASSWORD    logs in, and is refused with another password

#[cfg(madsim)]
fn main() {
    eprintln!("this example is for real sockets: cargo run -p sim-cluster --example stranger");
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    measured::run("stranger", application::run())
}

#[cfg(not(madsim))]
mod measured;

#[cfg(not(madsim))]
mod application {
    use crate::measured::Failure;
    use futures::TryStreamExt as _;
    use scylla::client::session::Session;
    use scylla::client::session_builder::SessionBuilder;
    use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
    use scylla::response::{PagingState, PagingStateResponse};
    use scylla::statement::batch::{Batch, BatchType};
    use scylla::statement::{SerialConsistency, Statement};
    use std::ops::ControlFlow;

    type Result<T> = std::result::Result<T, Failure>;

    const ROWS: i32 = 100;

    pub async fn run() -> Result<()> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [port, "write"] => {
                let session = at(port).build().await?;
                write(&session).await?;
                read(&session).await
            }
            [port, "read"] => {
                let session = at(port).build().await?;
                read(&session).await?;
                run_all(&session, &["DROP KEYSPACE rust"]).await?;
                session.refresh_metadata().await?;
                let is_gone = session.get_cluster_state().get_keyspace("rust").is_none();
                insist(is_gone, "a dropped keyspace is gone from the driver's metadata")
            }
            [port, "login", user, password] => login(port, user, password).await,
            _ => Err("stranger PORT write|read, or stranger PORT login USER PASSWORD".into()),
        }
    }

    fn at(port: &str) -> SessionBuilder {
        SessionBuilder::new().known_node(format!("127.0.0.1:{port}"))
    }

    fn insist(holds: bool, what: impl std::fmt::Display) -> Result<()> {
        if !holds {
            return Err(what.to_string().into());
        }
        println!("    ok  {what}");
        Ok(())
    }

    async fn run_all(session: &Session, statements: &[&str]) -> Result<()> {
        for statement in statements {
            session.query_unpaged(*statement, ()).await?;
        }
        Ok(())
    }

    /// The first cells of what a query returns, of these types.
    async fn rows<R>(session: &Session, text: &str) -> Result<Vec<R>>
    where
        for<'a> R: scylla::deserialize::row::DeserializeRow<'a, 'a>,
    {
        let result = session.query_unpaged(text, ()).await?.into_rows_result()?;
        let rows = result.rows::<R>()?.collect::<std::result::Result<_, _>>()?;
        Ok(rows)
    }

    async fn write(session: &Session) -> Result<()> {
        insist(
            session.get_cluster_state().get_nodes_info().len() == 3,
            "three nodes are known",
        )?;
        run_all(
            session,
            &[
                "CREATE KEYSPACE rust WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
                "CREATE TABLE rust.t (k int, c int, v text, PRIMARY KEY (k, c)) WITH CLUSTERING ORDER BY (c DESC)",
                "CREATE TABLE rust.w (k int PRIMARY KEY, n bigint)",
            ],
        )
        .await?;
        session.await_schema_agreement().await?;
        session.refresh_metadata().await?;
        let state = session.get_cluster_state();
        let keyspace = state.get_keyspace("rust").ok_or("the keyspace is not seen")?;
        insist(
            keyspace.tables.len() == 2,
            "new tables are seen in the driver's metadata",
        )?;

        let into_t = session.prepare("INSERT INTO rust.t (k, c, v) VALUES (?, ?, ?)").await?;
        let into_w = session.prepare("INSERT INTO rust.w (k, n) VALUES (?, ?)").await?;
        insist(into_t.is_token_aware(), "a prepared statement tells its partition key")?;
        for c in 0..ROWS {
            session.execute_unpaged(&into_t, (1, c, format!("v{c}"))).await?;
        }
        let mut batch = Batch::new(BatchType::Logged);
        batch.append_statement(into_t.clone());
        batch.append_statement(into_w.clone());
        session.batch(&batch, ((2, 1, "batch"), (2, 4i64))).await?;

        let once = Statement::new("INSERT INTO rust.w (k, n) VALUES (300, 1) IF NOT EXISTS");
        let mut once = session.prepare(once).await?;
        once.set_serial_consistency(Some(SerialConsistency::Serial));
        for (wanted, what) in [
            (true, "a conditional write is applied"),
            (false, "or answered with what is there"),
        ] {
            let result = session.execute_unpaged(&once, ()).await?.into_rows_result()?;
            let row = result.first_row::<scylla::value::Row>()?;
            let applied = row.columns.first().and_then(|c| c.as_ref()?.as_boolean());
            insist(applied == Some(wanted), what)?;
        }
        refused(session, "SELECT * FROM rust.nope", |e| matches!(e, DbError::Invalid)).await?;
        refused(session, "SELECT * FORM t", |e| matches!(e, DbError::SyntaxError)).await?;
        let again = "CREATE TABLE rust.t (k int PRIMARY KEY)";
        refused(session, again, |e| matches!(e, DbError::AlreadyExists { .. })).await?;
        let described = rows::<(Option<String>, String, String, String)>(session, "DESCRIBE TABLE rust.t").await?;
        let text = described.first().map_or("", |row| &row.3);
        insist(
            text.contains("CLUSTERING ORDER BY (c DESC)"),
            "DESCRIBE tells how a table was made",
        )
    }

    async fn refused(session: &Session, text: &str, is_it: impl Fn(&DbError) -> bool) -> Result<()> {
        match session.query_unpaged(text, ()).await {
            Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, reason))) if is_it(&error) => {
                insist(true, format!("refused: {reason}"))
            }
            other => Err(format!("{text}: {other:?}").into()),
        }
    }

    async fn read(session: &Session) -> Result<()> {
        for size in [7, 100, 5000] {
            let statement = Statement::new("SELECT c FROM rust.t WHERE k = 1").with_page_size(size);
            let (mut found, mut pages, mut state) = (Vec::new(), 0, PagingState::start());
            loop {
                let (page, next): (_, PagingStateResponse) =
                    session.query_single_page(statement.clone(), (), state).await?;
                let page = page.into_rows_result()?;
                for row in page.rows::<(i32,)>()? {
                    found.push(row?.0);
                }
                pages += 1;
                match next.into_paging_control_flow() {
                    ControlFlow::Continue(after) => state = after,
                    ControlFlow::Break(()) => break,
                }
            }
            let all: Vec<i32> = (0..ROWS).rev().collect();
            insist(
                found == all && pages >= ROWS / size,
                format!("{ROWS} rows in {pages} pages of {size}"),
            )?;
        }
        let stream = session.query_iter("SELECT v FROM rust.t", ()).await?;
        let all: Vec<(String,)> = stream.rows_stream::<(String,)>()?.try_collect().await?;
        insist(all.len() == ROWS as usize + 1, "a stream goes through all pages")?;
        let squared = rows::<(i64,)>(session, "SELECT n FROM rust.w WHERE k = 2").await?;
        insist(squared == [(4,)], "both tables of the batch have their rows")
    }

    async fn login(port: &str, user: &str, password: &str) -> Result<()> {
        let session = at(port).user(user, password).build().await?;
        let local = rows::<(String,)>(&session, "SELECT key FROM system.local").await?;
        insist(local == [("local".to_owned(),)], "logged in")?;
        let wrong = at(port).user(user, "not the password").build().await;
        insist(wrong.is_err(), "another password is refused")?;
        let nobody = at(port).build().await;
        insist(nobody.is_err(), "and so is none")
    }
}
