//! Values as CQL serialises them: checks of bound values, constants to bytes, and the order of two values of a type.
//! The texts of refusals are Cassandra's where they were seen or are in its source.

use super::error::CqlError;
use super::numbers;
use super::parse::ast::Literal;
use super::types;
use crate::model::CqlType;
use std::cmp::Ordering;
use std::net::IpAddr;

/// Checks that `bytes` are a value of type `ty`.
///
/// # Errors
/// 0x2200 with the text of the type's validator.
#[inline(always)]
pub fn validate(ty: &CqlType, bytes: &[u8]) -> Result<(), CqlError> {
    // Nearly every value there is, told by its length alone; everything that is written comes by here.
    let is_plain = matches!(
        (ty, bytes.len()),
        (CqlType::Bigint | CqlType::Timestamp, 8) | (CqlType::Int, 4) | (CqlType::Blob, _)
    );
    if is_plain { Ok(()) } else { validate_other(ty, bytes) }
}

#[inline(never)]
fn validate_other(ty: &CqlType, bytes: &[u8]) -> Result<(), CqlError> {
    let n = bytes.len();
    let expect = |fits: bool, text: &str| {
        if fits {
            Ok(())
        } else {
            Err(CqlError::invalid(format!("{text} ({n})")))
        }
    };
    match ty {
        CqlType::Bigint | CqlType::Counter => expect(n == 8 || n == 0, "Expected 8 or 0 byte long"),
        CqlType::Timestamp => expect(n == 8 || n == 0, "Expected 8 or 0 byte long for date"),
        CqlType::Time => expect(n == 8, "Expected 8 byte long for time"),
        CqlType::Int => expect(n == 4 || n == 0, "Expected 4 or 0 byte int"),
        CqlType::Date => expect(n == 4, "Expected 4 byte long for date"),
        CqlType::Smallint => expect(n == 2, "Expected 2 bytes for a smallint"),
        CqlType::Tinyint => expect(n == 1, "Expected 1 byte for a tinyint"),
        CqlType::Boolean => expect(n == 1 || n == 0, "Expected 1 or 0 byte value"),
        CqlType::Double => expect(n == 8 || n == 0, "Expected 8 or 0 byte value for a double"),
        CqlType::Float => expect(n == 4 || n == 0, "Expected 4 or 0 byte value for a float"),
        CqlType::Uuid => expect(n == 16 || n == 0, "UUID should be 16 or 0 bytes"),
        CqlType::Timeuuid if n == 16 && bytes[6] >> 4 != 1 => {
            Err(CqlError::invalid("Invalid version for TimeUUID type."))
        }
        CqlType::Timeuuid => expect(n == 16 || n == 0, "TimeUUID should be 16 or 0 bytes"),
        CqlType::Inet => expect(n == 4 || n == 16, "Expected 4 or 16 byte inetaddress"),
        CqlType::Ascii if !bytes.is_ascii() => Err(CqlError::invalid("Invalid byte for ascii")),
        CqlType::Decimal => {
            expect(n == 0 || n >= 4, "Expected 0 or at least 4 bytes")?;
            numbers::check_decimal(bytes)
        }
        CqlType::Varint => numbers::check_varint(bytes),
        CqlType::Duration => expect(n >= 3, "Expected at least 3 bytes for a duration"),
        CqlType::Frozen(inner) => validate(inner, bytes),
        CqlType::List(e) => elements(bytes, &[e], "list").map(|_| ()),
        CqlType::Set(e) => elements(bytes, &[e], "set").map(|_| ()),
        CqlType::Map(k, v) => elements(bytes, &[k, v], "map").map(|_| ()),
        CqlType::Tuple(items) => fields(bytes, items.iter(), "tuple").map(|_| ()),
        CqlType::Udt(udt) => fields(bytes, udt.fields.iter().map(|(_, t)| t), "user type").map(|_| ()),
        CqlType::Vector(e, n) => vector_elements(bytes, e, *n).map(|_| ()),
        CqlType::Text if std::str::from_utf8(bytes).is_err() => Err(CqlError::invalid("String didn't validate.")),
        CqlType::Text | CqlType::Ascii | CqlType::Blob => Ok(()),
    }
}

/// The components of a serialised tuple or user-defined type, each checked; those that are missing at the end are null.
///
/// # Errors
/// Bytes that are no such value.
pub fn fields<'a, 't>(
    bytes: &'a [u8],
    types: impl ExactSizeIterator<Item = &'t CqlType>,
    what: &str,
) -> Result<Vec<Option<&'a [u8]>>, CqlError> {
    let count = types.len();
    let mut found = Vec::with_capacity(count);
    let mut rest = bytes;
    for (i, ty) in types.enumerate() {
        if rest.is_empty() {
            found.push(None);
            continue;
        }
        let short = |part: &str| CqlError::invalid(format!("Not enough bytes to read {part}{i}th component"));
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| short("size of "))?;
        rest = tail;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => found.push(None),
            Ok(length) => {
                let (value, tail) = rest.split_at_checked(length).ok_or_else(|| short(""))?;
                validate(ty, value)?;
                found.push(Some(value));
                rest = tail;
            }
        }
    }
    match rest.is_empty() {
        true => Ok(found),
        false => Err(CqlError::invalid(format!(
            "Expected {count} value for {what} column, but got more"
        ))),
    }
}

/// The bytes of a tuple or user-defined type of these components.
pub fn put_fields<'a>(parts: impl Iterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        super::frame::response::put_bytes(&mut out, part);
    }
    out
}

/// The elements of a vector: one after the other where they have one length, else each behind its own.
///
/// # Errors
/// Bytes that are no such vector.
pub fn vector_elements<'a>(bytes: &'a [u8], element: &CqlType, count: u16) -> Result<Vec<&'a [u8]>, CqlError> {
    let bad = || {
        CqlError::invalid(format!(
            "Not enough bytes to read a vector<{}, {count}>",
            types::name(element)
        ))
    };
    let count = usize::from(count);
    if let Some(size) = vector_element_bytes(element) {
        if bytes.len() < size * count {
            return Err(bad());
        }
        if bytes.len() > size * count {
            return Err(CqlError::invalid("Unexpected extraneous bytes after vector value"));
        }
        return Ok(bytes.chunks_exact(size).collect());
    }
    let mut found = Vec::with_capacity(count);
    let mut rest = bytes;
    for _ in 0..count {
        let (length, tail) = read_vint(rest).ok_or_else(bad)?;
        let length = usize::try_from(length).map_err(|_| bad())?;
        let (value, tail) = tail.split_at_checked(length).ok_or_else(bad)?;
        validate(element, value)?;
        found.push(value);
        rest = tail;
    }
    match rest.is_empty() {
        true => Ok(found),
        false => Err(CqlError::invalid("Unexpected extraneous bytes after vector value")),
    }
}

/// The bytes of a vector of these elements.
pub fn put_vector(element: &CqlType, parts: &[Vec<u8>]) -> Vec<u8> {
    if vector_element_bytes(element).is_some() {
        return parts.concat();
    }
    let mut out = Vec::new();
    for part in parts {
        put_vint(&mut out, part.len() as u64);
        out.extend_from_slice(part);
    }
    out
}

/// Length of a vector's elements if all have the same: as Cassandra's `valueLengthIfFixed`, which some types of one length
/// do not have.
fn vector_element_bytes(element: &CqlType) -> Option<usize> {
    match element.unfrozen() {
        CqlType::Tinyint | CqlType::Smallint | CqlType::Date | CqlType::Time => None,
        CqlType::Vector(e, n) => Some(vector_element_bytes(e)? * usize::from(*n)),
        other => other.fixed_bytes(),
    }
}

/// Appends an unsigned variable-length integer: the number of leading ones says how many bytes follow the first.
pub fn put_vint(out: &mut Vec<u8>, value: u64) {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    let extra = if bits > 56 { 8 } else { (bits - 1) / 7 };
    let bytes = value.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
        out.extend(bytes);
        return;
    }
    let tail = &bytes[8 - extra - 1..];
    out.push(tail[0] | !(0xffu16 >> extra) as u8);
    out.extend_from_slice(&tail[1..]);
}

/// Reads what [`put_vint`] wrote.
pub fn read_vint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let extra = first.leading_ones() as usize;
    let (tail, rest) = rest.split_at_checked(extra)?;
    let head = u64::from(*first) & (0xffu64 >> (extra + 1).min(8));
    let head = if extra >= 7 { 0 } else { head };
    Some((tail.iter().fold(head, |n, b| n << 8 | u64::from(*b)), rest))
}

/// The elements of a serialised collection whose items have the types `types` in turn (two for a map), each checked.
///
/// # Errors
/// Bytes that are no such collection.
pub fn elements<'a>(bytes: &'a [u8], types: &[&CqlType], what: &str) -> Result<Vec<&'a [u8]>, CqlError> {
    let bad = || CqlError::invalid(format!("Not enough bytes to read a {what}"));
    let int = |rest: &mut &'a [u8]| -> Result<i32, CqlError> {
        let (n, tail) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        *rest = tail;
        Ok(i32::from_be_bytes(*n))
    };
    let mut rest = bytes;
    let count = usize::try_from(int(&mut rest)?).map_err(|_| bad())?;
    let mut items = Vec::with_capacity(count.min(bytes.len() / 4) * types.len());
    for _ in 0..count {
        for ty in types {
            let length = int(&mut rest)?;
            let Ok(length) = usize::try_from(length) else {
                return Err(CqlError::invalid("null is not supported inside collections"));
            };
            let item = rest.get(..length).ok_or_else(bad)?;
            validate(ty, item)?;
            items.push(item);
            rest = &rest[length..];
        }
    }
    if rest.is_empty() {
        Ok(items)
    } else {
        Err(CqlError::invalid(format!(
            "Unexpected extraneous bytes after {what} value"
        )))
    }
}

/// The items of a serialised collection: elements, or keys and values in turn.
///
/// # Errors
/// Bytes that are not a value of that type.
pub fn items<'a>(bytes: &'a [u8], ty: &CqlType) -> Result<Vec<&'a [u8]>, CqlError> {
    match ty.unfrozen() {
        CqlType::List(e) => elements(bytes, &[e], "list"),
        CqlType::Set(e) => elements(bytes, &[e], "set"),
        CqlType::Map(k, v) => elements(bytes, &[k, v], "map"),
        _ => Ok(vec![]),
    }
}

/// The elements of a serialised list, for `IN ?`.
///
/// # Errors
/// Bytes that are not such a list.
pub fn list_elements<'a>(bytes: &'a [u8], element: &CqlType) -> Result<Vec<&'a [u8]>, CqlError> {
    elements(bytes, &[element], "list")
}

/// The bytes of a constant for column `column`, or the refusal a real server sends.
///
/// # Errors
/// 0x2200: a constant of another kind, or out of range.
pub fn constant(literal: &Literal, ty: &CqlType, column: &str) -> Result<Vec<u8>, CqlError> {
    let (kind, text) = match literal {
        Literal::Str(s) => ("STRING", s.clone()),
        Literal::Integer(s) => ("INTEGER", s.clone()),
        Literal::Float(s) => ("FLOAT", s.clone()),
        Literal::Boolean(b) => ("BOOLEAN", b.to_string()),
        Literal::Uuid(s) => ("UUID", s.clone()),
        Literal::Hex(s) => ("HEX", format!("0x{s}")),
        Literal::Duration(s) => ("DURATION", s.clone()),
    };
    let mismatch = || {
        let ty = types::name(ty);
        Err(CqlError::invalid(format!(
            "Invalid {kind} constant ({text}) for \"{column}\" of type {ty}"
        )))
    };
    match (ty.unfrozen(), literal) {
        (CqlType::Text, Literal::Str(s)) => Ok(s.clone().into_bytes()),
        (CqlType::Ascii, Literal::Str(s)) => validate(ty, s.as_bytes()).map(|()| s.clone().into_bytes()),
        (CqlType::Bigint | CqlType::Counter, Literal::Integer(s)) => {
            integer::<i64>(s, "long", |n| n.to_be_bytes().to_vec())
        }
        (CqlType::Int, Literal::Integer(s)) => integer::<i32>(s, "int", |n| n.to_be_bytes().to_vec()),
        (CqlType::Smallint, Literal::Integer(s)) => integer::<i16>(s, "short", |n| n.to_be_bytes().to_vec()),
        (CqlType::Tinyint, Literal::Integer(s)) => integer::<i8>(s, "byte", |n| n.to_be_bytes().to_vec()),
        (CqlType::Varint, Literal::Integer(s)) => numbers::constant(s),
        (CqlType::Decimal, Literal::Integer(s) | Literal::Float(s)) => numbers::decimal(s),
        (CqlType::Double, Literal::Integer(s) | Literal::Float(s)) => Ok(float(s).to_be_bytes().to_vec()),
        (CqlType::Float, Literal::Integer(s) | Literal::Float(s)) => Ok((float(s) as f32).to_be_bytes().to_vec()),
        (CqlType::Boolean, Literal::Boolean(b)) => Ok(vec![u8::from(*b)]),
        (CqlType::Blob, Literal::Hex(h)) => hex_bytes(h),
        (CqlType::Uuid | CqlType::Timeuuid, Literal::Uuid(s)) => {
            let bytes = uuid::Uuid::parse_str(s)
                .map_err(|e| CqlError::invalid(e.to_string()))?
                .as_bytes()
                .to_vec();
            validate(ty, &bytes).map(|()| bytes)
        }
        (CqlType::Inet, Literal::Str(s)) => match s.parse::<IpAddr>() {
            Ok(IpAddr::V4(a)) => Ok(a.octets().to_vec()),
            Ok(IpAddr::V6(a)) => Ok(a.octets().to_vec()),
            Err(_) => Err(CqlError::invalid(format!("Unable to make inet address from '{s}'"))),
        },
        (CqlType::Timestamp, Literal::Integer(s)) => integer::<i64>(s, "long", |n| n.to_be_bytes().to_vec()),
        (CqlType::Timestamp, Literal::Str(s)) => match s.parse().ok().or_else(|| calendar_ms(s)) {
            Some(ms) => Ok(ms.to_be_bytes().to_vec()),
            None => Err(CqlError::invalid(format!("Unable to parse a date/time from '{s}'"))),
        },
        (CqlType::Date, Literal::Str(s)) => date(s),
        (CqlType::Date, Literal::Integer(s)) => integer::<u32>(s, "date", |n| n.to_be_bytes().to_vec()),
        (CqlType::Time, Literal::Str(s)) => match time_of_day_ns(s) {
            // Hours and minutes alone are a time in a timestamp only.
            Some(ns) if s.matches(':').count() == 2 => Ok(ns.to_be_bytes().to_vec()),
            _ => Err(CqlError::invalid(format!(
                "(TimeType) Unable to coerce '{s}' to a formatted time (long)"
            ))),
        },
        (CqlType::Time, Literal::Integer(s)) => integer::<i64>(s, "time", |n| n.to_be_bytes().to_vec()),
        (CqlType::Duration, Literal::Duration(s) | Literal::Integer(s)) => numbers::duration(s),
        _ => mismatch(),
    }
}

/// The bytes of a collection of these items; `count` is the number of its elements or entries.
pub fn collection<'a>(count: usize, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = (count as i32).to_be_bytes().to_vec();
    for p in parts {
        out.extend((p.len() as i32).to_be_bytes());
        out.extend_from_slice(p);
    }
    out
}

fn integer<T: std::str::FromStr>(s: &str, what: &str, f: impl FnOnce(T) -> Vec<u8>) -> Result<Vec<u8>, CqlError> {
    s.parse()
        .map(f)
        .map_err(|_| CqlError::invalid(format!("Unable to make {what} from '{s}'")))
}

fn float(s: &str) -> f64 {
    match s.to_ascii_lowercase().as_str() {
        "nan" | "-nan" => f64::NAN,
        "infinity" => f64::INFINITY,
        "-infinity" => f64::NEG_INFINITY,
        // The lexer lets only digits, one point and one exponent through.
        other => other.parse().unwrap_or(f64::NAN),
    }
}

fn hex_bytes(h: &str) -> Result<Vec<u8>, CqlError> {
    if !h.len().is_multiple_of(2) {
        return Err(CqlError::invalid(format!(
            "An hex string representing bytes must have an even length: 0x{h}"
        )));
    }
    Ok((0..h.len())
        .step_by(2)
        .filter_map(|i| u8::from_str_radix(&h[i..i + 2], 16).ok())
        .collect())
}

/// Milliseconds since 1970 of `yyyy-mm-dd`, with an optional time of day and an optional zone (`Z`, `+hhmm`, `+hh:mm`);
/// UTC without one.
pub fn calendar_ms(s: &str) -> Option<i64> {
    let (date, rest) = (s.get(..10)?, &s[10..]);
    let mut parts = date.split('-');
    let (y, m, d): (i64, i64, i64) = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    if !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    let day_ms = days_from_civil(y, m, d) * 86_400_000;
    let rest = rest.strip_prefix(['T', ' ', 't']).unwrap_or(rest);
    let (time, zone_ms) = match rest.rfind(['+', '-', 'Z', 'z']) {
        Some(at) => (rest[..at].trim_end(), zone_ms(&rest[at..])?),
        None => (rest, 0),
    };
    let time_ms = if time.is_empty() {
        0
    } else {
        time_of_day_ns(time)? / 1_000_000
    };
    Some(day_ms + time_ms - zone_ms)
}

fn zone_ms(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let number: i64 = digits.parse().ok()?;
    let (hours, minutes) = if digits.len() <= 2 {
        (number, 0)
    } else {
        (number / 100, number % 100)
    };
    Some(sign * (hours * 60 + minutes) * 60_000)
}

/// Nanoseconds since midnight of `hh:mm[:ss[.fraction]]`.
fn time_of_day_ns(s: &str) -> Option<i64> {
    let (clock, fraction) = s.split_once('.').unwrap_or((s, ""));
    let mut parts = clock.split(':');
    let (h, m): (i64, i64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let sec: i64 = parts.next().map_or(Some(0), |p| p.parse().ok())?;
    if parts.next().is_some() || !(0..24).contains(&h) || !(0..60).contains(&m) || !(0..60).contains(&sec) {
        return None;
    }
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ns: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(((h * 60 + m) * 60 + sec) * 1_000_000_000 + ns)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A `date` of `yyyy-mm-dd`, in the range that its days have; a year of more digits has a sign.
fn date(s: &str) -> Result<Vec<u8>, CqlError> {
    let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse::<i64>().ok())?;
    let parts = || {
        let (sign, rest) = match s.split_at_checked(1)? {
            ("-", rest) => (Some(-1), rest),
            ("+", rest) => (Some(1), rest),
            _ => (None, s),
        };
        let [year, month, day] = rest.split('-').collect::<Vec<_>>().try_into().ok()?;
        let lengths = (year.len(), month.len(), day.len());
        let is_date = matches!((sign, lengths), (None, (4, 2, 2)) | (Some(_), (4..=9, 2, 2)));
        let (y, m, d) = (number(year)?, number(month)?, number(day)?);
        let is_day = (1..=12).contains(&m) && (1..=31).contains(&d);
        (is_date && is_day).then(|| days_from_civil(sign.unwrap_or(1) * y, m, d))
    };
    let Some(days) = parts() else {
        return Err(CqlError::invalid(format!(
            "Unable to coerce '{s}' to a formatted date (long)"
        )));
    };
    match days {
        ..-0x8000_0000 => Err(CqlError::invalid(format!(
            "Input date {s} is less than min supported date -5877641-06-23T00:00Z"
        ))),
        0x8000_0000.. => Err(CqlError::invalid(format!(
            "Input date {s} is greater than max supported date +5881580-07-11T00:00Z"
        ))),
        _ => Ok(day_bytes(days * 86_400_000)),
    }
}

/// A `date` counts days with 1970-01-01 in the middle of the unsigned range.
fn day_bytes(ms: i64) -> Vec<u8> {
    let days = ms.div_euclid(86_400_000) + (1 << 31);
    (days as u32).to_be_bytes().to_vec()
}

/// The order of two values of a type, as clustering and filtering use it. Empty values come first.
pub fn compare(ty: &CqlType, a: &[u8], b: &[u8]) -> Ordering {
    match ty.unfrozen() {
        CqlType::Bigint
        | CqlType::Counter
        | CqlType::Int
        | CqlType::Smallint
        | CqlType::Tinyint
        | CqlType::Timestamp => signed(a).cmp(&signed(b)).then(a.len().cmp(&b.len())),
        CqlType::Varint => numbers::compare_varints(a, b),
        CqlType::Decimal => numbers::compare_decimals(a, b),
        CqlType::Double => double(a).total_cmp(&double(b)),
        CqlType::Float => single(a).total_cmp(&single(b)),
        CqlType::Timeuuid => uuid_time(a).cmp(&uuid_time(b)).then_with(|| a.cmp(b)),
        CqlType::Uuid => compare_uuids(a, b),
        CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..) | CqlType::Tuple(_) | CqlType::Udt(_) => {
            compare_parts(ty.unfrozen(), a, b)
        }
        _ => a.cmp(b),
    }
}

/// Whether two values of a type are the same: of decimals, the number and not its scale (seen).
pub fn same(ty: &CqlType, a: &[u8], b: &[u8]) -> bool {
    match ty {
        CqlType::Decimal => a == b || numbers::compare_decimals(a, b) == Ordering::Equal,
        _ => a == b,
    }
}

/// Cassandra's `UUIDType`: by version, those of version 1 by time.
fn compare_uuids(a: &[u8], b: &[u8]) -> Ordering {
    let version = |u: &[u8]| u.get(6).map_or(0, |b| b >> 4);
    let time = |u: &[u8]| if version(u) == 1 { uuid_time(u) } else { 0 };
    (version(a), time(a)).cmp(&(version(b), time(b))).then_with(|| a.cmp(b))
}

/// Part by part; what has fewer parts comes first, and so does null.
fn compare_parts(ty: &CqlType, a: &[u8], b: &[u8]) -> Ordering {
    let parts = |bytes: &[u8]| -> Vec<Option<Vec<u8>>> {
        let owned = |v: &[u8]| v.to_vec();
        let list = match ty {
            CqlType::Tuple(types) => fields(bytes, types.iter(), "tuple"),
            CqlType::Udt(udt) => fields(bytes, udt.fields.iter().map(|(_, t)| t), "user type"),
            _ => items(bytes, ty).map(|list| list.into_iter().map(Some).collect()),
        };
        list.unwrap_or_default().into_iter().map(|p| p.map(owned)).collect()
    };
    let part_type = |i: usize| match ty {
        CqlType::Tuple(types) => types[i].clone(),
        CqlType::Udt(udt) => udt.fields[i].1.clone(),
        CqlType::Map(_, v) if i % 2 == 1 => (**v).clone(),
        CqlType::Map(e, _) | CqlType::List(e) | CqlType::Set(e) => (**e).clone(),
        other => other.clone(),
    };
    let (a, b) = (parts(a), parts(b));
    for (i, pair) in a.iter().zip(&b).enumerate() {
        let order = match pair {
            (Some(x), Some(y)) => compare(&part_type(i), x, y),
            (x, y) => x.is_some().cmp(&y.is_some()),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// A two's complement number of at most 16 bytes; longer ones saturate.
fn signed(bytes: &[u8]) -> i128 {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    if bytes.len() > 16 {
        return if negative { i128::MIN } else { i128::MAX };
    }
    let fill = if negative { 0xFF } else { 0 };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    i128::from_be_bytes(wide)
}

fn double(bytes: &[u8]) -> f64 {
    bytes.try_into().map_or(f64::NEG_INFINITY, f64::from_be_bytes)
}

fn single(bytes: &[u8]) -> f32 {
    bytes.try_into().map_or(f32::NEG_INFINITY, f32::from_be_bytes)
}

/// The 60-bit time of a version 1 UUID.
fn uuid_time(bytes: &[u8]) -> u64 {
    let Ok(b) = <[u8; 16]>::try_from(bytes) else { return 0 };
    let [t0, t1, t2, t3, t4, t5, t6, t7, ..] = b;
    u64::from_be_bytes([t6 & 0x0F, t7, t4, t5, t0, t1, t2, t3])
}
