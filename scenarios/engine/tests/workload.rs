//! Generated order flow: whatever the seed, the stream is consistent, conserves money and is the same again.

mod common;

use common::Follower;
use engine::contradiction::{Contradiction, FIRST_USER, Falsehood};
use engine::session::run;
use engine::source::Source;
use engine::workload::{WorkloadError, WorkloadSpec};
use proptest::prelude::*;
use settlement_events::{Asset, AssetId, Digest, EventKind, Registry, Symbol, SymbolId, UserId};

fn follow(spec: &WorkloadSpec, registry: &Registry) -> Follower {
    let stream = run(registry.clone(), &Source::Workload(spec.clone()), &[]).expect("a good spec");
    Follower::follow(&stream, registry)
}

#[test]
fn the_mix_of_five_hundred_trades() {
    let registry = Registry::example();
    let mut report = String::new();
    for seed in 1..=3 {
        let follower = follow(
            &WorkloadSpec {
                seed,
                ..WorkloadSpec::default()
            },
            &registry,
        );
        report += &format!(
            "seed {seed}\n{}self-trades: {}\nrefunds: {}\ntrades with a partial fill: {}\nfees: {}\nrounded: {}\nusers: {}\nby symbol: {:?}\n\n",
            follower.mix(),
            follower.self_trades,
            follower.refunds,
            follower.partial_fills,
            follower.fees,
            follower.rounded,
            follower.trades_by_user.len(),
            follower.trades_by_symbol,
        );
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_workload_has_everything_in_it() {
    let registry = Registry::example();
    for seed in 0..20 {
        let follower = follow(
            &WorkloadSpec {
                seed,
                ..WorkloadSpec::default()
            },
            &registry,
        );
        assert_eq!(follower.trades(), 500, "exactly as many as asked for");
        for kind in [
            EventKind::Deposit,
            EventKind::Withdrawal,
            EventKind::OrderPlaced,
            EventKind::OrderCancelled,
        ] {
            assert!(follower.kinds.contains_key(&kind), "seed {seed} has no {kind}");
        }
        let orders = follower.kinds[&EventKind::OrderPlaced];
        assert!(orders <= 700, "seed {seed}: {orders} orders for 500 trades");
        assert!(
            follower.self_trades > 0 && follower.refunds > 0 && follower.partial_fills > 0,
            "seed {seed}"
        );
        assert!(follower.fees > 500 && follower.rounded > 0, "seed {seed}");
        assert_eq!(follower.trades_by_symbol.len(), 3, "seed {seed}");
        assert!(
            follower.largest_event_bytes < 400,
            "seed {seed}: {} bytes",
            follower.largest_event_bytes
        );
    }
}

#[test]
fn users_trade_with_zipf_shares() {
    let spec = WorkloadSpec {
        trades: 5_000,
        seed: 5,
        ..WorkloadSpec::default()
    };
    let follower = follow(&spec, &Registry::example());
    let of = |user| follower.trades_by_user.get(&UserId(user)).copied().unwrap_or(0);
    // Weights 1/r over 32 users: the first has 24.6% of 10,000 sides.
    assert!((1_900..=3_100).contains(&of(1)), "{:?}", follower.trades_by_user);
    assert!(of(1) > 3 * of(8) && of(8) > of(32), "{:?}", follower.trades_by_user);
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_ever() {
    let head = |seed| {
        let spec = WorkloadSpec {
            seed,
            trades: 200,
            ..WorkloadSpec::default()
        };
        let stream = run(Registry::example(), &Source::Workload(spec), &[]).expect("a good spec");
        stream.last().expect("events").0.digest
    };
    let first: Digest = head(42);
    assert_eq!(head(42), first);
    assert_ne!(head(43), first);
    // The head's digest stands for every byte of the stream. It changes only when the flow is changed on purpose.
    assert_eq!(
        first.to_string(),
        "41add140a1b2b102a8a0bfff0605ffac04951c47da5c865719351a9db40b8867"
    );
}

#[test]
fn contradictions_are_marked_refused_and_change_nothing_else() {
    let registry = Registry::example();
    let spec = WorkloadSpec {
        seed: 3,
        trades: 100,
        ..WorkloadSpec::default()
    };
    let contradictions: Vec<Contradiction> = (0..)
        .zip(Falsehood::ALL)
        .map(|(nth, falsehood)| Contradiction {
            before_command: nth * 10,
            falsehood,
        })
        .collect();
    let source = Source::Workload(spec);
    let plain = run(registry.clone(), &source, &[]).expect("a good spec");
    let with = run(registry.clone(), &source, &contradictions).expect("a good spec");
    let needed = |(nth, falsehood): (u32, Falsehood)| falsehood.groundwork(nth, &registry).len();
    let with_groundwork: usize = (0..).zip(Falsehood::ALL).map(needed).sum();
    assert_eq!(
        with.len(),
        plain.len() + Falsehood::ALL.len() + with_groundwork,
        "those that do not show alone need another event before them"
    );
    let marked: Vec<_> = with.iter().filter_map(|(_, code)| *code).collect();
    assert_eq!(marked, Falsehood::ALL.map(Falsehood::code));
    // Sequences and digests move on, what happened is the same.
    let bodies = |stream: &[(settlement_events::Envelope, Option<&str>)]| {
        let honest = stream.iter().filter(|(_, code)| code.is_none());
        honest
            .map(|(envelope, _)| envelope.open().expect("opens"))
            .filter(|event| event.changes().iter().all(|change| change.user_id < FIRST_USER))
            .map(|event| event.body)
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies(&with), bodies(&plain));
    Follower::follow(&with, &registry);
}

#[test]
fn specs_that_make_no_flow_are_refused() {
    let registry = Registry::example();
    let problem = |spec: WorkloadSpec| {
        run(registry.clone(), &Source::Workload(spec), &[])
            .expect_err("must be refused")
            .to_string()
    };
    let base = WorkloadSpec::default;
    assert!(problem(WorkloadSpec { users: 0, ..base() }).contains("workload.users = 0"));
    assert!(
        problem(WorkloadSpec {
            makers_max: 1,
            ..base()
        })
        .contains("makers_max = 1")
    );
    assert!(
        problem(WorkloadSpec {
            cancels_permille: 1_001,
            ..base()
        })
        .contains("cancels_permille")
    );
    let unknown = problem(WorkloadSpec {
        symbols: vec!["DOGE_USDT".into()],
        ..base()
    });
    assert!(
        unknown.contains("DOGE_USDT") && unknown.contains("BTC_USDT, ETH_USDT"),
        "{unknown}"
    );
    let empty = Registry::new(vec![], vec![], vec![]).expect("an empty registry");
    let source = Source::Workload(base());
    assert_eq!(run(empty, &source, &[]).map(|s| s.len()), Err(WorkloadError::NoSymbols));
}

#[test]
fn no_trades_asked_for_is_an_empty_stream() {
    let source = Source::Workload(WorkloadSpec {
        trades: 0,
        ..WorkloadSpec::default()
    });
    assert_eq!(run(Registry::example(), &source, &[]).map(|stream| stream.len()), Ok(0));
}

/// Registries with any decimals and fees.
fn registry() -> impl Strategy<Value = Registry> {
    (0..=18_u8, 0..=18_u8, 0..=1_000_000_u32, 0..=20_000_u32).prop_map(|(base, quote, maker_fee_ppm, taker_fee_ppm)| {
        let asset = |id, name: &str, decimals| Asset {
            id: AssetId(id),
            name: name.into(),
            decimals,
        };
        let symbol = Symbol {
            id: SymbolId(1),
            name: "A_B".into(),
            base: AssetId(1),
            quote: AssetId(2),
            maker_fee_ppm,
            taker_fee_ppm,
        };
        Registry::new(
            vec![asset(1, "A", base), asset(2, "B", quote)],
            vec![symbol],
            vec![UserId(900_001)],
        )
        .expect("consistent")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_seed_and_any_registry_give_a_consistent_stream(
        seed in any::<u64>(), users in 1..60_u32, makers_max in 2..30_u64, self_trades_permille in 0..=1_000_u64,
        registry in registry(),
    ) {
        let spec = WorkloadSpec { seed, users, makers_max, self_trades_permille, trades: 60, ..WorkloadSpec::default() };
        prop_assert_eq!(follow(&spec, &registry).trades(), 60);
    }
}
