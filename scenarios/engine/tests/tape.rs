//! Tapes: every execution becomes a trade of equal size and price, whatever else is in the file.

mod common;

use common::Follower;
use engine::session::run;
use engine::source::Source;
use engine::tape::{MessageKind, Tape, TapeError, TapeSpec, read_messages};
use proptest::prelude::*;
use settlement_events::{Body, EventKind, Side};

/// The real tape, beside the workspace where it is kept.
const REAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/data/amzn-2021-04-12-0930.messages.csv.gz"
);

/// Six orders and everything that can happen to them, small enough to follow by hand.
const SMALL: &str = "\
34200.001,1,11,100,33578400,1
34200.002,1,12,50,33578400,1
34200.003,1,13,80,33590000,-1
34200.004,4,11,100,33578400,1
34200.004,4,12,20,33578400,1
34200.005,5,0,7,33580000,1
34200.006,2,13,30,33590000,-1
34200.007,4,13,50,33590000,-1
34200.008,4,5,10,33577000,1
34200.009,3,5,15,33577000,1
34200.010,3,12,30,33578400,1
34200.011,3,6,40,33577100,1
34200.012,3,12,30,33578400,1
34200.013,6,-1,45725,33552100,-1
34200.014,7,0,0,-1,-1
";

fn import(text: &str, spec: &TapeSpec) -> Result<std::sync::Arc<Tape>, TapeError> {
    Tape::import("test-2021-04-12.csv", text.as_bytes(), spec)
}

fn follow(tape: &std::sync::Arc<Tape>) -> (Follower, Vec<(u64, u64)>) {
    let stream = run(tape.registry.clone(), &Source::Tape(tape.clone()), &[]).expect("a tape is a source");
    let trades = stream
        .iter()
        .filter_map(|(envelope, _)| match envelope.open().expect("opens").body {
            Body::Trade(trade) => Some((trade.quantity.0, trade.price.0)),
            _ => None,
        });
    let trades = trades.collect();
    (Follower::follow(&stream, &tape.registry), trades)
}

/// The executions of a file, in its order.
fn executions(file: &[u8]) -> Vec<(u64, u64)> {
    let messages = read_messages(file).expect("a good file");
    let executed = |kind| matches!(kind, MessageKind::Execute | MessageKind::ExecuteHidden);
    messages
        .iter()
        .filter(|m| executed(m.kind))
        .map(|m| (m.size, m.price))
        .collect()
}

#[test]
fn a_small_tape_by_hand() {
    let tape = import(SMALL, &TapeSpec::default()).expect("a good tape");
    let (follower, trades) = follow(&tape);
    assert_eq!(
        trades,
        [
            (100, 33_578_400),
            (20, 33_578_400),
            (7, 33_580_000),
            (50, 33_590_000),
            (10, 33_577_000)
        ]
    );
    let report = &tape.report;
    assert_eq!((report.messages, report.trades, follower.trades()), (15, 5, 5));
    // Orders 11 and 12 go to one aggressor; 13 was placed again when it was reduced; 5 is from before the file and
    // stands behind 12; the fifth is hidden.
    assert_eq!(
        (report.by_priority, report.by_name, report.aggressors),
        (3, 2, 4),
        "{report:?}"
    );
    assert_eq!((report.orders_unplaced, report.restated), (1, 0));
    assert_eq!(follower.kinds[&EventKind::Deposit], report.deposits);
    insta::assert_snapshot!(serde_json::to_string_pretty(report).expect("plain data"));
}

#[test]
fn an_execution_the_file_cannot_explain_is_still_a_trade() {
    // More than the order has; an order at another price; one that is gone; a worse price first.
    let text = "\
1.0,1,11,100,1000000,1
1.0,1,12,100,1010000,1
2.0,4,11,150,1000000,1
3.0,4,12,10,1005000,1
4.0,4,11,100,1000000,1
5.0,4,11,5,1000000,1
6.0,4,0,3,990000,-1
";
    let tape = import(text, &TapeSpec::default()).expect("a good tape");
    let (_, trades) = follow(&tape);
    assert_eq!(
        trades,
        [
            (150, 1_000_000),
            (10, 1_005_000),
            (100, 1_000_000),
            (5, 1_000_000),
            (3, 990_000)
        ]
    );
    // Order 12 stands before 11, which is executed past it: at the end it is taken back, because nothing names it again.
    assert_eq!(
        (tape.report.restated, tape.report.by_name, tape.report.by_priority),
        (3, 4, 1)
    );
}

#[test]
fn messages_out_of_order_keep_their_place() {
    let tape = import("2.0,1,1,5,1000000,1\n1.0,4,1,5,1000000,1\n", &TapeSpec::default()).expect("a good tape");
    assert_eq!(tape.report.out_of_order, 1);
    assert_eq!(follow(&tape).1, [(5, 1_000_000)]);
}

#[test]
fn the_same_seed_gives_the_same_commands_and_another_seed_other_users() {
    let with = |seed| {
        import(
            SMALL,
            &TapeSpec {
                seed,
                ..TapeSpec::default()
            },
        )
        .expect("a good tape")
    };
    assert_eq!(with(1).commands, with(1).commands);
    assert_ne!(with(1).commands, with(2).commands);
    assert_ne!(with(1).identity, with(2).identity);
    assert_eq!(follow(&with(1)).1, follow(&with(2)).1);
}

#[test]
fn the_real_tape() {
    let Ok(file) = std::fs::read(REAL) else {
        println!("{REAL} is not there: only the tape written in this test was tried");
        assert_eq!(executions(SMALL.as_bytes()).len(), 5);
        return;
    };
    let tape = Tape::import(REAL, &file, &TapeSpec::default()).expect("the real tape");
    let (follower, trades) = follow(&tape);
    assert_eq!(trades.len(), 6_928);
    assert_eq!(trades, executions(&file));
    assert_eq!(follower.trades(), 6_928);
    let by_type = |number: u8| &tape.report.types[&number];
    assert_eq!((by_type(4).trades, by_type(5).trades), (4_276, 2_652));
    assert_eq!(
        (by_type(1).messages, by_type(3).messages, by_type(6).messages),
        (11_022, 9_046, 1)
    );
    for entry in tape.report.types.values() {
        let skipped: u64 = entry.skipped.values().sum();
        assert_eq!(entry.replayed + skipped, entry.messages, "{entry:?}");
    }
    assert!(tape.report.by_priority > 4_000, "{:?}", tape.report);
    assert_eq!(tape.report.symbol, "AMZN");
    insta::assert_snapshot!(serde_json::to_string_pretty(&tape.report).expect("plain data"));
}

#[test]
fn a_cut_real_tape_is_named_as_such() {
    let Ok(file) = std::fs::read(REAL) else {
        println!("{REAL} is not there: a small file is cut instead");
        let error = import(&SMALL[..SMALL.len() - 8], &TapeSpec::default()).expect_err("cut");
        assert!(matches!(error, TapeError::MissingColumns { line: 15, .. }), "{error}");
        return;
    };
    let error = Tape::import(REAL, &file[..file.len() / 2], &TapeSpec::default()).expect_err("cut in half");
    assert!(
        matches!(error, TapeError::TruncatedGzip { good_bytes } if good_bytes > 100_000),
        "{error}"
    );
}

/// Any message at all: few ids and prices, so that they meet.
fn line() -> impl Strategy<Value = String> {
    let kind = prop_oneof![4 => Just(1), 1 => Just(2), 1 => Just(3), 4 => Just(4), 1 => Just(5), 1 => Just(6)];
    let side = prop::sample::select(vec![Side::Buy, Side::Sell]);
    (0..4_u64, kind, 1..12_u64, 1..60_u64, 95..105_u64, side).prop_map(|(time, kind, order, size, price, side)| {
        let direction = if side == Side::Buy { 1 } else { -1 };
        format!("{time}.5,{kind},{order},{size},{},{direction}\n", price * 10_000)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_messages_become_a_consistent_stream_with_every_execution(
        lines in prop::collection::vec(line(), 1..80), seed in any::<u64>(), users in 1..10_u32,
    ) {
        let text = lines.concat();
        let imported = import(&text, &TapeSpec { seed, users, ..TapeSpec::default() });
        if executions(text.as_bytes()).is_empty() {
            prop_assert_eq!(imported.err(), Some(TapeError::NoExecutions { messages: lines.len() }));
            return Ok(());
        }
        let tape = imported.expect("a good tape");
        let (follower, trades) = follow(&tape);
        prop_assert_eq!(&trades, &executions(text.as_bytes()));
        prop_assert_eq!(follower.trades(), tape.report.trades);
        let events: u64 = follower.kinds.values().sum();
        prop_assert_eq!(events, tape.report.events);
        for entry in tape.report.types.values() {
            prop_assert_eq!(entry.replayed + entry.skipped.values().sum::<u64>(), entry.messages);
        }
    }

    #[test]
    fn any_bytes_are_a_tape_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), gzip in any::<bool>()) {
        let mut bytes = bytes;
        if gzip {
            bytes.splice(0..0, [0x1f, 0x8b, 8]);
        }
        if let Ok(tape) = Tape::import("x", &bytes, &TapeSpec::default()) {
            prop_assert!(tape.report.messages > 0);
        }
    }
}
