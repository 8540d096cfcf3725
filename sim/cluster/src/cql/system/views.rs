//! What the system tables say of materialized views: their definitions, and which of them are built.

use super::NodeView;
use super::rows::{Fields, option_fields, text};
use crate::cql::describe::identifier;
use crate::model::{NodeIdx, Table, View};

/// The views by keyspace and name, with their tables and their bases.
fn by_name<'a>(node: &'a NodeView<'_>) -> impl Iterator<Item = (&'a View, &'a Table, &'a Table)> {
    let ids = node.schema.keyspaces.values().flat_map(|k| k.tables.values());
    ids.filter_map(|id| {
        let view = node.schema.view(*id)?;
        Some((
            view,
            &**node.schema.table(view.table)?,
            &**node.schema.table(view.base)?,
        ))
    })
}

fn name(table: &Table) -> Fields {
    Fields::from([
        ("keyspace_name", text(&table.keyspace)),
        ("view_name", text(&table.name)),
    ])
}

/// `system_schema.views`.
pub(super) fn definitions(node: &NodeView<'_>) -> Vec<Fields> {
    let row = |(view, table, base): (&View, &Table, &Table)| {
        let mut fields = option_fields(node, table);
        fields.extend(name(table));
        fields.extend([
            ("base_table_id", base.uuid.as_bytes().to_vec()),
            ("base_table_name", text(&base.name)),
            ("include_all_columns", vec![u8::from(view.includes_all)]),
            ("where_clause", text(&view.where_text(identifier))),
        ]);
        fields
    };
    by_name(node).map(row).collect()
}

/// `system.built_views`: those whose part on this node is built.
pub(super) fn built(node: &NodeView<'_>) -> Vec<Fields> {
    let is_built = |view: &View| node.view_builds.get(&(view.table, node.me)) == Some(&true);
    let built = by_name(node).filter(|(view, ..)| is_built(view));
    built.map(|(_, table, _)| name(table)).collect()
}

/// `view_build_status`: of every node, as far as this one was told.
pub(super) fn build_status(node: &NodeView<'_>) -> Vec<Fields> {
    let mut rows = Vec::new();
    for (view, table, _) in by_name(node) {
        let of_view = node
            .view_builds
            .range((view.table, NodeIdx(0))..=(view.table, NodeIdx(u8::MAX)));
        for ((_, of), is_built) in of_view {
            let status = if *is_built { "SUCCESS" } else { "STARTED" };
            let mut fields = name(table);
            fields.extend([
                ("host_id", node.host_id(*of).as_bytes().to_vec()),
                ("status", text(status)),
            ]);
            rows.push(fields);
        }
    }
    rows
}
