//! CAST between types in selections, and arithmetic on numbers of any type: sums, averages, `abs`, `round`. A number is
//! worked with as a decimal of any size, or as a float where the type is one.

use super::error::CqlError;
use super::functions::{date_of, milliseconds};
use super::{numbers, types};
use crate::model::CqlType;

/// Types of numbers.
pub const NUMBERS: [CqlType; 9] = [
    CqlType::Tinyint,
    CqlType::Smallint,
    CqlType::Int,
    CqlType::Bigint,
    CqlType::Float,
    CqlType::Double,
    CqlType::Varint,
    CqlType::Decimal,
    CqlType::Counter,
];

/// Digits after the point that a decimal made of a float, or of a division, has at most.
const FRACTION_MAX: usize = 34;

/// Whether values of the type are numbers.
pub fn is_number(ty: &CqlType) -> bool {
    NUMBERS.contains(ty)
}

fn is_float(ty: &CqlType) -> bool {
    matches!(ty, CqlType::Float | CqlType::Double)
}

/// A float of a number's bytes.
pub fn to_double(ty: &CqlType, bytes: &[u8]) -> f64 {
    match ty {
        CqlType::Double => bytes.try_into().map_or(f64::NAN, f64::from_be_bytes),
        CqlType::Float => f64::from(bytes.try_into().map_or(f32::NAN, f32::from_be_bytes)),
        _ => text(ty, bytes).parse().unwrap_or(f64::NAN),
    }
}

fn of_double(ty: &CqlType, n: f64) -> Vec<u8> {
    match ty {
        CqlType::Float => (n as f32).to_be_bytes().to_vec(),
        CqlType::Double => n.to_be_bytes().to_vec(),
        CqlType::Decimal => numbers::decimal(&plain(n)).unwrap_or_default(),
        CqlType::Varint => numbers::varint(plain(n.trunc()).trim_end_matches(".0")),
        // As Java converts: towards zero, and to the nearest where it does not fit.
        CqlType::Bigint | CqlType::Counter => (n as i64).to_be_bytes().to_vec(),
        CqlType::Int => (n as i32).to_be_bytes().to_vec(),
        CqlType::Smallint => (n as i32 as i16).to_be_bytes().to_vec(),
        _ => (n as i32 as i8).to_be_bytes().to_vec(),
    }
}

/// A float as Java prints it, without an exponent.
fn plain(n: f64) -> String {
    let text = format!("{n}");
    if text.contains('.') || !n.is_finite() {
        text
    } else {
        format!("{text}.0")
    }
}

/// The lowest bytes of a whole number that a type has room for, as Java narrows.
fn narrowed(ty: &CqlType, varint: &[u8]) -> Vec<u8> {
    let Some(size) = ty.fixed_bytes() else {
        return varint.to_vec();
    };
    let sign = if varint.first().is_some_and(|b| b & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut wide = vec![sign; size.saturating_sub(varint.len())];
    wide.extend_from_slice(&varint[varint.len().saturating_sub(size)..]);
    wide
}

/// The value as text, as `CAST(… AS text)` gives it.
pub fn text(ty: &CqlType, bytes: &[u8]) -> String {
    match ty.unfrozen() {
        CqlType::Text | CqlType::Ascii => String::from_utf8_lossy(bytes).into_owned(),
        CqlType::Boolean => (bytes.first() == Some(&1)).to_string(),
        CqlType::Double => plain(to_double(ty, bytes)),
        CqlType::Float => {
            let n: f32 = bytes.try_into().map_or(f32::NAN, f32::from_be_bytes);
            let text = format!("{n}");
            if text.contains('.') || !n.is_finite() {
                text
            } else {
                format!("{text}.0")
            }
        }
        CqlType::Decimal => decimal_text(bytes),
        CqlType::Timeuuid | CqlType::Uuid => {
            uuid::Uuid::from_slice(bytes).map_or_else(|_| String::new(), |u| u.to_string())
        }
        CqlType::Timestamp => {
            let ms = milliseconds(ty, bytes);
            let day = calendar(ms.div_euclid(86_400_000));
            let rest = ms.rem_euclid(86_400_000);
            let (h, m, s) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
            format!("{day}T{h:02}:{m:02}:{s:02}.{:03}Z", rest % 1000)
        }
        CqlType::Date => calendar(milliseconds(ty, bytes).div_euclid(86_400_000)),
        CqlType::Time => {
            let ns: i64 = bytes.try_into().map_or(0, i64::from_be_bytes);
            let s = ns / 1_000_000_000;
            format!(
                "{:02}:{:02}:{:02}.{:09}",
                s / 3600,
                s / 60 % 60,
                s % 60,
                ns % 1_000_000_000
            )
        }
        CqlType::Inet => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).map_or_else(|_| String::new(), |b| std::net::Ipv4Addr::from(b).to_string()),
            _ => {
                <[u8; 16]>::try_from(bytes).map_or_else(|_| String::new(), |b| std::net::Ipv6Addr::from(b).to_string())
            }
        },
        CqlType::Blob => format!("0x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        _ => numbers::digits(bytes),
    }
}

/// `yyyy-mm-dd` of a day since 1970.
fn calendar(days: i64) -> String {
    // Civil from days, proleptic Gregorian.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Sign, digits and scale of a decimal; `None` of the empty one.
fn decimal_parts(bytes: &[u8]) -> Option<(&'static str, String, i64)> {
    let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
    let scale = i64::from(i32::from_be_bytes(*scale));
    let digits = numbers::digits(unscaled);
    Some(match digits.strip_prefix('-') {
        Some(rest) => ("-", rest.to_owned(), scale),
        None => ("", digits, scale),
    })
}

/// A decimal as Java prints it: with an exponent where there are zeros before the point that nobody wrote, or many behind it
/// (`BigDecimal.toString`, seen).
fn decimal_text(bytes: &[u8]) -> String {
    let Some((sign, digits, scale)) = decimal_parts(bytes) else {
        return String::new();
    };
    let exponent = digits.len() as i64 - 1 - scale;
    if scale >= 0 && exponent >= -6 {
        return plain_decimal(bytes);
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    match exponent {
        0 => format!("{sign}{first}{point}{rest}"),
        exponent => format!("{sign}{first}{point}{rest}E{exponent:+}"),
    }
}

/// A decimal with all its zeros and without an exponent.
fn plain_decimal(bytes: &[u8]) -> String {
    let Some((sign, digits, scale)) = decimal_parts(bytes) else {
        return String::new();
    };
    match usize::try_from(scale) {
        Err(_) if digits == "0" => digits,
        Err(_) => format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs() as usize)),
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
    }
}

/// Whether a value of one type can be cast to another (C `CastFcts`).
pub fn can_cast(from: &CqlType, to: &CqlType) -> bool {
    use CqlType::{Ascii, Blob, Boolean, Counter, Date, Inet, Text, Time, Timestamp, Timeuuid, Uuid};
    let is_text = matches!(to, Text | Ascii);
    match from.unfrozen() {
        same if same == to => true,
        from if is_number(from) => (is_number(to) && *to != Counter) || is_text,
        Ascii => *to == Text,
        Boolean | Inet | Time | Uuid => is_text,
        Timeuuid => is_text || matches!(to, Timestamp | Date),
        Timestamp => is_text || *to == Date,
        Date => is_text || *to == Timestamp,
        Blob => false,
        _ => false,
    }
}

/// The value as one of another type, of those that [`can_cast`] allows.
///
/// # Errors
/// A pair of types that it does not.
pub fn cast(from: &CqlType, to: &CqlType, bytes: &[u8]) -> Result<Vec<u8>, CqlError> {
    if from == to {
        return Ok(bytes.to_vec());
    }
    Ok(match to {
        CqlType::Text | CqlType::Ascii => text(from, bytes).into_bytes(),
        CqlType::Date => date_of(milliseconds(from, bytes)),
        CqlType::Timestamp => milliseconds(from, bytes).to_be_bytes().to_vec(),
        to if is_number(from) && is_number(to) => number(from, to, bytes),
        _ => {
            return Err(CqlError::invalid(format!(
                "{} cannot be cast to {}",
                types::name(from),
                types::name(to)
            )));
        }
    })
}

fn number(from: &CqlType, to: &CqlType, bytes: &[u8]) -> Vec<u8> {
    if is_float(from) || is_float(to) {
        // A decimal that becomes a whole number does so by way of no float.
        return of_double(to, to_double(from, bytes));
    }
    match (from, to) {
        (CqlType::Decimal, CqlType::Decimal) => bytes.to_vec(),
        (CqlType::Decimal, whole) => {
            let text = plain_decimal(bytes);
            let digits = text.split('.').next().unwrap_or("0");
            narrowed(whole, &numbers::varint(digits))
        }
        (_, CqlType::Decimal) => {
            let mut out = 0i32.to_be_bytes().to_vec();
            out.extend(numbers::varint(&numbers::digits(bytes)));
            out
        }
        (_, whole) => narrowed(whole, &numbers::varint(&numbers::digits(bytes))),
    }
}

/// `abs`, or `round` (half away from zero).
pub fn of_number(ty: &CqlType, bytes: &[u8], is_abs: bool) -> Vec<u8> {
    if is_float(ty) {
        let n = to_double(ty, bytes);
        return of_double(ty, if is_abs { n.abs() } else { n.round() });
    }
    let digits = text(ty, bytes);
    if is_abs {
        let digits = digits.trim_start_matches('-');
        return match ty {
            CqlType::Decimal => numbers::decimal(digits).unwrap_or_default(),
            other => narrowed(other, &numbers::varint(digits)),
        };
    }
    match ty {
        CqlType::Decimal => {
            let rounded = divided(&plain_decimal(bytes), 1, 0);
            numbers::decimal(&rounded).unwrap_or_default()
        }
        _ => bytes.to_vec(),
    }
}

/// A sum in the making, of values of one type.
#[derive(Debug, Clone)]
pub struct Sum {
    ty: CqlType,
    float: f64,
    /// A decimal, for numbers that are no floats.
    exact: Vec<u8>,
    count: u64,
}

impl Sum {
    /// Of values of this type.
    pub fn new(ty: &CqlType) -> Sum {
        Sum {
            ty: ty.clone(),
            float: 0.0,
            exact: vec![0, 0, 0, 0, 0],
            count: 0,
        }
    }

    /// Adds a value.
    pub fn add(&mut self, bytes: &[u8]) {
        self.count += 1;
        if is_float(&self.ty) {
            self.float += to_double(&self.ty, bytes);
        } else {
            let value = number(&self.ty, &CqlType::Decimal, bytes);
            self.exact = add_decimals(&self.exact, &value);
        }
    }

    /// The sum, in the values' type.
    pub fn sum(&self) -> Vec<u8> {
        if is_float(&self.ty) {
            return of_double(&self.ty, self.float);
        }
        number(&CqlType::Decimal, &self.ty, &self.exact)
    }

    /// The average, in the values' type; 0 of nothing.
    pub fn average(&self) -> Vec<u8> {
        let count = self.count.max(1);
        if is_float(&self.ty) {
            return of_double(&self.ty, self.float / count as f64);
        }
        let sum = plain_decimal(&self.exact);
        if self.ty == CqlType::Decimal {
            // C divides with the scale of the sum, half to even.
            let scale = sum.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            return numbers::decimal(&divided(&sum, count, scale)).unwrap_or_default();
        }
        let whole = divided_down(&sum, count);
        narrowed(&self.ty, &numbers::varint(&whole))
    }
}

fn add_decimals(a: &[u8], b: &[u8]) -> Vec<u8> {
    let parts = |n: &[u8]| -> (i64, Vec<u8>) {
        n.split_first_chunk::<4>().map_or((0, vec![0]), |(scale, rest)| {
            (i64::from(i32::from_be_bytes(*scale)), rest.to_vec())
        })
    };
    let ((a_scale, a), (b_scale, b)) = (parts(a), parts(b));
    let scale = a_scale.max(b_scale);
    let wide = |n: &[u8], from: i64| {
        let zeros = (scale - from).clamp(0, 2 * numbers::SCALE_MAX) as usize;
        numbers::varint(&format!("{}{}", numbers::digits(n), "0".repeat(zeros)))
    };
    let (a, b) = (wide(&a, a_scale), wide(&b, b_scale));
    let length = a.len().max(b.len()) + 1;
    let extended = |n: &[u8]| {
        let sign = if n[0] & 0x80 != 0 { 0xff } else { 0 };
        let mut wide = vec![sign; length - n.len()];
        wide.extend_from_slice(n);
        wide
    };
    let (a, b) = (extended(&a), extended(&b));
    let mut sum = vec![0; length];
    let mut carry = 0u16;
    for i in (0..length).rev() {
        carry += u16::from(a[i]) + u16::from(b[i]);
        sum[i] = carry as u8;
        carry >>= 8;
    }
    let mut out = (scale as i32).to_be_bytes().to_vec();
    out.extend(numbers::varint(&numbers::digits(&sum)));
    out
}

/// A decimal text divided, towards zero, without a fraction.
fn divided_down(text: &str, by: u64) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let whole = digits.split('.').next().unwrap_or("0");
    let (quotient, _) = long_division(whole, by);
    format!("{sign}{quotient}")
}

/// Quotient and rest of a number in decimal digits.
fn long_division(digits: &str, by: u64) -> (String, u64) {
    let (mut out, mut rest) = (String::new(), 0u128);
    for digit in digits.bytes() {
        rest = rest * 10 + u128::from(digit - b'0');
        out.push(char::from(b'0' + (rest / u128::from(by)) as u8));
        rest %= u128::from(by);
    }
    let trimmed = out.trim_start_matches('0');
    let out = if trimmed.is_empty() { "0" } else { trimmed };
    (out.to_owned(), rest as u64)
}

/// A decimal text divided, with so many digits after the point, half to even.
fn divided(text: &str, by: u64, scale: usize) -> String {
    let scale = scale.min(FRACTION_MAX);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = fraction.len().min(scale);
    let unscaled = format!("{whole}{}{}", &fraction[..kept], "0".repeat(scale - kept));
    let (mut quotient, rest) = long_division(&unscaled, by);
    // What was cut off behind the scale counts as well.
    let beyond = fraction[kept..].bytes().any(|b| b != b'0');
    let half = u128::from(rest) * 2;
    let cut = fraction[kept..].bytes().next().map_or(0, |b| b - b'0');
    let is_odd = quotient.bytes().last().is_some_and(|b| b % 2 == 1);
    let up = if by == 1 {
        cut >= 5
    } else {
        half > u128::from(by) || half == u128::from(by) && (is_odd || beyond)
    };
    if up {
        let one_more = numbers::digits(
            &add_decimals(
                &numbers::decimal(&quotient).unwrap_or_default(),
                &numbers::decimal("1").unwrap_or_default(),
            )[4..],
        );
        quotient = one_more;
    }
    if scale == 0 {
        return format!("{sign}{quotient}");
    }
    let padded = format!("{quotient:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn average(ty: &CqlType, values: &[Vec<u8>]) -> String {
        let mut sum = Sum::new(ty);
        values.iter().for_each(|v| sum.add(v));
        text(ty, &sum.average())
    }

    #[test]
    fn averages_are_of_the_values_type_as_cassandra_has_them() {
        let ints: Vec<Vec<u8>> = [10i32, 20, 35].iter().map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(average(&CqlType::Int, &ints), "21");
        let decimals: Vec<Vec<u8>> = ["1.1", "2.25"]
            .iter()
            .map(|d| numbers::decimal(d).expect("a decimal"))
            .collect();
        assert_eq!(average(&CqlType::Decimal, &decimals), "1.68");
        assert_eq!(average(&CqlType::Int, &[]), "0");
    }

    #[test]
    fn casts_narrow_as_java_does() {
        let cast_text = |from: &CqlType, to: &CqlType, bytes: &[u8]| text(to, &cast(from, to, bytes).expect("a cast"));
        let long = (i64::from(i32::MAX) + 2).to_be_bytes();
        assert_eq!(
            cast_text(&CqlType::Bigint, &CqlType::Int, &long),
            (i32::MIN + 1).to_string()
        );
        assert_eq!(cast_text(&CqlType::Double, &CqlType::Int, &2.9f64.to_be_bytes()), "2");
        assert_eq!(
            cast_text(&CqlType::Int, &CqlType::Decimal, &(-5i32).to_be_bytes()),
            "-5"
        );
        assert_eq!(
            cast_text(&CqlType::Int, &CqlType::Double, &(-5i32).to_be_bytes()),
            "-5.0"
        );
        assert!(!can_cast(&CqlType::Int, &CqlType::Boolean));
    }
}
