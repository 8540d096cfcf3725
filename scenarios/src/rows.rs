//! Rows as the judge reads them, whoever it reads them from: a replica's storage or a driver's result. Decoding is the
//! judge's own, written against the CQL protocol and the columns' names; it shares nothing with settlement's encoding.
//! A null or malformed cell where a value must be is kept as a [`BadRow`]: an incomplete row is a finding, not noise.
use settlement_events::Registry;
use std::collections::BTreeMap;

/// A column's value in a row: None is null or absent.
pub type Cell<'a> = Option<&'a [u8]>;

/// A text column: words as short as these lie in the row itself. The judge holds tens of thousands of them.
pub type Text = smol_str::SmolStr;
/// A blob column; digests lie in the row itself.
pub type Blob = smallvec::SmallVec<[u8; 32]>;

/// How many sequences share a partition of `settled_events`, `dead_letters` and `skips`: part of the schema
/// (`schema/cql/ledger/settled_events.cql`).
pub const BUCKET_SEQUENCES: u64 = 10_000;

/// A row that is not what its table promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The table.
    pub table: String,
    /// Which row, and what is wrong with it.
    pub text: String,
}

/// What can be read from a cell.
pub(crate) trait Decode: Sized {
    /// None for a null where there must be a value, and for bytes that are none of this type.
    fn decode(cell: Cell<'_>) -> Option<Self>;
}

impl Decode for i64 {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        Some(i64::from_be_bytes(cell?.try_into().ok()?))
    }
}

impl Decode for i32 {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        Some(i32::from_be_bytes(cell?.try_into().ok()?))
    }
}

impl Decode for bool {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        cell.filter(|bytes| bytes.len() == 1).map(|bytes| bytes[0] != 0)
    }
}

impl Decode for String {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        String::from_utf8(cell?.to_vec()).ok()
    }
}

impl Decode for Text {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        std::str::from_utf8(cell?).ok().map(Text::new)
    }
}

impl Decode for Blob {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        cell.map(Blob::from_slice)
    }
}

impl Decode for Vec<u8> {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        cell.map(<[u8]>::to_vec)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(cell: Cell<'_>) -> Option<Self> {
        match cell {
            None => Some(None),
            some => T::decode(some).map(Some),
        }
    }
}

/// A row type of one table.
pub trait Row: Sized {
    /// The columns it wants, in the order in which `from_cells` takes them.
    const COLUMNS: &'static [&'static str];

    /// Decodes; the error names the column.
    fn from_cells(cells: &[Cell<'_>]) -> Result<Self, &'static str>;
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "fields are the columns of the table that the type names")]
        pub struct $name { $(pub $field: $ty),* }

        impl Row for $name {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn from_cells(cells: &[Cell<'_>]) -> Result<Self, &'static str> {
                let mut cells = cells.iter().copied();
                Ok($name { $($field: <$ty>::decode(cells.next().flatten()).ok_or(stringify!($field))?),* })
            }
        }
    )* };
}

rows! {
    /// `settled_trades_<symbol>`; optional columns are those that only the ledger design has.
    TradeRow {
        trade_id: i64, output_sequence: i64, match_seq: i64, event_time_ms: i64, buy_order_id: i64, sell_order_id: i64,
        buyer_user_id: i64, seller_user_id: i64, base_asset: i32, quote_asset: i32, price: i64, quantity: i64,
        quote_amount: i64, buyer_refund: i64, seller_refund: i64, buyer_is_maker: bool, fees: Blob,
        buyer_base_version: Option<i64>, buyer_quote_version: Option<i64>,
        seller_base_version: Option<i64>, seller_quote_version: Option<i64>, digest: Option<Blob>,
    }
    /// `user_balances`.
    BalanceRow { user_id: i64, asset_id: i32, version: i64, avail: i64, frozen: i64, digest: Option<Blob> }
    /// `balance_ledger`.
    LedgerRow {
        user_id: i64, asset_id: i32, seq: i64, delta_avail: i64, delta_frozen: i64, avail: i64, frozen: i64,
        cause: Text, reference: i64, output_sequence: i64, digest: Blob,
    }
    /// `orders`.
    OrderRow {
        user_id: i64, order_id: i64, version: i64, symbol: i32, side: Text, price: i64, quantity: i64,
        filled_quantity: i64, status: Text, digest: Option<Blob>,
    }
    /// `settled_events`.
    SettledRow { bucket: i64, output_sequence: i64, epoch: i32, kind: Text, digest: Blob, prev_digest: Blob }
    /// `ledger_events`.
    LedgerEventRow {
        user_id: i64, event_id: i64, output_sequence: i64, kind: Text, asset_id: i32, amount: i64, event_time_ms: i64,
        version: Option<i64>, digest: Option<Blob>,
    }
    /// `trades_by_user`.
    TradeByUserRow {
        user_id: i64, day: i32, output_sequence: i64, side: Text, trade_id: i64, symbol: i32, order_id: i64, price: i64,
        quantity: i64, quote_amount: i64, refund: i64, digest: Blob,
    }
    /// `dead_letters`.
    DeadLetterRow { bucket: i64, output_sequence: i64, code: String, detail: String, digest: Blob, event: Vec<u8> }
    /// `skips`.
    SkipRow { bucket: i64, output_sequence: i64, reason: Text, digest: Blob }
    /// `failed_trades`.
    FailedRow { output_sequence: i64, kind: Text, attempts: i32, error: Text }
    /// `settlement_checkpoint`.
    CheckpointRow { epoch: i32, durable: i64, digest: Blob }
}

/// Everything that one reader found in one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By symbol id.
    pub trades: BTreeMap<u32, Vec<TradeRow>>,
    /// Current balances.
    pub balances: Vec<BalanceRow>,
    /// Append-only postings.
    pub ledger: Vec<LedgerRow>,
    /// Current orders.
    pub orders: Vec<OrderRow>,
    /// Identity of settled events.
    pub settled: Vec<SettledRow>,
    /// Deposits and withdrawals.
    pub ledger_events: Vec<LedgerEventRow>,
    /// Trades by user and day.
    pub trades_by_user: Vec<TradeByUserRow>,
    /// Refused events.
    pub dead_letters: Vec<DeadLetterRow>,
    /// Operators' skips.
    pub skips: Vec<SkipRow>,
    /// Events given up.
    pub failed: Vec<FailedRow>,
    /// The checkpoint of the stream.
    pub checkpoint: Vec<CheckpointRow>,
    /// Rows that could not be decoded.
    pub bad: Vec<BadRow>,
}

/// A table that the judge reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// `settled_trades_<symbol>`, with the symbol's id.
    Trades(u32),
    /// `user_balances`
    Balances,
    /// `balance_ledger`
    Ledger,
    /// `orders`
    Orders,
    /// `settled_events`
    Settled,
    /// `ledger_events`
    LedgerEvents,
    /// `trades_by_user`
    TradesByUser,
    /// `dead_letters`
    DeadLetters,
    /// `skips`
    Skips,
    /// `failed_trades`
    Failed,
    /// `settlement_checkpoint`
    Checkpoint,
}

impl TableKind {
    /// The table of this name, or None for one that the judge does not read. `symbol` is the symbol's id for a trade
    /// table. Names are looked at here and not with every row.
    pub fn of(table: &str, symbol: u32) -> Option<TableKind> {
        Some(match table {
            _ if table.starts_with("settled_trades_") => TableKind::Trades(symbol),
            "user_balances" => TableKind::Balances,
            "balance_ledger" => TableKind::Ledger,
            "orders" => TableKind::Orders,
            "settled_events" => TableKind::Settled,
            "ledger_events" => TableKind::LedgerEvents,
            "trades_by_user" => TableKind::TradesByUser,
            "dead_letters" => TableKind::DeadLetters,
            "skips" => TableKind::Skips,
            "failed_trades" => TableKind::Failed,
            "settlement_checkpoint" => TableKind::Checkpoint,
            _ => return None,
        })
    }

    /// The columns that [`Tables::add`] wants; at most [`COLUMNS_MAX`].
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            TableKind::Trades(_) => TradeRow::COLUMNS,
            TableKind::Balances => BalanceRow::COLUMNS,
            TableKind::Ledger => LedgerRow::COLUMNS,
            TableKind::Orders => OrderRow::COLUMNS,
            TableKind::Settled => SettledRow::COLUMNS,
            TableKind::LedgerEvents => LedgerEventRow::COLUMNS,
            TableKind::TradesByUser => TradeByUserRow::COLUMNS,
            TableKind::DeadLetters => DeadLetterRow::COLUMNS,
            TableKind::Skips => SkipRow::COLUMNS,
            TableKind::Failed => FailedRow::COLUMNS,
            TableKind::Checkpoint => CheckpointRow::COLUMNS,
        }
    }
}

/// Trade tables by name, with their symbols.
pub fn trade_tables(registry: &Registry) -> BTreeMap<String, u32> {
    let symbols = registry.symbols().iter();
    symbols
        .map(|symbol| (format!("settled_trades_{}", symbol.table_suffix()), symbol.id.0))
        .collect()
}

/// The columns of the widest table.
pub const COLUMNS_MAX: usize = TradeRow::COLUMNS.len();

impl Tables {
    /// Adds one row of `table`, its cells in the order of [`TableKind::columns`].
    pub fn add(&mut self, table: TableKind, name: &str, cells: &[Cell<'_>]) {
        let Tables { bad, .. } = self;
        fn keep<R: Row>(into: &mut Vec<R>, bad: &mut Vec<BadRow>, table: &str, cells: &[Cell<'_>]) {
            match R::from_cells(cells) {
                Ok(row) => into.push(row),
                Err(column) => bad.push(BadRow {
                    table: table.into(),
                    text: describe(R::COLUMNS, cells, column),
                }),
            }
        }
        match table {
            TableKind::Trades(symbol) => keep(self.trades.entry(symbol).or_default(), bad, name, cells),
            TableKind::Balances => keep(&mut self.balances, bad, name, cells),
            TableKind::Ledger => keep(&mut self.ledger, bad, name, cells),
            TableKind::Orders => keep(&mut self.orders, bad, name, cells),
            TableKind::Settled => keep(&mut self.settled, bad, name, cells),
            TableKind::LedgerEvents => keep(&mut self.ledger_events, bad, name, cells),
            TableKind::TradesByUser => keep(&mut self.trades_by_user, bad, name, cells),
            TableKind::DeadLetters => keep(&mut self.dead_letters, bad, name, cells),
            TableKind::Skips => keep(&mut self.skips, bad, name, cells),
            TableKind::Failed => keep(&mut self.failed, bad, name, cells),
            TableKind::Checkpoint => keep(&mut self.checkpoint, bad, name, cells),
        }
    }

    /// Makes room for so many more rows of the large tables: those that would grow again and again, each time copied.
    pub fn reserve(&mut self, table: TableKind, rows: usize) {
        match table {
            TableKind::Trades(symbol) => self.trades.entry(symbol).or_default().reserve(rows),
            TableKind::Ledger => self.ledger.reserve(rows),
            TableKind::Orders => self.orders.reserve(rows),
            TableKind::Settled => self.settled.reserve(rows),
            TableKind::TradesByUser => self.trades_by_user.reserve(rows),
            _ => {}
        }
    }
}

/// A bad row in words: the first two columns (its key) and the column at fault.
fn describe(columns: &[&str], cells: &[Cell<'_>], bad: &str) -> String {
    let key: Vec<String> = columns
        .iter()
        .zip(cells)
        .take(2)
        .map(|(name, cell)| match cell.map(<[u8]>::len) {
            Some(8) => format!("{name} {}", i64::decode(*cell).unwrap_or_default()),
            Some(4) => format!("{name} {}", i32::decode(*cell).unwrap_or_default()),
            _ => format!("{name} {cell:02x?}"),
        })
        .collect();
    format!("the row with {} has no valid {bad}", key.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_decodes_by_position_and_an_absent_optional_column_is_none() {
        let (user, asset, version) = (7i64.to_be_bytes(), 2i32.to_be_bytes(), 3i64.to_be_bytes());
        let (avail, frozen) = ((-5i64).to_be_bytes(), 0i64.to_be_bytes());
        let cells: [Cell<'_>; 6] = [
            Some(&user),
            Some(&asset),
            Some(&version),
            Some(&avail),
            Some(&frozen),
            None,
        ];
        let mut tables = Tables::default();
        tables.add(TableKind::Balances, "user_balances", &cells);
        assert_eq!(
            tables.balances,
            [BalanceRow {
                user_id: 7,
                asset_id: 2,
                version: 3,
                avail: -5,
                frozen: 0,
                digest: None
            }]
        );
        tables.add(
            TableKind::Balances,
            "user_balances",
            &[cells[0], cells[1], cells[2], None, cells[4], None],
        );
        assert_eq!(
            tables.bad[0].text,
            "the row with user_id 7, asset_id 2 has no valid avail"
        );
        assert_eq!(tables.balances.len(), 1);
    }
}
