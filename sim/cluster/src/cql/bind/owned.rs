//! Values that a statement needs beside those that it was sent: computed ones, and sets and maps in the order of their keys.
//! Clients send those in any order, drivers in that of a hash table; what is stored, compared and used as a key is in order and
//! has each element once (C `SetType.filterSortAndValidateElements`, `MapType` likewise; S `set_type_impl::reserialize`).

use super::terms::{map_of, set_of};
use crate::cql::frame::Value;
use crate::cql::values;
use crate::model::CqlType;

/// Values that are in no frame.
#[derive(Debug, Default)]
pub struct Owned {
    /// To be put behind the bound ones.
    pub computed: Vec<Option<Vec<u8>>>,
    /// To be put in the place of bound ones.
    pub ordered: Vec<(usize, Vec<u8>)>,
}

impl Owned {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.computed.is_empty() && self.ordered.is_empty()
    }

    /// The bound values with these.
    pub fn with<'v>(&'v self, bound: &[Value<'v>]) -> Vec<Value<'v>> {
        let mut values: Vec<Value<'v>> = bound.to_vec();
        for (at, bytes) in &self.ordered {
            values[*at] = Value::Bytes(bytes);
        }
        values.extend(
            self.computed
                .iter()
                .map(|v| v.as_deref().map_or(Value::Null, Value::Bytes)),
        );
        values
    }
}

/// Whether values of the type can be out of order. What is in tuples and user-defined types stays as it was sent (seen).
pub(super) fn has_order(ty: &CqlType) -> bool {
    match ty {
        CqlType::Set(_) | CqlType::Map(..) => true,
        CqlType::Frozen(inner) | CqlType::List(inner) => has_order(inner),
        _ => false,
    }
}

/// A valid value with all its sets and maps in order; `None` if it is so already.
pub(super) fn ordered(ty: &CqlType, bytes: &[u8]) -> Option<Vec<u8>> {
    if !has_order(ty) {
        return None;
    }
    let of = |ty: &CqlType, item: &[u8]| ordered(ty, item).unwrap_or_else(|| item.to_vec());
    let made = match ty {
        CqlType::Frozen(inner) => return ordered(inner, bytes),
        CqlType::Set(element) => {
            let items = values::elements(bytes, &[element], "set").ok()?;
            set_of(element, items.iter().map(|item| of(element, item)).collect())
        }
        CqlType::Map(key, value) => {
            let items = values::elements(bytes, &[key, value], "map").ok()?;
            let entries = items
                .chunks_exact(2)
                .map(|entry| (of(key, entry[0]), of(value, entry[1])));
            map_of(key, entries.collect())
        }
        CqlType::List(element) => {
            let items = values::elements(bytes, &[element], "list").ok()?;
            let items: Vec<Vec<u8>> = items.iter().map(|item| of(element, item)).collect();
            values::collection(items.len(), items.iter().map(Vec::as_slice))
        }
        _ => return None,
    };
    (made != bytes).then_some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_maps_are_put_in_order_wherever_they_are() {
        let int = |n: i32| n.to_be_bytes().to_vec();
        let list = |items: &[Vec<u8>]| values::collection(items.len(), items.iter().map(Vec::as_slice));
        let set = CqlType::Frozen(Box::new(CqlType::Set(Box::new(CqlType::Int))));
        let (mixed, good) = (list(&[int(2), int(-1), int(2)]), list(&[int(-1), int(2)]));
        assert_eq!(ordered(&set, &mixed), Some(good.clone()));
        assert_eq!(ordered(&set, &good), None);

        let map = CqlType::Map(Box::new(CqlType::Int), Box::new(set.clone()));
        let entries = |entries: &[(i32, &Vec<u8>)]| {
            let parts: Vec<Vec<u8>> = entries.iter().flat_map(|(k, v)| [int(*k), (*v).clone()]).collect();
            values::collection(entries.len(), parts.iter().map(Vec::as_slice))
        };
        let given = entries(&[(7, &good), (3, &mixed), (7, &mixed)]);
        assert_eq!(
            ordered(&map, &given),
            Some(entries(&[(3, &good), (7, &good)])),
            "the last of a key"
        );

        let tuple = CqlType::Tuple(vec![CqlType::Int, set]);
        assert_eq!(
            ordered(&tuple, &values::put_fields([None, Some(&mixed[..])].into_iter())),
            None
        );
        assert_eq!(ordered(&CqlType::Int, &int(1)), None);
    }
}
