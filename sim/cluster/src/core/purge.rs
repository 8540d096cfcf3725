//! Major compaction on command (`nodetool compact`): what is too old to be kept is gone (`store::Purge` says what that is),
//! and the log says so, because a start replays the writes from before.
//!
//! Real nodes compact when it suits them too. Here nothing is dropped unless somebody asks: a scenario that depends on it
//! says when.

use super::log::{CommitLog, EntryKind};
use super::message::Event;
use super::node::{Cx, Node};
use super::store::{Purge, Store};
use crate::model::TableId;

/// Bytes of an [`EntryKind::Purged`].
const RECORD_BYTES: usize = 10;

impl Node {
    /// The tables that a keyspace, or one name in it, stands for.
    ///
    /// # Errors
    /// There is no such keyspace or table, in the words of `nodetool`.
    pub fn tables_named(&self, keyspace: &str, table: Option<&str>) -> Result<Vec<TableId>, String> {
        let Some(found) = self.schema.keyspaces.get(keyspace) else {
            return Err(format!("Keyspace [{keyspace}] does not exist."));
        };
        match table {
            None => Ok(found.tables.values().copied().collect()),
            Some(name) => match found.tables.get(name) {
                Some(id) => Ok(vec![*id]),
                None => Err(format!("Unknown keyspace/cf pair ({keyspace}.{name})")),
            },
        }
    }

    /// Compacts these tables.
    pub(super) fn compact_tables(&mut self, cx: &mut Cx<'_>, tables: &[TableId]) {
        let now_s = self.clock.wall_s(cx.now_us);
        for id in tables {
            let Some(table) = self.replica.store.table(*id) else {
                continue;
            };
            let purge = Purge::of(table.table(), now_s);
            let rows = self.replica.store.purge(*id, purge, &self.replica.log);
            if rows > 0 {
                self.replica.log.append(EntryKind::Purged, &[&record(*id, purge)]);
                self.log_dirty(cx);
            }
            cx.event(Event::Purged { table: *id, rows });
        }
        self.sync_log(cx);
    }
}

fn record(table: TableId, purge: Purge) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..2].copy_from_slice(&table.0.to_le_bytes());
    record[2..6].copy_from_slice(&purge.now_s.to_le_bytes());
    record[6..].copy_from_slice(&purge.before_s.to_le_bytes());
    record
}

/// Does again what an [`EntryKind::Purged`] tells of.
pub(super) fn recover(payload: &[u8], store: &mut Store, log: &CommitLog) {
    let Some([t0, t1, now @ .., b0, b1, b2, b3]) = payload.first_chunk::<RECORD_BYTES>() else {
        return;
    };
    let purge = Purge {
        now_s: u32::from_le_bytes(*now),
        before_s: u32::from_le_bytes([*b0, *b1, *b2, *b3]),
    };
    store.purge(TableId(u16::from_le_bytes([*t0, *t1])), purge, log);
}
