//! Numbers of any size as CQL serialises them: varint, decimal, duration. Decimal digits in, two's complement out.

use super::error::CqlError;
use super::values::put_vint;
use std::cmp::Ordering;

/// Bytes of a whole number, or of a decimal's digits; and digits of a constant. Work on numbers grows with the square of their
/// length, and one thread runs all nodes: what is longer is refused. Real servers take as much as memory allows.
const NUMBER_BYTES_MAX: usize = 4096;
/// Zeros that a decimal has at most, before its point or behind it; likewise.
pub const SCALE_MAX: i64 = 10_000;
/// Digits of a constant: as many as `NUMBER_BYTES_MAX` hold.
const DIGITS_MAX: usize = 9_863;
/// Digits that are worked on at once, and what they count up to.
const CHUNK_DIGITS: usize = 9;
const CHUNK: u64 = 1_000_000_000;

fn too_long() -> CqlError {
    CqlError::unsupported(format!(
        "a number of more than {NUMBER_BYTES_MAX} bytes, or a decimal of more than {SCALE_MAX} places"
    ))
}

/// Whether a whole number is one that is worked with here.
///
/// # Errors
/// It is too long.
pub fn check_varint(bytes: &[u8]) -> Result<(), CqlError> {
    match bytes.len() > NUMBER_BYTES_MAX {
        true => Err(too_long()),
        false => Ok(()),
    }
}

/// Whether a decimal, of four bytes or more, is one that is worked with here.
///
/// # Errors
/// It is too long.
pub fn check_decimal(bytes: &[u8]) -> Result<(), CqlError> {
    let Some((scale, unscaled)) = bytes.split_first_chunk::<4>() else {
        return Ok(());
    };
    match i64::from(i32::from_be_bytes(*scale)).abs() > SCALE_MAX {
        true => Err(too_long()),
        false => check_varint(unscaled),
    }
}

/// A constant as a whole number.
///
/// # Errors
/// It is too long.
pub fn constant(text: &str) -> Result<Vec<u8>, CqlError> {
    match text.len() > DIGITS_MAX {
        true => Err(too_long()),
        false => Ok(varint(text)),
    }
}

/// Magnitude of a decimal text, most significant byte first, without leading zeros.
fn magnitude(digits: &str) -> Vec<u8> {
    // Least significant first.
    let mut limbs: Vec<u32> = Vec::new();
    for chunk in digits.as_bytes().chunks(CHUNK_DIGITS) {
        let (mut carry, mut factor) = (0u64, 1u64);
        for digit in chunk {
            carry = carry * 10 + u64::from(digit.wrapping_sub(b'0'));
            factor *= 10;
        }
        for limb in &mut limbs {
            carry += u64::from(*limb) * factor;
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let bytes: Vec<u8> = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes[zeros..].to_vec()
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
    let number = decimal_digits(&magnitude);
    match negative {
        true => format!("-{number}"),
        false => number,
    }
}

/// The decimal digits of a magnitude, most significant byte first.
fn decimal_digits(magnitude: &[u8]) -> String {
    let mut limbs: Vec<u32> = magnitude
        .rchunks(4)
        .rev()
        .map(|bytes| bytes.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte)))
        .collect();
    // The last ones first.
    let mut chunks = Vec::new();
    loop {
        let zeros = limbs.iter().take_while(|limb| **limb == 0).count();
        limbs.drain(..zeros);
        if limbs.is_empty() {
            break;
        }
        let mut rest = 0u64;
        for limb in &mut limbs {
            let n = rest << 32 | u64::from(*limb);
            *limb = (n / CHUNK) as u32;
            rest = n % CHUNK;
        }
        chunks.push(rest);
    }
    let mut out = chunks.pop().unwrap_or(0).to_string();
    for chunk in chunks.iter().rev() {
        out.push_str(&format!("{chunk:0>CHUNK_DIGITS$}"));
    }
    out
}

/// A decimal: its scale, then its digits as a varint.
///
/// # Errors
/// A text that is no number, an exponent that no scale holds, or one that is too long.
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
    if plain.len() > DIGITS_MAX {
        return Err(too_long());
    }
    let scale = i32::try_from(fraction.len())
        .ok()
        .and_then(|n| n.checked_sub(exponent))
        .ok_or_else(bad)?;
    let mut out = scale.to_be_bytes().to_vec();
    out.extend(varint(&unscaled));
    check_decimal(&out)?;
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

/// The order of two decimals.
pub fn compare_decimals(a: &[u8], b: &[u8]) -> Ordering {
    let parts = |n: &[u8]| {
        n.split_first_chunk::<4>()
            .map(|(s, rest)| (i64::from(i32::from_be_bytes(*s)), rest.to_vec()))
    };
    let (Some((a_scale, a)), Some((b_scale, b))) = (parts(a), parts(b)) else {
        return a.len().cmp(&b.len());
    };
    if a_scale == b_scale {
        return compare_varints(&a, &b);
    }
    let most = a_scale.max(b_scale);
    let wide = |n: &[u8], scale: i64| {
        let zeros = (most - scale).min(2 * SCALE_MAX) as usize;
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
    fn numbers_of_every_length_come_back_and_those_too_long_are_refused() {
        let mut number = String::new();
        for length in 1..=80 {
            number.push(char::from(b'0' + (length * 7 % 9 + 1) as u8));
            for text in [number.clone(), format!("-{number}"), format!("1{}", "0".repeat(length))] {
                assert_eq!(digits(&varint(&text)), text);
            }
        }
        let longest = "9".repeat(DIGITS_MAX);
        assert_eq!(digits(&constant(&longest).expect("short enough")), longest);
        assert!(constant(&format!("{longest}9")).is_err());
        assert!(check_varint(&[1; NUMBER_BYTES_MAX + 1]).is_err() && check_varint(&[1; NUMBER_BYTES_MAX]).is_ok());
        for (text, fits) in [
            ("1e10000", true),
            ("1e-10000", true),
            ("1e10001", false),
            ("1e-70000", false),
        ] {
            assert_eq!(decimal(text).is_ok(), fits, "{text}");
        }
        let scale = |scale: i32| [&scale.to_be_bytes()[..], &[1]].concat();
        assert!(check_decimal(&scale(10_000)).is_ok() && check_decimal(&scale(i32::MIN)).is_err());
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
