//! The canonical encoding: round trips of anything, literal digests that must never change by accident, and input of
//! any kind that must never panic.

mod common;

use bytes::Bytes;
use proptest::prelude::*;
use settlement_events::{
    DecodeError, Digest, Envelope, Epoch, Event, FORMAT_VERSION, FeedMessage, Heartbeat, OutputSequence, ReplayRefusal,
    ReplayReply, ReplayRequest, json, samples,
};

/// These literals are the format: a change of one of them is a new format version, not a new literal.
#[test]
fn digests_of_the_sample_stream_are_what_they_always_were() {
    let digests: Vec<String> = samples::stream()
        .iter()
        .map(|event| event.digest().to_string())
        .collect();
    assert_eq!(
        digests,
        [
            "f8fd1969ae109414d66d1581fac328746ac975c0e1d56e7de6d7709dfe59e81d",
            "fe2de005619d0f40d6c7ece8dd1cd0f00831187d088c5bca85c198e594962d9e",
            "42acd101263d695f080cfafbb9c08cb4cb9cae9e02ef229d874df2bc54515931",
            "573eb0dd4fb249bbbde31de885e8232b5ecd35bdc01b0b5f5fab57cd3f71697e",
            "1794146283258a8f538d1f7c2bea3b2d3a96785a50cbef173b59f31eb6f4aad2",
            "094ce54ec49dca4ea8a015a74da0f645ee0aa9b5f640fed80da1c44324bb7eb0",
            "709ed7ab1d5a6f5ce6ac312eec4d811dd46af9c2458ab5a3d34d743d6f043fe5",
            "5f7945c93516086a60b4f2b040f31dd6ffd2a10477dcd20bbb468798a36673c9",
        ]
    );
}

#[test]
fn the_encoding_of_a_deposit_is_these_bytes() {
    let encoded = hex::encode(samples::stream()[0].encode());
    assert_eq!(
        encoded,
        "010101a8a799b28c2f200000000000000000000000000000000000000000000000000000000000000000001f07030180a8d6b907008094ebdc0300"
    );
}

#[test]
fn a_trade_with_two_fees_stays_compact() {
    let trade = samples::stream()
        .into_iter()
        .find(|event| event.trade().is_some())
        .expect("there is one");
    let bytes = trade.encode().len();
    assert!((150..=384).contains(&bytes), "{bytes} bytes");
}

#[test]
fn one_of_each_kind_in_json() {
    for event in samples::stream() {
        let name = format!("json_{:02}_{}", event.output_sequence.0, event.kind());
        let view = serde_json::to_string_pretty(&event).expect("a JSON value prints");
        insta::assert_snapshot!(name, view);
    }
}

#[test]
fn json_writes_large_integers_as_strings_and_reads_both_forms() {
    let mut event = samples::stream().remove(0);
    event.event_time_ms.0 = 1 << 53;
    event.output_sequence.0 = (1 << 53) + 1;
    let line = json::to_line(&event);
    assert!(line.contains(r#""event_time_ms":9007199254740992"#), "{line}");
    assert!(line.contains(r#""output_sequence":"9007199254740993""#), "{line}");
    assert_eq!(json::from_str(&line), Ok(event.clone()));
    let all_strings = line.replace("9007199254740992", "\"9007199254740992\"");
    assert_eq!(json::from_str(&all_strings), Ok(event));
}

#[test]
fn json_refuses_what_is_not_an_event() {
    let line = json::to_line(&samples::stream()[0]);
    for damaged in [
        line.replace("event_time_ms", "event_time"),
        line.replace("\"epoch\":1", "\"epoch\":-1"),
        line.replace("\"avail\":1000000000", "\"avail\":\"12x\""),
        line.replace("\"avail\":1000000000", "\"avail\":1.5"),
        line[..line.len() - 1].to_owned(),
        String::new(),
    ] {
        let error = json::from_str(&damaged).expect_err(&damaged);
        assert!(
            matches!(error, DecodeError::Malformed { what: "JSON event", .. }),
            "{error}"
        );
    }
}

#[test]
fn damage_version_and_malformed_are_told_apart() {
    let sealed = Envelope::seal(&samples::stream()[4]);
    let mut bytes = sealed.bytes.to_vec();
    bytes[40] ^= 1;
    let damaged = Envelope {
        digest: sealed.digest,
        bytes: bytes.clone().into(),
    };
    let error = damaged.open().expect_err("a flipped bit");
    assert!(error.is_damage(), "{error}");

    bytes[0] = FORMAT_VERSION + 1;
    let foreign = Envelope {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
    };
    assert_eq!(
        foreign.open(),
        Err(DecodeError::BadVersion {
            found: FORMAT_VERSION + 1
        })
    );
    let header = foreign.header().expect("the head is the same in every version");
    assert_eq!((header.epoch, header.output_sequence), (Epoch(1), OutputSequence(5)));

    let cut = sealed.bytes.slice(..60);
    let meant = Envelope {
        digest: Digest::of(&cut),
        bytes: cut,
    };
    let error = meant.open().expect_err("cut short by its writer");
    assert!(
        matches!(error, DecodeError::Malformed { .. }) && !error.is_damage(),
        "{error}"
    );
}

#[test]
fn bytes_after_the_event_are_malformed() {
    let mut bytes = samples::stream()[0].encode();
    bytes.push(0);
    let error = Event::decode(&bytes).expect_err("one byte too many");
    assert!(error.to_string().contains("1 bytes too many"), "{error}");
}

#[test]
fn replay_messages_round_trip() {
    let heartbeat = Heartbeat {
        epoch: Epoch(1),
        head_sequence: OutputSequence(8),
        head_digest: Digest([7; 32]),
    };
    let start_seq = OutputSequence(2);
    let entries = samples::stream()[1..4].iter().map(Envelope::seal).collect();
    for reply in [
        ReplayReply::Head {
            heartbeat,
            first_retained: OutputSequence(3),
        },
        ReplayReply::Events {
            start_seq,
            entries,
            end_of_log: false,
        },
        ReplayReply::Refused {
            reason: ReplayRefusal::RetentionPassed {
                first_retained: OutputSequence(4),
            },
        },
        ReplayReply::Refused {
            reason: ReplayRefusal::Busy,
        },
        ReplayReply::Refused {
            reason: ReplayRefusal::Unknown,
        },
    ] {
        assert_eq!(ReplayReply::decode(&reply.encode()), Ok(reply));
    }
    for request in [
        ReplayRequest::Head,
        ReplayRequest::Range {
            start_seq,
            end_seq: OutputSequence(u64::MAX),
        },
    ] {
        assert_eq!(ReplayRequest::decode(&request.encode()), Ok(request));
    }
}

#[test]
fn a_truncated_message_of_any_length_is_an_error() {
    let stream = samples::stream();
    let envelope = Envelope::seal(&stream[4]);
    let heartbeat = Heartbeat {
        epoch: Epoch(1),
        head_sequence: OutputSequence(9),
        head_digest: envelope.digest,
    };
    let reply = ReplayReply::Events {
        start_seq: OutputSequence(5),
        entries: vec![envelope.clone()],
        end_of_log: true,
    };
    let (event, beat, reply) = (
        envelope.bytes,
        FeedMessage::Heartbeat(heartbeat).encode(),
        reply.encode(),
    );
    for length in 0..event.len() {
        assert!(Event::decode(&event[..length]).is_err(), "event cut at {length}");
    }
    for length in 0..beat.len() {
        assert!(
            FeedMessage::decode(&beat.slice(..length)).is_err(),
            "heartbeat cut at {length}"
        );
    }
    for length in 0..reply.len() {
        assert!(ReplayReply::decode(&reply[..length]).is_err(), "reply cut at {length}");
    }
}

#[test]
fn a_truncated_event_message_is_damage() {
    let frame = FeedMessage::Event(Envelope::seal(&samples::stream()[4])).encode();
    for length in 0..frame.len() {
        match FeedMessage::decode(&frame.slice(..length)) {
            Err(DecodeError::Malformed { .. }) => assert!(length < 34, "cut at {length}"),
            Ok(FeedMessage::Event(envelope)) => assert!(envelope.open().expect_err("cut").is_damage()),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn any_event_survives_the_canonical_encoding(event in common::event()) {
        let envelope = Envelope::seal(&event);
        let header = envelope.header().expect("every encoding has a head");
        prop_assert_eq!((header.epoch, header.output_sequence), (event.epoch, event.output_sequence));
        prop_assert_eq!(envelope.digest, event.digest());
        prop_assert_eq!(&envelope.open().expect("what was sealed opens"), &event);
        let frame = FeedMessage::Event(envelope.clone()).encode();
        prop_assert_eq!(FeedMessage::decode(&frame), Ok(FeedMessage::Event(envelope)));
    }

    #[test]
    fn any_event_survives_json(event in common::event()) {
        prop_assert_eq!(json::from_str(&json::to_line(&event)), Ok(event));
    }

    #[test]
    fn any_flipped_bit_is_damage(event in common::event(), position in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let envelope = Envelope::seal(&event);
        let mut bytes = envelope.bytes.to_vec();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let error = Envelope { digest: envelope.digest, bytes: bytes.into() }.open().expect_err("a flipped bit");
        prop_assert!(error.is_damage());
    }

    #[test]
    fn a_different_event_has_a_different_digest(a in common::event(), b in common::event()) {
        prop_assert_eq!(a == b, a.digest() == b.digest());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), valid_version in any::<bool>()) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (valid_version, bytes.first_mut()) {
            *first = FORMAT_VERSION;
        }
        // Whatever decodes must be something that can be written again.
        if let Ok(event) = Event::decode(&bytes) {
            prop_assert_eq!(Event::decode(&event.encode()), Ok(event));
        }
        if let Ok(reply) = ReplayReply::decode(&bytes) {
            prop_assert_eq!(ReplayReply::decode(&reply.encode()), Ok(reply));
        }
        if let Ok(request) = ReplayRequest::decode(&bytes) {
            prop_assert_eq!(ReplayRequest::decode(&request.encode()), Ok(request));
        }
        let frame = Bytes::from(bytes);
        if let Ok(message) = FeedMessage::decode(&frame) {
            prop_assert_eq!(FeedMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_damaged_encoding_never_panics(event in common::event(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = event.encode();
        for (position, value) in edits {
            let at = position.index(bytes.len());
            bytes[at] = value;
        }
        match Event::decode(&bytes) {
            Ok(other) => prop_assert_eq!(Event::decode(&other.encode()), Ok(other)),
            Err(error) => prop_assert!(!error.is_damage()),
        }
    }
}
