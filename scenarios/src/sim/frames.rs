//! Reads the few CQL v4 frames that invariant 16 looks at: batches on their way to the database, and the answers to
//! PREPARE, which say what a statement's markers are called. Written from the protocol's description, not shared with the
//! cluster, which it looks at. What it does not understand it leaves out.

const HEADER_BYTES: usize = 9;
/// `kind` of a RESULT that answers a PREPARE.
const PREPARED: u32 = 4;
/// Metadata names keyspace and table once for all columns.
const GLOBAL_TABLE: u32 = 1;
/// Types from here on have types or names within them.
const FIRST_COMPOUND: u16 = 0x20;

/// A BATCH.
pub struct Batch<'a> {
    /// 0 LOGGED, 1 UNLOGGED, 2 COUNTER.
    pub kind: u8,
    /// The level as it is written.
    pub consistency: u16,
    /// In their order.
    pub statements: Vec<Statement<'a>>,
}

/// One statement of a batch, with its values.
pub struct Statement<'a> {
    /// Of a prepared one.
    pub id: Option<&'a [u8]>,
    /// Everything that it takes in the frame.
    pub bytes: &'a [u8],
    /// Where its values begin in that.
    values_at: usize,
}

impl<'a> Statement<'a> {
    /// The n-th value; none if it is null, unset or not there.
    pub fn value(&self, place: usize) -> Option<&'a [u8]> {
        let mut reader = Reader {
            rest: self.bytes.get(self.values_at..)?,
        };
        for _ in 0..place {
            reader.value()?;
        }
        reader.value()?
    }
}

/// Calls `f` with opcode and body of each whole frame; how many bytes they were.
pub fn each(bytes: &[u8], mut f: impl FnMut(u8, &[u8])) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        let Some(body) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else {
            break;
        };
        // Flags (compression, tracing, warnings) put something before the body proper.
        if header[1] == 0 {
            f(header[4], body);
        }
        at += HEADER_BYTES + length;
    }
    at
}

/// The body of a BATCH.
pub fn batch(body: &[u8]) -> Option<Batch<'_>> {
    let mut reader = Reader { rest: body };
    let kind = reader.byte()?;
    let count = reader.short()?;
    let mut statements = Vec::with_capacity(count.into());
    for _ in 0..count {
        let whole = reader.rest;
        let id = match reader.byte()? {
            1 => Some(reader.short_bytes()?),
            _ => {
                let length = reader.int()?;
                reader.take(length as usize)?;
                None
            }
        };
        let values = reader.short()?;
        let values_at = whole.len() - reader.rest.len();
        for _ in 0..values {
            reader.value()?;
        }
        let bytes = &whole[..whole.len() - reader.rest.len()];
        statements.push(Statement { id, bytes, values_at });
    }
    Some(Batch {
        kind,
        consistency: reader.short()?,
        statements,
    })
}

/// The body of a RESULT, if it answers a PREPARE: the statement's id, and what its markers are called.
pub fn prepared(body: &[u8]) -> Option<(&[u8], Vec<&str>)> {
    let mut reader = Reader { rest: body };
    if reader.int()? != PREPARED {
        return None;
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
    let mut names = Vec::new();
    for _ in 0..columns {
        if !is_global {
            reader.table()?;
        }
        names.push(std::str::from_utf8(reader.short_bytes()?).ok()?);
        if reader.short()? >= FIRST_COMPOUND {
            return None;
        }
    }
    Some((id, names))
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

    fn table(&mut self) -> Option<()> {
        self.short_bytes()?;
        self.short_bytes()?;
        Some(())
    }
}

/// Frames to test with.
#[cfg(test)]
pub mod samples {
    fn frame(version: u8, opcode: u8, body: Vec<u8>) -> Vec<u8> {
        let mut frame = vec![version, 0, 0, 1, opcode];
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
        frame(4, 0x0D, body)
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
        frame(0x84, 0x08, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_or_something_else_is_left_out() {
        let mut whole = Vec::new();
        each(&samples::batch(0, &[(b"id", vec![b"v"])], 4), |_, body| {
            whole = body.to_vec()
        });
        let batch = batch(&whole).expect("is a batch");
        let statement = &batch.statements[0];
        assert_eq!((batch.consistency, statement.id), (4, Some(&b"id"[..])));
        assert_eq!(statement.value(0), Some(&b"v"[..]));
        assert_eq!((statement.value(1), statement.value(2)), (None, None));
        for cut in 0..whole.len() - 1 {
            assert!(super::batch(&whole[..cut]).is_none(), "cut at {cut}");
        }
        each(&samples::prepared(b"id", &["a", "digest"]), |_, body| {
            assert_eq!(prepared(body), Some((&b"id"[..], vec!["a", "digest"])));
            assert!(prepared(&body[..20]).is_none());
        });
        assert!(prepared(&[0, 0, 0, 2]).is_none(), "rows");
    }
}
