//! What scylla-sim needs for many rows: writes the ledger design's tables through the real driver, in LOGGED batches as the
//! settlement service sends them, then prints rows, resident memory, log bytes, how long reads take beside writes, and how
//! long a restart takes after kill -9. `ci/scale` builds and runs it.
//!
//! `scale PROGRAM DIR [ROWS] [NODES]`: the scylla-sim to run, where its data go, rows (1000000), nodes (1)
//!
//! The last line is for scripts: `rows=… nodes=… rss_mb=… log_mb=… restart_s=… restart_rss_mb=…`

#[cfg(madsim)]
fn main() {
    eprintln!("this example measures the production world: cargo run --release -p sim-cluster --example scale");
}

#[cfg(not(madsim))]
fn main() {
    measure::main();
}

#[cfg(not(madsim))]
mod measure {
    use futures::stream::{self, StreamExt};
    use scylla::client::execution_profile::ExecutionProfile;
    use scylla::client::session::Session;
    use scylla::client::session_builder::SessionBuilder;
    use scylla::statement::Consistency;
    use scylla::statement::batch::{Batch, BatchType};
    use scylla::statement::prepared::PreparedStatement;
    use scylla::value::CqlValue;
    use std::io::{BufRead, BufReader};
    use std::net::SocketAddr;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;
    use tokio::time::Instant;

    /// Batches under way.
    const IN_FLIGHT: usize = 32;
    /// Rows that a batch adds; the four balances that it changes are there after a while.
    const ROWS_PER_BATCH: usize = 10;
    const USERS: i64 = 2000;
    /// Reads of each kind beside writes.
    const READS: i64 = 300;

    /// The settlement service's own table definitions.
    const TABLES: [(&str, &str); 6] = [
        (
            "settled_events",
            include_str!("../../../schema/cql/ledger/settled_events.cql"),
        ),
        (
            "settled_trades_1",
            include_str!("../../../schema/cql/ledger/settled_trades.cql"),
        ),
        (
            "balance_ledger",
            include_str!("../../../schema/cql/ledger/balance_ledger.cql"),
        ),
        (
            "user_balances",
            include_str!("../../../schema/cql/ledger/user_balances.cql"),
        ),
        ("orders", include_str!("../../../schema/cql/ledger/orders.cql")),
        (
            "trades_by_user",
            include_str!("../../../schema/cql/ledger/trades_by_user.cql"),
        ),
    ];

    /// A running scylla-sim.
    struct Program {
        child: Child,
        address: SocketAddr,
        began: Instant,
    }

    impl Program {
        fn start(path: &str, data: &Path, nodes: usize, port: u16) -> Program {
            let began = Instant::now();
            let mut child = Command::new(path)
                .args([
                    "--nodes",
                    &nodes.to_string(),
                    "--listen",
                    &format!("127.0.0.1:{port}"),
                    "--data",
                ])
                .arg(data)
                .stdout(Stdio::piped())
                .spawn()
                .expect("scylla-sim starts");
            let output = BufReader::new(child.stdout.take().expect("piped"));
            let mut address = None;
            for line in output.lines() {
                let line = line.expect("UTF-8");
                if let Some(rest) = line.trim().strip_prefix("node 1: ") {
                    address = rest.split(',').next().and_then(|a| a.parse().ok());
                }
                if line.starts_with("serving") {
                    let address = address.expect("it tells where it serves");
                    return Program { child, address, began };
                }
            }
            let ended = child.wait();
            panic!("scylla-sim ended; see what it said above: {ended:?}");
        }

        /// Resident and highest resident memory, MB.
        fn memory_mb(&self) -> (u64, u64) {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
                let kb: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                kb / 1024
            };
            (field("VmRSS"), field("VmHWM"))
        }

        fn kill(mut self) {
            self.child.kill().expect("killed");
            self.child.wait().expect("waited for");
        }
    }

    /// Columns of a CREATE TABLE, one in a line, with their types.
    fn columns(text: &'static str) -> Vec<(&'static str, &'static str)> {
        let lines = text
            .lines()
            .filter(|l| l.starts_with("    ") && !l.contains("PRIMARY KEY"));
        lines
            .filter_map(|l| l.trim().trim_end_matches(',').split_once(' '))
            .collect()
    }

    fn value(column: &str, ty: &str, keys: &[(&str, i64)], i: i64) -> CqlValue {
        let n = keys.iter().find(|(k, _)| *k == column).map_or(i * 31, |(_, v)| *v);
        match ty {
            "int" => CqlValue::Int(n as i32),
            "text" => CqlValue::Text(if column == "side" { "buy" } else { "trade" }.to_owned()),
            "boolean" => CqlValue::Boolean(i % 2 == 0),
            "blob" => {
                let bytes = if column == "fees" { 40 } else { 32 };
                CqlValue::Blob((0..bytes).map(|b| (i >> (b % 8)) as u8 ^ b as u8).collect())
            }
            _ => CqlValue::BigInt(n),
        }
    }

    /// The rows of trade `i`: the table's place in [`TABLES`], and its keys.
    fn rows(i: i64) -> Vec<(usize, Vec<(&'static str, i64)>)> {
        let (buyer, seller) = (i * 7 % USERS, i * 11 % USERS + USERS);
        let mut rows = vec![
            (0, vec![("bucket", i / 10_000), ("output_sequence", i)]),
            (1, vec![("trade_id", i), ("output_sequence", i)]),
        ];
        for (user, asset) in [(buyer, 1), (buyer, 2), (seller, 1), (seller, 2)] {
            rows.push((2, vec![("user_id", user), ("asset_id", asset), ("seq", i)]));
            rows.push((3, vec![("user_id", user), ("asset_id", asset)]));
        }
        for user in [buyer, seller] {
            rows.push((4, vec![("user_id", user), ("order_id", i)]));
            rows.push((5, vec![("user_id", user), ("day", 20_000), ("output_sequence", i)]));
        }
        rows
    }

    async fn connect(address: SocketAddr) -> Session {
        let profile = ExecutionProfile::builder().consistency(Consistency::Quorum).build();
        let builder = SessionBuilder::new().known_node_addr(address);
        let builder = builder.default_execution_profile_handle(profile.into_handle());
        builder.build().await.expect("a session")
    }

    struct Tables {
        inserts: Vec<PreparedStatement>,
        columns: Vec<Vec<(&'static str, &'static str)>>,
    }

    async fn create(session: &Session, nodes: usize) {
        let copies = nodes.min(3);
        let keyspace = format!(
            "CREATE KEYSPACE scale WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}"
        );
        session.query_unpaged(keyspace, ()).await.expect("a keyspace");
        for (_, text) in TABLES {
            let text = text.replace("{keyspace}", "scale").replace("{symbol}", "1");
            let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("--")).collect();
            session.query_unpaged(lines.join("\n"), ()).await.expect("a table");
        }
    }

    async fn prepare(session: &Session) -> Tables {
        let mut tables = Tables {
            inserts: Vec::new(),
            columns: Vec::new(),
        };
        for (name, text) in TABLES {
            let columns = columns(text);
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let marks = vec!["?"; names.len()].join(", ");
            let insert = format!("INSERT INTO scale.{name} ({}) VALUES ({marks})", names.join(", "));
            tables.inserts.push(session.prepare(insert).await.expect("prepared"));
            tables.columns.push(columns);
        }
        tables
    }

    async fn write(session: &Session, tables: &Tables, i: i64) {
        let mut batch = Batch::new(BatchType::Logged);
        let mut values = Vec::new();
        for (table, keys) in rows(i) {
            batch.append_statement(tables.inserts[table].clone());
            let row = tables.columns[table].iter().map(|(name, ty)| value(name, ty, &keys, i));
            values.push(row.collect::<Vec<_>>());
        }
        session.batch(&batch, values).await.expect("a batch");
    }

    fn log_mb(data: &Path) -> u64 {
        let mut bytes = 0;
        for node in std::fs::read_dir(data).expect("the data").flatten() {
            let files = std::fs::read_dir(node.path()).into_iter().flatten().flatten();
            bytes += files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>();
        }
        bytes >> 20
    }

    /// Milliseconds that a read takes with a write of new rows (from batch `fresh` on) before each, of a row and of the end of a partition.
    async fn reads(session: &Session, tables: &Tables, batches: i64, fresh: i64) -> (f64, f64) {
        let row = "SELECT * FROM scale.settled_trades_1 WHERE trade_id = ? AND output_sequence = ?";
        let slice = "SELECT * FROM scale.balance_ledger WHERE user_id = ? AND asset_id = 1 LIMIT 5";
        let row = session.prepare(row).await.expect("prepared");
        let slice = session.prepare(slice).await.expect("prepared");
        let mut took = [Duration::ZERO; 2];
        for n in 0..READS {
            write(session, tables, fresh + n).await;
            let i = n * 7919 % batches;
            let began = Instant::now();
            let found = session.execute_unpaged(&row, (i, i)).await.expect("a read");
            took[0] += began.elapsed();
            assert_eq!(found.into_rows_result().expect("rows").rows_num(), 1);
            write(session, tables, fresh + READS + n).await;
            let began = Instant::now();
            let found = session.execute_unpaged(&slice, (i * 7 % USERS,)).await.expect("a read");
            took[1] += began.elapsed();
            assert!(found.into_rows_result().expect("rows").rows_num() > 0);
        }
        let each = |t: Duration| t.as_secs_f64() * 1000.0 / READS as f64;
        (each(took[0]), each(took[1]))
    }

    pub fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [path, data, rest @ ..] = &arguments[..] else {
            eprintln!("scale PROGRAM DIR [ROWS] [NODES]");
            std::process::exit(2);
        };
        let number = |i: usize, default| rest.get(i).map_or(default, |n: &String| n.parse().expect("a number"));
        let (wanted, nodes) = (number(0, 1_000_000), number(1, 1));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(run(path, Path::new(data), wanted, nodes));
    }

    async fn run(path: &str, data: &Path, wanted: usize, nodes: usize) {
        let program = Program::start(path, data, nodes, 0);
        let port = program.address.port();
        let session = connect(program.address).await;
        create(&session, nodes).await;
        let tables = prepare(&session).await;
        let batches = wanted.div_ceil(ROWS_PER_BATCH) as i64;
        let began = Instant::now();
        let (session_of, tables_of) = (&session, &tables);
        let writes = stream::iter(0..batches).map(|i| write(session_of, tables_of, i));
        writes.buffer_unordered(IN_FLIGHT).for_each(async |()| {}).await;
        let took = began.elapsed().as_secs_f64();
        let (rss_mb, highest_mb) = program.memory_mb();
        println!(
            "{batches} batches in {took:.1} s, {:.0} a second",
            batches as f64 / took
        );
        println!(
            "resident {rss_mb} MB, at most {highest_mb} MB; logs {} MB",
            log_mb(data)
        );
        let (row_ms, slice_ms) = reads(&session, &tables, batches, batches).await;
        println!("a read after a write: {row_ms:.2} ms for a row, {slice_ms:.2} ms for the end of a partition");
        // Some more rows than were in order then: each read has to look at what came since.
        let from = batches + 2 * READS;
        let more = stream::iter(from..from + batches / 20).map(|i| write(session_of, tables_of, i));
        more.buffer_unordered(IN_FLIGHT).for_each(async |()| {}).await;
        let (row_ms, slice_ms) = reads(&session, &tables, batches, from + batches / 20).await;
        println!("with a twentieth more rows since: {row_ms:.2} ms, {slice_ms:.2} ms");
        // What the last period wrote has to be on its way to the disk.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let log_mb = log_mb(data);
        drop(session);
        program.kill();

        let program = Program::start(path, data, nodes, port);
        let restart_s = program.began.elapsed().as_secs_f64();
        let session = connect(program.address).await;
        let check = "SELECT output_sequence FROM scale.settled_trades_1 WHERE trade_id = ?";
        for n in 0..100 {
            let i = n * 7919 % batches;
            let found = session.query_unpaged(check, (i,)).await.expect("a read");
            assert_eq!(
                found.into_rows_result().expect("rows").rows_num(),
                1,
                "trade {i} is gone"
            );
        }
        let (again_mb, again_highest_mb) = program.memory_mb();
        println!("restart in {restart_s:.1} s, resident {again_mb} MB, at most {again_highest_mb} MB");
        println!(
            "rows={} nodes={nodes} rss_mb={rss_mb} log_mb={log_mb} restart_s={restart_s:.1} restart_rss_mb={again_mb}",
            batches as usize * ROWS_PER_BATCH
        );
        drop(session);
        program.kill();
    }
}
