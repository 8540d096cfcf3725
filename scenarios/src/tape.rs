//! Whether a tape was settled as its file says: every message of type 4 or 5 is one settled trade of equal size and
//! price, in the file's order, and there is no other trade.
//!
//! Verified against the rows that a client reads at the end, with a reader of the file that shares nothing with the
//! importer: an importer that misreads, drops, merges or invents an execution hands the engine, settlement and the oracle
//! the same wrong tape, and every other invariant holds. Not verified here: who traded, when, and what it did to
//! balances (1 to 7, from the engine's log), and what the importer made of messages that are no executions.
use crate::evidence::Evidence;
use crate::protocol::{InvariantInfo, TapeOutcome, TapeType, Violation};
use crate::rows::TradeRow;
use engine::tape::TapeReport;
use flate2::read::MultiGzDecoder;
use oracle::Fact;
use std::collections::BTreeMap;
use std::io::Read;

/// Its number among the invariants.
pub const NUMBER: u32 = 15;
const NAME: &str = "tape";

/// How `quench list` describes it.
pub fn info() -> InvariantInfo {
    InvariantInfo {
        number: NUMBER,
        name: NAME.into(),
        about: "every execution of a tape's file is one settled trade of equal size and price, in its order".into(),
    }
}

/// An execution as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Execution {
    line: usize,
    size: u64,
    price: u64,
}

/// Compares the file with what was settled.
pub fn judge(path: &str, file: &[u8], imported: &TapeReport, evidence: &Evidence) -> (TapeOutcome, Option<Violation>) {
    let mut outcome = outcome(path, imported);
    let settled: Vec<&TradeRow> = {
        let mut rows: Vec<_> = evidence.found.trades.values().flatten().collect();
        rows.sort_by_key(|row| row.output_sequence);
        rows
    };
    let logged = evidence.facts.iter().filter_map(|(seq, fact)| match fact {
        Fact::Trade(trade) => Some((*seq, (trade.quantity, trade.price))),
        _ => None,
    });
    let finding = match executions(file) {
        Ok(expected) => {
            outcome.executions = expected.len() as u64;
            let equal = expected.iter().zip(&settled).filter(|(e, row)| is_equal(e, row));
            outcome.settled_equal = equal.count() as u64;
            differs(&expected, &settled, &logged.collect())
        }
        Err(why) => Some(format!("the judge cannot read the file: {why}")),
    };
    let violation = finding.map(|text| Violation {
        invariant: NUMBER,
        name: NAME.into(),
        text,
        accounts: Vec::new(),
    });
    (outcome, violation)
}

fn outcome(path: &str, imported: &TapeReport) -> TapeOutcome {
    let types = imported.types.iter().map(|(number, entry)| TapeType {
        number: *number,
        name: entry.name.clone(),
        messages: entry.messages,
        replayed: entry.replayed,
        trades: entry.trades,
        skipped: entry.skipped.clone(),
    });
    TapeOutcome {
        file: path.into(),
        symbol: imported.symbol.clone(),
        messages: imported.messages,
        types: types.collect(),
        trades: imported.trades,
        commands: imported.commands,
        events: imported.events,
        deposits: imported.deposits,
        orders_unplaced: imported.orders_unplaced,
        taken_back_unseen: imported.taken_back_unseen,
        restated: imported.restated,
        aggressors: imported.aggressors,
        by_priority: imported.by_priority,
        by_name: imported.by_name,
        out_of_order: imported.out_of_order,
        executions: 0,
        settled_equal: 0,
    }
}

fn is_equal(execution: &Execution, row: &TradeRow) -> bool {
    (i128::from(row.quantity), i128::from(row.price)) == (execution.size.into(), execution.price.into())
}

/// The first difference, and whose it is: the engine's log says whether it was made before settlement or by it.
fn differs(expected: &[Execution], settled: &[&TradeRow], logged: &BTreeMap<u64, (u64, u64)>) -> Option<String> {
    let counts = format!(
        "the tape has {} executions (types 4 and 5), {} trades are settled",
        expected.len(),
        settled.len()
    );
    let length = expected.len().max(settled.len());
    let place = (0..length).find(|at| match (expected.get(*at), settled.get(*at)) {
        (Some(execution), Some(row)) => !is_equal(execution, row),
        _ => true,
    })?;
    let tape = expected
        .get(place)
        .map_or("the tape has no such execution".into(), |e| {
            format!("line {} of the tape executes {} at {}", e.line, e.size, e.price)
        });
    let rows = settled.get(place).map_or("no settled trade is there".into(), |row| {
        format!(
            "the settled trade {} (event {}) is {} at {}",
            row.trade_id, row.output_sequence, row.quantity, row.price
        )
    });
    let log: Vec<(u64, u64)> = logged.values().copied().collect();
    let of_tape = expected.get(place).map(|e| (e.size, e.price));
    let whose = if log.get(place).copied() == of_tape {
        "the engine's log has the tape's: it went wrong in settlement"
    } else {
        "the engine's log has it wrong too: it went wrong before settlement, in the importer or the engine"
    };
    Some(format!("execution {}: {tape}, {rows}; {whose} ({counts})", place + 1))
}

/// The messages of types 4 and 5: columns 2, 4 and 5 of the lines, whatever else they say.
fn executions(file: &[u8]) -> Result<Vec<Execution>, String> {
    let mut text = Vec::new();
    if file.starts_with(&[0x1f, 0x8b]) {
        let unpacked = MultiGzDecoder::new(file).read_to_end(&mut text);
        unpacked.map_err(|error| error.to_string())?;
    } else {
        text.extend_from_slice(file);
    }
    let text = String::from_utf8_lossy(&text);
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let columns: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |column: usize| columns.get(column).copied().and_then(whole);
        if !matches!(number(1), Some(4 | 5)) {
            continue;
        }
        let (Some(size), Some(price)) = (number(3), number(4)) else {
            return Err(format!("line {} has no size or price: {line}", at + 1));
        };
        found.push(Execution {
            line: at + 1,
            size,
            price,
        });
    }
    Ok(found)
}

/// A whole number, also written as `100.0`.
fn whole(text: &str) -> Option<u64> {
    let (number, decimals) = text.split_once('.').unwrap_or((text, ""));
    number
        .parse()
        .ok()
        .filter(|_| decimals.bytes().all(|digit| digit == b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::source::Source;
    use engine::tape::{Tape, TapeSpec};
    use settlement_events::Body;

    const FILE: &str = "\
34200.001,1,11,100,33578400,1
34200.002,1,12,50,33578400,1
34200.003,4,11,100,33578400,1
34200.003,4,12,20,33578400,1
34200.004,5,0,7,33580000,1
34200.005,3,12,30,33578400,1
34200.006,7,0,0,-1,-1
34200.007,5,0,10,33577000,-1
";

    /// The trades that an engine makes of the file as an importer reads it, as rows.
    fn settled(as_imported: &str) -> Vec<TradeRow> {
        let tape = Tape::import("a.csv", as_imported.as_bytes(), &TapeSpec::default()).expect("a tape");
        let stream = engine::session::run(tape.registry.clone(), &Source::Tape(tape), &[]).expect("a source");
        let events = stream
            .iter()
            .map(|(envelope, _)| envelope.open().expect("its own event"));
        let rows = events.filter_map(|event| match &event.body {
            Body::Trade(trade) => Some(row(
                event.output_sequence.0,
                trade.trade_id.0,
                (trade.quantity.0, trade.price.0),
            )),
            _ => None,
        });
        rows.collect()
    }

    fn row(seq: u64, trade_id: u64, (quantity, price): (u64, u64)) -> TradeRow {
        TradeRow {
            trade_id: trade_id as i64,
            output_sequence: seq as i64,
            price: price as i64,
            quantity: quantity as i64,
            match_seq: 0,
            event_time_ms: 0,
            buy_order_id: 0,
            sell_order_id: 0,
            buyer_user_id: 0,
            seller_user_id: 0,
            base_asset: 0,
            quote_asset: 0,
            quote_amount: 0,
            buyer_refund: 0,
            seller_refund: 0,
            buyer_is_maker: false,
            fees: Default::default(),
            buyer_base_version: None,
            buyer_quote_version: None,
            seller_base_version: None,
            seller_quote_version: None,
            digest: None,
        }
    }

    /// What is found when the rows are these and the engine's log says the same.
    fn told(rows: &[TradeRow]) -> Option<String> {
        let logged = rows
            .iter()
            .map(|r| (r.output_sequence as u64, (r.quantity as u64, r.price as u64)));
        let expected = executions(FILE.as_bytes()).expect("a good file");
        differs(&expected, &rows.iter().collect::<Vec<_>>(), &logged.collect())
    }

    #[test]
    fn what_the_importer_makes_of_a_file_is_what_the_file_says() {
        assert_eq!(told(&settled(FILE)), None);
        assert_eq!(settled(FILE).len(), 4);
    }

    /// An importer that reads the file as another one. Everything behind it is consistent with what it read.
    #[test]
    fn an_importer_at_fault_is_found_out() {
        let faults = [
            (
                "a size off by one",
                FILE.replace("4,12,20,", "4,12,21,"),
                "execution 2: line 4 of the tape executes 20 at 33578400",
            ),
            (
                "another price scale",
                FILE.replace(",335", ",33500").replace("335005", "3355"),
                "execution 1: line 3",
            ),
            (
                "hidden executions forgotten",
                FILE.replace("34200.004,5", "34200.004,6"),
                "execution 3: line 5",
            ),
            (
                "the last line forgotten",
                FILE.lines().take(7).map(|line| format!("{line}\n")).collect(),
                "execution 4: line 8 of the tape executes 10 at 33577000, no settled trade is there",
            ),
            (
                "two executions made one",
                FILE.replace("4,12,20,", "2,12,20,").replace("4,11,100,", "4,11,120,"),
                "execution 1: line 3",
            ),
            (
                "two executions exchanged",
                FILE.replace("5,0,7,33580000,1", "5,0,10,33577000,-1")
                    .replace("007,5,0,10,33577000,-1", "007,5,0,7,33580000,1"),
                "execution 3: line 5",
            ),
            (
                "one execution twice",
                format!("{FILE}34200.008,5,0,10,33577000,-1\n"),
                "execution 5: the tape has no such execution, the settled trade",
            ),
        ];
        for (what, as_imported, expected) in faults {
            let text = told(&settled(&as_imported)).unwrap_or_else(|| panic!("{what} is not found"));
            assert!(text.starts_with(expected), "{what}: {text}");
            assert!(text.contains("before settlement"), "{what}: {text}");
        }
    }

    #[test]
    fn a_row_that_settlement_wrote_wrong_is_settlements() {
        let good = settled(FILE);
        let logged = good
            .iter()
            .map(|r| (r.output_sequence as u64, (r.quantity as u64, r.price as u64)))
            .collect();
        let mut rows = good;
        rows[2].quantity += 1;
        let expected = executions(FILE.as_bytes()).expect("a good file");
        let text = differs(&expected, &rows.iter().collect::<Vec<_>>(), &logged).expect("a difference");
        assert!(text.contains("it went wrong in settlement"), "{text}");
    }

    #[test]
    fn the_judge_reads_every_form_of_a_file() {
        use std::io::Write;
        let expected: Vec<_> = [(100, 33_578_400), (20, 33_578_400), (7, 33_580_000), (10, 33_577_000)].into();
        let pairs = |file: &[u8]| -> Vec<(u64, u64)> {
            let found = executions(file).expect("a good file");
            found.iter().map(|e| (e.size, e.price)).collect()
        };
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(FILE.as_bytes()).expect("memory");
        let forms = [
            FILE.into(),
            packed.finish().expect("memory"),
            FILE.replace('\n', "\r\n").into(),
            format!("time,type,order id,size,price,direction\n{FILE}").into(),
            format!("\u{feff}\n{}", FILE.replace(',', " , ")).into(),
            FILE.replace(",7,33580000,", ",7.0,33580000.00,").into(),
            FILE.trim_end().into(),
        ];
        for form in forms {
            let form: Vec<u8> = form;
            assert_eq!(pairs(&form), expected, "{}", String::from_utf8_lossy(&form));
        }
        let error = executions(b"1.0,4,1,x,100,1\n").expect_err("no size");
        assert!(error.contains("line 1"), "{error}");
    }
}
