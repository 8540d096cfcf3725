//! `speculative_retry` of a table: when a read whose replicas are silent asks one more.
//!
//! Sources: C `SpeculativeRetryPolicy.fromString` and the policies it names, S `schema/schema.hh` `speculative_retry`.

use super::schema::TableOptions;
use std::fmt;

/// The option's name in CQL.
pub const OPTION: &str = "speculative_retry";

/// When a table's reads ask one replica more than they need. Both servers' policies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SpeculativeRetry {
    /// Never.
    Never,
    /// From the beginning.
    Always,
    /// After this percentile of the latencies of the table's reads, above 0 and below 100.
    Percentile(f64),
    /// After so many milliseconds.
    FixedMs(f64),
    /// After whichever is sooner.
    Min {
        /// See [`SpeculativeRetry::Percentile`].
        percentile: f64,
        /// Milliseconds.
        ms: f64,
    },
    /// After whichever is later.
    Max {
        /// See [`SpeculativeRetry::Percentile`].
        percentile: f64,
        /// Milliseconds.
        ms: f64,
    },
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPolicy {
    /// It looks like none.
    Unknown,
    /// A percentile that is not above 0 and below 100.
    Percentile,
    /// MIN or MAX of two percentiles.
    TwoPercentiles,
    /// MIN or MAX of two times.
    TwoTimes,
}

impl SpeculativeRetry {
    /// Of a table; the 99th percentile where nothing is said (both servers).
    pub fn of(options: &TableOptions) -> SpeculativeRetry {
        let text = options.other.get(OPTION);
        text.and_then(|text| SpeculativeRetry::parse(text).ok())
            .unwrap_or(SpeculativeRetry::Percentile(99.0))
    }

    /// What either server writes, in capitals or not.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<SpeculativeRetry, NoPolicy> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "none" | "never" => return Ok(SpeculativeRetry::Never),
            "always" => return Ok(SpeculativeRetry::Always),
            _ => {}
        }
        let pair = |function: &str| {
            let inside = text.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')?;
            inside.split_once(',')
        };
        if let Some(pair) = pair("min") {
            return two(pair).map(|(percentile, ms)| SpeculativeRetry::Min { percentile, ms });
        }
        if let Some(pair) = pair("max") {
            return two(pair).map(|(percentile, ms)| SpeculativeRetry::Max { percentile, ms });
        }
        one(&text)
    }

    /// How long a read waits for its replicas, milliseconds, where `percentile_ms` is the percentile; none: however long it
    /// takes.
    pub fn wait_ms(self, percentile_ms: u64) -> Option<u64> {
        match self {
            SpeculativeRetry::Never => None,
            SpeculativeRetry::Always => Some(0),
            SpeculativeRetry::Percentile(_) => Some(percentile_ms),
            SpeculativeRetry::FixedMs(ms) => Some(whole(ms)),
            SpeculativeRetry::Min { ms, .. } => Some(whole(ms).min(percentile_ms)),
            SpeculativeRetry::Max { ms, .. } => Some(whole(ms).max(percentile_ms)),
        }
    }
}

/// Cassandra's words for it; of ScyllaDB's, which knows four of the six, see `cql::bind::options`.
impl fmt::Display for SpeculativeRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Four digits behind the point at most.
        let percent = |p: f64| (p * 10_000.0).round() / 10_000.0;
        match *self {
            SpeculativeRetry::Never => f.write_str("NEVER"),
            SpeculativeRetry::Always => f.write_str("ALWAYS"),
            SpeculativeRetry::Percentile(p) => write!(f, "{}p", percent(p)),
            SpeculativeRetry::FixedMs(ms) => write!(f, "{}ms", whole(ms)),
            SpeculativeRetry::Min { percentile, ms } => write!(f, "MIN({}p,{}ms)", percent(percentile), whole(ms)),
            SpeculativeRetry::Max { percentile, ms } => write!(f, "MAX({}p,{}ms)", percent(percentile), whole(ms)),
        }
    }
}

/// A time as servers wait for it: without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is not negative"
)]
fn whole(ms: f64) -> u64 {
    ms as u64
}

/// A percentile or a time, in small letters.
fn one(text: &str) -> Result<SpeculativeRetry, NoPolicy> {
    let number = |digits: &str| {
        let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        is_plain
            .then(|| digits.parse::<f64>().ok())
            .flatten()
            .ok_or(NoPolicy::Unknown)
    };
    if let Some(digits) = text.strip_suffix("ms") {
        return number(digits).map(SpeculativeRetry::FixedMs);
    }
    let digits = text.strip_suffix("percentile").or_else(|| text.strip_suffix('p'));
    let percentile = number(digits.ok_or(NoPolicy::Unknown)?)?;
    if percentile <= 0.0 || percentile >= 100.0 {
        return Err(NoPolicy::Percentile);
    }
    Ok(SpeculativeRetry::Percentile(percentile))
}

/// The arguments of MIN and MAX: a percentile and a time, in either order.
fn two((a, b): (&str, &str)) -> Result<(f64, f64), NoPolicy> {
    match (one(a), one(b.trim_start())) {
        (Ok(SpeculativeRetry::Percentile(p)), Ok(SpeculativeRetry::FixedMs(ms)))
        | (Ok(SpeculativeRetry::FixedMs(ms)), Ok(SpeculativeRetry::Percentile(p))) => Ok((p, ms)),
        (Ok(SpeculativeRetry::Percentile(_)), Ok(_)) => Err(NoPolicy::TwoPercentiles),
        (Ok(SpeculativeRetry::FixedMs(_)), Ok(_)) => Err(NoPolicy::TwoTimes),
        _ => Err(NoPolicy::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_both_servers_are_policies() {
        for (text, canonical, wait_ms) in [
            ("NONE", "NEVER", None),
            ("never", "NEVER", None),
            ("Always", "ALWAYS", Some(0)),
            ("99p", "99p", Some(20)),
            ("99.0PERCENTILE", "99p", Some(20)),
            ("99.95percentile", "99.95p", Some(20)),
            ("50ms", "50ms", Some(50)),
            ("50.9MS", "50ms", Some(50)),
            ("min(99p, 5ms)", "MIN(99p,5ms)", Some(5)),
            ("MIN(50ms,90p)", "MIN(90p,50ms)", Some(20)),
            ("MAX(90p,50ms)", "MAX(90p,50ms)", Some(50)),
        ] {
            let policy = SpeculativeRetry::parse(text).expect(text);
            assert_eq!(policy.to_string(), canonical, "{text}");
            assert_eq!(policy.wait_ms(20), wait_ms, "{text}");
            assert_eq!(
                SpeculativeRetry::parse(canonical).expect(canonical).to_string(),
                canonical
            );
        }
    }

    #[test]
    fn other_texts_are_none_and_it_is_said_why() {
        for (text, why) in [
            ("", NoPolicy::Unknown),
            ("soon", NoPolicy::Unknown),
            ("ms", NoPolicy::Unknown),
            ("-1ms", NoPolicy::Unknown),
            ("1e3ms", NoPolicy::Unknown),
            ("1.2.3p", NoPolicy::Unknown),
            ("0p", NoPolicy::Percentile),
            ("100percentile", NoPolicy::Percentile),
            ("min(99p)", NoPolicy::Unknown),
            ("min(99p,always)", NoPolicy::Unknown),
            ("min(99p,98p)", NoPolicy::TwoPercentiles),
            ("max(1ms,2ms)", NoPolicy::TwoTimes),
        ] {
            assert_eq!(SpeculativeRetry::parse(text), Err(why), "{text}");
        }
    }
}
