//! SELECT: a plan from names, a read command from bound values, and rows from what the core or a system table gives.
//! Filtering, projection, COUNT and LIMIT under filtering happen here; the core only reads ranges of keys.

use super::relations::{
    self, KeyPart, Restriction, Restrictions, TupleSlice, TupleSource, check_partition_key, key_value,
};

use super::gather::{group_columns, is_reversed, sorting};
use super::selection::{Aggregate, Expr, Groups, Scene, selected};
use super::terms::source;
use super::view::{PartitionView, RowView, SystemRow, passes};
use super::{Binds, Context, Source, indexed, int_attribute, keyspace_of, known_table, no_table, timeout_ms};
use crate::cql::dialect::Dialect;
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::frame::response::{Columns, put_bytes};
use crate::cql::functions::Moment;
use crate::cql::parse::ast;
use crate::cql::{system, types, values};
use crate::model::read::Bound;
use crate::model::{
    ClusteringKey, ClusteringOrder, ClusteringSelect, Column, ColumnKind, Components, CqlType, PartitionKey,
    PartitionRows, ReadCommand, ReadTarget, Slice, Table, Token, TokenRange, partition_key_bytes,
    partition_key_components,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// What Cassandra says when it would have to look at rows it does not return.
const NEEDS_FILTERING: &str = "Cannot execute this query as it might involve data filtering and thus may have \
    unpredictable performance. If you want to execute this query despite the performance unpredictability, use ALLOW \
    FILTERING";

/// One column of the result; columns by index in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Column(usize),
    /// A column that is kept by its elements.
    Elements(usize),
    WriteTime(usize),
    Ttl(usize),
    Token,
    /// The expression with this number.
    Expr(usize),
}

/// Which partitions are read.
#[derive(Debug)]
pub(super) enum Partitions {
    Keys(Vec<KeyPart>),
    Scan,
}

/// Which rows of each.
#[derive(Debug)]
struct Rows {
    /// Leading clustering columns with values.
    equal: Vec<KeyPart>,
    lower: Option<(Source, bool)>,
    upper: Option<(Source, bool)>,
    tuple: Option<TupleSlice>,
}

/// What was written of a partition.
#[derive(Debug)]
pub struct Put {
    /// Rows.
    pub count: u32,
    /// The last row that was looked at, if rows after it were not.
    pub last: Option<ClusteringKey>,
}

/// A SELECT.
#[derive(Debug)]
pub struct SelectPlan {
    /// Table read.
    pub table: Arc<Table>,
    /// Whether it is a table of the node itself and not of the cluster.
    pub is_system: bool,
    pub(super) items: Vec<(Item, String)>,
    pub(super) exprs: Vec<(Expr, CqlType)>,
    pub(super) aggregates: Vec<Aggregate>,
    /// How many columns of the primary key make a group of GROUP BY; 0 without it.
    pub(super) group_columns: usize,
    /// Columns by which rows of several partitions are sorted once all are there, and whether descending.
    pub(super) sort: Vec<(usize, bool)>,
    partitions: Partitions,
    token: Option<Restriction>,
    rows: Rows,
    /// Restrictions tested on each row because the core does not apply them.
    filters: Vec<(usize, Restriction)>,
    /// Everything restricted, for system tables, where all of it is tested on each row.
    pub(super) all: Vec<(usize, Restriction)>,
    pub(super) reversed: bool,
    distinct: bool,
    limit: Option<Source>,
    per_partition_limit: Option<Source>,
    /// USING TIMEOUT.
    pub timeout_ms: Option<u32>,
}

/// Resolves SELECT.
///
/// # Errors
/// Unknown names, and restrictions real servers refuse, in their words.
pub fn plan(context: &Context<'_>, select: &ast::Select, binds: &mut Binds) -> Result<SelectPlan, CqlError> {
    let keyspace = keyspace_of(context, &select.table)?;
    let is_system = system::is_system_keyspace(keyspace);
    let table = if is_system {
        system::table(context.server, keyspace, &select.table.table)
            .ok_or_else(|| no_table(context, &select.table.table))?
    } else {
        known_table(context, keyspace, &select.table.table)?
    };
    let selected = selected(context, &table, select, binds)?;
    let mut restrictions = relations::resolve(context, &table, &select.relations, binds)?;
    if context.server.dialect.single_in_is_equal {
        restrictions.take_single_in_for_equal();
    }
    let per_partition_limit = select.per_partition_limit.as_ref();
    let per_partition_limit = per_partition_limit
        .map(|t| source(t, "[per_partition_limit]", &CqlType::Int, binds))
        .transpose()?;
    let limit = select
        .limit
        .as_ref()
        .map(|t| source(t, "[limit]", &CqlType::Int, binds))
        .transpose()?;
    let is_indexed = indexed::is_answered(&table, &restrictions);
    let may_filter = select.allow_filtering || is_system || is_indexed;
    if is_indexed && !select.order_by.is_empty() {
        return Err(CqlError::invalid(
            "ORDER BY with 2ndary indexes is not supported, except for ANN queries.",
        ));
    }
    let is_list = |(i, r): &(usize, Restriction)| {
        *i < table.partition_columns + table.clustering_columns && matches!(r, Restriction::In(_))
    };
    if is_indexed && restrictions.columns().iter().any(is_list) {
        return Err(CqlError::invalid(
            "Select on indexed columns and with IN clause for the PRIMARY KEY are not supported",
        ));
    }
    let partitions = partitions(&table, &restrictions, may_filter, context.server.dialect)?;
    let (rows, filters) = rows(&table, &restrictions, &partitions, may_filter)?;
    let sort = sorting(&table, select, &partitions)?;
    let group_columns = group_columns(context, &table, select, &restrictions)?;
    let plan = SelectPlan {
        is_system,
        items: selected.items,
        exprs: selected.exprs,
        aggregates: selected.aggregates,
        group_columns,
        sort,
        token: restrictions.token().cloned(),
        rows,
        filters,
        all: restrictions.columns().to_vec(),
        reversed: is_reversed(context, &table, select, (&partitions, &restrictions))?,
        partitions,
        distinct: select.distinct,
        limit,
        per_partition_limit,
        timeout_ms: timeout_ms(context, select.timeout.as_ref())?,
        table,
    };
    if select.distinct {
        plan.check_distinct(context)?;
    } else if plan.asks_for_statics_of_a_row() {
        return Err(CqlError::invalid(
            "Cannot restrict clustering columns when selecting only static columns",
        ));
    }
    if plan.per_partition_limit.is_some() && !plan.aggregates.is_empty() && group_columns == 0 {
        return Err(CqlError::invalid(
            "PER PARTITION LIMIT is not allowed with aggregate queries.",
        ));
    }
    Ok(plan)
}

/// Column indexes in the order of `*`: partition key, clustering, static by name, regular by name.
pub fn star(table: &Table) -> Vec<usize> {
    let mut order: Vec<usize> = (0..table.columns.len()).collect();
    order.sort_by_key(|i| {
        let c = &table.columns[*i];
        match c.kind {
            ColumnKind::PartitionKey | ColumnKind::Clustering => (0, *i, ""),
            ColumnKind::Static => (1, 0, c.name.as_str()),
            ColumnKind::Regular => (2, 0, c.name.as_str()),
        }
    });
    order
}

fn partitions(
    table: &Table,
    restrictions: &Restrictions,
    may_filter: bool,
    dialect: &Dialect,
) -> Result<Partitions, CqlError> {
    let restricted: Vec<_> = (0..table.partition_columns).map(|i| restrictions.column(i)).collect();
    let given = restricted.iter().flatten().count();
    if restrictions.has_token() {
        if given > 0 {
            return Err(CqlError::unsupported(
                "token() together with relations on the partition key",
            ));
        }
        return Ok(Partitions::Scan);
    }
    let parts: Option<Vec<KeyPart>> = restricted.iter().map(|r| r.and_then(Restriction::key_part)).collect();
    match parts {
        Some(parts) => Ok(Partitions::Keys(parts)),
        None if given == 0 || may_filter => Ok(Partitions::Scan),
        None if !dialect.partition_slices_are_filters
            && restricted
                .iter()
                .flatten()
                .any(|r| matches!(r, Restriction::Slice { .. })) =>
        {
            Err(CqlError::invalid(
                "Only EQ and IN relation are supported on the partition key (unless you use the token() function)",
            ))
        }
        None => Err(CqlError::invalid(NEEDS_FILTERING)),
    }
}

/// What the core applies to clustering columns, and what is left to test on each row.
fn rows(
    table: &Table,
    restrictions: &Restrictions,
    partitions: &Partitions,
    may_filter: bool,
) -> Result<(Rows, Vec<(usize, Restriction)>), CqlError> {
    let first = table.partition_columns;
    let end = first + table.clustering_columns;
    let mut rows = Rows {
        equal: Vec::new(),
        lower: None,
        upper: None,
        tuple: None,
    };
    let mut applied: Vec<usize> = Vec::new();
    if let Partitions::Keys(_) = partitions {
        applied.extend(0..first);
    }
    let mut at = first;
    while at < end {
        match restrictions.column(at) {
            Some(r) => match (r.key_part(), r) {
                (Some(part), _) => rows.equal.push(part),
                (None, Restriction::Slice { lower, upper }) => {
                    (rows.lower, rows.upper) = (lower.clone(), upper.clone());
                    applied.push(at);
                    break;
                }
                (None, _) => break,
            },
            None => break,
        }
        applied.push(at);
        at += 1;
    }
    if let Some(tuple) = restrictions.tuple() {
        let orders: Vec<_> = tuple.columns.iter().map(|i| table.columns[*i].order).collect();
        let fits = tuple.columns.first() == Some(&at) && rows.lower.is_none() && rows.upper.is_none();
        if !fits || tuple.among.is_none() && orders.windows(2).any(|w| w[0] != w[1]) {
            return Err(CqlError::unsupported("this range over several clustering columns"));
        }
        rows.tuple = Some(tuple.clone());
    }
    let filters: Vec<_> = restrictions
        .columns()
        .iter()
        .filter(|(i, _)| !applied.contains(i))
        .cloned()
        .collect();
    // A scan restricted by a leading clustering column reads every partition for a few rows of each.
    let scans_for_rows = matches!(partitions, Partitions::Scan) && (!applied.is_empty() || rows.tuple.is_some());
    if (!filters.is_empty() || scans_for_rows) && !may_filter {
        return Err(filtering_refusal(table, restrictions, &filters, at));
    }
    Ok((rows, filters))
}

fn filtering_refusal(
    table: &Table,
    restrictions: &Restrictions,
    filters: &[(usize, Restriction)],
    unrestricted: usize,
) -> CqlError {
    let later = filters
        .iter()
        .find(|(i, _)| table.columns[*i].kind == ColumnKind::Clustering);
    let whole_key = (0..table.partition_columns).all(|i| restrictions.column(i).is_some());
    match later {
        Some((i, _)) if whole_key && restrictions.column(unrestricted).is_none() => CqlError::invalid(format!(
            "PRIMARY KEY column \"{}\" cannot be restricted as preceding column \"{}\" is not restricted",
            table.columns[*i].name, table.columns[unrestricted].name
        )),
        Some((i, _)) if whole_key => CqlError::invalid(format!(
            "Clustering column \"{}\" cannot be restricted (preceding column \"{}\" is restricted by a non-EQ relation)",
            table.columns[*i].name,
            table.columns[i - 1].name
        )),
        _ => CqlError::invalid(NEEDS_FILTERING),
    }
}

impl SelectPlan {
    fn check_distinct(&self, context: &Context<'_>) -> Result<(), CqlError> {
        let is_of_partition = |i: usize| {
            matches!(
                self.table.columns[i].kind,
                ColumnKind::PartitionKey | ColumnKind::Static
            )
        };
        if self.per_partition_limit.is_some() {
            return Err(CqlError::invalid(
                "PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries",
            ));
        }
        if !self.all.iter().all(|(i, _)| is_of_partition(*i)) {
            return Err(CqlError::invalid(
                "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.",
            ));
        }
        for (item, _) in &self.items {
            let other = match item {
                Item::Column(i) | Item::Elements(i) if !is_of_partition(*i) => {
                    format!(" (not {})", self.table.columns[*i].name)
                }
                Item::Column(_) | Item::Elements(_) | Item::Token => continue,
                Item::Expr(i) if self.exprs[*i].0.is_aggregate() => continue,
                _ => String::new(),
            };
            return Err(CqlError::invalid(format!(
                "SELECT DISTINCT queries must only request partition key columns and/or static columns{other}"
            )));
        }
        let is_selected = |key: usize| {
            self.items
                .iter()
                .any(|(item, _)| matches!(item, Item::Column(i) if *i == key))
        };
        let missing = (0..self.table.partition_columns).find(|key| !is_selected(*key));
        if let (Partitions::Scan, Some(missing)) = (&self.partitions, missing) {
            return Err(CqlError::invalid(format!(
                "SELECT DISTINCT queries must request all the partition key columns (missing {})",
                self.table.columns[missing].name
            )));
        }
        if self.reversed && !context.server.dialect.distinct_may_be_reversed {
            return Err(CqlError::invalid("ORDER BY cannot be combined with DISTINCT"));
        }
        Ok(())
    }

    /// Columns of the result, encoded.
    pub fn result_columns(&self) -> Columns {
        let ty = |item: &Item| match item {
            Item::Column(i) | Item::Elements(i) => self.table.columns[*i].ty.clone(),
            Item::WriteTime(_) | Item::Token => CqlType::Bigint,
            Item::Ttl(_) => CqlType::Int,
            Item::Expr(i) => self.exprs[*i].1.clone(),
        };
        let specs: Vec<(&str, CqlType)> = self.items.iter().map(|(i, name)| (name.as_str(), ty(i))).collect();
        types::columns(
            &self.table.keyspace,
            &self.table.name,
            specs.iter().map(|(n, t)| (*n, t)),
        )
    }

    /// Positions of the markers that make the partition key, in key order; empty if they do not.
    pub fn partition_key_markers(&self) -> Vec<u16> {
        match &self.partitions {
            Partitions::Keys(parts) => relations::markers_of(parts),
            Partitions::Scan => Vec::new(),
        }
    }

    /// Whether rows are gathered into groups: it has aggregates, or GROUP BY.
    pub fn gathers(&self) -> bool {
        !self.aggregates.is_empty() || self.group_columns > 0
    }

    /// Whether something is computed of each row.
    pub fn computes(&self) -> bool {
        self.gathers() || self.items.iter().any(|(i, _)| matches!(i, Item::Expr(_)))
    }

    /// Whether rows are sorted once all of them are there.
    pub fn sorts(&self) -> bool {
        !self.sort.is_empty()
    }

    /// Whether rows are tested here after the core returned them.
    pub fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// What Cassandra warns of when rows are gathered.
    pub fn gathering_warning(&self) -> Option<&'static str> {
        let several = |parts: &[KeyPart]| parts.iter().any(|p| matches!(p, KeyPart::In(_)));
        let names_keys = self.token.is_some() || self.all.iter().any(|(i, _)| *i < self.table.partition_columns);
        match &self.partitions {
            _ if !self.gathers() => None,
            Partitions::Scan if names_keys => None,
            Partitions::Scan => Some("Aggregation query used without partition key"),
            Partitions::Keys(parts) if several(parts) => {
                Some("Aggregation query used on multiple partition keys (IN restriction)")
            }
            Partitions::Keys(_) => None,
        }
    }

    /// PER PARTITION LIMIT.
    ///
    /// # Errors
    /// Null, or not positive.
    pub fn per_partition_limit(&self, bound: &[Value<'_>]) -> Result<u32, CqlError> {
        positive(self.per_partition_limit.as_ref(), bound, "PER PARTITION LIMIT")
    }

    /// LIMIT; `u32::MAX` without one.
    ///
    /// # Errors
    /// Null, or not positive.
    pub fn limit(&self, bound: &[Value<'_>]) -> Result<u32, CqlError> {
        positive(self.limit.as_ref(), bound, "LIMIT")
    }

    /// Whether more than the partition is restricted.
    pub fn restricts_rows(&self) -> bool {
        let is_key = |(i, _): &(usize, Restriction)| *i < self.table.partition_columns;
        !self.all.iter().all(is_key) || matches!(self.partitions, Partitions::Scan)
    }

    /// The read this means for these bound values, without page or position; `None` if it can have no rows.
    ///
    /// # Errors
    /// Keys that cannot be keys, bad limits.
    pub fn command(&self, bound: &[Value<'_>]) -> Result<Option<ReadCommand>, CqlError> {
        let target = match &self.partitions {
            Partitions::Keys(parts) => {
                let mut keys = Vec::new();
                let columns = self.table.partition_key();
                let mut product = relations::product(parts, columns, bound)?;
                // Rows of an IN come in the order of its values, whatever their tokens are (seen).
                product.sort_by(|a, b| {
                    let each = columns.iter().zip(a.iter().zip(b));
                    each.map(|(c, (a, b))| values::compare(&c.ty, a, b))
                        .find(|o| o.is_ne())
                        .unwrap_or(Ordering::Equal)
                });
                for components in product {
                    let mut bytes = Vec::new();
                    partition_key_bytes(&components, &mut bytes);
                    check_partition_key(&bytes)?;
                    keys.push(PartitionKey::new(bytes));
                }
                keys.dedup();
                if keys.is_empty() {
                    return Ok(None);
                }
                ReadTarget::Partitions(keys)
            }
            Partitions::Scan => ReadTarget::Scan(self.token_range(bound)?),
        };
        let Some(clustering) = self.slices(bound)? else {
            return Ok(None);
        };
        let per_partition_limit = match self.per_partition_limit(bound)? {
            _ if self.distinct => 1,
            // It counts groups then, or rows that pass the filters: those that answer see to it.
            _ if self.gathers() || self.has_filters() => u32::MAX,
            n => n,
        };
        Ok(Some(ReadCommand {
            table: self.table.id,
            target,
            clustering,
            reversed: self.reversed,
            limit: u32::MAX,
            per_partition_limit,
            after: None,
        }))
    }

    fn token_range(&self, bound: &[Value<'_>]) -> Result<TokenRange, CqlError> {
        let value = |s: &Source| match s.value(bound) {
            Value::Bytes(b) => <[u8; 8]>::try_from(b)
                .map(|b| Token(i64::from_be_bytes(b)))
                .map_err(|_| CqlError::invalid("Expected 8 or 0 byte long (0)")),
            _ => Err(CqlError::invalid("Invalid null token value")),
        };
        Ok(match &self.token {
            None => TokenRange::default(),
            Some(Restriction::Eq(s)) => {
                let at = value(s)?;
                TokenRange {
                    start: Some((at, true)),
                    end: Some((at, true)),
                }
            }
            Some(Restriction::Slice { lower, upper }) => {
                let bound = |b: &Option<(Source, bool)>| b.as_ref().map(|(s, i)| value(s).map(|t| (t, *i))).transpose();
                let (start, mut end) = (bound(lower)?, bound(upper)?);
                // The smallest token as an upper bound means the end of the ring: ranges of drivers wrap there.
                if end.is_some_and(|(t, _)| t.0 == i64::MIN) {
                    end = None;
                }
                TokenRange { start, end }
            }
            Some(Restriction::In(_) | Restriction::Holds(_)) => {
                return Err(CqlError::invalid("IN is not allowed on token()"));
            }
        })
    }

    /// The clustering slices, `None` if no row can match.
    fn slices(&self, bound: &[Value<'_>]) -> Result<Option<ClusteringSelect>, CqlError> {
        let rows = &self.rows;
        if rows.equal.is_empty() && rows.lower.is_none() && rows.upper.is_none() && rows.tuple.is_none() {
            return Ok(Some(ClusteringSelect::All));
        }
        let columns = self.table.clustering();
        let prefixes = relations::product(&rows.equal, columns, bound)?;
        if prefixes.is_empty() {
            return Ok(None);
        }
        let range = |b: &Option<(Source, bool)>| -> Result<Option<(Vec<u8>, bool)>, CqlError> {
            let Some((s, inclusive)) = b else { return Ok(None) };
            Ok(Some((
                key_value(s.value(bound), &columns[rows.equal.len()])?.to_vec(),
                *inclusive,
            )))
        };
        let (lower, upper) = (range(&rows.lower)?, range(&rows.upper)?);
        let mut slices = Vec::with_capacity(prefixes.len());
        if let Some((tuple, among)) = rows.tuple.as_ref().and_then(|t| Some((t, t.among.as_ref()?))) {
            let of: Vec<&Column> = tuple.columns.iter().map(|i| &self.table.columns[*i]).collect();
            let tuples = among.values(&of, bound)?;
            for prefix in &prefixes {
                for values in &tuples {
                    let key: Vec<&[u8]> = prefix.iter().chain(values).copied().collect();
                    slices.push(Slice::prefix(ClusteringKey::of(&key)));
                }
            }
            return Ok((!slices.is_empty()).then_some(ClusteringSelect::Slices(slices)));
        }
        for prefix in &prefixes {
            slices.push(match &rows.tuple {
                Some(tuple) => self.tuple_slice(prefix, tuple, bound)?,
                None if lower.is_none() && upper.is_none() => Slice::prefix(ClusteringKey::of(prefix)),
                None => Slice::relations(
                    &self.table,
                    prefix,
                    lower.as_ref().map(|(v, i)| (v.as_slice(), *i)),
                    upper.as_ref().map(|(v, i)| (v.as_slice(), *i)),
                ),
            });
        }
        Ok(Some(ClusteringSelect::Slices(slices)))
    }

    fn tuple_slice(&self, prefix: &[&[u8]], tuple: &TupleSlice, bound: &[Value<'_>]) -> Result<Slice, CqlError> {
        let of: Vec<&Column> = tuple.columns.iter().map(|i| &self.table.columns[*i]).collect();
        let edge = |b: &Option<(TupleSource, bool)>| -> Result<Bound, CqlError> {
            let mut key = ClusteringKey::of(prefix);
            let Some((values, inclusive)) = b else {
                return Ok(Bound {
                    prefix: key,
                    inclusive: true,
                });
            };
            for value in values.values(&of, bound)? {
                key.push(value);
            }
            Ok(Bound {
                prefix: key,
                inclusive: *inclusive,
            })
        };
        let (lower, upper) = (edge(&tuple.lower)?, edge(&tuple.upper)?);
        let descending = self.table.columns[tuple.columns[0]].order == ClusteringOrder::Desc;
        Ok(if descending {
            Slice {
                start: upper,
                end: lower,
            }
        } else {
            Slice {
                start: lower,
                end: upper,
            }
        })
    }

    /// Appends the cells of the rows of `partition` that pass the filters, at most `most` of them; returns how many.
    ///
    /// # Errors
    /// A filter value that is null or of the wrong length.
    pub fn put_partition(
        &self,
        partition: &PartitionRows,
        (bound, moment): (&[Value<'_>], &Moment),
        most: u32,
        out: &mut Vec<u8>,
    ) -> Result<Put, CqlError> {
        let components =
            partition_key_components(&partition.key.bytes, self.table.partition_columns).unwrap_or_default();
        let mut view = PartitionView {
            table: &self.table,
            components,
            token: partition.key.token,
            statics: partition.statics.as_ref(),
            row: None,
            clustering: Vec::with_capacity(self.table.clustering_columns),
        };
        let mut count = 0;
        if partition.rows.is_empty() && partition.statics.is_some() && most > 0 && self.rows_unrestricted() {
            count += u32::from(self.put_row(&view, (bound, moment), out, &self.filters)?);
        }
        for (i, row) in partition.rows.iter().enumerate() {
            if count >= most {
                let last = i.checked_sub(1).map(|last| &partition.rows[last]);
                let last = last.map(|row| ClusteringKey(row.clustering().to_vec()));
                return Ok(Put { count, last });
            }
            view.clustering.clear();
            view.clustering.extend(Components::new(row.clustering()));
            view.row = Some(row);
            count += u32::from(self.put_row(&view, (bound, moment), out, &self.filters)?);
        }
        Ok(Put { count, last: None })
    }

    /// Whether a row passes the filters.
    pub(super) fn meets_filters(&self, row: &impl RowView, bound: &[Value<'_>]) -> Result<bool, CqlError> {
        self.meets(row, bound, &self.filters)
    }

    /// Appends the cells of a row.
    pub(super) fn put_whole_row(
        &self,
        row: &impl RowView,
        scene: (&[Value<'_>], &Moment),
        out: &mut Vec<u8>,
    ) -> Result<(), CqlError> {
        let mut items = self.items.iter();
        items.try_for_each(|(item, _)| self.put_item(item, row, scene, out))
    }

    pub(super) fn rows_unrestricted(&self) -> bool {
        let r = &self.rows;
        r.equal.is_empty() && r.lower.is_none() && r.upper.is_none() && r.tuple.is_none()
    }

    /// Appends the matching rows of a system table, all of them; returns how many.
    ///
    /// # Errors
    /// As [`SelectPlan::put_partition`].
    pub fn put_system_rows(
        &self,
        rows: &[Vec<Option<Vec<u8>>>],
        (bound, moment): (&[Value<'_>], &Moment),
        out: &mut Vec<u8>,
    ) -> Result<u32, CqlError> {
        let limit = self.limit(bound)?;
        if self.gathers() {
            let mut groups = Groups::new(self.table.partition_columns);
            for row in rows {
                let row = SystemRow(row);
                if self.meets(&row, bound, &self.all)? {
                    self.gather(&row, (bound, moment), &mut groups)?;
                }
            }
            return self.put_groups::<SystemRow<'_>>(groups, (bound, moment), limit, out);
        }
        let mut count = 0;
        for row in rows {
            if count < limit {
                count += u32::from(self.put_row(&SystemRow(row), (bound, moment), out, &self.all)?);
            }
        }
        Ok(count)
    }

    fn put_row(
        &self,
        row: &impl RowView,
        (bound, moment): (&[Value<'_>], &Moment),
        out: &mut Vec<u8>,
        filters: &[(usize, Restriction)],
    ) -> Result<bool, CqlError> {
        if !self.meets(row, bound, filters)? {
            return Ok(false);
        }
        for (item, _) in &self.items {
            self.put_item(item, row, (bound, moment), out)?;
        }
        Ok(true)
    }

    /// Whether a row meets what is tested on each.
    fn meets(
        &self,
        row: &impl RowView,
        bound: &[Value<'_>],
        filters: &[(usize, Restriction)],
    ) -> Result<bool, CqlError> {
        for (index, restriction) in filters {
            let column = &self.table.columns[*index];
            let made = match column.ty.is_multicell() {
                true => row.assembled(*index),
                false => None,
            };
            let value = match column.ty.is_multicell() {
                true => made.as_deref(),
                false => row.value(*index),
            };
            if !passes(restriction, column, value, bound)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn put_item(
        &self,
        item: &Item,
        row: &impl RowView,
        (bound, moment): (&[Value<'_>], &Moment),
        out: &mut Vec<u8>,
    ) -> Result<(), CqlError> {
        {
            match item {
                Item::Column(i) => put_bytes(out, row.value(*i)),
                Item::Elements(i) => put_bytes(out, row.assembled(*i).as_deref()),
                Item::WriteTime(i) => put_bytes(
                    out,
                    row.written(*i).map(|(us, _)| us.to_be_bytes()).as_ref().map(|b| &b[..]),
                ),
                Item::Ttl(i) => {
                    let left = row
                        .written(*i)
                        .and_then(|(_, ttl)| ttl)
                        .map(|s| (s as i32).to_be_bytes());
                    put_bytes(out, left.as_ref().map(|b| &b[..]));
                }
                Item::Token => put_bytes(out, Some(&row.token().to_be_bytes())),
                Item::Expr(i) => {
                    let scene = Scene {
                        row: Some(row),
                        table: &self.table,
                        bound,
                        moment,
                        aggregates: &[],
                    };
                    put_bytes(out, self.exprs[*i].0.value(&scene)?.as_deref());
                }
            }
        }
        Ok(())
    }
}

fn positive(source: Option<&Source>, bound: &[Value<'_>], what: &str) -> Result<u32, CqlError> {
    let Some(source) = source else { return Ok(u32::MAX) };
    match int_attribute(source, bound, what)? {
        None => Ok(u32::MAX),
        Some(n) if n > 0 => Ok(n as u32),
        // C says it so of PER PARTITION LIMIT too (seen).
        Some(_) => Err(CqlError::invalid("LIMIT must be strictly positive")),
    }
}
