//! Wire frames byte for byte, and hostile ones: whatever arrives, the codec answers and does not panic.

use super::response::{self, Columns, Event, RowsBody, SchemaChange};
use super::*;
use crate::cql::error::{CqlError, Detail};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|c| c.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn written(f: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    f(&mut out);
    hex(&out)
}

/// A request frame with this opcode and body.
fn request_frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, 0, 0, 7, opcode];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

fn parse(frame: &[u8]) -> Result<Request<'_>, Malformed> {
    let Front::Frame(header) = peek(frame) else {
        panic!("not a whole frame: {:?}", peek(frame))
    };
    Request::parse(&header, &frame[HEADER_BYTES..])
}

fn query_body(text: &str, tail: &[u8]) -> Vec<u8> {
    let mut body = (text.len() as i32).to_be_bytes().to_vec();
    body.extend(text.as_bytes());
    body.extend(tail);
    body
}

/// A LOGGED batch of one prepared statement (values: bytes, null, unset) and one text, with serial level and timestamp.
fn batch_body() -> Vec<u8> {
    let mut b = vec![0, 0, 2, 1, 0, 2, 0xAA, 0xBB, 0, 3];
    b.extend([0, 0, 0, 1, 9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE]);
    b.extend([0, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0]);
    b.extend([0, 6, 0x30, 0, 8]);
    b.extend(77i64.to_be_bytes());
    b
}

#[test]
fn responses_are_these_bytes() {
    insta::assert_snapshot!(written(|o| response::ready(o, 1)), @"84 00 00 01 02 00 00 00 00");
    insta::assert_snapshot!(written(|o| response::void(o, 2, &[])), @"84 00 00 02 08 00 00 00 04 00 00 00 01");
    insta::assert_snapshot!(written(|o| response::void(o, 2, &["w".into()])), @r"
    84 08 00 02 08 00 00 00 09 00 01 00 01 77 00 00
    00 01
    ");
    insta::assert_snapshot!(written(|o| response::supported(o, 3, &[("COMPRESSION", vec![]), ("X", vec!["y".into()])])), @r"
    84 00 00 03 06 00 00 00 19 00 02 00 0b 43 4f 4d
    50 52 45 53 53 49 4f 4e 00 00 00 01 58 00 01 00
    01 79
    ");
    insta::assert_snapshot!(written(|o| response::set_keyspace(o, 4, "ks")), @r"
    84 00 00 04 08 00 00 00 08 00 00 00 03 00 02 6b
    73
    ");
    let change = SchemaChange {
        is_type: false,
        change: "CREATED",
        keyspace: "k".into(),
        table: Some("t".into()),
    };
    insta::assert_snapshot!(written(|o| response::schema_change(o, 5, &[], &change)), @r"
    84 00 00 05 08 00 00 00 1a 00 00 00 05 00 07 43
    52 45 41 54 45 44 00 05 54 41 42 4c 45 00 01 6b
    00 01 74
    ");
    let up = Event::Status {
        up: true,
        address: "10.0.1.2".parse().unwrap(),
        port: 9042,
    };
    insta::assert_snapshot!(written(|o| response::event(o, &up)), @r"
    84 00 ff ff 0c 00 00 00 1c 00 0d 53 54 41 54 55
    53 5f 43 48 41 4e 47 45 00 02 55 50 04 0a 00 01
    02 00 00 23 52
    ");
}

#[test]
fn rows_and_prepared_are_these_bytes() {
    let mut specs = Vec::new();
    response::put_string(&mut specs, "k");
    response::put_string(&mut specs, "t");
    response::put_string(&mut specs, "v");
    specs.extend([0, 2]);
    let columns = Columns {
        count: 1,
        specs,
        apart: false,
    };
    let mut cells = Vec::new();
    response::put_bytes(&mut cells, Some(&5i64.to_be_bytes()));
    response::put_bytes(&mut cells, None);
    let page = RowsBody {
        count: 2,
        cells: &cells,
        paging_state: Some(&[1, 2]),
    };
    insta::assert_snapshot!(written(|o| response::rows(o, 6, &[], &columns, false, &page)), @r"
    84 00 00 06 08 00 00 00 31 00 00 00 02 00 00 00
    03 00 00 00 01 00 00 00 02 01 02 00 01 6b 00 01
    74 00 01 76 00 02 00 00 00 02 00 00 00 08 00 00
    00 00 00 00 00 05 ff ff ff ff
    ");
    let page = RowsBody {
        count: 0,
        cells: &[],
        paging_state: None,
    };
    insta::assert_snapshot!(written(|o| response::rows(o, 6, &[], &columns, true, &page)), @r"
    84 00 00 06 08 00 00 00 10 00 00 00 02 00 00 00
    05 00 00 00 01 00 00 00 00
    ");
    insta::assert_snapshot!(written(|o| response::prepared(o, 7, &[], &[7; 16], &columns, &[0], None)), @r"
    84 00 00 07 08 00 00 00 37 00 00 00 04 00 10 07
    07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 00
    00 00 01 00 00 00 01 00 00 00 01 00 00 00 01 6b
    00 01 74 00 01 76 00 02 00 00 00 04 00 00 00 00
    ");
}

#[test]
fn errors_carry_the_fields_of_their_code() {
    let error = |detail| CqlError {
        message: "m".into(),
        detail,
    };
    let bytes = |detail| written(|o| response::error(o, 0, &[], &error(detail)));
    let quorum = 4;
    insta::assert_snapshot!(bytes(Detail::Unavailable { consistency: quorum, required: 2, alive: 1 }), @r"
    84 00 00 00 00 00 00 00 11 00 00 10 00 00 01 6d
    00 04 00 00 00 02 00 00 00 01
    ");
    insta::assert_snapshot!(bytes(Detail::WriteTimeout { consistency: quorum, received: 1, required: 2, write_type: "BATCH_LOG" }), @r"
    84 00 00 00 00 00 00 00 1c 00 00 11 00 00 01 6d
    00 04 00 00 00 01 00 00 00 02 00 09 42 41 54 43
    48 5f 4c 4f 47
    ");
    insta::assert_snapshot!(bytes(Detail::ReadTimeout { consistency: quorum, received: 1, required: 2, data_present: true }), @r"
    84 00 00 00 00 00 00 00 12 00 00 12 00 00 01 6d
    00 04 00 00 00 01 00 00 00 02 01
    ");
    insta::assert_snapshot!(bytes(Detail::WriteFailure { consistency: quorum, received: 0, required: 2, failures: 1, write_type: "SIMPLE" }), @r"
    84 00 00 00 00 00 00 00 1d 00 00 15 00 00 01 6d
    00 04 00 00 00 00 00 00 00 02 00 00 00 01 00 06
    53 49 4d 50 4c 45
    ");
    insta::assert_snapshot!(bytes(Detail::ReadFailure { consistency: quorum, received: 0, required: 2, failures: 1, data_present: false }), @r"
    84 00 00 00 00 00 00 00 16 00 00 13 00 00 01 6d
    00 04 00 00 00 00 00 00 00 02 00 00 00 01 00
    ");
    // Cassandra 5.0.5 was seen to answer exactly this extra part for a table: ks [string], table [string].
    let exists = CqlError::already_exists("hprobe", Some("t"));
    let shown = written(|o| response::error(o, 0, &[], &exists)).replace('\n', " ");
    assert!(shown.ends_with("00 06 68 70 72 6f 62 65 00 01 74"), "{shown}");
    let unprepared = written(|o| response::error(o, 0, &[], &CqlError::unprepared(&[0x11; 16]))).replace('\n', " ");
    assert!(
        unprepared.ends_with(&format!("00 10{}", " 11".repeat(16))),
        "{unprepared}"
    );
}

#[test]
fn requests_are_read_field_by_field() {
    let frame = request_frame(
        0x07,
        &query_body(
            "SELECT 1",
            &[
                0,
                1,
                0x7F & !0x40,
                0,
                1,
                0,
                0,
                0,
                1,
                5,
                0,
                0,
                0,
                9,
                0,
                0,
                0,
                2,
                1,
                2,
                0,
                9,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                3,
            ],
        ),
    );
    let Ok(Request::Query { text, params }) = parse(&frame) else {
        panic!("not a QUERY")
    };
    assert_eq!(text, "SELECT 1");
    assert_eq!(
        (params.consistency, params.page_size, params.serial_consistency),
        (1, Some(9), Some(9))
    );
    assert_eq!(params.paging_state, Some(&[1u8, 2][..]));
    assert_eq!(params.timestamp_us, Some(3));
    assert!(params.skip_metadata);
    assert_eq!(params.values.iter().collect::<Vec<_>>(), [(None, Value::Bytes(&[5]))]);

    let frame = request_frame(0x0D, &batch_body());
    let Ok(Request::Batch(mut batch)) = parse(&frame) else {
        panic!("not a BATCH")
    };
    assert_eq!((batch.kind, batch.count), (BatchKind::Logged, 2));
    let mut values = Vec::new();
    let first = batch.next_statement(&mut values).expect("well formed");
    assert!(matches!(first, Some(StatementRef::Prepared(&[0xAA, 0xBB]))));
    assert_eq!(values, [Value::Bytes(&[9]), Value::Null, Value::Unset]);
    let second = batch.next_statement(&mut values).expect("well formed");
    assert!(matches!(second, Some(StatementRef::Text("abc"))) && values.is_empty());
    let params = batch.finish().expect("well formed");
    assert_eq!(
        (params.consistency, params.serial_consistency, params.timestamp_us),
        (6, Some(8), Some(77))
    );
}

#[test]
fn malformed_requests_say_what_is_wrong() {
    let error = |opcode, body: &[u8]| match parse(&request_frame(opcode, body)) {
        Err(e) => e.to_string(),
        Ok(Request::Batch(batch)) => batch.finish().expect_err("malformed").to_string(),
        Ok(r) => panic!("{r:?}"),
    };
    assert_eq!(error(0x20, &[]), "Unknown opcode 32");
    assert_eq!(error(0x0D, &[7, 0, 0, 0, 1, 0]), "Invalid BATCH message type 7");
    assert_eq!(
        error(0x0D, &[0, 0, 1, 2]),
        "Invalid query kind in BATCH messages. Must be 0 or 1 but got 2"
    );
    assert_eq!(
        error(0x0D, &[0, 0, 0, 0, 1, 0x40]),
        "values with names are not supported in BATCH (CASSANDRA-10246)"
    );
    assert_eq!(
        error(0x09, &[0, 0, 0, 9, b'x']),
        "truncated frame body: [long string] needs 9 bytes at offset 4, 1 are left"
    );
    assert_eq!(
        error(0x09, &[0xFF; 4]),
        "negative length -1 of [long string] at offset 0"
    );
    assert_eq!(
        error(0x09, &[0, 0, 0, 1, 0xFF]),
        "[long string] at offset 4 is not valid UTF-8"
    );
    assert_eq!(
        error(0x05, &[1]),
        "1 unexpected bytes after the end of the OPTIONS request"
    );
    assert_eq!(
        error(0x08, &[]),
        "Unexpected message RESULT, it is not a request this server takes"
    );
    let compressed = Header {
        version: 4,
        flags: flag::COMPRESSION,
        stream: 0,
        opcode: 5,
        length: 0,
    };
    assert!(Request::parse(&compressed, &[]).is_err());
}

#[test]
fn the_front_of_a_buffer_is_classified() {
    assert_eq!(peek(&[]), Front::Incomplete);
    assert_eq!(peek(&[4, 0, 0]), Front::Incomplete);
    assert_eq!(peek(&[1]), Front::AncientVersion(1));
    assert!(matches!(peek(&[0x42, 0, 0, 0, 5, 0, 0, 0, 0]), Front::OtherVersion(h) if h.version == 0x42));
    assert!(matches!(peek(&[4, 0, 0, 0, 7, 0x7F, 0, 0, 0]), Front::TooLong(_)));
    assert!(matches!(peek(&[4, 0, 0, 0, 5, 0, 0, 0, 0]), Front::Frame(_)));
}

/// Parses and walks everything a request holds; whether all of it was well formed.
fn walk(header: &Header, body: &[u8]) -> bool {
    match Request::parse(header, body) {
        Ok(Request::Batch(batch)) => batch.finish().is_ok(),
        Ok(Request::Query { params, .. } | Request::Execute { params, .. }) => {
            assert_eq!(params.values.iter().count(), params.values.len());
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_codec_panic(opcode in 0u8..20, flags in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        walk(&Header { version: 4, flags, stream: 0, opcode, length: body.len() as u32 }, &body);
        let _ = peek(&body);
    }

    #[test]
    fn no_cut_or_flip_of_a_good_batch_panics(cut in 0usize..64, at in 0usize..64, bits in any::<u8>()) {
        let mut body = batch_body();
        body.truncate(cut);
        if let Some(b) = body.get_mut(at) { *b ^= bits }
        walk(&Header { version: 4, flags: 0, stream: 0, opcode: 0x0D, length: body.len() as u32 }, &body);
    }

    #[test]
    fn every_strict_prefix_of_a_batch_is_refused(cut in 0usize..56) {
        let body = batch_body();
        prop_assume!(cut < body.len());
        let header = Header { version: 4, flags: 0, stream: 0, opcode: 0x0D, length: cut as u32 };
        prop_assert!(!walk(&header, &body[..cut]));
    }
}
