//! Materialized views: their definitions, and the changes that DDL makes to them.
//!
//! A view is a table like any other, with a row of its own for each row of its base that has all the columns of its key;
//! what makes it a view is a [`View`] in the schema, which says where each of its columns comes from. Clients only read it:
//! replicas of the base write it (`crate::core::views`).

use super::schema::{
    Column, ColumnId, ColumnKind, NewColumn, NewTable, Schema, SchemaChange, SchemaEffect, SchemaError, Table, TableId,
    TableOptions,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What makes a table a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The view, as a table.
    pub table: TableId,
    /// The table whose rows it shows.
    pub base: TableId,
    /// Whether it was made with `SELECT *`: columns that the base gets later are its columns too.
    pub includes_all: bool,
    /// WHERE, as `system_schema.views` tells it.
    pub where_clause: Vec<Clause>,
    /// Rows that it shows, besides having a key: all of these hold.
    pub filters: Vec<Filter>,
    /// Where its columns come from.
    pub columns: Vec<ViewColumn>,
    /// The column of its key that is a regular column of the base, by its number in the base; at most one.
    pub extra_key: Option<ColumnId>,
    /// Whether columns that it does not show are kept without their values, to keep rows alive (S "virtual columns").
    pub keeps_unselected: bool,
}

/// A column of a view and of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewColumn {
    /// In the base.
    pub base: ColumnId,
    /// In the view.
    pub view: ColumnId,
    /// Whether the view has its cells without their values, and shows none of it.
    pub is_virtual: bool,
}

/// One condition of a view's WHERE as text: a column, and the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// The column's name.
    pub column: String,
    /// What follows it, such as `IS NOT NULL` or `> 5`.
    pub rest: String,
}

/// What a row of the base must have to be in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Of this column of the base, which is one of the view's key.
    pub column: ColumnId,
    /// This value.
    pub test: Test,
}

/// A condition on a value; values are CQL's serialized bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// It is one of these.
    Among(Vec<Vec<u8>>),
    /// It lies above this.
    Above {
        /// The bound.
        bound: Vec<u8>,
        /// Whether the bound itself does.
        inclusive: bool,
    },
    /// It lies below this.
    Below {
        /// The bound.
        bound: Vec<u8>,
        /// Whether the bound itself does.
        inclusive: bool,
    },
}

/// A view as DDL describes it. Columns have the names and types of the base's; the edge checked that they are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewView {
    /// Keyspace of both.
    pub keyspace: String,
    /// Name of the view.
    pub name: String,
    /// Name of the base.
    pub base: String,
    /// Columns: partition key in order, clustering in order, then the others.
    pub columns: Vec<NewColumn>,
    /// Options.
    pub options: TableOptions,
    /// `SELECT *`.
    pub includes_all: bool,
    /// WHERE.
    pub where_clause: Vec<Clause>,
    /// What of WHERE leaves rows out: the column's name, and the test.
    pub filters: Vec<(String, Test)>,
    /// See [`View::keeps_unselected`].
    pub keeps_unselected: bool,
}

impl View {
    /// The column of the view that shows this column of the base, or keeps it.
    pub fn of_base(&self, base: ColumnId) -> Option<ViewColumn> {
        self.columns.iter().find(|c| c.base == base).copied()
    }

    /// WHERE as one text.
    pub fn where_text(&self, identifier: impl Fn(&str) -> String) -> String {
        let clauses = self.where_clause.iter();
        let texts: Vec<String> = clauses
            .map(|c| format!("{} {}", identifier(&c.column), c.rest))
            .collect();
        texts.join(" AND ")
    }

    /// A number that no column of the view has or had.
    fn next_column(&self, table: &Table) -> ColumnId {
        let dropped = table.dropped.iter().map(|d| d.column.id);
        let all = table.columns.iter().map(|c| c.id).chain(dropped);
        let last = all.chain(self.columns.iter().map(|c| c.view)).max();
        ColumnId(last.map_or(0, |c| c.0 + 1))
    }
}

impl Schema {
    /// What makes this table a view; `None` if it is none.
    pub fn view(&self, table: TableId) -> Option<&View> {
        self.views.get(&table)
    }

    /// The views of a table, in order of creation.
    pub fn views_of(&self, base: TableId) -> impl Iterator<Item = &View> {
        self.views.values().filter(move |v| v.base == base)
    }

    /// The view of that name.
    pub fn view_named(&self, keyspace: &str, name: &str) -> Option<&View> {
        self.view(self.table_named(keyspace, name)?.id)
    }

    /// Carries out a change to views.
    pub(super) fn edit_views(&mut self, change: &SchemaChange) -> Result<SchemaEffect, SchemaError> {
        match change {
            SchemaChange::CreateView { view, if_not_exists } => self.create_view(view, *if_not_exists),
            SchemaChange::DropView {
                keyspace,
                name,
                if_exists,
            } => self.drop_view(keyspace, name, *if_exists),
            of_types => self.edit_types(of_types),
        }
    }

    fn create_view(&mut self, new: &NewView, if_not_exists: bool) -> Result<SchemaEffect, SchemaError> {
        let Some(base) = self.table_named(&new.keyspace, &new.base).cloned() else {
            return Err(SchemaError::NoTable {
                keyspace: new.keyspace.clone(),
                table: new.base.clone(),
            });
        };
        let table = NewTable {
            keyspace: new.keyspace.clone(),
            name: new.name.clone(),
            columns: new.columns.clone(),
            options: new.options.clone(),
        };
        let effect = self.create_table(&table, if_not_exists)?;
        if effect != SchemaEffect::Nothing
            && let Some(table) = self.table_named(&new.keyspace, &new.name)
        {
            let view = build_view(new, &base, table);
            self.views.insert(view.table, view);
        }
        Ok(effect)
    }

    fn drop_view(&mut self, keyspace: &str, name: &str, if_exists: bool) -> Result<SchemaEffect, SchemaError> {
        let Some(id) = self.view_named(keyspace, name).map(|v| v.table) else {
            return match if_exists {
                true => Ok(SchemaEffect::Nothing),
                false => Err(SchemaError::Refused {
                    what: format!("Materialized view '{keyspace}.{name}' doesn't exist"),
                }),
            };
        };
        self.views.remove(&id);
        self.drop_table(keyspace, name, false)
    }

    /// Forgets the views that are no tables any more.
    pub(super) fn prune_views(&mut self) {
        let Schema { views, tables, .. } = self;
        views.retain(|id, _| tables.get(usize::from(id.0)).is_some_and(Option::is_some));
    }

    /// A table with views stays.
    pub(super) fn check_has_no_views(&self, keyspace: &str, table: &str) -> Result<(), SchemaError> {
        match self.table_named(keyspace, table) {
            Some(t) if self.views_of(t.id).next().is_some() => Err(SchemaError::Refused {
                what: format!("Cannot drop a table when materialized views still depend on it ({keyspace})"),
            }),
            _ => Ok(()),
        }
    }

    /// Columns were added to a table: its views that show everything get them too, others keep them unseen.
    pub(super) fn add_to_views(&mut self, keyspace: &str, table: &str, added: &[NewColumn]) {
        let Some(base) = self.table_named(keyspace, table).cloned() else {
            return;
        };
        let regular = added.iter().filter(|c| c.kind == ColumnKind::Regular);
        let columns: Vec<&Column> = regular.filter_map(|c| base.column(&c.name)).collect();
        let Schema { views, tables, .. } = self;
        for view in views.values_mut().filter(|v| v.base == base.id) {
            let Some(table) = tables[usize::from(view.table.0)].as_mut() else {
                continue;
            };
            for column in &columns {
                let keeps = view.keeps_unselected && view.extra_key.is_none();
                if !view.includes_all && !keeps {
                    continue;
                }
                let id = view.next_column(table);
                view.columns.push(ViewColumn {
                    base: column.id,
                    view: id,
                    is_virtual: !view.includes_all,
                });
                if view.includes_all {
                    Arc::make_mut(table).columns.push(Column {
                        id,
                        ..Column::clone(column)
                    });
                }
            }
        }
    }

    /// Columns of a table were renamed: those of its views are, too.
    pub(super) fn rename_in_views(&mut self, keyspace: &str, table: &str, names: &[(String, String)]) {
        let Some(base) = self.table_named(keyspace, table).map(|t| t.id) else {
            return;
        };
        let Schema { views, tables, .. } = self;
        for view in views.values_mut().filter(|v| v.base == base) {
            let Some(table) = tables[usize::from(view.table.0)].as_mut() else {
                continue;
            };
            for (old, new) in names {
                let clauses = view.where_clause.iter_mut().filter(|c| c.column == *old);
                clauses.for_each(|c| c.column.clone_from(new));
                let columns = Arc::make_mut(table).columns.iter_mut().filter(|c| c.name == *old);
                columns.for_each(|c| c.name.clone_from(new));
            }
        }
    }
}

fn build_view(new: &NewView, base: &Table, table: &Table) -> View {
    let shown = |c: &Column| {
        Some(ViewColumn {
            base: base.column(&c.name)?.id,
            view: c.id,
            is_virtual: false,
        })
    };
    let columns: Vec<ViewColumn> = table.columns.iter().filter_map(shown).collect();
    let keys = &table.columns[..table.partition_columns + table.clustering_columns];
    let is_regular = |c: &&Column| c.kind == ColumnKind::Regular;
    let extra_key = keys
        .iter()
        .filter_map(|c| base.column(&c.name))
        .find(is_regular)
        .map(|c| c.id);
    let filter = |(name, test): &(String, Test)| {
        Some(Filter {
            column: base.column(name)?.id,
            test: test.clone(),
        })
    };
    let mut view = View {
        table: table.id,
        base: base.id,
        includes_all: new.includes_all,
        where_clause: new.where_clause.clone(),
        filters: new.filters.iter().filter_map(filter).collect(),
        columns,
        extra_key,
        keeps_unselected: new.keeps_unselected,
    };
    if view.keeps_unselected && extra_key.is_none() {
        for column in base.values().iter().filter(is_regular) {
            if view.of_base(column.id).is_none() {
                let id = view.next_column(table);
                view.columns.push(ViewColumn {
                    base: column.id,
                    view: id,
                    is_virtual: true,
                });
            }
        }
    }
    view
}
