//! Numbers of any size as CQL serialises them: varint, decimal, duration. Decimal digits in, two's complement out.

use super::error::CqlError;
use super::values::put_vint;
use std::cmp::Ordering;

/// Magnitude of a decimal text, most significant byte first, without leading zeros.
fn magnitude(digits: &str) -> Vec<u8> {
    // Base 256, least significant first.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes().map(|b| b.wrapping_sub(b'0')) {
        let mut carry = u32::from(digit);
        for byte in &mut bytes {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.reverse();
    bytes
}

/// The shortest two's complement form of a whole number in decimal digits.
pub fn varint(text: &str) -> Vec<u8> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut bytes = magnitude(digits);
    bytes.insert(0, 0);
    if negative {
        bytes.iter_mut().for_each(|b| *b = !*b);
        for byte in bytes.iter_mut().rev() {
            let (next, carried) = byte.overflowing_add(1);
            *byte = next;
            if !carried {
                break;
            }
        }
    }
    shortest(&bytes).to_vec()
}

/// Without the leading bytes that only repeat the sign.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, second, ..] = rest {
        if (*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0) {
            rest = &rest[1..];
        } else {
            break;
        }
    }
    rest
}

/// The decimal digits of a two's complement number.
pub fn digits(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if negative {
        magnitude.iter_mut().for_each(|b| *b = !*b);
        for byte in magnitude.iter_mut().rev() {
            let (next, carried) = byte.overflowing_add(1);
            *byte = next;
            if !carried {
                break;
            }
        }
    }
    let mut out = Vec::new();
    while magnitude.iter().any(|b| *b != 0) {
        let mut rest = 0u32;
        for byte in &mut magnitude {
            let n = rest << 8 | u32::from(*byte);
            *byte = (n / 10) as u8;
            rest = n % 10;
        }
        out.push(b'0' + rest as u8);
    }
    if out.is_empty() {
        out.push(b'0');
    }
    if negative {
        out.push(b'-');
    }
    out.reverse();
    String::from_utf8(out).unwrap_or_default()
}

/// A decimal: its scale, then its digits as a varint.
///
/// # Errors
/// A text that is no number, or an exponent that no scale holds.
pub fn decimal(s: &str) -> Result<Vec<u8>, CqlError> {
    let bad = || CqlError::invalid(format!("unable to make BigDecimal from '{s}'"));
    let (mantissa, exponent) = match s.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.trim_start_matches('+').parse::<i32>().map_err(|_| bad())?),
        None => (s, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unscaled = format!("{whole}{fraction}");
    let plain = unscaled.strip_prefix('-').unwrap_or(&unscaled);
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let scale = i32::try_from(fraction.len())
        .ok()
        .and_then(|n| n.checked_sub(exponent))
        .ok_or_else(bad)?;
    let mut out = scale.to_be_bytes().to_vec();
    out.extend(varint(&unscaled));
    Ok(out)
}

/// The order of two two's complement numbers of any length; empty ones come first.
pub fn compare_varints(a: &[u8], b: &[u8]) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    let (a, b) = (shortest(a), shortest(b));
    let negative = |n: &[u8]| n[0] & 0x80 != 0;
    match (negative(a), negative(b)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, true) => b.len().cmp(&a.len()).then_with(|| a.cmp(b)),
    }
}

/// The most zeros that a comparison of decimals writes out; beyond it the scales decide.
const SCALE_MAX: i64 = 100_000;

/// The order of two decimals.
pub fn compare_decimals(a: &[u8], b: &[u8]) -> Ordering {
    let parts = |n: &[u8]| {
        n.split_first_chunk::<4>()
            .map(|(s, rest)| (i64::from(i32::from_be_bytes(*s)), rest.to_vec()))
    };
    let (Some((a_scale, a)), Some((b_scale, b))) = (parts(a), parts(b)) else {
        return a.len().cmp(&b.len());
    };
    let most = a_scale.max(b_scale);
    let wide = |n: &[u8], scale: i64| {
        let zeros = (most - scale).min(SCALE_MAX) as usize;
        varint(&format!("{}{}", digits(n), "0".repeat(zeros)))
    };
    compare_varints(&wide(&a, a_scale), &wide(&b, b_scale))
}

/// A duration constant: `1y2mo3w4d5h6m7s8ms9us10ns`, `P1Y2M3DT4H5M6S`, `P2W`, each perhaps with a sign before it.
///
/// # Errors
/// A text that is none, units out of order, or numbers out of range.
pub fn duration(s: &str) -> Result<Vec<u8>, CqlError> {
    let bad = || CqlError::invalid(format!("Unable to convert '{s}' to a duration"));
    let (negative, rest) = match s.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, s),
    };
    let lower = rest.to_ascii_lowercase();
    let parts = match lower.strip_prefix('p') {
        Some(iso) if iso.contains('-') => calendar_parts(iso),
        Some(iso) => iso_parts(iso),
        None => unit_parts(&lower),
    };
    let (mut months, mut days, mut nanos) = (0i64, 0i64, 0i64);
    let mut last = None;
    for (number, unit) in parts.ok_or_else(bad)? {
        const UNITS: [(&str, u8, i64); 10] = [
            ("y", 0, 12),
            ("mo", 0, 1),
            ("w", 1, 7),
            ("d", 1, 1),
            ("h", 2, 3_600_000_000_000),
            ("m", 2, 60_000_000_000),
            ("s", 2, 1_000_000_000),
            ("ms", 2, 1_000_000),
            ("us", 2, 1_000),
            ("ns", 2, 1),
        ];
        let at = UNITS.iter().position(|(u, ..)| *u == unit).ok_or_else(bad)?;
        let name = [
            "years",
            "months",
            "weeks",
            "days",
            "hours",
            "minutes",
            "seconds",
            "milliseconds",
            "microseconds",
            "nanoseconds",
        ];
        match last {
            Some(l) if l == at => {
                return Err(CqlError::invalid(format!(
                    "Invalid duration. The {} are specified multiple times",
                    name[at]
                )));
            }
            Some(l) if l > at => {
                return Err(CqlError::invalid(format!(
                    "Invalid duration. The {} should be after {}",
                    name[l], name[at]
                )));
            }
            _ => last = Some(at),
        }
        let (_, group, factor) = UNITS[at];
        let sum = match group {
            0 => &mut months,
            1 => &mut days,
            _ => &mut nanos,
        };
        let more = number.checked_mul(factor).ok_or_else(bad)?;
        *sum = sum.checked_add(more).ok_or_else(bad)?;
    }
    if i32::try_from(months).is_err() || i32::try_from(days).is_err() {
        return Err(bad());
    }
    let sign = if negative { -1 } else { 1 };
    let mut out = Vec::new();
    for n in [months, days, nanos] {
        let n = n * sign;
        put_vint(&mut out, (n << 1 ^ n >> 63) as u64);
    }
    Ok(out)
}

/// `1y2mo…` as numbers and units.
fn unit_parts(s: &str) -> Option<Vec<(i64, String)>> {
    let mut parts = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = rest[..split].parse().ok()?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        parts.push((number, rest[..end].replace('µ', "u")));
        rest = &rest[end..];
    }
    (!parts.is_empty()).then_some(parts)
}

/// `0001-02-03t04:05:06` as numbers and units.
fn calendar_parts(s: &str) -> Option<Vec<(i64, String)>> {
    const UNITS: [&str; 6] = ["y", "mo", "d", "h", "m", "s"];
    let numbers = s.split(['-', 't', ':']).zip(UNITS);
    numbers
        .map(|(n, unit)| Some((n.parse().ok()?, unit.to_owned())))
        .collect()
}

/// `1y2m3dt4h5m6s`, `2w` as numbers and units: an `m` before the `t` is a month.
fn iso_parts(s: &str) -> Option<Vec<(i64, String)>> {
    let (date, time) = s.split_once('t').unwrap_or((s, ""));
    let mut parts = if date.is_empty() { vec![] } else { unit_parts(date)? };
    for (_, unit) in &mut parts {
        if unit == "m" {
            *unit = "mo".into();
        }
    }
    if !time.is_empty() {
        parts.extend(unit_parts(time)?);
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_of_any_size_are_the_shortest_two_s_complement_and_come_back() {
        for n in [
            0i128,
            1,
            -1,
            127,
            128,
            -128,
            -129,
            255,
            256,
            i128::from(i64::MIN),
            i128::MAX,
            i128::MIN,
        ] {
            let bytes = varint(&n.to_string());
            assert_eq!(bytes, shortest(&n.to_be_bytes()), "{n}");
            assert_eq!(digits(&bytes), n.to_string());
        }
        let long = "123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(digits(&varint(long)), long);
    }

    #[test]
    fn decimals_compare_by_value_and_not_by_scale() {
        let of = |s: &str| decimal(s).expect("a decimal");
        assert_eq!(compare_decimals(&of("1.50"), &of("1.5")), Ordering::Equal);
        assert_eq!(compare_decimals(&of("-2"), &of("-1.99")), Ordering::Less);
        assert_eq!(compare_decimals(&of("1e3"), &of("999.9")), Ordering::Greater);
    }

    #[test]
    fn durations_are_three_signed_variable_length_numbers() {
        assert_eq!(duration("2mo").expect("one"), [4, 0, 0]);
        assert_eq!(duration("-1d").expect("one"), [0, 1, 0]);
        assert_eq!(duration("P1Y").expect("one"), [24, 0, 0]);
        assert!(duration("5h3d").is_err() && duration("1h1h").is_err() && duration("x").is_err());
    }
}
