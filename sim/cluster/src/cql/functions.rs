//! Native functions of CQL, in values and in selections: conversions, and what the time and chance of the moment give. Names
//! and texts are Cassandra 5.0's; it knows most functions under two names (`toDate`, `to_date`).

use super::error::CqlError;
use super::types;
use crate::core::murmur3;
use crate::model::CqlType;
use crate::model::parts::{time_uuid, uuid_ticks};
use std::cell::Cell;

/// What functions depend on besides their arguments: the moment at which a statement is executed, and a source of uuids
/// that is the same whenever the same run is.
#[derive(Debug)]
pub struct Moment {
    /// The node's wall clock, Unix microseconds.
    pub wall_us: i64,
    /// What tells this node's uuids from those of others.
    pub node: u64,
    /// Grows with every uuid of the node's process.
    pub drawn: Cell<u64>,
}

impl Moment {
    fn next(&self) -> u64 {
        self.drawn.set(self.drawn.get() + 1);
        self.drawn.get()
    }

    /// A version 1 uuid of now, different from all others.
    fn time_uuid(&self) -> Vec<u8> {
        // The number goes where a clock sequence would, so that order within one microsecond is kept too.
        let n = self.next();
        time_uuid(
            uuid_ticks(self.wall_us, n % 10),
            1 << 63 | (n & 0x3fff) << 48 | self.node & 0xffff_ffff_ffff,
        )
        .to_vec()
    }

    /// A version 4 uuid.
    fn uuid(&self) -> Vec<u8> {
        let mut seed = self.wall_us.to_be_bytes().to_vec();
        seed.extend(self.node.to_be_bytes());
        seed.extend(self.next().to_be_bytes());
        let (h1, h2) = murmur3::hash128(&seed);
        let raw = u128::from(h1) << 64 | u128::from(h2);
        let version = (raw & !(0xf << 76) & !(0x3 << 62)) | 0x4 << 76 | 0x2 << 62;
        version.to_be_bytes().to_vec()
    }
}

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Now,
    Uuid,
    CurrentTimestamp,
    CurrentDate,
    CurrentTime,
    MinTimeuuid,
    MaxTimeuuid,
    ToTimestamp,
    ToDate,
    ToUnix,
    AsItIs,
    FromBlob,
    Abs,
    Round,
}

/// A function with one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name as it was called, in lower case.
    pub name: String,
    /// Types of its arguments.
    pub arguments: Vec<CqlType>,
    /// Type of its result.
    pub result: CqlType,
    does: Does,
}

const TICKS_PER_MS: u64 = 10_000;
const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 of a version 1 uuid.
fn uuid_ms(bytes: &[u8]) -> i64 {
    let Some([a, b, c, d, e, f, g, h]) = bytes.first_chunk::<8>() else {
        return 0;
    };
    let ticks = u64::from_be_bytes([g & 0x0f, *h, *e, *f, *a, *b, *c, *d]);
    (ticks as i64 - uuid_ticks(0, 0) as i64).div_euclid(TICKS_PER_MS as i64)
}

fn long(bytes: &[u8]) -> i64 {
    bytes.try_into().map_or(0, i64::from_be_bytes)
}

/// Milliseconds since 1970 of a timeuuid, a timestamp or a date.
pub fn milliseconds(ty: &CqlType, bytes: &[u8]) -> i64 {
    match ty {
        CqlType::Timeuuid => uuid_ms(bytes),
        CqlType::Date => {
            let days = bytes.try_into().map_or(0, u32::from_be_bytes);
            (i64::from(days) - (1 << 31)) * DAY_MS
        }
        _ => long(bytes),
    }
}

/// The bytes of the day of a time in milliseconds.
pub fn date_of(ms: i64) -> Vec<u8> {
    let days = ms.div_euclid(DAY_MS) + (1 << 31);
    (days as u32).to_be_bytes().to_vec()
}

impl Function {
    /// The signature as servers print it.
    pub fn signature(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(types::name).collect();
        format!(
            "system.{} : ({}) -> {}",
            self.name,
            arguments.join(", "),
            types::name(&self.result)
        )
    }

    /// Calls it. Null in, null out.
    ///
    /// # Errors
    /// Bytes that are not a value of the wanted type.
    pub fn call(&self, arguments: &[Option<Vec<u8>>], moment: &Moment) -> Result<Option<Vec<u8>>, CqlError> {
        let argument: &[u8] = match arguments.first() {
            Some(None) => return Ok(None),
            Some(Some(bytes)) => bytes,
            None => &[],
        };
        let ms = moment.wall_us.div_euclid(1000);
        let of = self.arguments.first().unwrap_or(&self.result);
        Ok(Some(match self.does {
            Does::Now => moment.time_uuid(),
            Does::Uuid => moment.uuid(),
            Does::CurrentTimestamp => ms.to_be_bytes().to_vec(),
            Does::CurrentDate => date_of(ms),
            Does::CurrentTime => (moment.wall_us.rem_euclid(DAY_MS * 1000) * 1000).to_be_bytes().to_vec(),
            // The least and the greatest clock sequence and node, as signed bytes.
            Does::MinTimeuuid => time_uuid(uuid_ticks(long(argument) * 1000, 0), 0x8080_8080_8080_8080).to_vec(),
            Does::MaxTimeuuid => time_uuid(
                uuid_ticks(long(argument) * 1000, TICKS_PER_MS - 1),
                0x7f7f_7f7f_7f7f_7f7f,
            )
            .to_vec(),
            Does::ToTimestamp | Does::ToUnix => milliseconds(of, argument).to_be_bytes().to_vec(),
            Does::ToDate => date_of(milliseconds(of, argument)),
            Does::AsItIs => argument.to_vec(),
            Does::FromBlob => {
                if super::values::validate(&self.result, argument).is_err() {
                    return Err(CqlError::invalid(format!(
                        "In call to function system.{}, value 0x{} is not a valid binary representation for type {}",
                        self.name,
                        argument.iter().map(|b| format!("{b:02x}")).collect::<String>(),
                        types::name(&self.result)
                    )));
                }
                argument.to_vec()
            }
            Does::Abs | Does::Round => super::casts::of_number(of, argument, self.does == Does::Abs),
        }))
    }
}

/// Types whose values can be had from blobs by `blobAs…`, with the word for it.
const BLOB_WORDS: [(&str, CqlType); 20] = [
    ("ascii", CqlType::Ascii),
    ("bigint", CqlType::Bigint),
    ("boolean", CqlType::Boolean),
    ("counter", CqlType::Counter),
    ("date", CqlType::Date),
    ("decimal", CqlType::Decimal),
    ("double", CqlType::Double),
    ("duration", CqlType::Duration),
    ("float", CqlType::Float),
    ("inet", CqlType::Inet),
    ("int", CqlType::Int),
    ("smallint", CqlType::Smallint),
    ("text", CqlType::Text),
    ("time", CqlType::Time),
    ("timestamp", CqlType::Timestamp),
    ("timeuuid", CqlType::Timeuuid),
    ("tinyint", CqlType::Tinyint),
    ("uuid", CqlType::Uuid),
    ("varchar", CqlType::Text),
    ("varint", CqlType::Varint),
];

/// All signatures of a name in lower case; none if there is no such function.
pub fn named(name: &str) -> Vec<Function> {
    use CqlType::{Bigint, Blob, Date, Time, Timestamp, Timeuuid, Uuid};
    let one = |does, arguments: &[CqlType], result: CqlType| Function {
        name: name.to_owned(),
        arguments: arguments.to_vec(),
        result,
        does,
    };
    match name {
        "now" | "current_timeuuid" | "currenttimeuuid" => vec![one(Does::Now, &[], Timeuuid)],
        "uuid" => vec![one(Does::Uuid, &[], Uuid)],
        "currenttimestamp" | "current_timestamp" => vec![one(Does::CurrentTimestamp, &[], Timestamp)],
        "currentdate" | "current_date" => vec![one(Does::CurrentDate, &[], Date)],
        "currenttime" | "current_time" => vec![one(Does::CurrentTime, &[], Time)],
        "mintimeuuid" | "min_timeuuid" => vec![one(Does::MinTimeuuid, &[Timestamp], Timeuuid)],
        "maxtimeuuid" | "max_timeuuid" => vec![one(Does::MaxTimeuuid, &[Timestamp], Timeuuid)],
        "totimestamp" | "to_timestamp" => [Timeuuid, Date]
            .map(|t| one(Does::ToTimestamp, &[t], Timestamp))
            .to_vec(),
        "todate" | "to_date" => [Timeuuid, Timestamp].map(|t| one(Does::ToDate, &[t], Date)).to_vec(),
        "tounixtimestamp" | "to_unix_timestamp" => [Timeuuid, Timestamp, Date]
            .map(|t| one(Does::ToUnix, &[t], Bigint))
            .to_vec(),
        "abs" | "round" => {
            let does = if name == "abs" { Does::Abs } else { Does::Round };
            super::casts::NUMBERS
                .into_iter()
                .map(|t| one(does, std::slice::from_ref(&t), t.clone()))
                .collect()
        }
        _ => {
            let to_blob = name.strip_suffix("_as_blob").or_else(|| name.strip_suffix("asblob"));
            let from_blob = name.strip_prefix("blob_as_").or_else(|| name.strip_prefix("blobas"));
            let ty = |word: &str| BLOB_WORDS.iter().find(|(w, _)| *w == word).map(|(_, t)| t.clone());
            match (to_blob.and_then(ty), from_blob.and_then(ty)) {
                (Some(t), _) => vec![one(Does::AsItIs, &[t], Blob)],
                (None, Some(t)) => vec![one(Does::FromBlob, &[Blob], t)],
                (None, None) => vec![],
            }
        }
    }
}

/// The refusal of a call that fits no signature.
pub fn no_match(name: &str, known: &[Function]) -> CqlError {
    let signatures: Vec<String> = known.iter().map(Function::signature).collect();
    CqlError::invalid(format!(
        "Invalid call to function {name}, none of its type signatures match (known type signatures: {})",
        signatures.join(", ")
    ))
}

/// The refusal of a call that fits several.
pub fn ambiguous(name: &str, fitting: &[Function]) -> CqlError {
    let signatures: Vec<String> = fitting.iter().map(Function::signature).collect();
    CqlError::invalid(format!(
        "Ambiguous call to function {name} (can be matched by following signatures: {}): use type casts to disambiguate",
        signatures.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment {
            wall_us: 1_582_979_696_789_000,
            node: 7,
            drawn: Cell::new(0),
        }
    }

    #[test]
    fn uuids_of_one_moment_differ_and_have_their_versions() {
        let m = moment();
        let (a, b) = (m.time_uuid(), m.time_uuid());
        assert!(a != b && a[6] >> 4 == 1 && uuid_ms(&a) == 1_582_979_696_789);
        let (a, b) = (m.uuid(), m.uuid());
        assert!(a != b && a[6] >> 4 == 4 && a[8] >> 6 == 2);
    }

    #[test]
    fn the_least_uuid_of_a_time_is_what_cassandra_says() {
        let f = &named("mintimeuuid")[0];
        let at = Some(1_582_979_696_789i64.to_be_bytes().to_vec());
        let least = f.call(&[at], &moment()).expect("a value").expect("not null");
        let text: String = least.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(text, "e4a47c505aef11ea8080808080808080");
        assert_eq!(f.call(&[None], &moment()).expect("null"), None);
    }
}
