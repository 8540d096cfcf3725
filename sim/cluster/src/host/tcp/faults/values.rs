//! Values of a fault as they are written: durations with a unit, and what a row must hold.

use crate::core::RowInfo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A duration, written as `"250ms"`, `"12s"`, `"5m"` or `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Millis(pub u64);

/// How far a clock is off: a [`Millis`] that may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Skew(pub i64);

/// The longest duration: what is longer was not meant.
const MILLIS_MAX: u64 = 1000 * 3600 * 1000;

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)
        .filter(|ms| *ms <= MILLIS_MAX)
}

fn no_duration(text: &str) -> String {
    format!("\"{text}\" is no duration: write \"250ms\", \"12s\", \"5m\" or \"1h\", at most \"1000h\"")
}

fn written(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 1000 != 0 => format!("{ms}ms"),
        ms => format!("{}s", ms / 1000),
    }
}

impl TryFrom<String> for Millis {
    type Error = String;
    fn try_from(text: String) -> Result<Millis, String> {
        milliseconds(&text).map(Millis).ok_or_else(|| no_duration(&text))
    }
}

impl From<Millis> for String {
    fn from(ms: Millis) -> String {
        written(ms.0)
    }
}

impl TryFrom<String> for Skew {
    type Error = String;
    fn try_from(text: String) -> Result<Skew, String> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.as_str()),
        };
        let ms = milliseconds(rest).ok_or_else(|| no_duration(&text))?;
        Ok(Skew(sign * ms as i64))
    }
}

impl From<Skew> for String {
    fn from(skew: Skew) -> String {
        let sign = if skew.0 < 0 { "-" } else { "" };
        format!("{sign}{}", written(skew.0.unsigned_abs()))
    }
}

/// What a column must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowValue {
    /// An integer type, or a timestamp.
    Number(i64),
    /// A text.
    Text(String),
}

/// Whether a row holds all of these.
pub(super) fn row_holds(row: &RowInfo<'_>, wanted: &BTreeMap<String, RowValue>) -> bool {
    wanted.iter().all(|(column, value)| match value {
        RowValue::Number(n) => row.number(column) == Some(*n),
        RowValue::Text(text) => row.value(column) == Some(text.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let read = |text: &str| {
            Millis::try_from(text.to_owned())
                .ok()
                .map(|ms| (ms.0, String::from(ms)))
        };
        assert_eq!(read("250ms"), Some((250, "250ms".into())));
        assert_eq!(read("12 s"), Some((12_000, "12s".into())));
        assert_eq!(read("5m"), Some((300_000, "300s".into())));
        assert_eq!(read("1000h"), Some((3_600_000_000, "3600000s".into())));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1001h", "99999999999999999999s", "1d"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(Skew::try_from("-1500ms".to_owned()), Ok(Skew(-1500)));
        assert_eq!(String::from(Skew(-1500)), "-1500ms");
    }
}
