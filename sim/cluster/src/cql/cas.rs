//! Conditional statements and batches: gathered into one request for the core, and its outcome into rows with `[applied]`.
//!
//! The flavours answer differently. Cassandra: `[applied]` alone when it was applied; otherwise with what was found, of the
//! columns that conditions name, or of all for IF [NOT] EXISTS; a batch adds the keys and answers a row per condition whose
//! row is there (seen). Scylla always has the same columns, with the old values, applied or not, and a row per statement, in
//! their order, also of those without a condition (`modification_statement::build_cas_result_set_metadata`,
//! `cas_request::build_cas_result_set`); it lets conditions on one row contradict each other.

use super::bind::Prepared;
use super::bind::batch::only_writes;
use super::bind::conditions::{RowTest, Tested, ValueTest, part_of};
use super::bind::parts::assembled;
use super::bind::select::star;
use super::bind::write::{Scratch, WritePlan};
use super::derived::{Item, Read, Statements, plan};
use super::dialect::Dialect;
use super::error::CqlError;
use super::frame::Value;
use super::frame::response::{self, Columns, RowsBody};
use super::types;
use crate::model::{
    CasAction, CasRequest, ClusteringKey, ClusteringSelect, ColumnId, ColumnKind, Condition, Consistency, CqlType,
    Derive, PartitionKey, PartitionRows, ReadCommand, ReadResult, ReadTarget, Row, Slice, Table, WriteSet,
    partition_key_components,
};
use std::borrow::Cow;
use std::sync::Arc;

/// The condition of one statement.
#[derive(Debug, Clone)]
struct OnRow {
    /// The row; `None` is the static part of the partition.
    clustering: Option<ClusteringKey>,
    test: RowTest,
}

/// All conditions of a request, and how its outcome is shown.
#[derive(Debug)]
pub struct Conditions {
    table: Arc<Table>,
    rows: Vec<OnRow>,
    /// Columns shown besides `[applied]`, by index in the table.
    shown: Vec<usize>,
    /// Whether static columns are read whatever the conditions are about.
    reads_statics: bool,
    dialect: &'static Dialect,
}

/// A conditional statement or batch being gathered.
#[derive(Debug)]
pub struct Gathered {
    dialect: &'static Dialect,
    is_batch: bool,
    target: Option<(Arc<Table>, Vec<u8>)>,
    /// Rows that are read, each once.
    clusterings: Vec<ClusteringKey>,
    needs_partition: bool,
    conditions: Vec<OnRow>,
    /// Columns that conditions name; `None` once some statement asks for existence.
    named: Option<Vec<usize>>,
    writes: WriteSet,
    /// Statements that write what depends on what the round reads.
    derived: Vec<Item>,
    /// Static columns that are read, where it is not all of them.
    statics: Option<Vec<ColumnId>>,
}

/// Columns shown of a conditional statement, by index in the table.
fn shown(table: &Table, named: Option<&[usize]>, is_batch: bool) -> Vec<usize> {
    let Some(named) = named else { return star(table) };
    let keys = if is_batch {
        table.partition_columns + table.clustering_columns
    } else {
        0
    };
    let mut all: Vec<usize> = (0..keys).collect();
    // Columns of rows first, whatever the order of the text (seen).
    let is_static = |column: &usize| table.columns[*column].kind == ColumnKind::Static;
    let (statics, others): (Vec<usize>, Vec<usize>) = named.iter().partition(|column| is_static(column));
    for column in others.into_iter().chain(statics) {
        if !all.contains(&column) {
            all.push(column);
        }
    }
    all
}

fn columns(table: &Table, shown: &[usize]) -> Columns {
    let boolean = CqlType::Boolean;
    let mut specs = vec![("[applied]", &boolean)];
    specs.extend(
        shown
            .iter()
            .map(|i| (table.columns[*i].name.as_str(), &table.columns[*i].ty)),
    );
    types::columns(&table.keyspace, &table.name, specs.into_iter())
}

/// Result columns that are told when such a statement is prepared, where any are.
pub fn prepared_columns(statements: &[&WritePlan], dialect: &Dialect, is_batch: bool) -> Option<Columns> {
    let conditional: Vec<_> = statements.iter().filter_map(|w| w.conditions.as_ref()).collect();
    let table = &statements.first()?.table;
    if !dialect.cas_columns_are_prepared || conditional.is_empty() {
        return None;
    }
    let named: Option<Vec<Vec<usize>>> = conditional.iter().map(|c| c.columns()).collect();
    let named = named.map(|lists| lists.concat());
    Some(columns(table, &shown(table, named.as_deref(), is_batch)))
}

impl Gathered {
    /// Nothing yet.
    pub fn new(dialect: &'static Dialect, is_batch: bool) -> Gathered {
        Gathered {
            dialect,
            is_batch,
            target: None,
            clusterings: Vec::new(),
            needs_partition: false,
            conditions: Vec::new(),
            named: Some(Vec::new()),
            writes: WriteSet::new(),
            derived: Vec::new(),
            // Cassandra reads all if a statement with conditions writes some, else those of conditions (seen; `BatchStatement`,
            // `CQL3CasRequest.columnsToRead`).
            statics: (!dialect.cas_reads_statics).then(Vec::new),
        }
    }

    /// Adds a statement (`index` of a batch, or 0) with its values.
    ///
    /// # Errors
    /// Other tables or partitions than those before it, keys by IN, contradicting conditions, bad values; what writes nothing.
    pub fn add(
        &mut self,
        statement: &Arc<Prepared>,
        index: usize,
        bound: &[Value<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), CqlError> {
        let write = plan(statement, index).ok_or_else(only_writes)?;
        let (key, clustering) = write.conditional_target(bound)?;
        match &self.target {
            None => self.target = Some((write.table.clone(), key)),
            Some((table, _)) if table.id != write.table.id => {
                return Err(self.cannot_span("tables"));
            }
            Some((_, first)) if *first != key => return Err(self.cannot_span("partitions")),
            Some(_) => {}
        }
        match write.needs_read() {
            true => self.derived.push(Item::new(statement, index, bound, Read::OfRound)),
            false => write.execute_in_cas(bound, scratch, &mut self.writes)?,
        }
        // Where only the rows of conditions are read, a list elsewhere is null.
        if self.dialect.cas_answers_each_statement && write.needs_read() {
            self.is_read(clustering.as_ref());
        }
        let Some(conditions) = &write.conditions else {
            if self.dialect.cas_answers_each_statement {
                // It has its row in the answer; what it is about is not read for it.
                let test = RowTest::Columns(vec![]);
                self.conditions.push(OnRow { clustering, test });
            }
            return Ok(());
        };
        match (&mut self.statics, conditions.columns()) {
            (statics, _) if write.writes_statics() => *statics = None,
            (Some(statics), Some(columns)) => statics.extend(columns.iter().map(|c| write.table.columns[*c].id)),
            _ => {}
        }
        let test = conditions.with(&write.table, bound)?;
        let rows = self.conditions.iter().filter(|c| c.clustering == clustering);
        for other in rows.filter(|_| self.dialect.cas_refuses_contradictions) {
            refuse_contradiction(&other.test, &test)?;
        }
        match (conditions.columns(), &mut self.named) {
            (Some(more), Some(named)) => named.extend(more),
            (None, named) => *named = None,
            (Some(_), None) => {}
        }
        // Of static cells alone Cassandra asks whether the partition is there, whatever row is named (`CQL3CasRequest`, seen).
        let clustering =
            clustering.filter(|_| self.dialect.cas_reads_statics || !conditions.is_of_statics_alone(&write.table));
        self.is_read(clustering.as_ref());
        self.conditions.push(OnRow { clustering, test });
        Ok(())
    }

    /// A row, or the partition's static one, is needed.
    fn is_read(&mut self, clustering: Option<&ClusteringKey>) {
        match clustering {
            Some(row) if !self.clusterings.contains(row) => self.clusterings.push(row.clone()),
            Some(_) => {}
            None => self.needs_partition = true,
        }
    }

    fn cannot_span(&self, what: &str) -> CqlError {
        let batch = if self.dialect.is_scylla() { "BATCH" } else { "Batch" };
        CqlError::invalid(format!("{batch} with conditions cannot span multiple {what}"))
    }

    /// The request, and what its answer needs. `None` when there was no statement.
    pub fn finish(self, serial: Consistency, commit: Consistency) -> Option<(CasRequest, Arc<Conditions>)> {
        let (table, key) = self.target?;
        let clustering = if self.needs_partition || table.clustering_columns == 0 {
            ClusteringSelect::All
        } else {
            ClusteringSelect::Slices(self.clusterings.into_iter().map(Slice::prefix).collect())
        };
        let read = ReadCommand {
            clustering,
            target: ReadTarget::Partitions(vec![PartitionKey::new(key.clone())]),
            ..ReadCommand::partition(table.id, PartitionKey::new(key))
        };
        let conditions = Arc::new(Conditions {
            shown: shown(&table, self.named.as_deref(), self.is_batch),
            table,
            rows: self.conditions,
            reads_statics: self.statics.is_none(),
            dialect: self.dialect,
        });
        let derived = match self.derived.is_empty() {
            true => None,
            false => Some(Arc::new(Statements::of_round(self.derived, self.statics)) as Arc<dyn Derive>),
        };
        let action = CasAction::Write {
            condition: conditions.clone(),
            writes: self.writes,
            derived,
        };
        let request = CasRequest {
            read,
            action,
            serial,
            commit,
        };
        Some((request, conditions))
    }
}

fn refuse_contradiction(one: &RowTest, other: &RowTest) -> Result<(), CqlError> {
    let text = match (one, other) {
        (RowTest::NotExists, RowTest::Exists) | (RowTest::Exists, RowTest::NotExists) => {
            "Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row"
        }
        (RowTest::NotExists, RowTest::Columns(_)) | (RowTest::Columns(_), RowTest::NotExists) => {
            "Cannot mix IF conditions and IF NOT EXISTS for the same row"
        }
        // The text is the server's own (seen).
        (RowTest::Exists, RowTest::Columns(_)) => "Cannot mix IF conditions and IF NOT EXISTS for the same row",
        (RowTest::Columns(_), RowTest::Exists) => "Cannot mix IF conditions and IF EXISTS for the same row",
        _ => return Ok(()),
    };
    Err(CqlError::invalid(text))
}

/// The row that a condition is about, as it was read.
struct Found<'a> {
    partition: Option<&'a PartitionRows>,
    row: Option<&'a Row>,
    /// The row whose clustering columns are shown: itself, or the first one where it is about the static row (C, seen).
    named: Option<&'a Row>,
}

impl<'a> Found<'a> {
    fn is_there(&self, on: &OnRow) -> bool {
        match on.clustering {
            Some(_) => self.row.is_some(),
            None => self
                .partition
                .is_some_and(|p| p.statics.is_some() || !p.rows.is_empty()),
        }
    }

    /// Of a row that is not there Scylla shows nothing; the static row stands for it unless existence is asked for
    /// (`cas_request::find_old_row`).
    fn or_nothing(self, on: &OnRow) -> Found<'a> {
        let statics = self.partition.and_then(|p| p.statics.as_ref());
        let asks_existence = !matches!(on.test, RowTest::Columns(_));
        match self.row {
            None if statics.is_none() || asks_existence && on.clustering.is_some() => Found {
                partition: None,
                row: None,
                named: None,
            },
            _ => self,
        }
    }

    fn value(&self, table: &Table, column: usize) -> Option<Cow<'a, [u8]>> {
        let c = &table.columns[column];
        let of_row = |row: &'a Row| match c.ty.is_multicell() {
            true => assembled(&c.ty, row, c.id).map(Cow::Owned),
            false => row.cell(c.id).map(|cell| Cow::Borrowed(cell.value)),
        };
        match c.kind {
            ColumnKind::Static => of_row(self.partition?.statics.as_ref()?),
            ColumnKind::Regular => of_row(self.row?),
            ColumnKind::PartitionKey => partition_key_components(&self.partition?.key.bytes, table.partition_columns)?
                .get(column)
                .map(|key| Cow::Borrowed(*key)),
            ColumnKind::Clustering => crate::model::Components::new(self.named?.clustering())
                .nth(column - table.partition_columns)
                .map(Cow::Borrowed),
        }
    }
}

/// Cassandra shows what a read of the rows shows: them in their order, and the static row alone if there are none (seen).
fn in_order_of_the_table(mut rows: Vec<Found<'_>>) -> Vec<Found<'_>> {
    if rows.iter().all(|f| f.row.is_none()) {
        rows.truncate(1);
        return rows;
    }
    rows.retain(|f| f.row.is_some());
    rows.sort_by_key(|f| {
        let (partition, row) = f.partition.zip(f.row)?;
        partition.rows.iter().position(|r| std::ptr::eq(r, row))
    });
    rows
}

impl Condition for Conditions {
    fn holds(&self, current: &ReadResult) -> bool {
        self.rows.iter().all(|on| {
            let found = self.find(on, current);
            match &on.test {
                RowTest::NotExists => !self.exists(on, &found),
                RowTest::Exists => self.exists(on, &found),
                RowTest::Columns(tests) => tests.iter().all(|(tested, test)| {
                    let value = found.value(&self.table, tested.column);
                    let value = match (&tested.part, value.as_deref()) {
                        (None, value) => value,
                        (Some(part), Some(whole)) => part_of(&self.table.columns[tested.column].ty, whole, part),
                        (Some(_), None) => None,
                    };
                    test.passes(&tested.ty, value)
                }),
            }
        })
    }
}

impl Conditions {
    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn tests_statics(&self, on: &OnRow) -> bool {
        let is_static = |(on, _): &(Tested, ValueTest)| self.table.columns[on.column].kind == ColumnKind::Static;
        on.clustering.is_none() || matches!(&on.test, RowTest::Columns(tests) if tests.iter().any(is_static))
    }

    fn find<'a>(&self, on: &OnRow, current: &'a ReadResult) -> Found<'a> {
        let partition = current.partitions.first();
        let row = match (&on.clustering, partition) {
            (Some(key), Some(p)) => p.rows.iter().find(|r| r.clustering() == key.0),
            _ => None,
        };
        let named = match on.clustering {
            Some(_) => row,
            None if self.dialect.cas_answers_each_statement => None,
            None => partition.and_then(|p| p.rows.first()),
        };
        Found { partition, row, named }
    }

    /// What IF EXISTS asks.
    fn exists(&self, on: &OnRow, found: &Found<'_>) -> bool {
        match on.clustering {
            None if !self.dialect.cas_static_row_is_partition => found.partition.is_some_and(|p| p.statics.is_some()),
            _ => found.is_there(on),
        }
    }

    /// Writes the outcome to a connection.
    pub fn answer(
        &self,
        applied: bool,
        read: &ReadResult,
        stream: i16,
        warnings: &[String],
        skip_metadata: bool,
        out: &mut Vec<u8>,
    ) {
        let found = self.rows.iter().map(|on| (on, self.find(on, read)));
        // What is not read is not shown either.
        let sees_statics = self.reads_statics || self.rows.iter().any(|on| self.tests_statics(on));
        // Rows that nobody names are read where all conditions are about the partition.
        let names_rows = self.rows.iter().any(|on| on.clustering.is_some());
        let there = |(on, found): &(&OnRow, Found<'_>)| {
            found.is_there(on) && !(on.clustering.is_none() && names_rows)
                || sees_statics && found.partition.is_some_and(|p| p.statics.is_some())
        };
        let rows: Vec<Found<'_>> = if self.dialect.cas_answers_each_statement {
            found.map(|(on, f)| f.or_nothing(on)).collect()
        } else if applied {
            Vec::new()
        } else {
            let mut seen: Vec<&Option<ClusteringKey>> = Vec::new();
            let rows = found
                .filter(there)
                .filter(|(on, _)| {
                    let is_new = !seen.contains(&&on.clustering);
                    seen.push(&on.clustering);
                    is_new
                })
                .map(|(_, f)| f)
                .collect();
            in_order_of_the_table(rows)
        };
        let shown: &[usize] = if rows.is_empty() { &[] } else { &self.shown };
        let mut cells = Vec::new();
        for row in &rows {
            response::put_bytes(&mut cells, Some(&[u8::from(applied)]));
            for column in shown {
                let is_seen = sees_statics || self.table.columns[*column].kind != ColumnKind::Static;
                let value = row.value(&self.table, *column).filter(|_| is_seen);
                response::put_bytes(&mut cells, value.as_deref());
            }
        }
        if rows.is_empty() {
            response::put_bytes(&mut cells, Some(&[u8::from(applied)]));
        }
        let page = RowsBody {
            count: rows.len().max(1),
            cells: &cells,
            paging_state: None,
        };
        let skip_metadata = skip_metadata && self.dialect.cas_columns_are_prepared;
        let columns = columns(&self.table, shown);
        response::rows(out, stream, warnings, &columns, skip_metadata, &page);
    }
}
