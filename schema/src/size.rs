//! What a batch weighs by the database's own count. Cassandra warns about a batch of more than one partition above
//! 5,120 bytes and refuses one above ten times that; Scylla's limits are 128 KiB and 1 MiB and its count is smaller,
//! so what stays below Cassandra's warning stays below everything.
//!
//! The count was taken from Cassandra 5.0 and agrees with what was seen of it: a partition with one row of one cell
//! weighs 74 bytes beyond its values.

/// The size above which Cassandra warns by default.
pub const WARN_BYTES: usize = 5_120;

/// What a partition adds: its deletion time (12) and its empty static row (21).
pub const PARTITION_BYTES: usize = 33;

/// What a row adds: its liveness (8) and its deletion (13). The values of clustering columns come on top.
pub const ROW_BYTES: usize = 21;

/// What a cell adds to its value: timestamp (8), time to live (4), deletion time (8).
pub const CELL_BYTES: usize = 20;

/// The weight of one row, without its partition: the bytes of its clustering values, then those of each cell.
pub fn row_bytes(clustering: usize, cells: impl IntoIterator<Item = usize>) -> usize {
    ROW_BYTES + clustering + cells.into_iter().map(|value| CELL_BYTES + value).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_with_one_cell_weighs_what_was_seen() {
        assert_eq!(PARTITION_BYTES + row_bytes(0, [0]), 74);
    }
}
