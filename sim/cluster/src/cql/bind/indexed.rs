//! Which SELECTs an index makes possible without ALLOW FILTERING. The rows are found by looking at all of them; what is
//! refused, and what is not, is as if there were an index.

use super::ddl_indexes::SAI;
use super::relations::{Holds, Restriction, Restrictions};
use crate::model::{Index, IndexedPart, Table};

fn is_sai(index: &Index) -> bool {
    index.class.as_ref().is_some_and(|c| c.ends_with(SAI) || c == "sai")
}

/// Whether the index answers this restriction of its column.
fn answers(index: &Index, restriction: &Restriction) -> bool {
    let holds = |list: &[Holds]| {
        let fits = |h: &Holds| match (h, index.part) {
            (Holds::Value(_), part) => part == IndexedPart::Values,
            (Holds::Key(_), part) => part == IndexedPart::Keys,
            (Holds::Entry(..), part) => part == IndexedPart::Entries,
        };
        list.iter().any(fits)
    };
    match restriction {
        Restriction::Eq(_) => matches!(index.part, IndexedPart::Whole | IndexedPart::Full),
        Restriction::Slice { .. } => is_sai(index) && index.part == IndexedPart::Whole,
        Restriction::Holds(list) => holds(list),
        Restriction::In(_) => false,
    }
}

/// How many things it requires of its column that an index would have to look up one by one.
fn count(restriction: &Restriction) -> usize {
    match restriction {
        Restriction::Holds(list) => list.len(),
        _ => 1,
    }
}

/// Whether an index answers the query alone: nothing is left to be filtered.
pub(super) fn is_answered(table: &Table, restrictions: &Restrictions) -> bool {
    let index = |i: usize, r: &Restriction| {
        let column = &table.columns[i].name;
        table.indexes.iter().find(|x| x.column == *column && answers(x, r))
    };
    let whole_key = (0..table.partition_columns).all(|i| restrictions.column(i).is_some());
    let keys = table.partition_columns + table.clustering_columns;
    let prefix = (0..keys).take_while(|i| restrictions.column(*i).is_some()).count();
    // Of a partition that is known, rows are found by the beginning of their keys; else all that is restricted of the
    // clustering columns is filtered, and so is a part of the partition key.
    let looked_up = |i: &usize| !whole_key || *i >= prefix;
    let restricted = || restrictions.columns().iter().filter(|(i, _)| looked_up(i));
    if restrictions.has_tuple_slice() || !restricted().any(|(i, r)| index(*i, r).is_some()) {
        return false;
    }
    let all_sai = restricted().all(|(i, r)| index(*i, r).is_some_and(is_sai));
    all_sai || restricted().map(|(_, r)| count(r)).sum::<usize>() == 1
}
