//! Reads the few CQL v4 frames that invariant 16 looks at: batches on their way to the database, and the answers to
//! PREPARE, which say what a statement's markers are called. Written from the protocol's description, not shared with the
//! cluster, which it looks at. What it does not understand it says.

use std::ops::Range;

const HEADER_BYTES: usize = 9;
/// `kind` of a RESULT that answers a PREPARE.
const PREPARED: u32 = 4;
/// Metadata names keyspace and table once for all columns.
const GLOBAL_TABLE: u32 = 1;
/// The flag of an answer whose body begins with a list of warnings.
const WARNING: u8 = 0x08;

/// Types that have names or types within them; all others are a number.
mod compound {
    pub const CUSTOM: u16 = 0x00;
    pub const LIST: u16 = 0x20;
    pub const MAP: u16 = 0x21;
    pub const SET: u16 = 0x22;
    pub const UDT: u16 = 0x30;
    pub const TUPLE: u16 = 0x31;
}

/// A whole frame.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// What it is.
    pub opcode: u8,
    /// What comes before its body proper.
    flags: u8,
    /// As it stands there.
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The warnings that come with it, and its body proper; None where something else comes before that (compression,
    /// tracing, a payload): nobody here asks for it.
    pub fn body(&self) -> Option<(Vec<&'a str>, &'a [u8])> {
        let mut reader = Reader { rest: self.bytes };
        let warnings = match self.flags {
            0 => Vec::new(),
            WARNING => reader.strings()?,
            _ => return None,
        };
        Some((warnings, reader.rest))
    }
}

/// A BATCH.
pub struct Batch<'a> {
    /// 0 LOGGED, 1 UNLOGGED, 2 COUNTER.
    pub kind: u8,
    /// The level as it is written.
    pub consistency: u16,
    /// In their order.
    pub statements: Vec<Statement<'a>>,
}

/// One statement of a batch.
pub struct Statement<'a> {
    /// Where it stands in the body of its frame. The next one follows at once.
    pub at: Range<usize>,
    /// The one of its values that was asked for; none if it is null, unset or not there.
    pub value: Option<&'a [u8]>,
}

/// Calls `f` with each whole frame; how many bytes they were.
pub fn each<'a>(bytes: &'a [u8], mut f: impl FnMut(Frame<'a>)) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        let Some(body) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else {
            break;
        };
        f(Frame {
            opcode: header[4],
            flags: header[1],
            bytes: body,
        });
        at += HEADER_BYTES + length;
    }
    at
}

/// The body of a BATCH, with one value of each statement: the one whose place `wanted` says, given the statement's id.
pub fn batch(body: &[u8], wanted: impl Fn(&[u8]) -> Option<usize>) -> Option<Batch<'_>> {
    let mut reader = Reader { rest: body };
    let kind = reader.byte()?;
    let count = reader.short()?;
    let mut statements = Vec::with_capacity(count.into());
    for _ in 0..count {
        let start = body.len() - reader.rest.len();
        let place = match reader.byte()? {
            1 => wanted(reader.short_bytes()?),
            _ => {
                let length = reader.int()?;
                reader.take(length as usize)?;
                None
            }
        };
        let mut value = None;
        for n in 0..usize::from(reader.short()?) {
            let this = reader.value()?;
            if place == Some(n) {
                value = this;
            }
        }
        let at = start..body.len() - reader.rest.len();
        statements.push(Statement { at, value });
    }
    Some(Batch {
        kind,
        consistency: reader.short()?,
        statements,
    })
}

/// The answer to a PREPARE.
#[derive(Debug, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// The statement's id.
    pub id: &'a [u8],
    /// What its markers are called.
    pub markers: Vec<&'a str>,
}

/// The body of a RESULT, if it answers a PREPARE. None for one that cannot be read.
#[allow(
    clippy::option_option,
    reason = "another kind of answer is not the same as one that cannot be read"
)]
pub fn prepared(body: &[u8]) -> Option<Option<Prepared<'_>>> {
    let mut reader = Reader { rest: body };
    if reader.int()? != PREPARED {
        return Some(None);
    }
    let id = reader.short_bytes()?;
    let flags = reader.int()?;
    let columns = reader.int()?;
    for _ in 0..reader.int()? {
        reader.short()?;
    }
    let is_global = flags & GLOBAL_TABLE != 0;
    if is_global {
        reader.table()?;
    }
    let mut markers = Vec::new();
    for _ in 0..columns {
        if !is_global {
            reader.table()?;
        }
        markers.push(reader.string()?);
        reader.column_type()?;
    }
    Some(Some(Prepared { id, markers }))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn int(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(length.into())
    }

    /// A value: some bytes, or none if it is null or unset.
    fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.int()? as i32) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    fn string(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short_bytes()?).ok()
    }

    fn strings(&mut self) -> Option<Vec<&'a str>> {
        (0..self.short()?).map(|_| self.string()).collect()
    }

    fn table(&mut self) -> Option<()> {
        self.short_bytes()?;
        self.short_bytes()?;
        Some(())
    }

    /// A column's type, with the types within it.
    fn column_type(&mut self) -> Option<()> {
        let within = match self.short()? {
            compound::CUSTOM => return self.short_bytes().map(drop),
            compound::LIST | compound::SET => 1,
            compound::MAP => 2,
            compound::TUPLE => self.short()?,
            compound::UDT => return self.user_type(),
            _ => 0,
        };
        (0..within).try_for_each(|_| self.column_type())
    }

    fn user_type(&mut self) -> Option<()> {
        self.table()?;
        for _ in 0..self.short()? {
            self.short_bytes()?;
            self.column_type()?;
        }
        Some(())
    }
}

/// Frames to test with.
#[cfg(test)]
pub mod samples {
    fn frame(version: u8, flags: u8, opcode: u8, body: Vec<u8>) -> Vec<u8> {
        let mut frame = vec![version, flags, 0, 1, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        frame
    }

    fn short_bytes(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    /// A BATCH of prepared statements; each has a null after its values.
    pub fn batch(kind: u8, statements: &[(&[u8], Vec<&[u8]>)], consistency: u16) -> Vec<u8> {
        let mut body = vec![kind];
        body.extend((statements.len() as u16).to_be_bytes());
        for (id, values) in statements {
            body.push(1);
            body.extend(short_bytes(id));
            body.extend((values.len() as u16 + 1).to_be_bytes());
            for value in values {
                body.extend((value.len() as i32).to_be_bytes());
                body.extend(*value);
            }
            body.extend((-1i32).to_be_bytes());
        }
        body.extend(consistency.to_be_bytes());
        body.push(0);
        frame(4, 0, 0x0D, body)
    }

    /// The answer to a PREPARE: one key column, all columns of type bigint.
    pub fn prepared(id: &[u8], markers: &[&str]) -> Vec<u8> {
        let mut body = 4u32.to_be_bytes().to_vec();
        body.extend(short_bytes(id));
        body.extend(1u32.to_be_bytes());
        body.extend((markers.len() as u32).to_be_bytes());
        body.extend(1u32.to_be_bytes());
        body.extend(0u16.to_be_bytes());
        body.extend([short_bytes(b"trading"), short_bytes(b"orders")].concat());
        for marker in markers {
            body.extend(short_bytes(marker.as_bytes()));
            body.extend(2u16.to_be_bytes());
        }
        // Metadata of a result without columns.
        body.extend([4u32.to_be_bytes(), 0u32.to_be_bytes()].concat());
        frame(0x84, 0, 0x08, body)
    }

    /// The answer to what was carried out, with these warnings.
    pub fn done(warnings: &[&str]) -> Vec<u8> {
        let mut body = (warnings.len() as u16).to_be_bytes().to_vec();
        for warning in warnings {
            body.extend(short_bytes(warning.as_bytes()));
        }
        body.extend(1u32.to_be_bytes());
        frame(0x84, 0x08, 0x08, body)
    }

    /// A BATCH that is compressed.
    pub fn compressed() -> Vec<u8> {
        frame(4, 0x01, 0x0D, vec![1, 2, 3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The warnings and the body of a sample.
    fn opened(sample: &[u8]) -> Option<(Vec<String>, Vec<u8>)> {
        let mut found = None;
        each(sample, |frame| {
            found = frame.body().map(|(warnings, body)| {
                let warnings = warnings.into_iter().map(str::to_string);
                (warnings.collect(), body.to_vec())
            });
        });
        found
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_not_read() {
        let (_, whole) = opened(&samples::batch(0, &[(b"id", vec![b"v"])], 4)).expect("a body");
        let value = |place: usize| {
            let batch = batch(&whole, |id| (id == b"id").then_some(place)).expect("is a batch");
            assert_eq!((batch.consistency, batch.statements.len()), (4, 1));
            assert_eq!(batch.statements[0].at, 3..whole.len() - 3, "between count and level");
            batch.statements[0].value
        };
        assert_eq!((value(0), value(1), value(2)), (Some(&b"v"[..]), None, None));
        for cut in 0..whole.len() - 1 {
            assert!(batch(&whole[..cut], |_| None).is_none(), "cut at {cut}");
        }
        let (_, body) = opened(&samples::prepared(b"id", &["a", "digest"])).expect("a body");
        let answer = Prepared {
            id: b"id",
            markers: vec!["a", "digest"],
        };
        assert_eq!(prepared(&body), Some(Some(answer)));
        assert_eq!(prepared(&body[..20]), None);
        assert_eq!(prepared(&[0, 0, 0, 2]), Some(None), "rows");
    }

    #[test]
    fn warnings_come_before_the_body_and_nothing_else_may() {
        let (warnings, body) = opened(&samples::done(&["one", "two"])).expect("a body");
        assert_eq!((warnings, body), (vec!["one".into(), "two".into()], vec![0, 0, 0, 1]));
        assert_eq!(opened(&samples::compressed()), None);
    }

    #[test]
    fn types_within_types_are_passed_over() {
        let name = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        let number = |n: u16| n.to_be_bytes().to_vec();
        let types = [
            number(2),
            [number(0), name("a.Class")].concat(),
            [number(0x20), number(13)].concat(),
            [number(0x21), number(13), number(0x22), number(2)].concat(),
            [number(0x31), number(2), number(2), number(13)].concat(),
            [number(0x30), name("ks"), name("t"), number(1), name("f"), number(2)].concat(),
        ];
        for bytes in types {
            let mut reader = Reader { rest: &bytes };
            assert_eq!((reader.column_type(), reader.rest), (Some(()), &[][..]), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(
                    Reader { rest: &bytes[..cut] }.column_type(),
                    None,
                    "{bytes:?} cut at {cut}"
                );
            }
        }
    }
}
