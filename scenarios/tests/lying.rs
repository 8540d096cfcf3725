//! Anomalies on record that the ledger's own tables cannot show: it has no view, no conditional write, and no timestamp of
//! the server. Each is carried out by a plan against applications that have them, with what it does to them; with the class
//! switched off nothing of it happens.
#![cfg(madsim)]

use faults::plan::Lie;
use faults::sim::feed::{FeedCodec, FeedPorts};
use faults::sim::{Executor, Machines};
use faults::{Action, Class, Fault, Plan, When, bit};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sim_cluster::core::{ClusterConfig, Flavor};
use sim_cluster::host::sim::SimCluster;
use sim_world::trace::Record;
use sim_world::{Seed, World, WorldConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const DDL: &[&str] = &[
    "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.seats (k bigint PRIMARY KEY, owner bigint)",
    "CREATE TABLE ks.base (k bigint PRIMARY KEY, g bigint)",
    "CREATE MATERIALIZED VIEW ks.by_g AS SELECT * FROM ks.base WHERE g IS NOT NULL AND k IS NOT NULL PRIMARY KEY (g, k)",
];
/// When the fault strikes and how long it lasts, ms.
const AT_MS: u64 = 2_000;
const FOR_MS: u64 = 8_000;

/// No feed is here.
struct NoFeed;

impl FeedCodec for NoFeed {
    fn sequence(&self, _: &[u8]) -> Option<u64> {
        None
    }

    fn shorten_reply(&self, _: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }

    fn refuse_reply(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn forge(&self, _: &[u8], _: bool) -> Option<Vec<u8>> {
        None
    }

    fn forge_head(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn fault(id: u32, class: Class, lie: Lie, at_ms: u64, for_ms: u64) -> Fault {
    Fault {
        id,
        class,
        when: When::AtMs(at_ms),
        action: Action::Lie { lie, for_ms },
    }
}

/// What an application saw while a plan of this one fault was carried out, and whether the fault bit; then the same with its
/// class switched off.
fn shown<F, Fut>(class: Class, lie: Lie, application: F) -> [(u64, bool); 2]
where
    F: Fn(Session) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = u64> + Send + 'static,
{
    let fault = fault(1, class, lie, AT_MS, FOR_MS);
    let plan = Plan {
        faults: vec![fault.clone()],
        ..Plan::empty()
    };
    [plan.clone(), plan.without(&[class])].map(|plan| {
        let (seen, records) = seen(plan, application.clone());
        (seen, bit::has_bitten(&fault, &records))
    })
}

/// What an application saw while a plan was carried out, and the trace.
fn seen<F, Fut>(plan: Plan, application: F) -> (u64, Vec<Record>)
where
    F: Fn(Session) -> Fut + Send + 'static,
    Fut: Future<Output = u64> + Send + 'static,
{
    let outcome = World::run(Seed(3), WorldConfig::default(), |world| run(world, plan, application));
    let (seen, summary) = outcome.unwrap_or_else(|error| panic!("{error}"));
    (seen, summary.records)
}

async fn run<F, Fut>(world: World, plan: Plan, application: F) -> u64
where
    F: Fn(Session) -> Fut + Send + 'static,
    Fut: Future<Output = u64> + Send + 'static,
{
    let cluster = SimCluster::start_with(&world, ClusterConfig::new(3, Flavor::Scylla), DDL).expect("a schema");
    let host = |name: &str, ip: &str| world.host(name, ip.parse().expect("an address"));
    let machines = Machines {
        settlement: host("settlement", "10.0.3.1"),
        engine: host("engine", "10.0.2.1"),
        cluster: cluster.clone(),
        nodes: 3,
    };
    let ports = FeedPorts {
        publish: 1,
        replay: 2,
        codec: Arc::new(NoFeed),
    };
    let client = machines.settlement.clone();
    let _executor = Executor::arm(&world, machines, &plan, &ports);
    cluster.ready().await;
    let points = cluster.contact_points();
    client
        .spawn(async move {
            let session = SessionBuilder::new()
                .known_nodes_addr(points)
                .build()
                .await
                .expect("a session");
            application(session).await
        })
        .await
        .expect("the application ends")
}

/// The numbers that a statement selects.
async fn numbers(session: &Session, statement: &str) -> Vec<i64> {
    let rows = session.query_unpaged(statement, ()).await.expect("a scan");
    let rows = rows.into_rows_result().expect("rows");
    let numbers = rows.rows::<(i64,)>().expect("numbers");
    numbers.map(|row| row.expect("a number").0).collect()
}

async fn until_it_lies() {
    sleep(Duration::from_millis(AT_MS + 100)).await;
}

/// How often two clients both got the same seat.
async fn seats_sold_twice(session: Session) -> u64 {
    until_it_lies().await;
    let session = Arc::new(session);
    let insert = session
        .prepare("INSERT INTO ks.seats (k, owner) VALUES (?, ?) IF NOT EXISTS")
        .await
        .expect("prepared");
    let mut twice = 0;
    for seat in 0..200i64 {
        let buyers = [1i64, 2].map(|owner| {
            let (session, insert) = (session.clone(), insert.clone());
            tokio::spawn(async move {
                let Ok(answer) = session.execute_unpaged(&insert, (seat, owner)).await else {
                    return false;
                };
                let rows = answer.into_rows_result().expect("rows");
                let (applied, ..) = rows.single_row::<(bool, Option<i64>, Option<i64>)>().expect("a row");
                applied
            })
        });
        let mut sold = 0;
        for buyer in buyers {
            sold += u64::from(buyer.await.expect("a buyer"));
        }
        twice += u64::from(sold == 2);
    }
    twice
}

#[test]
fn a_replica_that_forgets_its_promises_lets_two_conditional_writes_win() {
    let lie = Lie::ForgetPaxos { node: 0 };
    let [(twice, bit), (twice_without, bit_without)] = shown(Class::PaxosForgotten, lie, seats_sold_twice);
    assert!(twice > 0 && bit, "{twice} seats sold twice");
    assert_eq!((twice_without, bit_without), (0, false));
}

/// How many rows of the base a view lacks.
async fn rows_lacking_in_the_view(session: Session) -> u64 {
    until_it_lies().await;
    let insert = session
        .prepare("INSERT INTO ks.base (k, g) VALUES (?, ?)")
        .await
        .expect("prepared");
    for k in 0..50i64 {
        session.execute_unpaged(&insert, (k, k)).await.expect("written");
    }
    sleep(Duration::from_secs(30)).await;
    let (base, view) = ("SELECT k FROM ks.base", "SELECT k FROM ks.by_g");
    (numbers(&session, base).await.len() - numbers(&session, view).await.len()) as u64
}

#[test]
fn updates_lost_on_their_way_to_a_view_are_missing_for_good() {
    let [(lacking, bit), (lacking_without, bit_without)] =
        shown(Class::ViewUpdatesLost, Lie::LoseViewUpdates, rows_lacking_in_the_view);
    assert!(lacking > 0 && bit, "{lacking} rows");
    assert_eq!((lacking_without, bit_without), (0, false));
}

/// How many rows a view has that its base has not any more.
async fn ghosts_in_the_view(session: Session) -> u64 {
    let insert = session
        .prepare("INSERT INTO ks.base (k, g) VALUES (?, ?)")
        .await
        .expect("prepared");
    for k in 0..50i64 {
        session.execute_unpaged(&insert, (k, k)).await.expect("written");
    }
    until_it_lies().await;
    for k in 0..50i64 {
        session.execute_unpaged(&insert, (k, k + 100)).await.expect("moved");
    }
    sleep(Duration::from_secs(30)).await;
    let found = numbers(&session, "SELECT g FROM ks.by_g").await;
    found.iter().filter(|g| **g < 100).count() as u64
}

#[test]
fn rows_of_a_view_whose_removal_is_lost_are_ghosts() {
    let [(ghosts, bit), (ghosts_without, bit_without)] =
        shown(Class::ViewUpdatesLost, Lie::LoseViewUpdates, ghosts_in_the_view);
    assert!(ghosts > 0 && bit, "{ghosts} ghosts");
    assert_eq!((ghosts_without, bit_without), (0, false));
}

#[test]
fn an_anomaly_lasts_until_the_last_fault_that_wants_it_ends() {
    let of = |id, at_ms, for_ms| fault(id, Class::ViewUpdatesLost, Lie::LoseViewUpdates, at_ms, for_ms);
    let until = |plan: Vec<Fault>| {
        let plan = Plan {
            faults: plan,
            ..Plan::empty()
        };
        seen(plan, rows_lacking_in_the_view).0
    };
    // What is written from 2.1 s on: a short fault does not end a long one, in either order, and its own end is one.
    assert!(until(vec![of(1, 500, FOR_MS), of(2, 700, 300)]) > 0);
    assert!(until(vec![of(1, 500, 500), of(2, 700, FOR_MS)]) > 0);
    assert_eq!(until(vec![of(1, 500, 500), of(2, 700, 500)]), 0);
}

/// How many writes lost to an earlier one.
async fn later_writes_lost(session: Session) -> u64 {
    until_it_lies().await;
    let insert = session
        .prepare("INSERT INTO ks.base (k, g) VALUES (?, ?)")
        .await
        .expect("prepared");
    // As many as it takes to meet the node with the wrong clock; the later ones after it is right again.
    for g in [1i64, 2] {
        for k in 0..50i64 {
            session.execute_unpaged(&insert, (k, g)).await.expect("written");
        }
        sleep(Duration::from_millis(FOR_MS)).await;
    }
    let found = numbers(&session, "SELECT g FROM ks.base").await;
    found.iter().filter(|g| **g == 1).count() as u64
}

#[test]
fn what_a_fast_clock_stamped_wins_over_later_writes() {
    let lie = Lie::ClockAhead { node: 1, by_ms: 60_000 };
    let [(lost, bit), (lost_without, bit_without)] = shown(Class::ClockAhead, lie, later_writes_lost);
    assert!(lost > 0 && bit, "{lost} writes");
    assert_eq!((lost_without, bit_without), (0, false));
}
