//! How many logged batches of 11 inserts the simulated cluster settles per second of CPU, through the real driver, with
//! the world, the sessions and the prepares of every seed included.
//!
//! `cargo sim-run --release -p sim-cluster --example batches [SEEDS] [BATCHES] [IN_FLIGHT] [GRID_NS]`

#[cfg(madsim)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(madsim))]
fn main() {
    eprintln!("this example measures the simulated world: cargo sim-run --release -p sim-cluster --example batches");
}

#[cfg(madsim)]
fn main() {
    bench::main();
}

#[cfg(madsim)]
mod bench {
    use scylla::SerializeRow;
    use scylla::client::session::Session;
    use scylla::client::session_builder::SessionBuilder;
    use scylla::statement::batch::{Batch, BatchType};
    use sim_cluster::core::{ClusterConfig, Flavor};
    use sim_cluster::host::sim::{SimCluster, schema_image};
    use sim_cluster::model::Schema;
    use sim_world::{RunSummary, Seed, World, WorldConfig};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    const DDL: [&str; 5] = [
        "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
        "CREATE TABLE ks.trades (trade_id bigint, symbol text, base_asset bigint, quote_asset bigint, buyer bigint, \
         seller bigint, buy_order bigint, sell_order bigint, price bigint, quantity bigint, quote_amount bigint, \
         buyer_refund bigint, seller_refund bigint, match_seq bigint, output_seq bigint, bv1 bigint, bv2 bigint, \
         sv1 bigint, sv2 bigint, at bigint, PRIMARY KEY (trade_id))",
        "CREATE TABLE ks.ledger (user_id bigint, asset_id bigint, seq bigint, d_avail bigint, d_frozen bigint, \
         avail bigint, frozen bigint, cause text, reference bigint, at bigint, PRIMARY KEY ((user_id, asset_id), seq))",
        "CREATE TABLE ks.balances (user_id bigint, asset_id bigint, avail bigint, frozen bigint, version bigint, \
         PRIMARY KEY (user_id, asset_id))",
        "CREATE TABLE ks.orders (user_id bigint, order_id bigint, symbol text, side bigint, price bigint, \
         quantity bigint, filled bigint, status bigint, version bigint, at bigint, PRIMARY KEY (user_id, order_id))",
    ];
    const INSERTS: [&str; 4] = [
        "INSERT INTO ks.trades (trade_id, symbol, base_asset, quote_asset, buyer, seller, buy_order, sell_order, price, \
         quantity, quote_amount, buyer_refund, seller_refund, match_seq, output_seq, bv1, bv2, sv1, sv2, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "INSERT INTO ks.ledger (user_id, asset_id, seq, d_avail, d_frozen, avail, frozen, cause, reference, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "INSERT INTO ks.balances (user_id, asset_id, avail, frozen, version) VALUES (?, ?, ?, ?, ?)",
        "INSERT INTO ks.orders (user_id, order_id, symbol, side, price, quantity, filled, status, version, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ];

    macro_rules! row {
        ($name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
            #[derive(SerializeRow)]
            #[scylla(flavor = "enforce_order", skip_name_checks)]
            struct $name { $($field: $ty),* }
        };
    }
    row!(Trade { trade_id: i64, symbol: &'static str, base_asset: i64, quote_asset: i64, buyer: i64, seller: i64,
        buy_order: i64, sell_order: i64, price: i64, quantity: i64, quote_amount: i64, buyer_refund: i64,
        seller_refund: i64, match_seq: i64, output_seq: i64, bv1: i64, bv2: i64, sv1: i64, sv2: i64, at: i64 });
    row!(Ledger { user_id: i64, asset_id: i64, seq: i64, d_avail: i64, d_frozen: i64, avail: i64, frozen: i64,
        cause: &'static str, reference: i64, at: i64 });
    row!(Balance {
        user_id: i64,
        asset_id: i64,
        avail: i64,
        frozen: i64,
        version: i64
    });
    row!(Order { user_id: i64, order_id: i64, symbol: &'static str, side: i64, price: i64, quantity: i64, filled: i64,
        status: i64, version: i64, at: i64 });

    fn trade(i: i64) -> (Trade, [Ledger; 4], [Balance; 4], [Order; 2]) {
        let (b, s) = (i * 7 % 1000, i * 11 % 1000 + 1000);
        let ledger = |user_id, asset_id| Ledger {
            user_id,
            asset_id,
            seq: i,
            d_avail: 5,
            d_frozen: -5,
            avail: i * 3,
            frozen: i * 5,
            cause: "trade",
            reference: i,
            at: i,
        };
        let balance = |user_id, asset_id| Balance {
            user_id,
            asset_id,
            avail: i * 3,
            frozen: i * 5,
            version: i,
        };
        let order = |user_id, order_id| Order {
            user_id,
            order_id,
            symbol: "BTC_USDT",
            side: 1,
            price: 100,
            quantity: 10,
            filled: 5,
            status: 2,
            version: i,
            at: i,
        };
        let trade = Trade {
            trade_id: i,
            symbol: "BTC_USDT",
            base_asset: 1,
            quote_asset: 2,
            buyer: b,
            seller: s,
            buy_order: i * 2,
            sell_order: i * 2 + 1,
            price: 100,
            quantity: 5,
            quote_amount: 500,
            buyer_refund: 0,
            seller_refund: 0,
            match_seq: i,
            output_seq: i,
            bv1: i,
            bv2: i,
            sv1: i,
            sv2: i,
            at: i,
        };
        let ledgers = [ledger(b, 1), ledger(b, 2), ledger(s, 1), ledger(s, 2)];
        let balances = [balance(b, 1), balance(b, 2), balance(s, 1), balance(s, 2)];
        (trade, ledgers, balances, [order(b, i * 2), order(s, i * 2 + 1)])
    }

    /// Settles `total` batches, `in_flight` at a time.
    async fn settle(session: Arc<Session>, total: i64, in_flight: usize) {
        let mut statements = Vec::new();
        for text in INSERTS {
            statements.push(session.prepare(text).await.expect("prepared"));
        }
        let mut batch = Batch::new(BatchType::Logged);
        for i in [0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3] {
            batch.append_statement(statements[i].clone());
        }
        let (batch, next) = (Arc::new(batch), Arc::new(AtomicI64::new(0)));
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| {
                let (session, batch, next) = (session.clone(), batch.clone(), next.clone());
                sim_world::task::spawn(async move {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= total {
                            return;
                        }
                        let (t, [l1, l2, l3, l4], [b1, b2, b3, b4], [o1, o2]) = trade(i);
                        let rows = (t, l1, l2, l3, l4, b1, b2, b3, b4, o1, o2);
                        session.batch(&batch, rows).await.expect("settled");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    }

    fn one(seed: u64, schema: &Arc<Schema>, total: i64, in_flight: usize, grid_ns: u64) -> RunSummary {
        let mut config = WorldConfig::default();
        config.net.grid_ns = grid_ns;
        let schema = schema.clone();
        let run = World::run(Seed(seed), config, |world| async move {
            let mut config = ClusterConfig::new(3, Flavor::Scylla);
            config.schema = schema;
            let cluster = SimCluster::start(&world, config);
            cluster.ready().await;
            let client = world.host("client", "10.0.2.1".parse().expect("an address"));
            let points = cluster.contact_points();
            let work = client.spawn(async move {
                let session = SessionBuilder::new()
                    .known_nodes_addr(points)
                    .build()
                    .await
                    .expect("a session");
                settle(Arc::new(session), total, in_flight).await;
            });
            work.await.expect("the client ends");
        });
        match run {
            Ok(((), summary)) => summary,
            Err(error) => panic!("{error}"),
        }
    }

    /// CPU time of this process, seconds: from the kernel, because clocks are simulated here.
    fn cpu_s() -> f64 {
        let stat = std::fs::read_to_string("/proc/self/schedstat").expect("a Linux kernel");
        let ns: f64 = stat
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("nanoseconds first");
        ns / 1e9
    }

    pub fn main() {
        let argument = |n: usize, default: u64| {
            std::env::args()
                .nth(n)
                .map_or(default, |a| a.parse().expect("a number"))
        };
        let (seeds, total, in_flight, grid_ns) =
            (argument(1, 20), argument(2, 500), argument(3, 64), argument(4, 1000));
        let schema = Arc::new(schema_image(&ClusterConfig::new(3, Flavor::Scylla), &DDL).expect("a schema"));
        let before = cpu_s();
        let mut hash = 0u64;
        let (mut messages, mut events, mut sim_ns) = (0, 0, 0);
        for seed in 0..seeds {
            let summary = one(seed, &schema, total as i64, in_flight as usize, grid_ns);
            hash = hash.rotate_left(7) ^ summary.trace_hash;
            messages += summary.net.messages;
            events += summary.events;
            sim_ns += summary.sim_time_ns;
        }
        let cpu = cpu_s() - before;
        let batches = (seeds * total) as f64;
        println!(
            "{seeds} seeds x {total} batches, {in_flight} in flight, grid {grid_ns} ns: {:.0} batches per CPU-second, \
             {:.2} us each, {:.2} ms CPU a seed",
            batches / cpu,
            cpu * 1e6 / batches,
            cpu * 1e3 / seeds as f64
        );
        println!(
            "per batch: {:.1} messages between nodes, {:.1} trace events, {:.0} simulated us; hash {hash:016x}",
            messages as f64 / batches,
            events as f64 / batches,
            sim_ns as f64 / 1000.0 / batches
        );
    }
}
