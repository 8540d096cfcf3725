//! What a batch of the ledger is, checked on the bytes that the driver would send: every column bound, timestamps of
//! versions, the same bytes every time, below the size at which a database warns.

use std::collections::{BTreeMap, BTreeSet};

use schema::parse::ColumnKind;
use schema::{CqlType, DesignName, Generation, RowTimestamp, TableDef, TimestampRule, size, table_defs};
use scylla::frame::response::result::{ColumnSpec, ColumnType, NativeType, TableSpec};
use scylla::serialize::batch::{BatchValues, BatchValuesIterator};
use scylla::serialize::row::RowSerializationContext;
use scylla::serialize::writers::RowWriter;
use settlement_events::{AssetId, Body, Digest, Event, OutputSequence, Registry, UserId, Version, samples};

use super::rows::{EventRows, GroupRows, NoRows, Table};
use crate::designs::row::Columns;

/// A row as the driver sends it: for each marker its value.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    def: TableDef,
    values: Vec<Vec<u8>>,
}

impl Sent {
    fn value(&self, column: &str) -> &[u8] {
        let at = self
            .def
            .columns
            .iter()
            .position(|other| other.name == column)
            .expect("is a column");
        &self.values[at]
    }

    fn bigint(&self, column: &str) -> i64 {
        i64::from_be_bytes(self.value(column).try_into().expect("is a bigint"))
    }

    fn timestamp(&self) -> i64 {
        let bytes = self.values.last().expect("is stamped").as_slice();
        i64::from_be_bytes(bytes.try_into().expect("is a bigint"))
    }
}

fn def(table: Table, registry: &Registry) -> TableDef {
    let name = match table {
        Table::Trades(symbol) => {
            schema::tables::settled_trades_table(registry.symbol(symbol).expect("the samples' symbol"))
        }
        Table::TradesByUser => "trades_by_user".into(),
        Table::Ledger => "balance_ledger".into(),
        Table::Balances => "user_balances".into(),
        Table::Orders => "orders".into(),
        Table::LedgerEvents => "ledger_events".into(),
        Table::Events => "settled_events".into(),
    };
    let defs = table_defs(DesignName::Ledger, registry).expect("the schema is in shape");
    defs.into_iter().find(|def| def.name == name).expect("is registered")
}

fn specs(def: &TableDef) -> Vec<ColumnSpec<'static>> {
    let spec = |name: String, native: NativeType| {
        ColumnSpec::owned(
            name,
            ColumnType::Native(native),
            TableSpec::owned("trading".into(), def.name.clone()),
        )
    };
    let mut specs: Vec<_> = def
        .columns
        .iter()
        .map(|column| {
            let native = match column.cql_type {
                CqlType::Bigint => NativeType::BigInt,
                CqlType::Int => NativeType::Int,
                CqlType::Text => NativeType::Text,
                CqlType::Blob => NativeType::Blob,
                CqlType::Boolean => NativeType::Boolean,
                CqlType::Counter => NativeType::Counter,
            };
            spec(column.name.clone(), native)
        })
        .collect();
    specs.push(spec("[timestamp]".into(), NativeType::BigInt));
    specs
}

/// Takes the values apart: each is a length and its bytes.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).expect("no value is null or unset");
        values.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    values
}

/// The batch of an event.
fn sent(event: &Event) -> Vec<Sent> {
    let registry = Registry::example();
    let digest = event.digest();
    let generation = Generation::new(3).expect("in range");
    let rows = EventRows::new(event, &digest, generation).expect("the sample has rows");
    let tables: Vec<Table> = rows.shape().tables().collect();
    let rows = GroupRows::new(vec![rows]);
    assert_eq!(rows.batch_values_iter().count(), tables.len());
    let mut values = rows.batch_values_iter();
    let mut batch = Vec::new();
    for table in tables {
        let def = def(table, &registry);
        let specs = specs(&def);
        let mut bytes = Vec::new();
        let context = RowSerializationContext::from_specs(&specs);
        let written = values.serialize_next(&context, &mut RowWriter::new(&mut bytes));
        written.expect("a row for each statement").expect("it fits its columns");
        batch.push(Sent {
            def,
            values: split(&bytes),
        });
    }
    let none = RowSerializationContext::empty();
    assert!(
        values
            .serialize_next(&none, &mut RowWriter::new(&mut Vec::new()))
            .is_none(),
        "no row too many"
    );
    batch
}

/// The samples that are settled.
fn events() -> Vec<Event> {
    samples::stream()
        .into_iter()
        .filter(|event| !matches!(event.body, Body::EpochStart { .. }))
        .collect()
}

fn the_trade() -> Event {
    events()
        .into_iter()
        .find(|event| event.trade().is_some())
        .expect("the samples have a trade")
}

/// The trade of the samples as a trade with oneself: user 7 on both sides, versions one after the other.
fn self_trade() -> Event {
    let mut event = the_trade();
    let Body::Trade(trade) = &mut event.body else {
        unreachable!("it is the trade")
    };
    trade.seller_user_id = UserId(7);
    trade.changes[2].user_id = UserId(7);
    trade.changes[2].version = Version(2);
    trade.changes[3].user_id = UserId(7);
    trade.changes[3].version = Version(4);
    trade.orders[1].user_id = UserId(7);
    event
}

/// The batch's weight by the database's count: see [`schema::size`].
fn weight(batch: &[Sent]) -> usize {
    let mut partitions = BTreeSet::new();
    let mut rows = 0;
    for row in batch {
        let mut key = vec![row.def.name.clone().into_bytes()];
        let (mut clustering, mut cells) = (0, Vec::new());
        for (column, value) in row.def.columns.iter().zip(&row.values) {
            match column.kind {
                ColumnKind::PartitionKey(_) => key.push(value.clone()),
                ColumnKind::Clustering(..) => clustering += value.len(),
                ColumnKind::Regular => cells.push(value.len()),
            }
        }
        rows += size::row_bytes(clustering, cells);
        partitions.insert(key);
    }
    rows + partitions.len() * size::PARTITION_BYTES
}

#[test]
fn a_trade_weighs_less_than_what_databases_warn_about() {
    let mut heaviest = the_trade();
    let Body::Trade(trade) = &mut heaviest.body else {
        unreachable!("it is the trade")
    };
    assert_eq!(
        trade.fees.len(),
        2,
        "the samples' trade has as many fees as a trade can have"
    );
    // Two fee accounts instead of one: two partitions more.
    trade.changes[5].user_id = UserId(900_002);
    let weight = weight(&sent(&heaviest));
    assert!(weight < size::WARN_BYTES, "{weight}");
    assert!(weight > size::WARN_BYTES / 2, "{weight}: is everything counted?");
}

#[test]
fn the_weight_that_groups_are_made_by_is_never_too_low_and_not_far_above() {
    for event in events().into_iter().chain([self_trade()]) {
        let digest = event.digest();
        let rows = EventRows::new(&event, &digest, Generation::FIRST).expect("the sample has rows");
        let (most, real) = (rows.shape().weight_bytes(), weight(&sent(&event)));
        assert!(
            real <= most && most <= real * 3 / 2,
            "{}: {real} of {most}",
            event.kind()
        );
    }
}

#[test]
fn a_batch_of_several_events_has_each_of_them_whole_and_as_it_would_be_alone() {
    let events = events();
    let digests: Vec<Digest> = events.iter().map(Event::digest).collect();
    let rows = |(event, digest)| EventRows::new(event, digest, Generation::new(3).expect("in range"));
    let rows: Vec<EventRows<'_>> = events
        .iter()
        .zip(&digests)
        .map(|pair| rows(pair).expect("the sample has rows"))
        .collect();
    let group = GroupRows::new(rows);
    let mut values = group.batch_values_iter();
    let mut together = Vec::new();
    for table in group.shapes().flat_map(|shape| shape.tables()) {
        let def = def(table, &Registry::example());
        let specs = specs(&def);
        let mut bytes = Vec::new();
        let context = RowSerializationContext::from_specs(&specs);
        let written = values.serialize_next(&context, &mut RowWriter::new(&mut bytes));
        written.expect("a row for each statement").expect("it fits its columns");
        together.push(Sent {
            def,
            values: split(&bytes),
        });
    }
    let alone: Vec<Vec<Sent>> = events.iter().map(sent).collect();
    assert!(alone.len() > 3);
    for event in &alone {
        assert!(together.windows(event.len()).any(|rows| rows == event.as_slice()));
    }
    let count = alone.iter().map(Vec::len).sum::<usize>();
    assert_eq!((values.skip_next(), together.len()), (None, count));
    assert_eq!(group.batch_values_iter().count(), count);
}

#[test]
fn every_column_of_every_row_is_bound_and_named_as_the_table_has_it() {
    for event in events().iter().chain([&self_trade()]) {
        for row in sent(event) {
            assert_eq!(
                row.values.len(),
                row.def.columns.len() + 1,
                "{} of {}",
                row.def.name,
                event.kind()
            );
        }
    }
    let columns = |table| {
        let def = def(table, &Registry::example());
        def.columns.into_iter().map(|column| column.name).collect::<Vec<_>>()
    };
    assert_eq!(columns(Table::TradesByUser), super::rows::TradeByUser::COLUMNS);
    assert_eq!(
        columns(Table::Trades(settlement_events::SymbolId(1))),
        super::rows::SettledTrade::COLUMNS
    );
    assert_eq!(columns(Table::Ledger), super::rows::LedgerEntry::COLUMNS);
    assert_eq!(columns(Table::Balances), super::rows::UserBalance::COLUMNS);
    assert_eq!(columns(Table::Orders), super::rows::OrderRow::COLUMNS);
    assert_eq!(columns(Table::LedgerEvents), super::rows::LedgerEvent::COLUMNS);
    assert_eq!(columns(Table::Events), super::rows::SettledEvent::COLUMNS);
}

#[test]
fn the_timestamp_of_each_row_is_that_of_the_version_it_describes() {
    for event in events() {
        for row in sent(&event) {
            let TimestampRule::FromColumn(column) = row.def.timestamp else {
                panic!("{} is pinned", row.def.name)
            };
            let expected = (row.bigint(column) << 12) | 3;
            assert_eq!(row.timestamp(), expected, "{} of {}", row.def.name, event.kind());
            assert!(RowTimestamp::from_micros(row.timestamp()).is_ok());
        }
    }
}

#[test]
fn sending_again_sends_the_same_bytes() {
    for event in events() {
        assert_eq!(sent(&event), sent(&event.clone()), "{}", event.kind());
    }
}

#[test]
fn every_event_has_its_identity_in_its_batch_and_every_row_its_digest() {
    for event in events() {
        let batch = sent(&event);
        let identity = batch.last().expect("not empty");
        assert_eq!(identity.def.name, "settled_events");
        assert_eq!(identity.bigint("output_sequence"), event.output_sequence.0 as i64);
        assert_eq!(identity.value("digest"), event.digest().0);
        for row in &batch[..batch.len() - 1] {
            assert_eq!(row.value("digest"), event.digest().short(), "{}", row.def.name);
        }
    }
}

#[test]
fn an_identity_stands_in_the_bucket_of_its_sequence() {
    for (sequence, bucket) in [(9_999, 0), (10_000, 1), (25_000, 2)] {
        let mut event = the_trade();
        event.output_sequence = OutputSequence(sequence);
        let batch = sent(&event);
        let identity = batch.last().expect("not empty");
        let found = (identity.bigint("bucket"), identity.bigint("output_sequence"));
        assert_eq!(found, (bucket, sequence as i64));
    }
}

#[test]
fn each_change_has_its_ledger_row_and_each_account_one_current_state() {
    for event in events().iter().chain([&self_trade()]) {
        let batch = sent(event);
        let ledger: Vec<_> = batch.iter().filter(|row| row.def.name == "balance_ledger").collect();
        assert_eq!(ledger.len(), event.changes().len());
        let mut latest: BTreeMap<(UserId, AssetId), Version> = BTreeMap::new();
        for change in event.changes() {
            latest.insert((change.user_id, change.asset_id), change.version);
        }
        let balances: Vec<i64> = batch
            .iter()
            .filter(|row| row.def.name == "user_balances")
            .map(|row| row.bigint("version"))
            .collect();
        let mut expected: Vec<i64> = latest.values().map(|version| version.0 as i64).collect();
        let mut found = balances.clone();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{}", event.kind());
    }
}

#[test]
fn what_does_not_fit_a_column_is_an_error_and_never_another_number() {
    let mut event = the_trade();
    let Body::Trade(trade) = &mut event.body else {
        unreachable!("it is the trade")
    };
    trade.price.0 = u64::MAX;
    let digest = event.digest();
    let rows = EventRows::new(&event, &digest, Generation::FIRST).expect("versions are fine");
    let def = def(Table::Trades(settlement_events::SymbolId(1)), &Registry::example());
    let specs = specs(&def);
    let context = RowSerializationContext::from_specs(&specs);
    let written = GroupRows::new(vec![rows])
        .batch_values_iter()
        .serialize_next(&context, &mut RowWriter::new(&mut Vec::new()));
    assert!(written.expect("the trade's row").is_err());
}

#[test]
fn an_event_that_no_rows_can_hold_is_told_apart() {
    let refused = |edit: &dyn Fn(&mut Event)| {
        let mut event = the_trade();
        edit(&mut event);
        EventRows::new(&event, &Digest::ZERO, Generation::FIRST)
            .map(|_| ())
            .expect_err("must be refused")
    };
    let trade = |edit: &dyn Fn(&mut settlement_events::Trade)| {
        refused(&|event| match &mut event.body {
            Body::Trade(trade) => edit(trade),
            _ => unreachable!("it is the trade"),
        })
    };
    assert!(matches!(
        trade(&|trade| trade.changes[0].version = Version(0)),
        NoRows::Timestamp(_)
    ));
    assert!(matches!(
        trade(&|trade| trade.orders[1].version = Version(1 << 52)),
        NoRows::Timestamp(_)
    ));
    assert_eq!(trade(&|trade| trade.changes.truncate(3)), NoRows::TradeChanges(3));
    assert_eq!(trade(&|trade| trade.fees.push(trade.fees[0])), NoRows::Fees(3));
    assert_eq!(refused(&|event| event.event_time_ms.0 = u64::MAX), NoRows::Day);
}
