//! A healthy cluster: schema, values, statements, paging, exact refusals.

use super::*;
use futures::TryStreamExt;
use scylla::response::query_result::QueryRowsResult;
use scylla::value::CqlTimestamp;
use std::collections::BTreeMap;

async fn rows(session: &Session, text: &str) -> QueryRowsResult {
    session
        .query_unpaged(text, ())
        .await
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .into_rows_result()
        .expect("rows")
}

async fn run(session: &Session, text: &str) {
    session
        .query_unpaged(text, ())
        .await
        .unwrap_or_else(|e| panic!("{text}: {e}"));
}

async fn refusal(session: &Session, text: &str) -> String {
    match session.query_unpaged(text, ()).await {
        Ok(_) => panic!("{text} was executed"),
        Err(error) => db_error(error).1,
    }
}

#[test]
fn a_session_creates_inserts_and_reads() {
    simulate(Flavor::Scylla, &[], |_, cluster| async move {
        let session = connect(&cluster).await;
        for ddl in DDL {
            run(&session, ddl).await;
            session.await_schema_agreement().await.expect("agreement");
        }
        session.use_keyspace("ks", false).await.expect("used");
        let insert = session
            .prepare("INSERT INTO t (k, c, v) VALUES (?, ?, ?)")
            .await
            .expect("prepared");
        session
            .execute_unpaged(&insert, (1i64, 2i32, "x"))
            .await
            .expect("inserted");
        let row = rows(&session, "SELECT * FROM t WHERE k = 1").await;
        assert_eq!(
            row.single_row::<(i64, i32, String)>().expect("one row"),
            (1, 2, "x".to_string())
        );
    });
}

#[test]
fn the_driver_learns_topology_and_schema() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB2]).await;
        let state = session.get_cluster_state();
        let mut nodes: Vec<String> = state
            .get_nodes_info()
            .iter()
            .map(|n| format!("{} {:?}", n.address, n.rack))
            .collect();
        nodes.sort();
        assert_eq!(
            nodes,
            [
                "10.0.1.1:9042 Some(\"r1\")",
                "10.0.1.2:9042 Some(\"r2\")",
                "10.0.1.3:9042 Some(\"r3\")"
            ]
        );
        let table = &state.get_keyspace("ks").expect("ks").tables["t"];
        assert_eq!(table.partition_key, ["k"]);
        assert_eq!(table.clustering_key, ["c"]);
        let insert = session
            .prepare("INSERT INTO ks.t (k, c, v) VALUES (?, ?, ?)")
            .await
            .expect("prepared");
        let token = insert
            .calculate_token(&(7i64, 1i32, ""))
            .expect("a key")
            .expect("a token");
        assert_eq!(token.value(), sim_cluster::core::murmur3::token(&7i64.to_be_bytes()).0);
    });
}

#[test]
fn every_scalar_and_collection_comes_back_as_it_went() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        run(
            &session,
            "CREATE TABLE ks.all (k int PRIMARY KEY, a ascii, b blob, bo boolean, d double, f float, i inet, s smallint, \
             ti tinyint, ts timestamp, u uuid, l list<int>, st set<text>, m map<text, bigint>, fz frozen<list<text>>)",
        )
        .await;
        let uuid = uuid::Uuid::from_u128(7);
        let insert = session
            .prepare("INSERT INTO ks.all (k, a, b, bo, d, f, i, s, ti, ts, u, l, st, m, fz) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .await
            .expect("prepared");
        let ip: std::net::IpAddr = "10.1.2.3".parse().expect("an address");
        let map = BTreeMap::from([("x".to_string(), 5i64)]);
        let values = (
            1i32,
            "as",
            vec![0u8, 255],
            true,
            1.5f64,
            2.5f32,
            ip,
            -3i16,
            4i8,
            CqlTimestamp(99),
            uuid,
            vec![3, 1],
            vec!["p", "q"],
            map.clone(),
            vec!["f"],
        );
        session.execute_unpaged(&insert, values).await.expect("inserted");
        run(
            &session,
            "INSERT INTO ks.all (k, a, b, bo, d, f, i, s, ti, ts, u, l, st, m, fz) VALUES (2, 'as', 0x00ff, true, 1.5, 2.5, '10.1.2.3', -3, 4, \
             '1970-01-01 00:00:00.099+0000', 00000000-0000-0000-0000-000000000007, [3, 1], {'q', 'p'}, {'x': 5}, ['f'])",
        )
        .await;
        for k in [1, 2] {
            type Scalars = (
                String,
                Vec<u8>,
                bool,
                f64,
                f32,
                std::net::IpAddr,
                i16,
                i8,
                CqlTimestamp,
                uuid::Uuid,
            );
            let row = rows(
                &session,
                &format!("SELECT a, b, bo, d, f, i, s, ti, ts, u FROM ks.all WHERE k = {k}"),
            )
            .await;
            let row = row.single_row::<Scalars>().expect("one row");
            assert_eq!(
                row,
                (
                    "as".into(),
                    vec![0, 255],
                    true,
                    1.5,
                    2.5,
                    ip,
                    -3,
                    4,
                    CqlTimestamp(99),
                    uuid
                )
            );
            type Collections = (Vec<i32>, Vec<String>, BTreeMap<String, i64>, Vec<String>);
            let row = rows(&session, &format!("SELECT l, st, m, fz FROM ks.all WHERE k = {k}")).await;
            let strings = |s: &[&str]| s.iter().map(|x| x.to_string()).collect::<Vec<_>>();
            let row = row.single_row::<Collections>().expect("one row");
            assert_eq!(row, (vec![3, 1], strings(&["p", "q"]), map.clone(), strings(&["f"])));
        }
    });
}

#[test]
fn timestamps_obey_their_precedence_and_the_later_wins() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let pinned = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?) USING TIMESTAMP ?")
            .await
            .expect("prepared");
        let mut plain = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        session
            .execute_unpaged(&pinned, (1i64, 10i64, 500i64))
            .await
            .expect("written");
        plain.set_timestamp(Some(400));
        session.execute_unpaged(&plain, (1i64, 11i64)).await.expect("written");
        let read = "SELECT v, WRITETIME(v) FROM ks.u WHERE k = 1";
        assert_eq!(
            rows(&session, read).await.single_row::<(i64, i64)>().expect("a row"),
            (10, 500)
        );
        plain.set_timestamp(Some(600));
        session.execute_unpaged(&plain, (1i64, 12i64)).await.expect("written");
        assert_eq!(
            rows(&session, read).await.single_row::<(i64, i64)>().expect("a row"),
            (12, 600)
        );
        plain.set_timestamp(None);
        session.execute_unpaged(&plain, (1i64, 13i64)).await.expect("written");
        let (v, at) = rows(&session, read).await.single_row::<(i64, i64)>().expect("a row");
        assert_eq!(v, 13);
        assert!(
            at >= sim_cluster::core::config::DEFAULT_WALL_BASE_US,
            "the server's clock: {at}"
        );
        // A tie goes to the larger bytes, and -5 is larger than 100 as unsigned bytes.
        for v in [100i64, -5] {
            session
                .execute_unpaged(&pinned, (2i64, v, 7i64))
                .await
                .expect("written");
        }
        assert_eq!(
            rows(&session, "SELECT v FROM ks.u WHERE k = 2")
                .await
                .single_row::<(i64,)>()
                .expect("a row"),
            (-5,)
        );
    });
}

#[test]
fn deletes_of_cells_rows_ranges_and_partitions() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        for c in 0..10 {
            run(&session, &format!("INSERT INTO ks.t (k, c, v) VALUES (1, {c}, 'x')")).await;
        }
        run(&session, "DELETE v FROM ks.t WHERE k = 1 AND c = 0").await;
        run(&session, "DELETE FROM ks.t WHERE k = 1 AND c = 1").await;
        run(&session, "DELETE FROM ks.t WHERE k = 1 AND c > 4 AND c <= 7").await;
        run(&session, "DELETE FROM ks.t WHERE k = 1 AND c IN (8)").await;
        let left = rows(&session, "SELECT c, v FROM ks.t WHERE k = 1").await;
        let left: Vec<(i32, Option<String>)> = left.rows().expect("rows").map(|r| r.expect("a row")).collect();
        let x = || Some("x".to_string());
        assert_eq!(left, [(0, None), (2, x()), (3, x()), (4, x()), (9, x())]);
        run(&session, "UPDATE ks.t SET v = 'y' WHERE k = 1 AND c IN (2, 3)").await;
        let y = rows(&session, "SELECT c FROM ks.t WHERE k = 1 AND v = 'y' ALLOW FILTERING").await;
        assert_eq!(y.rows_num(), 2);
        run(&session, "DELETE FROM ks.t WHERE k = 1").await;
        assert_eq!(rows(&session, "SELECT c FROM ks.t WHERE k = 1").await.rows_num(), 0);
        run(&session, "INSERT INTO ks.t (k, c, v) VALUES (2, 1, 'x')").await;
        run(&session, "TRUNCATE ks.t").await;
        let count = rows(&session, "SELECT COUNT(*) FROM ks.t")
            .await
            .single_row::<(i64,)>()
            .expect("a row");
        assert_eq!(count, (0,));
    });
}

#[test]
fn reads_restrict_order_limit_and_page() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let mut insert = session
            .prepare("INSERT INTO ks.t (k, c, v) VALUES (?, ?, ?)")
            .await
            .expect("prepared");
        insert.set_timestamp(Some(1));
        for k in 0..7i64 {
            for c in 0..11i32 {
                session.execute_unpaged(&insert, (k, c, "v")).await.expect("inserted");
            }
        }
        let clustering = async |text: &str| {
            let result = rows(&session, text).await;
            result
                .rows::<(i32,)>()
                .expect("rows")
                .map(|r| r.expect("a row").0)
                .collect::<Vec<i32>>()
        };
        assert_eq!(clustering("SELECT c FROM ks.t WHERE k = 1 AND c > 7").await, [8, 9, 10]);
        assert_eq!(
            clustering("SELECT c FROM ks.t WHERE k = 1 AND c IN (9, 2, 2)").await,
            [2, 9]
        );
        assert_eq!(
            clustering("SELECT c FROM ks.t WHERE k = 1 ORDER BY c DESC LIMIT 3").await,
            [10, 9, 8]
        );
        assert_eq!(
            clustering("SELECT c FROM ks.t WHERE k IN (1, 2) AND (c) >= (9)").await,
            [9, 10, 9, 10]
        );
        assert_eq!(clustering("SELECT c FROM ks.t PER PARTITION LIMIT 1").await.len(), 7);
        assert_eq!(rows(&session, "SELECT DISTINCT k FROM ks.t").await.rows_num(), 7);
        let count = rows(
            &session,
            "SELECT COUNT(*) FROM ks.t WHERE token(k) > -9223372036854775808",
        )
        .await;
        assert_eq!(count.single_row::<(i64,)>().expect("a row"), (77,));
        for (page_size, limit, expected) in [(5, "", 77), (11, "", 77), (100, "", 77), (7, " LIMIT 20", 20)] {
            let mut select = session
                .prepare(format!("SELECT k, c FROM ks.t{limit}"))
                .await
                .expect("prepared");
            select.set_page_size(page_size);
            let stream = session
                .execute_iter(select, ())
                .await
                .expect("a stream")
                .rows_stream::<(i64, i32)>()
                .expect("typed");
            let all: Vec<(i64, i32)> = stream.try_collect().await.expect("all pages");
            assert_eq!(all.len(), expected, "pages of {page_size}{limit}");
            let mut unique = all.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), expected, "pages of {page_size}{limit}: no row twice");
        }
        let tokens = rows(&session, "SELECT token(k), k FROM ks.t PER PARTITION LIMIT 1").await;
        let tokens: Vec<(i64, i64)> = tokens.rows().expect("rows").map(|r| r.expect("a row")).collect();
        assert!(tokens.is_sorted(), "partitions come in token order: {tokens:?}");
    });
}

#[test]
fn batches_apply_every_statement() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        for (kind, k) in [(BatchType::Logged, 1), (BatchType::Unlogged, 2)] {
            let batch = two_table_batch(&session, kind).await;
            session.batch(&batch, values(k)).await.expect("applied");
            assert_eq!(rows_of(&session, k).await, 2);
        }
        run(&session, "BEGIN BATCH USING TIMESTAMP 5 INSERT INTO ks.u (k, v) VALUES (3, 4); DELETE FROM ks.u WHERE k = 1001; APPLY BATCH").await;
        let row = rows(&session, "SELECT v, WRITETIME(v) FROM ks.u WHERE k = 3").await;
        assert_eq!(row.single_row::<(i64, i64)>().expect("a row"), (4, 5));
        let mut simple = Batch::new(BatchType::Logged);
        simple.append_statement("INSERT INTO ks.u (k, v) VALUES (9, 9)");
        session.batch(&simple, ((),)).await.expect("applied");
        sleep_ms(100).await;
        assert!(
            cluster.batchlog_entries().is_empty(),
            "{:?}",
            cluster.batchlog_entries()
        );
        for node in cluster.nodes() {
            let live = cluster.live(node).expect("runs");
            assert_eq!(
                live.table("ks", "u").expect("u").rows.len(),
                4,
                "{node}: the same rows everywhere"
            );
        }
    });
}

#[test]
fn refusals_have_the_words_of_cassandra() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        for (text, expected) in [
            ("SELECT * FROM ks.nope", "table nope does not exist"),
            ("SELECT * FROM nope_ks.t", "keyspace nope_ks does not exist"),
            ("SELECT nope FROM ks.t", "Undefined column name nope in table ks.t"),
            (
                "SELECT * FROM t",
                "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
            ),
            (
                "INSERT INTO ks.t (c, v) VALUES (1, 'x')",
                "Some partition key parts are missing: k",
            ),
            (
                "INSERT INTO ks.t (k, v) VALUES (1, 'x')",
                "Some clustering keys are missing: c",
            ),
            (
                "INSERT INTO ks.u (k, v) VALUES (1, 'x')",
                "Invalid STRING constant (x) for \"v\" of type bigint",
            ),
            (
                "INSERT INTO ks.u (k, v) VALUES (null, 1)",
                "Invalid null value in condition for column k",
            ),
            (
                "UPDATE ks.u SET v = v + 5 WHERE k = 1",
                "Invalid operation (v = v + 5) for non counter column v",
            ),
            (
                "UPDATE ks.t SET c = 5 WHERE k = 1",
                "PRIMARY KEY part c found in SET part",
            ),
            ("DROP TABLE ks.nope", "Table 'ks.nope' doesn't exist"),
            ("DROP KEYSPACE nope", "Keyspace 'nope' doesn't exist"),
            (
                "CREATE TABLE nope.t (k int PRIMARY KEY)",
                "Keyspace 'nope' doesn't exist",
            ),
            ("ALTER TABLE ks.t ADD v int", "Column with name 'v' already exists"),
            ("USE nope", "Keyspace 'nope' does not exist"),
            (
                "INSERT INTO system.local (key) VALUES ('x')",
                "system keyspace is not user-modifiable.",
            ),
            (
                "CREATE TABLE ks.x (k int PRIMARY KEY) WITH nonsense = 1",
                "Unknown property 'nonsense'",
            ),
            (
                "CREATE KEYSPACE x WITH replication = {'class': 'Odd'}",
                "Unable to find replication strategy class 'org.apache.cassandra.locator.Odd'",
            ),
            (
                "SELECT v FROM ks.t ORDER BY c",
                "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
            ),
            (
                "BEGIN BATCH USING TIMESTAMP 1 INSERT INTO ks.u (k, v) VALUES (1, 1) USING TIMESTAMP 2; APPLY BATCH",
                "Timestamp must be set either on BATCH or individual statements",
            ),
            (
                "INSERT INTO ks.u (k, v) VALUES (1, 1) IF NOT EXISTS USING TIMESTAMP 1",
                "Cannot provide custom timestamp for conditional updates",
            ),
        ] {
            assert_eq!(refusal(&session, text).await, expected, "{text}");
        }
        let filtering = refusal(&session, "SELECT v FROM ks.t WHERE v = 'x'").await;
        assert!(
            filtering.starts_with("Cannot execute this query as it might involve data filtering"),
            "{filtering}"
        );
        for (text, keyspace, table) in [("CREATE TABLE ks.t (k int PRIMARY KEY)", "ks", "t"), (DDL[0], "ks", "")] {
            let (code, _) = db_error(session.query_unpaged(text, ()).await.expect_err(text));
            assert_eq!(
                code,
                DbError::AlreadyExists {
                    keyspace: keyspace.into(),
                    table: table.into()
                }
            );
        }
        let bound = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        assert_eq!(bound.get_variable_col_specs().len(), 2);
    });
}

#[test]
fn a_changed_table_makes_its_statements_be_prepared_again() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        session.execute_unpaged(&insert, (1i64, 1i64)).await.expect("inserted");
        run(&session, "ALTER TABLE ks.u ADD w int").await;
        // The driver is told UNPREPARED and prepares again by itself.
        session.execute_unpaged(&insert, (2i64, 2i64)).await.expect("inserted");
        let row = rows(&session, "SELECT * FROM ks.u WHERE k = 2").await;
        assert_eq!(
            row.single_row::<(i64, i64, Option<i32>)>().expect("a row"),
            (2, 2, None)
        );
        run(&session, "DROP TABLE ks.u").await;
        assert!(session.execute_unpaged(&insert, (3i64, 3i64)).await.is_err());
    });
}

#[test]
fn every_node_reports_itself_and_the_same_schema() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        for node in [DB1, DB2, DB3] {
            let session = connect(&cluster).await;
            let mut select = session
                .prepare("SELECT gossip_generation, rpc_address, schema_version FROM system.local WHERE key='local'")
                .await
                .expect("prepared");
            select.set_execution_profile_handle(Some(only(&session, &cluster, node)));
            let row = session
                .execute_unpaged(&select, ())
                .await
                .expect("read")
                .into_rows_result()
                .expect("rows");
            let (generation, address, version) =
                row.single_row::<(i32, std::net::IpAddr, uuid::Uuid)>().expect("a row");
            assert_eq!(address, cluster.host(node).ip());
            assert_eq!(Some(generation), cluster.generation(node));
            assert_eq!(Some(version), cluster.schema(node).map(|s| s.version));
        }
    });
}

#[test]
fn cassandra_warns_of_large_batches_and_refuses_larger_ones() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let batch = two_table_batch(&session, BatchType::Logged).await;
        let text = "x".repeat(6_000);
        let result = session
            .batch(&batch, ((1i64, 1i32, text.as_str()), (2i64, 2i64)))
            .await
            .expect("applied");
        let warnings: Vec<&str> = result.warnings().collect();
        assert_eq!(warnings.len(), 1);
        let start = "Batch for [ks.t, ks.u] is of size ";
        assert!(
            warnings[0].starts_with(start) && warnings[0].contains("exceeding specified threshold of 5120 by "),
            "{warnings:?}"
        );
        let text = "x".repeat(60_000);
        let error = session
            .batch(&batch, ((1i64, 1i32, text.as_str()), (2i64, 2i64)))
            .await
            .expect_err("too large");
        assert_eq!(db_error(error), (DbError::Invalid, "Batch too large".to_string()));
    });
}
