//! The options of a table as `system_schema.tables` has them: what was given, and the defaults of the flavour beside it.
//! Source: Cassandra 5.0.5, asked; ScyllaDB's defaults as far as drivers read them.

use super::rows::{Fields, int, list, map, text};
use crate::model::Table;
use std::collections::BTreeMap;

/// Where the classes of an option are found that are named without a package.
fn package(option: &str) -> &'static str {
    match option {
        "compaction" => "org.apache.cassandra.db.compaction.",
        _ => "org.apache.cassandra.io.compress.",
    }
}

/// The entries of an option that is a map, from the text that is kept of it: `{'k': 'v', …}`.
fn entries(kept: &str) -> BTreeMap<String, String> {
    let inside = kept.trim_start_matches("{'").trim_end_matches("'}");
    let pairs = inside.split("', '").filter_map(|pair| pair.split_once("': '"));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A map as it was given, with `defaults` for what was not.
fn merged(table: &Table, option: &str, defaults: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all = table
        .options
        .other
        .get(option)
        .map_or_else(BTreeMap::new, |t| entries(t));
    for (key, value) in defaults {
        all.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
    }
    all
}

fn put(entries: &BTreeMap<String, String>) -> Vec<u8> {
    let entries: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    map(&entries)
}

/// A map with a class whose name is told with its package.
fn with_class(mut all: BTreeMap<String, String>, option: &str) -> Vec<u8> {
    if let Some(class) = all.get_mut("class").filter(|c| !c.contains('.')) {
        class.insert_str(0, package(option));
    }
    put(&all)
}

fn compaction(table: &Table) -> Vec<u8> {
    let defaults = [("class", "SizeTieredCompactionStrategy")];
    let mut all = merged(table, "compaction", &defaults);
    let class = &all["class"];
    // The unified strategy knows no thresholds.
    if !class.ends_with("UnifiedCompactionStrategy") {
        for (key, value) in [("max_threshold", "32"), ("min_threshold", "4")] {
            all.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    with_class(all, "compaction")
}

fn compression(table: &Table) -> Vec<u8> {
    let given = merged(table, "compression", &[]);
    // Names of before Cassandra 3.
    let name = |k: &str| match k {
        "sstable_compression" => "class".to_owned(),
        "chunk_length_kb" => "chunk_length_in_kb".to_owned(),
        other => other.to_owned(),
    };
    let mut all: BTreeMap<String, String> = given.iter().map(|(k, v)| (name(k), v.clone())).collect();
    let is_empty = given.is_empty() && table.options.other.contains_key("compression");
    let is_off =
        is_empty || all.get("enabled").is_some_and(|v| v == "false") || all.get("class").is_some_and(String::is_empty);
    if is_off {
        return map(&[("enabled", "false")]);
    }
    all.remove("enabled");
    for (key, value) in [("class", "LZ4Compressor"), ("chunk_length_in_kb", "16")] {
        all.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    with_class(all, "compression")
}

/// The options of a table of Cassandra.
pub(super) fn cassandra(table: &Table) -> Fields {
    let kept = |name: &str| table.options.other.get(name).map(String::as_str);
    let kept_text = |name: &str, default: &str| text(kept(name).unwrap_or(default));
    let kept_int = |name: &str, default| int(kept(name).and_then(|v| v.parse().ok()).unwrap_or(default));
    let kept_double = |name: &str, default: f64| {
        let value = kept(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        value.to_be_bytes().to_vec()
    };
    let is_leveled = kept("compaction").is_some_and(|c| c.contains("LeveledCompactionStrategy"));
    // Whoever says anything of caching says that of keys too.
    let keys = if kept("caching").is_some() { "NONE" } else { "ALL" };
    let caching = [("keys", keys), ("rows_per_partition", "NONE")];
    let flags: &[&str] = if table.is_counter() {
        &["compound", "counter"]
    } else {
        &["compound"]
    };
    let mut fields = BTreeMap::from([
        ("additional_write_policy", kept_text("additional_write_policy", "99p")),
        // Levels need less of a filter.
        (
            "bloom_filter_fp_chance",
            kept_double("bloom_filter_fp_chance", if is_leveled { 0.1 } else { 0.01 }),
        ),
        ("caching", put(&merged(table, "caching", &caching))),
        ("comment", kept_text("comment", "")),
        ("compaction", compaction(table)),
        ("compression", compression(table)),
        ("crc_check_chance", kept_double("crc_check_chance", 1.0)),
        ("dclocal_read_repair_chance", 0f64.to_be_bytes().to_vec()),
        ("extensions", map(&[])),
        ("flags", list(flags)),
        ("max_index_interval", kept_int("max_index_interval", 2048)),
        (
            "memtable_flush_period_in_ms",
            kept_int("memtable_flush_period_in_ms", 0),
        ),
        ("min_index_interval", kept_int("min_index_interval", 128)),
        ("read_repair", kept_text("read_repair", "BLOCKING")),
        ("read_repair_chance", 0f64.to_be_bytes().to_vec()),
        ("speculative_retry", kept_text("speculative_retry", "99p")),
    ]);
    for name in ["allow_auto_snapshot", "incremental_backups"] {
        if let Some(value) = kept(name) {
            fields.insert(name, vec![u8::from(value == "true")]);
        }
    }
    if let Some(memtable) = kept("memtable").filter(|m| *m != "default") {
        fields.insert("memtable", text(memtable));
    }
    fields
}

/// The options of a table of ScyllaDB.
pub(super) fn scylla(table: &Table) -> Fields {
    let double = |x: f64| x.to_be_bytes().to_vec();
    let kept = |name: &str, default: &str| text(table.options.other.get(name).map_or(default, String::as_str));
    let caching = [("keys", "ALL"), ("rows_per_partition", "ALL")];
    let compaction = [("class", "SizeTieredCompactionStrategy")];
    let lz4 = [("sstable_compression", "org.apache.cassandra.io.compress.LZ4Compressor")];
    BTreeMap::from([
        ("bloom_filter_fp_chance", double(0.01)),
        ("caching", put(&merged(table, "caching", &caching))),
        ("comment", kept("comment", "")),
        ("compaction", put(&merged(table, "compaction", &compaction))),
        ("compression", put(&merged(table, "compression", &lz4))),
        ("crc_check_chance", double(1.0)),
        ("dclocal_read_repair_chance", double(0.0)),
        ("extensions", map(&[])),
        ("flags", list(&["compound"])),
        ("max_index_interval", int(2048)),
        ("memtable_flush_period_in_ms", int(0)),
        ("min_index_interval", int(128)),
        ("read_repair_chance", double(0.0)),
        ("speculative_retry", kept("speculative_retry", "99.0PERCENTILE")),
    ])
}
