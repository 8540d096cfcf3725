//! The options of tables and views, `WITH …`: which there are, and what they may say.

use super::Context;
use super::ddl::syntax;
use crate::cql::error::CqlError;
use crate::cql::parse::ast::PropertyValue;
use crate::model::TableOptions;
use crate::model::speculation::{NoPolicy, OPTION as SPECULATIVE_RETRY, SpeculativeRetry};
use std::collections::BTreeMap;

/// Table options that are kept as text and change nothing here. Source: the tables of `system_schema` of both servers.
const KEPT_OPTIONS: [&str; 18] = [
    "allow_auto_snapshot",
    "bloom_filter_fp_chance",
    "caching",
    "comment",
    "compaction",
    "compression",
    "crc_check_chance",
    "dclocal_read_repair_chance",
    "extensions",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
    "paxos_grace_seconds",
    "read_repair",
    "read_repair_chance",
    "synchronous_updates",
];

/// Table options that name a policy of speculative retries. The second is of writes to transient replicas, which there are not.
const POLICIES: [&str; 2] = [SPECULATIVE_RETRY, "additional_write_policy"];

pub(super) fn table_options(
    context: &Context<'_>,
    given: &BTreeMap<String, PropertyValue>,
    mut options: TableOptions,
) -> Result<TableOptions, CqlError> {
    for (name, value) in given {
        let number = || match value {
            PropertyValue::Simple(text) => text.parse::<u32>().ok(),
            PropertyValue::Map(_) => None,
        };
        let bad = || match value {
            PropertyValue::Simple(text) if text.parse::<i32>().is_ok_and(|n| n < 0) => {
                CqlError::config(format!("{name} must be greater than or equal to 0 (got {text})"))
            }
            _ => syntax(format!("Invalid integer value for '{name}'")),
        };
        match name.as_str() {
            "compaction" if context.server.dialect.checks_compaction => {
                known_compaction(value)?;
                options.other.insert(name.clone(), option_text(value));
            }
            "gc_grace_seconds" => options.gc_grace_s = number().ok_or_else(bad)?,
            "default_time_to_live" => options.default_ttl_s = short_enough(number().ok_or_else(bad)?)?,
            "cdc" => {
                let off = match value {
                    PropertyValue::Simple(text) => text == "false",
                    PropertyValue::Map(map) => map.get("enabled").is_some_and(|v| v == "false"),
                };
                if !off {
                    return Err(CqlError::unsupported("change data capture (cdc)"));
                }
            }
            "tombstone_gc" if context.server.dialect.has_options_of_scylla => match value {
                PropertyValue::Map(map) if map.get("mode").is_some_and(|m| m == "timeout") => {}
                _ => return Err(CqlError::unsupported("tombstone_gc other than mode timeout")),
            },
            "per_partition_rate_limit" => return Err(CqlError::unsupported("per_partition_rate_limit")),
            policy if POLICIES.contains(&policy) => {
                options.other.insert(name.clone(), policy_text(context, name, value)?);
            }
            known if KEPT_OPTIONS.contains(&known) => {
                options.other.insert(name.clone(), option_text(value));
            }
            _ => return Err(syntax(format!("Unknown property '{name}'"))),
        }
    }
    Ok(options)
}

/// Twenty years, as both servers say (C `TableParams`, seen; S `cf_prop_defs::DEFAULT_MAX_TTL`).
fn short_enough(ttl_s: u32) -> Result<u32, CqlError> {
    const MAX_S: u32 = 20 * 365 * 24 * 3_600;
    match ttl_s <= MAX_S {
        true => Ok(ttl_s),
        false => Err(CqlError::config(format!(
            "default_time_to_live must be less than or equal to {MAX_S} (got {ttl_s})"
        ))),
    }
}

/// Cassandra's compaction strategies, which it has by their class names.
fn known_compaction(value: &PropertyValue) -> Result<(), CqlError> {
    const PACKAGE: &str = "org.apache.cassandra.db.compaction.";
    let class = match value {
        PropertyValue::Map(map) => map.get("class"),
        PropertyValue::Simple(_) => None,
    };
    match class.map(|c| c.strip_prefix(PACKAGE).unwrap_or(c)) {
        None
        | Some(
            "SizeTieredCompactionStrategy"
            | "LeveledCompactionStrategy"
            | "TimeWindowCompactionStrategy"
            | "UnifiedCompactionStrategy",
        ) => Ok(()),
        Some(other) => Err(CqlError::config(format!(
            "Unable to find compaction strategy class '{PACKAGE}{other}'"
        ))),
    }
}

/// A policy of speculative retries in the words of the server. Cassandra names `speculative_retry` whichever option it is.
fn policy_text(context: &Context<'_>, name: &str, value: &PropertyValue) -> Result<String, CqlError> {
    let PropertyValue::Simple(text) = value else {
        return Err(syntax(format!(
            "Invalid value for property '{name}'. It should be a string"
        )));
    };
    if context.server.dialect.is_scylla() {
        return scylla_policy_text(text);
    }
    let why = |why: NoPolicy| {
        CqlError::config(match why {
            NoPolicy::Unknown => format!("Invalid value {text} for option '{SPECULATIVE_RETRY}'"),
            NoPolicy::Percentile => {
                format!(
                    "Invalid value {text} for PERCENTILE option '{SPECULATIVE_RETRY}': must be between (0.0 and 100.0)"
                )
            }
            NoPolicy::TwoPercentiles | NoPolicy::TwoTimes => {
                let kind = if why == NoPolicy::TwoTimes {
                    "FIXED"
                } else {
                    "PERCENTILE"
                };
                format!(
                    "Invalid value {text} for option '{SPECULATIVE_RETRY}': MIN()/MAX() arguments should be of different \
                     types, but both are of type {kind}"
                )
            }
        })
    };
    SpeculativeRetry::parse(text)
        .map(|policy| policy.to_string())
        .map_err(why)
}

/// S `speculative_retry::from_sstring` and `to_sstring`: `std::invalid_argument` is a server error to clients.
fn scylla_policy_text(text: &str) -> Result<String, CqlError> {
    let capitals = text.to_ascii_uppercase();
    let policy = SpeculativeRetry::parse(text).ok().and_then(|policy| match policy {
        SpeculativeRetry::Never if capitals == "NONE" => Some(capitals.clone()),
        SpeculativeRetry::Always => Some(capitals.clone()),
        SpeculativeRetry::FixedMs(ms) => Some(format!("{ms:.2}ms")),
        SpeculativeRetry::Percentile(p) if capitals.ends_with("PERCENTILE") => Some(format!("{p:.1}PERCENTILE")),
        _ => None,
    });
    policy.ok_or_else(|| CqlError::server(format!("cannot convert {capitals} to speculative_retry\n")))
}

fn option_text(value: &PropertyValue) -> String {
    match value {
        PropertyValue::Simple(text) => text.clone(),
        PropertyValue::Map(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("'{k}': '{v}'")).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scylla_has_four_policies_and_its_own_words_for_them() {
        for (text, kept) in [
            ("none", "NONE"),
            ("Always", "ALWAYS"),
            ("50ms", "50.00ms"),
            ("99percentile", "99.0PERCENTILE"),
        ] {
            assert_eq!(scylla_policy_text(text).expect(text), kept);
        }
        for text in ["never", "99p", "min(99p,5ms)", "soon"] {
            let error = scylla_policy_text(text).expect_err(text).to_string();
            let capitals = text.to_ascii_uppercase();
            assert!(
                error.contains(&format!("cannot convert {capitals} to speculative_retry")),
                "{error}"
            );
        }
    }
}
