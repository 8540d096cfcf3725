//! What SELECT computes besides columns: functions, casts, parts of columns, aggregates, and the groups of GROUP BY.

use super::conditions::{PartOf, part_of};
use super::select::{Item, star};
use super::terms::{choose, source};
use super::view::RowView;
use super::{Binds, Context, Source, int_value, no_column};
use crate::cql::casts::{self, Sum};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::frame::response::put_bytes;
use crate::cql::functions::{self, Function, Moment};
use crate::cql::parse::ast::{self, Selectable, Term};
use crate::cql::{types, values};
use crate::model::{ColumnKind, CqlType, Table};
use std::cmp::Ordering;

/// Something computed of a row, or of a group of rows.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    Column(usize),
    Elements(usize),
    Token,
    /// Write times or TTLs of a column, of one cell or of all elements.
    Times(usize, Time, Option<Source>),
    Constant(Source),
    Element(Box<Expr>, CqlType, Source),
    Field(Box<Expr>, CqlType, u16),
    Call(Function, Vec<Expr>),
    Cast(Box<Expr>, CqlType, CqlType),
    /// The aggregate with this number.
    Aggregate(usize),
}

/// Which time of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Write,
    MaxWrite,
    Ttl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Min,
    Max,
    Sum,
    Avg,
}

/// An aggregate; of `None` it counts rows.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    kind: Kind,
    of: Option<Expr>,
    ty: CqlType,
}

/// What selectors are resolved with.
pub(super) struct Resolver<'a, 'b> {
    pub context: &'a Context<'a>,
    pub table: &'a Table,
    pub binds: &'b mut Binds,
    pub aggregates: Vec<Aggregate>,
    /// Whether an aggregate's argument is being resolved.
    pub inside: bool,
}

/// A resolved selector: what, its type, and its name in the result.
pub(super) struct Resolved {
    pub expr: Expr,
    pub ty: CqlType,
    pub name: String,
}

/// Types of the signatures of `sum` and `avg`. Cassandra lists them in another order after each start (seen).
const SUMMABLE: [CqlType; 9] = [
    CqlType::Bigint,
    CqlType::Int,
    CqlType::Counter,
    CqlType::Double,
    CqlType::Varint,
    CqlType::Smallint,
    CqlType::Float,
    CqlType::Tinyint,
    CqlType::Decimal,
];

fn aggregate_named(name: &str) -> Option<Kind> {
    const NAMES: [(&str, Kind); 5] = [
        ("count", Kind::Count),
        ("min", Kind::Min),
        ("max", Kind::Max),
        ("sum", Kind::Sum),
        ("avg", Kind::Avg),
    ];
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, k)| *k)
}

impl Resolver<'_, '_> {
    fn column(&self, name: &str) -> Result<usize, CqlError> {
        let found = self.table.columns.iter().position(|c| c.name == name);
        found.ok_or_else(|| no_column(self.context, self.table, name))
    }

    /// Resolves a selector.
    ///
    /// # Errors
    /// Unknown names, calls that fit no signature, casts that do not exist.
    pub(super) fn resolve(&mut self, selectable: &Selectable) -> Result<Resolved, CqlError> {
        match selectable {
            Selectable::Column(name) => {
                let i = self.column(name)?;
                let ty = self.table.columns[i].ty.clone();
                let expr = match ty.is_multicell() {
                    true => Expr::Elements(i),
                    false => Expr::Column(i),
                };
                Ok(Resolved {
                    expr,
                    ty,
                    name: name.clone(),
                })
            }
            Selectable::Count => self.aggregate(Kind::Count, None, CqlType::Bigint, "count".into()),
            Selectable::Of(function, inner) => self.times(function, inner),
            Selectable::Element(inner, key) => self.element(inner, key),
            Selectable::Field(inner, field) => {
                let of = self.resolve(inner)?;
                let CqlType::Udt(udt) = of.ty.unfrozen() else {
                    return Err(CqlError::invalid(format!(
                        "Invalid field selection: {} of type {} is not a user type",
                        of.name,
                        types::name(&of.ty)
                    )));
                };
                let at = udt.fields.iter().position(|(n, _)| n == field).ok_or_else(|| {
                    CqlError::invalid(format!(
                        "{} of type {} has no field {field}",
                        of.name,
                        types::name(&of.ty)
                    ))
                })?;
                Ok(Resolved {
                    ty: udt.fields[at].1.clone(),
                    name: format!("{}.{field}", of.name),
                    expr: Expr::Field(Box::new(of.expr), of.ty.clone(), at as u16),
                })
            }
            Selectable::Cast(inner, to) => {
                let of = self.resolve(inner)?;
                let scope = types::Scope {
                    keyspace: &self.table.keyspace,
                    schema: self.context.schema,
                    dialect: self.context.server.dialect,
                };
                let to = types::resolve(to, scope)?;
                if of.ty == to {
                    return Ok(of);
                }
                if !casts::can_cast(&of.ty, &to) {
                    return Err(CqlError::invalid(format!(
                        "{} cannot be cast to {}",
                        of.name,
                        types::name(&to)
                    )));
                }
                Ok(Resolved {
                    name: format!("cast({} as {})", of.name, types::name(&to)),
                    expr: Expr::Cast(Box::new(of.expr), of.ty, to.clone()),
                    ty: to,
                })
            }
            Selectable::Term(term) => self.term(term),
            Selectable::Call(name, arguments) if name == "token" => self.token(arguments),
            Selectable::Call(name, arguments) => match aggregate_named(name) {
                Some(kind) => self.aggregate_call(kind, name, arguments),
                None => self.call(name, arguments),
            },
        }
    }

    fn aggregate(&mut self, kind: Kind, of: Option<Expr>, ty: CqlType, name: String) -> Result<Resolved, CqlError> {
        if self.inside {
            return Err(CqlError::invalid(
                "aggregate functions cannot be used as arguments of aggregate functions",
            ));
        }
        let result = match kind {
            Kind::Count => CqlType::Bigint,
            _ => ty.clone(),
        };
        self.aggregates.push(Aggregate { kind, of, ty });
        Ok(Resolved {
            expr: Expr::Aggregate(self.aggregates.len() - 1),
            ty: result,
            name,
        })
    }

    fn aggregate_call(&mut self, kind: Kind, name: &str, arguments: &[Selectable]) -> Result<Resolved, CqlError> {
        let [argument] = arguments else {
            return Err(CqlError::invalid(format!(
                "Invalid call to function {name}, none of its type signatures match"
            )));
        };
        let was_inside = std::mem::replace(&mut self.inside, true);
        if was_inside {
            return Err(CqlError::invalid(
                "aggregate functions cannot be used as arguments of aggregate functions",
            ));
        }
        let of = self.resolve(argument);
        self.inside = false;
        let of = of?;
        if matches!(kind, Kind::Sum | Kind::Avg) && !casts::is_number(&of.ty) {
            let known = SUMMABLE.map(|t| {
                let ty = types::name(&t);
                format!("system.{name} : ({ty}) -> {ty}")
            });
            return Err(CqlError::invalid(format!(
                "Invalid call to function {name}, none of its type signatures match (known type signatures: {})",
                known.join(", ")
            )));
        }
        let label = format!("system.{name}({})", of.name);
        self.aggregate(kind, Some(of.expr), of.ty, label)
    }

    fn token(&mut self, arguments: &[Selectable]) -> Result<Resolved, CqlError> {
        let key: Vec<&str> = self.table.partition_key().iter().map(|c| c.name.as_str()).collect();
        let names: Vec<&str> = arguments
            .iter()
            .filter_map(|a| match a {
                Selectable::Column(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        if names != key {
            return Err(CqlError::invalid(format!(
                "token() must be given the partition key in order: {}",
                key.join(", ")
            )));
        }
        Ok(Resolved {
            expr: Expr::Token,
            ty: CqlType::Bigint,
            name: format!("system.token({})", names.join(", ")),
        })
    }

    fn times(&mut self, function: &str, inner: &Selectable) -> Result<Resolved, CqlError> {
        let time = match function {
            "writetime" => Time::Write,
            "maxwritetime" => Time::MaxWrite,
            _ => Time::Ttl,
        };
        let (name, key, label) = match inner {
            Selectable::Column(name) => (name, None, name.clone()),
            Selectable::Element(column, key) => match &**column {
                Selectable::Column(name) => (name, Some(key), format!("{name}[{}]", key.text())),
                _ => return Err(CqlError::unsupported(format!("{function}() of this"))),
            },
            _ => return Err(CqlError::unsupported(format!("{function}() of this"))),
        };
        let i = self.column(name)?;
        let column = &self.table.columns[i];
        if matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering) {
            return Err(CqlError::invalid(format!(
                "Cannot use selection function {function} on PRIMARY KEY part {name}"
            )));
        }
        let key_type = match column.ty.unfrozen() {
            CqlType::Map(k, _) | CqlType::Set(k) => (**k).clone(),
            _ => CqlType::Int,
        };
        let key = key
            .map(|key| source(key, &format!("key({name})"), &key_type, self.binds))
            .transpose()?;
        let each = if time == Time::Ttl {
            CqlType::Int
        } else {
            CqlType::Bigint
        };
        let ty = match column.ty.is_multicell() && key.is_none() && time != Time::MaxWrite {
            true => CqlType::List(Box::new(each)),
            false => each,
        };
        Ok(Resolved {
            expr: Expr::Times(i, time, key),
            ty,
            name: format!("{function}({label})"),
        })
    }

    fn element(&mut self, inner: &Selectable, key: &Term) -> Result<Resolved, CqlError> {
        let of = self.resolve(inner)?;
        let (key_type, ty) = match of.ty.unfrozen() {
            CqlType::Map(k, v) => ((**k).clone(), (**v).clone()),
            CqlType::Set(e) => ((**e).clone(), (**e).clone()),
            _ => {
                return Err(CqlError::invalid(format!(
                    "Invalid element selection: {} is of type {} is not a collection",
                    of.name,
                    types::name(&of.ty)
                )));
            }
        };
        let key_source = source(key, &format!("key({})", of.name), &key_type, self.binds)?;
        Ok(Resolved {
            name: format!("{}[{}]", of.name, key.text()),
            expr: Expr::Element(Box::new(of.expr), of.ty, key_source),
            ty,
        })
    }

    fn term(&mut self, term: &Term) -> Result<Resolved, CqlError> {
        let Term::Cast(cast, inner) = term else {
            return Err(CqlError::invalid(format!(
                "Cannot infer type for term {} in selection clause (try using a cast to force a type)",
                term.text()
            )));
        };
        let scope = types::Scope {
            keyspace: &self.table.keyspace,
            schema: self.context.schema,
            dialect: self.context.server.dialect,
        };
        let ty = types::resolve(cast, scope)?;
        let name = term.text();
        Ok(Resolved {
            expr: Expr::Constant(source(inner, &name, &ty, self.binds)?),
            ty,
            name,
        })
    }

    fn call(&mut self, name: &str, arguments: &[Selectable]) -> Result<Resolved, CqlError> {
        if functions::named(name).is_empty() {
            return Err(CqlError::invalid(format!("Unknown function '{name}'")));
        }
        let mut resolved = Vec::with_capacity(arguments.len());
        for argument in arguments {
            resolved.push(match argument {
                // Its type is that of the signature which fits.
                Selectable::Term(term) if !matches!(term, Term::Cast(..)) => None,
                other => Some(self.resolve(other)?),
            });
        }
        let fits = |i: usize, ty: &CqlType| match (&resolved[i], &arguments[i]) {
            (Some(r), _) => r.ty.unfrozen() == ty || *ty == CqlType::Blob,
            (None, Selectable::Term(term)) => super::terms::fits_key(term, ty),
            (None, _) => false,
        };
        let function = choose(name, arguments.len(), fits)?;
        let (mut exprs, mut names) = (Vec::new(), Vec::new());
        for ((r, argument), ty) in resolved.into_iter().zip(arguments).zip(&function.arguments) {
            match (r, argument) {
                (Some(r), _) => {
                    exprs.push(r.expr);
                    names.push(r.name);
                }
                (None, Selectable::Term(term)) => {
                    exprs.push(Expr::Constant(source(term, name, ty, self.binds)?));
                    names.push(term.text());
                }
                (None, _) => {}
            }
        }
        Ok(Resolved {
            ty: function.result.clone(),
            name: format!("system.{name}({})", names.join(", ")),
            expr: Expr::Call(function, exprs),
        })
    }
}

/// What is selected.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub items: Vec<(Item, String)>,
    /// The same as expressions, with their types, in the order of the items.
    pub exprs: Vec<(Expr, CqlType)>,
    pub aggregates: Vec<Aggregate>,
}

/// Resolves what is selected.
///
/// # Errors
/// As [`Resolver::resolve`].
pub(super) fn selected(
    context: &Context<'_>,
    table: &Table,
    select: &ast::Select,
    binds: &mut Binds,
) -> Result<Selected, CqlError> {
    if select.selectors.is_empty() {
        let item = |i: usize| (whole(table, i), table.columns[i].name.clone());
        let expr = |i: usize| {
            let ty = table.columns[i].ty.clone();
            let expr = if ty.is_multicell() {
                Expr::Elements(i)
            } else {
                Expr::Column(i)
            };
            (expr, ty)
        };
        return Ok(Selected {
            items: star(table).into_iter().map(item).collect(),
            exprs: star(table).into_iter().map(expr).collect(),
            aggregates: Vec::new(),
        });
    }
    let mut resolver = Resolver {
        context,
        table,
        binds,
        aggregates: Vec::new(),
        inside: false,
    };
    let mut selected = Selected::default();
    for selector in &select.selectors {
        let resolved = resolver.resolve(&selector.selectable)?;
        let item = match &resolved.expr {
            Expr::Column(i) => Item::Column(*i),
            Expr::Elements(i) => Item::Elements(*i),
            Expr::Token => Item::Token,
            Expr::Times(i, Time::Write, None) if !table.columns[*i].ty.is_multicell() => Item::WriteTime(*i),
            Expr::Times(i, Time::Ttl, None) if !table.columns[*i].ty.is_multicell() => Item::Ttl(*i),
            _ => Item::Expr(selected.exprs.len()),
        };
        selected
            .items
            .push((item, selector.alias.clone().unwrap_or(resolved.name)));
        selected.exprs.push((resolved.expr, resolved.ty));
    }
    selected.aggregates = resolver.aggregates;
    Ok(selected)
}

/// A column, in the way that it is kept.
fn whole(table: &Table, column: usize) -> Item {
    match table.columns[column].ty.is_multicell() {
        true => Item::Elements(column),
        false => Item::Column(column),
    }
}

/// What an expression is computed with.
pub(super) struct Scene<'a, R> {
    pub row: Option<&'a R>,
    pub table: &'a Table,
    pub bound: &'a [Value<'a>],
    pub moment: &'a Moment,
    pub aggregates: &'a [Option<Vec<u8>>],
}

impl Expr {
    /// Whether some column that it is computed from is like this.
    pub(super) fn any_column(&self, aggregates: &[Aggregate], is_so: &impl Fn(usize) -> bool) -> bool {
        match self {
            Expr::Column(i) | Expr::Elements(i) | Expr::Times(i, ..) => is_so(*i),
            Expr::Element(inner, ..) | Expr::Field(inner, ..) | Expr::Cast(inner, ..) => {
                inner.any_column(aggregates, is_so)
            }
            Expr::Call(_, arguments) => arguments.iter().any(|a| a.any_column(aggregates, is_so)),
            Expr::Aggregate(i) => {
                let of = aggregates.get(*i).and_then(|a| a.of.as_ref());
                of.is_some_and(|of| of.any_column(aggregates, is_so))
            }
            Expr::Token | Expr::Constant(_) => false,
        }
    }

    /// Whether some aggregate is in it.
    pub(super) fn is_aggregate(&self) -> bool {
        match self {
            Expr::Aggregate(_) => true,
            Expr::Element(inner, ..) | Expr::Field(inner, ..) | Expr::Cast(inner, ..) => inner.is_aggregate(),
            Expr::Call(_, arguments) => arguments.iter().any(Expr::is_aggregate),
            Expr::Column(_) | Expr::Elements(_) | Expr::Token | Expr::Times(..) | Expr::Constant(_) => false,
        }
    }

    /// Its value; `None` is null.
    ///
    /// # Errors
    /// What functions refuse.
    pub(super) fn value<R: RowView>(&self, scene: &Scene<'_, R>) -> Result<Option<Vec<u8>>, CqlError> {
        let bytes = |s: &Source| match s.value(scene.bound) {
            Value::Bytes(b) => Some(b.to_vec()),
            Value::Null | Value::Unset => None,
        };
        Ok(match self {
            Expr::Column(i) => scene.row.and_then(|r| r.value(*i)).map(<[u8]>::to_vec),
            Expr::Elements(i) => scene.row.and_then(|r| r.assembled(*i)),
            Expr::Token => scene.row.map(|r| r.token().to_be_bytes().to_vec()),
            Expr::Times(i, time, key) => {
                let key = key.as_ref().map(bytes);
                scene
                    .row
                    .and_then(|r| times(r, &scene.table.columns[*i].ty, *i, *time, key))
            }
            Expr::Constant(s) => bytes(s),
            Expr::Element(inner, ty, key) => match (inner.value(scene)?, bytes(key)) {
                (Some(whole), Some(key)) => part_of(ty, &whole, &PartOf::Key(key)).map(<[u8]>::to_vec),
                _ => None,
            },
            Expr::Field(inner, ty, at) => inner
                .value(scene)?
                .and_then(|whole| part_of(ty, &whole, &PartOf::Field(*at)).map(<[u8]>::to_vec)),
            Expr::Call(function, arguments) => {
                let arguments: Result<Vec<_>, _> = arguments.iter().map(|a| a.value(scene)).collect();
                function.call(&arguments?, scene.moment)?
            }
            Expr::Cast(inner, from, to) => match inner.value(scene)? {
                Some(bytes) => Some(casts::cast(from, to, &bytes)?),
                None => None,
            },
            Expr::Aggregate(i) => scene.aggregates.get(*i).cloned().flatten(),
        })
    }
}

/// Times of a column: of its cell, or a list of those of its elements.
fn times<R: RowView>(
    row: &R,
    ty: &CqlType,
    column: usize,
    time: Time,
    key: Option<Option<Vec<u8>>>,
) -> Option<Vec<u8>> {
    let one = |(us, ttl): (i64, Option<u32>)| match time {
        Time::Write | Time::MaxWrite => Some(us.to_be_bytes().to_vec()),
        Time::Ttl => ttl.map(|s| (s as i32).to_be_bytes().to_vec()),
    };
    if !ty.is_multicell() {
        return one(row.written(column)?);
    }
    if let Some(key) = key {
        let key = match ty {
            CqlType::List(_) => int_value(&key?).to_be_bytes().to_vec(),
            _ => key?,
        };
        return one(row.element_written(column, &key)?);
    }
    let all = row.elements_written(column);
    if all.is_empty() {
        return None;
    }
    if time == Time::MaxWrite {
        return all.iter().map(|(us, _)| *us).max().map(|us| us.to_be_bytes().to_vec());
    }
    let mut out = (all.len() as i32).to_be_bytes().to_vec();
    all.into_iter().for_each(|t| put_bytes(&mut out, one(t).as_deref()));
    Some(out)
}

/// An aggregate in the making.
#[derive(Debug)]
enum State {
    Count(i64),
    Best(Option<Vec<u8>>),
    Sum(Sum),
}

/// One group of rows.
#[derive(Debug)]
struct Group {
    key: Vec<Vec<u8>>,
    /// What is selected of its first row.
    first: Vec<Option<Vec<u8>>>,
    states: Vec<State>,
}

/// The groups of one SELECT, filled row by row.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
    /// How many columns of a group's key are its partition's.
    partition_columns: usize,
    /// Groups of the partition of the last one. Partitions come one after the other.
    of_last_partition: usize,
}

fn begun(aggregates: &[Aggregate]) -> Vec<State> {
    aggregates
        .iter()
        .map(|a| match a.kind {
            Kind::Count => State::Count(0),
            Kind::Min | Kind::Max => State::Best(None),
            Kind::Sum | Kind::Avg => State::Sum(Sum::new(&a.ty)),
        })
        .collect()
}

impl Groups {
    /// None yet, of keys that begin with so many columns of the partition key.
    pub(super) fn new(partition_columns: usize) -> Self {
        Self {
            partition_columns,
            ..Self::default()
        }
    }

    /// The partition's columns of a group's key.
    fn partition<'k>(&self, key: &'k [Vec<u8>]) -> &'k [Vec<u8>] {
        &key[..self.partition_columns.min(key.len())]
    }

    fn is_of_last_partition(&self, key: &[Vec<u8>]) -> bool {
        let last = self.groups.last();
        last.is_some_and(|group| self.partition(&group.key) == self.partition(key))
    }

    /// Takes in a row. `key` says which group it belongs to: rows of one group come one after the other.
    pub(super) fn add<R: RowView>(
        &mut self,
        key: Vec<Vec<u8>>,
        exprs: &[Expr],
        aggregates: &[Aggregate],
        scene: &Scene<'_, R>,
    ) -> Result<(), CqlError> {
        if self.groups.last().is_none_or(|g| g.key != key) {
            let first = exprs
                .iter()
                .map(|e| if e.is_aggregate() { Ok(None) } else { e.value(scene) })
                .collect::<Result<_, _>>()?;
            self.of_last_partition = match self.is_of_last_partition(&key) {
                true => self.of_last_partition + 1,
                false => 1,
            };
            self.groups.push(Group {
                key,
                first,
                states: begun(aggregates),
            });
        }
        let Some(group) = self.groups.last_mut() else {
            return Ok(());
        };
        for (aggregate, state) in aggregates.iter().zip(&mut group.states) {
            let value = match &aggregate.of {
                Some(expr) => expr.value(scene)?,
                None => Some(Vec::new()),
            };
            let Some(value) = value else { continue };
            match state {
                State::Count(n) => *n += 1,
                State::Sum(sum) => sum.add(&value),
                State::Best(best) => {
                    let wanted = if aggregate.kind == Kind::Min {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    };
                    let is_better = |b: &Vec<u8>| values::compare(&aggregate.ty, &value, b) == wanted;
                    if best.as_ref().is_none_or(is_better) {
                        *best = Some(value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Number of groups so far in the partition of this key, and whether the last is of this key.
    pub(super) fn count_of(&self, key: &[Vec<u8>]) -> (usize, bool) {
        let same = match self.is_of_last_partition(key) {
            true => self.of_last_partition,
            false => 0,
        };
        (same, self.groups.last().is_some_and(|g| g.key == key))
    }

    /// Appends the cells of at most `most` groups; returns how many. Without GROUP BY there is one even of no rows.
    pub(super) fn put<R: RowView>(
        mut self,
        exprs: &[Expr],
        aggregates: &[Aggregate],
        is_grouped: bool,
        most: u32,
        scene: &Scene<'_, R>,
        out: &mut Vec<u8>,
    ) -> Result<u32, CqlError> {
        if self.groups.is_empty() && !is_grouped {
            self.groups.push(Group {
                key: vec![],
                first: vec![None; exprs.len()],
                states: begun(aggregates),
            });
        }
        let mut count = 0;
        for group in self.groups.into_iter().take(most as usize) {
            let results: Vec<Option<Vec<u8>>> = aggregates
                .iter()
                .zip(&group.states)
                .map(|(a, state)| match state {
                    State::Count(n) => Some(n.to_be_bytes().to_vec()),
                    State::Best(best) => best.clone(),
                    State::Sum(sum) if a.kind == Kind::Avg => Some(sum.average()),
                    State::Sum(sum) => Some(sum.sum()),
                })
                .collect();
            let of_group: Scene<'_, R> = Scene {
                row: None,
                aggregates: &results,
                ..*scene
            };
            for (expr, first) in exprs.iter().zip(group.first) {
                let value = match expr.is_aggregate() {
                    true => expr.value(&of_group)?,
                    false => first,
                };
                put_bytes(out, value.as_deref());
            }
            count += 1;
        }
        Ok(count)
    }
}
