//! Bounds-checked reading of the notations of the CQL binary protocol ([int], [string], [value], …) out of one frame
//! body. It borrows, it never allocates for values, and whatever the bytes are it answers with an error and not with a
//! panic. It is not a parser of whole requests: see `request`.

use thiserror::Error;

/// Why a frame body could not be understood. It is answered with ERROR 0x000A (protocol error).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A length or count in the body points behind its end.
    #[error("truncated frame body: {what} needs {needed} bytes at offset {at}, {left} are left")]
    Truncated {
        /// The notation being read.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Offset in the body, in bytes.
        at: usize,
        /// Bytes left from there.
        left: usize,
    },
    /// A length that is negative where the protocol allows none.
    #[error("negative length {length} of {what} at offset {at}")]
    NegativeLength {
        /// The notation being read.
        what: &'static str,
        /// The length found.
        length: i32,
        /// Offset in the body, in bytes.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("{what} at offset {at} is not valid UTF-8")]
    NotUtf8 {
        /// The notation being read.
        what: &'static str,
        /// Offset in the body, in bytes.
        at: usize,
    },
    /// A value no version of the protocol knows; the text is what a real server says where that is known.
    #[error("{0}")]
    Invalid(String),
    /// Bytes behind the end of the request.
    #[error("{left} unexpected bytes after the end of the {what} request")]
    TrailingBytes {
        /// The request being read.
        what: &'static str,
        /// Bytes left over.
        left: usize,
    },
}

/// One bound value as it stands in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Bytes of a value, possibly empty.
    Bytes(&'a [u8]),
    /// Length -1: null.
    Null,
    /// Length -2: not set, the column is left alone.
    Unset,
}

/// A cursor over one frame body.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Offset of the next byte, in bytes from the start of the body.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }

    /// The bytes between two positions this reader has passed.
    pub fn between(&self, from: usize, to: usize) -> &'a [u8] {
        &self.body[from..to]
    }

    /// Takes `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let left = self.body.len() - self.at;
        if n > left {
            return Err(Malformed::Truncated {
                what,
                needed: n,
                at: self.at,
                left,
            });
        }
        let slice = &self.body[self.at..self.at + n];
        self.at += n;
        Ok(slice)
    }

    /// [byte]
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1, "[byte]")?[0])
    }

    /// [short]
    #[inline]
    pub fn short(&mut self) -> Result<u16, Malformed> {
        let b = self.take(2, "[short]")?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    /// [int]
    #[inline]
    pub fn int(&mut self) -> Result<i32, Malformed> {
        let b = self.take(4, "[int]")?;
        Ok(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// [long]
    pub fn long(&mut self) -> Result<i64, Malformed> {
        let mut b = [0; 8];
        b.copy_from_slice(self.take(8, "[long]")?);
        Ok(i64::from_be_bytes(b))
    }

    /// [string]
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let n = usize::from(self.short()?);
        self.utf8(n, "[string]")
    }

    /// [long string]
    pub fn long_string(&mut self) -> Result<&'a str, Malformed> {
        let n = self.length("[long string]")?;
        self.utf8(n, "[long string]")
    }

    /// [short bytes]
    #[inline]
    pub fn short_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = usize::from(self.short()?);
        self.take(n, "[short bytes]")
    }

    /// [bytes]: `None` for a negative length (null).
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let n = self.int()?;
        match usize::try_from(n) {
            Ok(n) => self.take(n, "[bytes]").map(Some),
            Err(_) => Ok(None),
        }
    }

    /// [value]
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Malformed> {
        // Nearly every value has bytes and all of them are there.
        if let Some((length, rest)) = self.rest().split_first_chunk::<4>()
            && let Ok(length) = usize::try_from(i32::from_be_bytes(*length))
            && let Some(bytes) = rest.get(..length)
        {
            self.at += 4 + length;
            return Ok(Value::Bytes(bytes));
        }
        self.value_without_bytes()
    }

    /// Appends the next `count` [value]s to `out`.
    #[inline]
    pub fn values(&mut self, count: u16, out: &mut Vec<Value<'a>>) -> Result<(), Malformed> {
        // A value has at least four bytes, so a hostile count cannot reserve more than the body is long.
        out.reserve(usize::from(count).min(self.rest().len() / 4));
        let mut rest = self.rest();
        for _ in 0..count {
            // Nearly every value has bytes and all of them are there.
            if let Some((length, tail)) = rest.split_first_chunk::<4>()
                && let Ok(length) = usize::try_from(i32::from_be_bytes(*length))
                && let Some((bytes, tail)) = tail.split_at_checked(length)
            {
                out.push(Value::Bytes(bytes));
                rest = tail;
                continue;
            }
            self.at = self.body.len() - rest.len();
            out.push(self.value_without_bytes()?);
            rest = self.rest();
        }
        self.at = self.body.len() - rest.len();
        Ok(())
    }

    /// A [value] that is null, unset or wrong.
    #[cold]
    fn value_without_bytes(&mut self) -> Result<Value<'a>, Malformed> {
        let at = self.at;
        match self.int()? {
            n if n >= 0 => self.take(n as usize, "[value]").map(Value::Bytes),
            -1 => Ok(Value::Null),
            -2 => Ok(Value::Unset),
            length => Err(Malformed::NegativeLength {
                what: "[value]",
                length,
                at,
            }),
        }
    }

    /// [string list], each item borrowed.
    pub fn string_list(&mut self) -> Result<Vec<&'a str>, Malformed> {
        let n = self.short()?;
        // An item has at least two bytes, so a hostile count cannot reserve more than the body is long.
        let mut list = Vec::with_capacity(usize::from(n).min(self.rest().len() / 2));
        for _ in 0..n {
            list.push(self.string()?);
        }
        Ok(list)
    }

    /// [string map] in the order of the frame.
    pub fn string_map(&mut self) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        let n = self.short()?;
        let mut map = Vec::with_capacity(usize::from(n).min(self.rest().len() / 4));
        for _ in 0..n {
            map.push((self.string()?, self.string()?));
        }
        Ok(map)
    }

    /// [bytes map], read and dropped: the custom payload of a request, which this server does not use.
    pub fn skip_bytes_map(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.short()? {
            self.string()?;
            self.bytes()?;
        }
        Ok(())
    }

    /// Refuses bytes behind the end of a request.
    pub fn finish(&self, what: &'static str) -> Result<(), Malformed> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(Malformed::TrailingBytes { what, left }),
        }
    }

    fn length(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let at = self.at;
        let length = self.int()?;
        usize::try_from(length).map_err(|_| Malformed::NegativeLength { what, length, at })
    }

    fn utf8(&mut self, n: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let at = self.at;
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8 { what, at })
    }
}
