//! Faults on command: each kind of them injected into a running cluster, and what a client and the other nodes see of it.

use super::program::{ANY_PORT, Program, refused};
use super::{connect, create, inject, start, within, write_batch};
use futures::future::join_all;
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::{Consistency, Statement};
use sim_cluster::core::Flavor;
use sim_cluster::host::tcp::TcpCluster;
use sim_cluster::host::tcp::faults::FaultState;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

async fn write(session: &Session, k: i64) -> Result<(), DbError> {
    run(session, &format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)"))
        .await
        .map(drop)
}

/// The rows of an answer, or the server's error; no retries.
async fn run(session: &Session, text: &str) -> Result<Vec<i64>, DbError> {
    let mut statement = Statement::new(text);
    statement.set_retry_policy(Some(Arc::new(scylla::policies::retry::FallthroughRetryPolicy::new())));
    match session.query_unpaged(statement, ()).await {
        Ok(result) => Ok(match result.into_rows_result() {
            Ok(rows) => rows
                .rows::<(i64,)>()
                .expect("numbers")
                .map(|r| r.expect("a row").0)
                .collect(),
            Err(_) => vec![],
        }),
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _))) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

async fn is_there(session: &Session, k: i64) -> bool {
    !run(session, &format!("SELECT k FROM ks.u WHERE k = {k}"))
        .await
        .expect("read")
        .is_empty()
}

#[tokio::test]
async fn statements_are_answered_as_they_are_told_to_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Scylla).await;
    let session = connect(cluster.contact_points()[0]).await;
    create(&session).await;

    let id = inject(
        &cluster,
        r#"{"do": "write-timeout", "table": "ks.u", "skip": 1, "count": 2}"#,
    );
    write(&session, 1).await.expect("the first may pass");
    for k in [2, 3] {
        let error = write(&session, k).await.expect_err("it times out");
        let DbError::WriteTimeout {
            received: 1,
            required: 2,
            ref write_type,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(write_type.as_str(), "SIMPLE");
        assert!(!is_there(&session, k).await, "never applied");
    }
    write(&session, 4).await.expect("the fault is over");
    let faults = cluster.faults();
    assert_eq!(
        (faults[0].id, faults[0].struck, faults[0].state),
        (id, 2, FaultState::Done)
    );

    inject(
        &cluster,
        r#"{"do": "write-timeout", "applied": "now", "write-type": "BATCH_LOG"}"#,
    );
    let error = write(&session, 5).await.expect_err("it times out");
    assert!(
        matches!(
            error,
            DbError::WriteTimeout {
                received: 0,
                required: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(is_there(&session, 5).await, "applied at once");

    inject(
        &cluster,
        r#"{"do": "unavailable", "applied": "late", "after": "600ms", "row": {"k": 6}}"#,
    );
    write(&session, 7).await.expect("another row");
    let error = write(&session, 6).await.expect_err("unavailable");
    assert!(
        matches!(
            error,
            DbError::Unavailable {
                required: 2,
                alive: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(!is_there(&session, 6).await, "not yet");
    within(5, "it lands late", async || is_there(&session, 6).await).await;

    inject(&cluster, r#"{"do": "overloaded", "statements": "write"}"#);
    inject(&cluster, r#"{"do": "read-timeout", "table": "u"}"#);
    let error = run(&session, "SELECT k FROM ks.u WHERE k = 1")
        .await
        .expect_err("a timeout");
    assert!(
        matches!(
            error,
            DbError::ReadTimeout {
                received: 1,
                required: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(write(&session, 8).await, Err(DbError::Overloaded)));

    inject(
        &cluster,
        r#"{"do": "write-timeout", "statements": "conditional", "applied": "now"}"#,
    );
    let insert = "INSERT INTO ks.u (k, v) VALUES (9, 1) IF NOT EXISTS";
    let error = run(&session, insert).await.expect_err("a timeout");
    assert!(
        matches!(error, DbError::WriteTimeout { ref write_type, .. } if write_type.as_str() == "CAS"),
        "{error}"
    );
    within(5, "it was applied", async || is_there(&session, 9).await).await;

    let begun = Instant::now();
    inject(&cluster, r#"{"do": "slow", "by": "400ms", "count": 2}"#);
    join_all([
        run(&session, "SELECT k FROM ks.u WHERE k = 1"),
        run(&session, "SELECT k FROM ks.u WHERE k = 2"),
    ])
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(
        cluster.faults().iter().all(|f| f.state == FaultState::Done),
        "{:?}",
        cluster.faults()
    );
}

#[tokio::test]
async fn additions_to_counters_are_struck_and_may_count_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Cassandra).await;
    let session = connect(cluster.contact_points()[0]).await;
    create(&session).await;
    run(&session, "CREATE TABLE ks.n (k bigint PRIMARY KEY, n counter)")
        .await
        .expect("a table");
    let add = "UPDATE ks.n SET n = n + 1 WHERE k = 1";
    inject(
        &cluster,
        r#"{"do": "write-timeout", "table": "ks.n", "applied": "now"}"#,
    );
    let error = run(&session, add).await.expect_err("it times out");
    assert!(
        matches!(error, DbError::WriteTimeout { ref write_type, .. } if write_type.as_str() == "COUNTER"),
        "{error}"
    );
    // Whoever tries again adds again.
    run(&session, add).await.expect("the fault is over");
    assert_eq!(
        run(&session, "SELECT CAST(n AS bigint) FROM ks.n WHERE k = 1").await,
        Ok(vec![2])
    );

    inject(
        &cluster,
        r#"{"do": "write-timeout", "write-type": "COUNTER", "statements": "write"}"#,
    );
    run(&session, add).await.expect_err("it times out");
    inject(
        &cluster,
        r#"{"do": "unavailable", "applied": "late", "after": "300ms"}"#,
    );
    run(&session, add).await.expect_err("refused");
    inject(&cluster, r#"{"do": "write-timeout", "applied": "replay"}"#);
    run(&session, add)
        .await
        .expect("no batchlog, nothing to replay: it is not struck");
    within(5, "what was refused is added late", async || {
        run(&session, "SELECT CAST(n AS bigint) FROM ks.n WHERE k = 1").await == Ok(vec![4])
    })
    .await;
    assert_eq!(cluster.faults().last().map(|f| f.struck), Some(0));
    cluster.stop().await;
}

/// One client that asks for a lot does not keep others waiting until all of it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_take_turns() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Cassandra).await;
    let (greedy, modest) = (
        connect(cluster.contact_points()[0]).await,
        connect(cluster.contact_points()[1]).await,
    );
    create(&greedy).await;
    for k in 0..60 {
        write_batch(&greedy, k * 50, (k + 1) * 50).await;
    }
    let count = "SELECT count(*) FROM ks.t";
    // Measured in answers, not in time, which says nothing on a busy machine.
    let answered = Arc::new(AtomicUsize::new(0));
    let greedy = tokio::spawn({
        let answered = answered.clone();
        async move {
            let one = async || {
                // On a slow machine the last of them may time out: that is an answer, too.
                let _counted = run(&greedy, count).await;
                answered.fetch_add(1, Ordering::SeqCst);
            };
            join_all((0..200).map(|_| one())).await;
        }
    });
    within(20, "the greedy one is served", async || {
        answered.load(Ordering::SeqCst) > 0
    })
    .await;
    let before = answered.load(Ordering::SeqCst);
    assert!(is_there(&modest, 7).await);
    let between = answered.load(Ordering::SeqCst) - before;
    assert!(
        before < 150,
        "there was something to wait for: {before} of 200 answered"
    );
    assert!(between * 2 < 200 - before, "{between} of {} came first", 200 - before);
    greedy.await.expect("answered");
    cluster.stop().await;
}

#[tokio::test]
async fn a_batch_is_left_to_its_replay_or_dies_with_its_coordinator() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Scylla).await;
    let session = connect(cluster.contact_points()[0]).await;
    create(&session).await;
    // So that a query about its outcome is not about its coordinator.
    inject(
        &cluster,
        r#"{"do": "kill-coordinator", "statements": "batch", "point": "batchlog-written", "restart-after": "300ms"}"#,
    );
    let batch = "BEGIN BATCH INSERT INTO ks.u (k, v) VALUES (1, 1); INSERT INTO ks.u (k, v) VALUES (2, 1); APPLY BATCH";
    let _broken = session.query_unpaged(batch, ()).await;
    let text = |cluster: &TcpCluster| serde_json::to_string(&cluster.trace(0, usize::MAX)).expect("JSON");
    within(10, "the coordinator died", async || {
        cluster.nodes().iter().any(|n| n.state == "down")
    })
    .await;
    within(10, "it came back", async || {
        cluster.nodes().iter().all(|n| n.state == "up")
    })
    .await;
    let told = text(&cluster);
    for event in ["fault-armed", "fault-struck", "batch-kept", "forced", "started"] {
        assert!(told.contains(&format!("\"event\":\"{event}\"")), "{event}: {told}");
    }
}

#[tokio::test]
async fn nodes_pause_die_lose_power_and_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Cassandra).await;
    let session = connect(cluster.contact_points()[0]).await;
    create(&session).await;
    let state = |node: usize| cluster.nodes()[node].state;

    let pause = inject(&cluster, r#"{"do": "pause", "node": 2, "at": "200ms", "for": "400ms"}"#);
    assert_eq!(cluster.faults()[0].state, FaultState::Waiting);
    within(5, "it stands still", async || state(1) == "frozen").await;
    assert_eq!(cluster.faults()[0].state, FaultState::Active);
    within(5, "it goes on", async || state(1) == "up").await;
    within(5, "the fault is over", async || {
        cluster.faults()[0].state == FaultState::Done
    })
    .await;
    assert!(!cluster.cancel(pause), "it is over");

    let pause = inject(&cluster, r#"{"do": "pause", "node": 2}"#);
    within(5, "it stands still", async || state(1) == "frozen").await;
    assert!(cluster.cancel(pause));
    within(5, "it goes on", async || state(1) == "up").await;

    // This flavour gives its log to the kernel every 100 ms: that survives kill -9, and not the loss of power.
    write(&session, 1).await.expect("written");
    tokio::time::sleep(Duration::from_millis(300)).await;
    inject(&cluster, r#"{"do": "kill", "node": 2, "restart-after": "1s"}"#);
    inject(&cluster, r#"{"do": "power-loss", "node": 3, "restart-after": "2s"}"#);
    within(5, "they are down", async || state(1) == "down" && state(2) == "down").await;
    std::net::TcpStream::connect(cluster.contact_points()[2]).expect_err("nobody listens");
    within(5, "they are back", async || state(1) == "up" && state(2) == "up").await;
    let rows: Vec<Option<usize>> = cluster.nodes().iter().map(|n| n.rows.get("ks.u").copied()).collect();
    let told = || serde_json::to_string(&cluster.trace(0, usize::MAX)).expect("JSON");
    assert_eq!(rows, [Some(1), Some(1), Some(0)], "{}", told());

    let fail = inject(&cluster, r#"{"do": "fail-disk", "node": 3}"#);
    within(5, "it has stopped", async || state(2) == "halted").await;
    inject(&cluster, r#"{"do": "start", "node": 3}"#);
    within(5, "it is back", async || state(2) == "up").await;
    assert!(!cluster.cancel(fail));
    assert!(cluster.stop().await);
}

#[tokio::test]
async fn links_are_cut_and_hints_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Scylla).await;
    // The one that is cut off cannot coordinate.
    let session = super::control::connect_to(cluster.contact_points()[0]).await;
    create(&session).await;
    let all = |k: i64| {
        let mut statement = Statement::new(format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)"));
        statement.set_consistency(Consistency::All);
        session.query_unpaged(statement, ())
    };
    all(1).await.expect("all are there");
    let cut = inject(&cluster, r#"{"do": "cut", "node": 3}"#);
    within(5, "it is done", async || {
        cluster.faults()[0].state == FaultState::Active
    })
    .await;
    all(2).await.map(drop).expect_err("one does not hear");
    write(&session, 3).await.expect("two do");
    within(10, "hints are kept", async || {
        cluster.nodes().iter().any(|n| n.hints > 0)
    })
    .await;
    inject(&cluster, r#"{"do": "lose-hints", "for": "1h"}"#);
    within(5, "they are gone", async || {
        cluster.nodes().iter().all(|n| n.hints == 0)
    })
    .await;
    write(&session, 4).await.expect("two do");
    assert!(cluster.cancel(cut));
    within(5, "the links are whole", async || all(5).await.is_ok()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        cluster.nodes().iter().all(|n| n.hints == 0),
        "none are kept: {:?}",
        cluster.nodes()
    );
    assert!(
        cluster
            .trace(0, usize::MAX)
            .iter()
            .any(|l| serde_json::to_string(l).is_ok_and(|t| t.contains("hints-lost")))
    );
}

#[tokio::test]
async fn updates_for_views_are_held_back_and_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Scylla).await;
    let session = connect(cluster.contact_points()[0]).await;
    create(&session).await;
    let view = "CREATE MATERIALIZED VIEW ks.by_v AS SELECT * FROM ks.u WHERE v IS NOT NULL AND k IS NOT NULL PRIMARY KEY (v, k)";
    session.query_unpaged(view, ()).await.expect("a view");
    let seen = async |v: i64| {
        run(&session, &format!("SELECT k FROM ks.by_v WHERE v = {v}"))
            .await
            .expect("a read")
    };
    let write = async |v: i64| {
        let insert = format!("INSERT INTO ks.u (k, v) VALUES ({v}, {v})");
        session.query_unpaged(insert, ()).await.expect("a write");
    };
    let becomes = async |fault: &str| {
        let id = inject(&cluster, fault);
        within(5, "it is done", async || {
            cluster
                .faults()
                .iter()
                .any(|f| f.id == id && f.state == FaultState::Active)
        })
        .await;
        id
    };
    write(1).await;
    within(5, "the view has it", async || seen(1).await == [1]).await;
    let held = becomes(r#"{"do": "hold-view-updates"}"#).await;
    write(2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(seen(2).await.is_empty(), "it is held back");
    assert!(cluster.cancel(held));
    within(5, "it goes its way", async || seen(2).await == [2]).await;
    let lost = becomes(r#"{"do": "lose-view-updates"}"#).await;
    write(3).await;
    assert!(cluster.cancel(lost));
    write(4).await;
    within(5, "later ones come", async || seen(4).await == [4]).await;
    assert!(seen(3).await.is_empty(), "it is lost");
}

#[test]
fn a_plan_is_read_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = directory.path().join("plan.toml");
    let data = directory.path().join("data");
    let path = plan.display().to_string();
    std::fs::write(&plan, "[[fault]]\ndo = \"pause\"\nnode = 2\nfor = \"12 seconds\"\n").expect("written");
    let (code, told) = refused(&data, &["--listen", ANY_PORT, "--plan", &path]);
    assert_eq!(code, Some(1));
    let wanted =
        format!("scylla-sim: {path}:4: \"12 seconds\" is no duration: write \"250ms\", \"12s\", \"5m\" or \"1h\"");
    assert!(told.starts_with(&wanted), "{told}");
    assert!(!data.exists(), "nothing was started");
    std::fs::write(&plan, "[[fault]]\ndo = \"kill\"\nnode = 2\nat = \"1h\"\n").expect("written");
    let program = Program::start(&data, &["--plan", &path]);
    assert!(
        program.started.contains(&format!("    1 faults from {path}\n")),
        "{}",
        program.started
    );
    let (code, told) = refused(&data, &["--listen", ANY_PORT, "--plan", "nowhere.toml"]);
    assert_eq!(
        (code, told.contains("the plan nowhere.toml cannot be read")),
        (Some(1), true),
        "{told}"
    );
}

/// The commands of the README, each with what it says that it prints.
#[test]
fn the_readmes_commands_do_what_it_says() {
    let readme = include_str!("../../README.md");
    let directory = tempfile::tempdir().expect("a directory");
    let plan = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|p| p.split("```").next())
        .expect("a plan");
    let path = directory.path().join("plan.toml");
    std::fs::write(&path, plan).expect("written");
    let path = path.display().to_string();
    drop(Program::start(&directory.path().join("planned"), &["--plan", &path]));

    let program = Program::start(&directory.path().join("data"), &["--control", ANY_PORT]);
    let control = program
        .started
        .lines()
        .find_map(|l| l.trim().strip_prefix("control endpoint at http://"));
    let control = control.expect("it tells where").trim_end_matches('/').to_owned();
    let commands = readme
        .split("```sh\n")
        .nth(1)
        .and_then(|p| p.split("```").next())
        .expect("commands");
    let lines: Vec<&str> = commands.lines().collect();
    let mut tried = 0;
    for pair in lines.chunks(2) {
        let [command, prints] = pair else {
            panic!("a command without what it prints: {pair:?}")
        };
        let wanted = prints.strip_prefix("# prints: ").expect("what it prints");
        let command = command.replace("127.0.0.1:9180", &control);
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(wanted),
            "{command}\n{text}\ndoes not print {wanted}"
        );
        tried += 1;
    }
    assert_eq!(tried, 10);
    let missing = Command::new("curl")
        .args(["-s", "-w", "%{http_code}", &format!("{control}/nowhere")])
        .output();
    let text = String::from_utf8_lossy(&missing.expect("curl").stdout).into_owned();
    assert!(
        text.contains("there is no such page") && text.ends_with("404"),
        "{text}"
    );
}
