//! The lines of a LOBSTER message file as messages. Liberal in form (gzip or plain, CRLF, a header line, further
//! columns, blank lines, `100.0` for `100`), strict in content: whatever cannot be a message is named with its line.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use settlement_events::Side;

use super::TapeError;

/// No day of any symbol comes near this.
const TEXT_BYTES_MAX: u64 = 2 << 30;
/// Shares in one message.
const SIZE_MAX: u64 = 100_000_000;
/// A million dollars, in units of 1/10,000: LOBSTER's own placeholder for "no price" is just below.
const PRICE_MAX: u64 = 10_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
const NS_PER_SECOND: u64 = 1_000_000_000;
const COLUMNS: usize = 6;
/// What some programs put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Type 1: a new limit order.
    New,
    /// Type 2: part of an order taken back.
    Reduce,
    /// Type 3: an order taken back.
    Delete,
    /// Type 4: a visible order executed.
    Execute,
    /// Type 5: a hidden order executed.
    ExecuteHidden,
    /// Type 6: a cross trade, such as an auction.
    Cross,
    /// Type 7: a trading halt, or its end.
    Halt,
}

impl MessageKind {
    const ALL: [Self; 7] = [
        Self::New,
        Self::Reduce,
        Self::Delete,
        Self::Execute,
        Self::ExecuteHidden,
        Self::Cross,
        Self::Halt,
    ];

    /// The type's number in the file.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::New => 1,
            Self::Reduce => 2,
            Self::Delete => 3,
            Self::Execute => 4,
            Self::ExecuteHidden => 5,
            Self::Cross => 6,
            Self::Halt => 7,
        }
    }

    /// What the type is.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new limit order",
            Self::Reduce => "partial cancel",
            Self::Delete => "delete",
            Self::Execute => "execution of a visible order",
            Self::ExecuteHidden => "execution of a hidden order",
            Self::Cross => "cross trade",
            Self::Halt => "halt",
        }
    }

    fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.number()) == number)
    }
}

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which line, from 1.
    pub line: u64,
    /// Nanoseconds after midnight.
    pub at_ns: u64,
    /// What it says.
    pub kind: MessageKind,
    /// The order it names; `None` for hidden ones and for messages without an order.
    pub order: Option<u64>,
    /// Shares; 0 for crosses and halts, where it is not looked at.
    pub size: u64,
    /// Dollars x 10,000; 0 for crosses and halts, where it is not looked at.
    pub price: u64,
    /// The side of the resting order; `Buy` for crosses and halts, where it is not looked at.
    pub side: Side,
}

/// Reads a whole file, plain or gzip.
pub fn read_messages(file: &[u8]) -> Result<Vec<Message>, TapeError> {
    let unpacked;
    let text = if file.starts_with(&[0x1f, 0x8b]) {
        unpacked = unpack(file)?;
        &unpacked
    } else {
        file
    };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut messages = Vec::new();
    for (line, bytes) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let bytes = bytes.trim_ascii();
        let is_header = line == 1 && is_header(bytes);
        if !bytes.is_empty() && !is_header {
            messages.push(message(bytes, line)?);
        }
    }
    if messages.is_empty() {
        Err(TapeError::Empty)
    } else {
        Ok(messages)
    }
}

/// Whether these are names of columns. A damaged first message has numbers among its columns and is no header.
fn is_header(bytes: &[u8]) -> bool {
    bytes
        .split(|byte| *byte == b',')
        .all(|field| field.trim_ascii().first().is_some_and(u8::is_ascii_alphabetic))
}

fn unpack(file: &[u8]) -> Result<Vec<u8>, TapeError> {
    let mut text = Vec::new();
    match MultiGzDecoder::new(file)
        .take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut text)
    {
        Ok(_) if text.len() as u64 > TEXT_BYTES_MAX => Err(TapeError::TooLarge {
            max_bytes: TEXT_BYTES_MAX,
        }),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(TapeError::TruncatedGzip { good_bytes: text.len() })
        }
        Err(error) => Err(TapeError::BadGzip {
            detail: error.to_string(),
        }),
    }
}

fn message(bytes: &[u8], line: u64) -> Result<Message, TapeError> {
    let mut fields = [&bytes[..0]; COLUMNS];
    let mut found = 0;
    for (field, text) in fields.iter_mut().zip(bytes.split(|byte| *byte == b',')) {
        *field = text.trim_ascii();
        found += 1;
    }
    if found < COLUMNS {
        return Err(TapeError::MissingColumns { line, found });
    }
    let column = |at: usize| Column {
        line,
        bytes: fields[at],
    };
    let at_ns = column(0).time()?;
    let number = column(1).integer("type", "an integer from 1 to 7")?;
    let kind = MessageKind::of(number).ok_or(TapeError::UnknownType { line, found: number })?;
    let order = column(2).integer("order id", "an integer")?;
    let order = u64::try_from(order)
        .ok()
        .filter(|order| *order > 0 && kind != MessageKind::ExecuteHidden);
    if matches!(kind, MessageKind::Cross | MessageKind::Halt) {
        return Ok(Message {
            line,
            at_ns,
            kind,
            order,
            size: 0,
            price: 0,
            side: Side::Buy,
        });
    }
    Ok(Message {
        line,
        at_ns,
        kind,
        order,
        size: column(3).count("size", SIZE_MAX)?,
        price: column(4).count("price", PRICE_MAX)?,
        side: column(5).direction()?,
    })
}

/// One field and where it stands.
#[derive(Clone, Copy)]
struct Column<'a> {
    line: u64,
    bytes: &'a [u8],
}

impl Column<'_> {
    fn text(self) -> String {
        String::from_utf8_lossy(self.bytes).into_owned()
    }

    fn bad(self, column: &'static str, expected: &'static str) -> TapeError {
        TapeError::BadColumn {
            line: self.line,
            column,
            found: self.text(),
            expected,
        }
    }

    /// An integer, also written as `100.0`.
    fn integer(self, column: &'static str, expected: &'static str) -> Result<i64, TapeError> {
        let digits = match self.bytes.iter().position(|byte| *byte == b'.') {
            Some(point) if self.bytes[point + 1..].iter().all(|byte| *byte == b'0') => &self.bytes[..point],
            _ => self.bytes,
        };
        let parsed = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| self.bad(column, expected))
    }

    fn count(self, column: &'static str, max: u64) -> Result<u64, TapeError> {
        let value = self.integer(column, "a whole number")?;
        let in_range = u64::try_from(value).ok().filter(|value| (1..=max).contains(value));
        in_range.ok_or_else(|| TapeError::OutOfRange {
            line: self.line,
            column,
            found: self.text(),
            max,
        })
    }

    fn direction(self) -> Result<Side, TapeError> {
        match self.integer("direction", "1 (buy) or -1 (sell)")? {
            1 => Ok(Side::Buy),
            -1 => Ok(Side::Sell),
            _ => Err(self.bad("direction", "1 (buy) or -1 (sell)")),
        }
    }

    /// Seconds after midnight, with any number of decimals, as nanoseconds; without floating point.
    fn time(self) -> Result<u64, TapeError> {
        let expected = "seconds after midnight, below 86400";
        let bad = || self.bad("time", expected);
        let text = std::str::from_utf8(self.bytes).map_err(|_| bad())?;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits_only(whole) || !digits_only(decimals) {
            return Err(bad());
        }
        let seconds: u64 = whole.parse().map_err(|_| bad())?;
        if seconds >= SECONDS_PER_DAY {
            return Err(bad());
        }
        let nanos = decimals.bytes().chain(std::iter::repeat(b'0')).take(9);
        Ok(seconds * NS_PER_SECOND + nanos.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "34200.5,4,77,10,33578400,-1\n";

    fn one(text: &str) -> Result<Message, TapeError> {
        read_messages(text.as_bytes()).map(|messages| messages[0])
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder
            .write_all(text)
            .and_then(|()| encoder.finish())
            .expect("writing to memory")
    }

    #[test]
    fn a_line_is_a_message() {
        let message = one(LINE).expect("a good line");
        let expected = Message {
            line: 1,
            at_ns: 34_200_500_000_000,
            kind: MessageKind::Execute,
            order: Some(77),
            size: 10,
            price: 33_578_400,
            side: Side::Sell,
        };
        assert_eq!(message, expected);
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let at = |time: &str| one(&LINE.replace("34200.5", time)).map(|message| message.at_ns);
        assert_eq!(at("34200.000376608"), Ok(34_200_000_376_608));
        assert_eq!(at("34200"), Ok(34_200_000_000_000));
        assert_eq!(at("0.0000000019"), Ok(1));
        for bad in ["86400", "-1", "1e4", "", ".", "12:00", "1.2.3", "99999999999999999999"] {
            assert!(
                matches!(
                    at(bad),
                    Err(TapeError::BadColumn {
                        line: 1,
                        column: "time",
                        ..
                    })
                ),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn forms_that_are_accepted() {
        let plain = one(LINE).expect("plain");
        for text in [
            LINE.replace('\n', "\r\n"),
            LINE.replace('\n', ",extra,columns\n"),
            LINE.replace(',', " , "),
            LINE.trim_end().to_owned(),
            LINE.replace(",10,", ",10.00,"),
            format!("\u{feff}{LINE}"),
        ] {
            assert_eq!(one(&text), Ok(plain), "{text:?}");
        }
        let with_header = read_messages(format!("time,type,order,size,price,dir\n\n{LINE}\n").as_bytes());
        assert_eq!(with_header, Ok(vec![Message { line: 3, ..plain }]));
        let [a, b] = [gzip(LINE.as_bytes()), gzip(LINE.as_bytes())];
        assert_eq!(
            read_messages(&[a, b].concat()).map(|messages| messages.len()),
            Ok(2),
            "two gzip members"
        );
    }

    #[test]
    fn hidden_crosses_and_halts_name_no_order() {
        assert_eq!(one("1.0,5,0,10,100,1").map(|m| m.order), Ok(None));
        assert_eq!(
            one("1.0,6,-1,45725,33552100,-1").map(|m| (m.kind, m.order)),
            Ok((MessageKind::Cross, None))
        );
        assert_eq!(one("1.0,7,0,0,-1,-1").map(|m| m.kind), Ok(MessageKind::Halt));
    }

    #[test]
    fn what_cannot_be_a_message_is_named_with_its_line() {
        let second = |line: &str| {
            read_messages(format!("{LINE}{line}").as_bytes())
                .expect_err(line)
                .to_string()
        };
        assert!(second("34200.5,4,77,10,33578400").contains("line 2 of the tape has 5 columns"));
        assert!(second("34200.5,8,77,10,33578400,1").contains("line 2 of the tape: message type 8"));
        assert!(second("34200.5,x,77,10,33578400,1").contains("line 2 of the tape: type is \"x\""));
        assert!(second("34200.5,4,a,10,33578400,1").contains("order id is \"a\""));
        assert!(second("34200.5,4,77,-10,33578400,1").contains("size -10 is out of range"));
        assert!(second("34200.5,4,77,0,33578400,1").contains("size 0 is out of range"));
        assert!(second("34200.5,4,77,10,99999999999,1").contains("price 99999999999 is out of range"));
        assert!(second("34200.5,4,77,10.5,33578400,1").contains("size is \"10.5\""));
        assert!(second("34200.5,4,77,10,33578400,0").contains("direction is \"0\""));
        assert!(
            second("time,4,77,10,33578400,1").contains("time is \"time\""),
            "a header only on the first line"
        );
        let first = |line: &str| read_messages(format!("{line}\n{LINE}").as_bytes());
        assert!(
            first("x4200.5,4,77,10,33578400,1").is_err(),
            "a damaged first message is no header"
        );
        assert!(first("time, type, order id, size, price, direction").is_ok());
    }

    #[test]
    fn empty_truncated_and_damaged_files() {
        assert_eq!(read_messages(b""), Err(TapeError::Empty));
        assert_eq!(read_messages(b"\n\n"), Err(TapeError::Empty));
        assert_eq!(
            read_messages(b"time,type,order,size,price,dir\n"),
            Err(TapeError::Empty)
        );
        assert_eq!(read_messages(&gzip(b"")), Err(TapeError::Empty));
        let packed = gzip(LINE.repeat(1_000).as_bytes());
        for cut in [3, 12, packed.len() / 2, packed.len() - 1] {
            assert!(
                matches!(read_messages(&packed[..cut]), Err(TapeError::TruncatedGzip { .. })),
                "cut at {cut}"
            );
        }
        let mut damaged = packed.clone();
        damaged[packed.len() - 6] ^= 0xff;
        assert!(matches!(read_messages(&damaged), Err(TapeError::BadGzip { .. })));
    }
}
