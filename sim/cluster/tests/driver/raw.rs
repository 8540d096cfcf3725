//! Bytes that no driver sends, on real connections: the node answers or closes, and goes on serving the others.

use super::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn open(cluster: &SimCluster) -> TcpStream {
    TcpStream::connect(cluster.contact_points()[0])
        .await
        .expect("connected")
}

/// Reads one frame: opcode and body.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let mut header = [0u8; 9];
    stream.read_exact(&mut header).await.expect("a header");
    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.expect("a body");
    assert_eq!(header[0], 0x84, "answers are version 4, whatever was asked in");
    (header[4], body)
}

fn error_text(body: &[u8]) -> (i32, String) {
    let code = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
    let length = usize::from(u16::from_be_bytes([body[4], body[5]]));
    (code, String::from_utf8_lossy(&body[6..6 + length]).into_owned())
}

const STARTUP: &[u8] = b"\x04\x00\x00\x01\x01\x00\x00\x00\x16\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0";

#[test]
fn other_protocol_versions_are_refused_in_words_drivers_know() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let mut stream = open(&cluster).await;
        for version in [0x42u8, 0x41, 6, 5, 3] {
            stream
                .write_all(&[version, 0, 0, 0, 5, 0, 0, 0, 2, 9, 9])
                .await
                .expect("written");
            let (opcode, body) = frame(&mut stream).await;
            let (code, text) = error_text(&body);
            assert_eq!((opcode, code), (0, 0x000A));
            let expected =
                format!("Invalid or unsupported protocol version ({version}); supported versions are (4/v4)");
            assert_eq!(text, expected);
        }
        // The connection is still good for version 4.
        stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0]).await.expect("written");
        let (opcode, body) = frame(&mut stream).await;
        assert_eq!(opcode, 6);
        assert!(body.windows(11).any(|w| w == b"COMPRESSION"));
    });
}

#[test]
fn requests_before_startup_and_oversized_ones_are_refused() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let mut stream = open(&cluster).await;
        stream
            .write_all(b"\x04\x00\x00\x00\x07\x00\x00\x00\x08\x00\x00\x00\x01x\x00\x01\x00")
            .await
            .expect("written");
        let (_, body) = frame(&mut stream).await;
        assert_eq!(
            error_text(&body),
            (0x000A, "Unexpected message QUERY, expecting STARTUP or OPTIONS".into())
        );
        stream.write_all(STARTUP).await.expect("written");
        assert_eq!(frame(&mut stream).await.0, 2, "READY");
        // 17 MiB announced, and sent: refused at once, skipped, and the next request is answered.
        let length = 17u32 << 20;
        let mut header = vec![4, 0, 0, 3, 7];
        header.extend(length.to_be_bytes());
        stream.write_all(&header).await.expect("written");
        let (_, body) = frame(&mut stream).await;
        let text = format!("Request is too big: length {length} exceeds maximum allowed length 16777216.");
        assert_eq!(error_text(&body), (0x2200, text));
        stream.write_all(&vec![0x55; length as usize]).await.expect("skipped");
        stream.write_all(&[4, 0, 0, 4, 5, 0, 0, 0, 0]).await.expect("written");
        assert_eq!(frame(&mut stream).await.0, 6);
    });
}

#[test]
fn hostile_frames_hurt_nobody_else() {
    simulate(Flavor::Scylla, DDL, |world, cluster| async move {
        let session = connect(&cluster).await;
        let draws = world.stream("test/hostile");
        for round in 0..200 {
            let mut stream = open(&cluster).await;
            if round % 2 == 0 {
                stream.write_all(STARTUP).await.expect("written");
                assert_eq!(frame(&mut stream).await.0, 2);
            }
            let mut junk = vec![0; draws.range(1..120) as usize];
            draws.fill(&mut junk);
            if round % 3 != 0 && junk.len() > 9 {
                // A header that is right, so that the body is looked at.
                let length = (junk.len() - 9) as u32;
                junk[0] = 4;
                junk[1] = 0;
                junk[4] = [0x07, 0x09, 0x0A, 0x0B, 0x0D][round % 5];
                junk[5..9].copy_from_slice(&length.to_be_bytes());
            }
            stream.write_all(&junk).await.expect("written");
            stream.shutdown().await.expect("closed");
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        session
            .query_unpaged("INSERT INTO ks.u (k, v) VALUES (1, 1)", ())
            .await
            .expect("still serving");
    });
}

#[test]
fn a_request_may_come_byte_by_byte_and_several_at_once() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let mut stream = open(&cluster).await;
        for byte in STARTUP {
            stream.write_all(std::slice::from_ref(byte)).await.expect("written");
            stream.flush().await.expect("flushed");
        }
        assert_eq!(frame(&mut stream).await.0, 2);
        let options = [4, 0, 0, 9, 5, 0, 0, 0, 0];
        stream.write_all(&options.repeat(50)).await.expect("written");
        for _ in 0..50 {
            assert_eq!(frame(&mut stream).await.0, 6);
        }
    });
}

/// Sends one request and reads its answer.
async fn ask(stream: &mut TcpStream, opcode: u8, body: &[u8]) -> (u8, Vec<u8>) {
    let mut request = vec![4, 0, 0, 7, opcode];
    request.extend((body.len() as u32).to_be_bytes());
    request.extend_from_slice(body);
    stream.write_all(&request).await.expect("written");
    frame(stream).await
}

async fn query(stream: &mut TcpStream, text: &str) -> (u8, Vec<u8>) {
    let mut body = (text.len() as i32).to_be_bytes().to_vec();
    body.extend_from_slice(text.as_bytes());
    body.extend([0, 4, 0]);
    ask(stream, 0x07, &body).await
}

#[test]
fn events_reach_those_who_registered_for_them() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let mut listener = open(&cluster).await;
        listener.write_all(STARTUP).await.expect("written");
        assert_eq!(frame(&mut listener).await.0, 2);
        let body = b"\x00\x02\x00\x0dSTATUS_CHANGE\x00\x0dSCHEMA_CHANGE";
        assert_eq!(ask(&mut listener, 0x0B, body).await.0, 2, "READY");
        // A change made through another node is told here as well.
        let mut other = TcpStream::connect(cluster.contact_points()[1])
            .await
            .expect("connected");
        other.write_all(STARTUP).await.expect("written");
        assert_eq!(frame(&mut other).await.0, 2);
        let (opcode, body) = query(&mut other, "CREATE TABLE ks.new (k int PRIMARY KEY)").await;
        assert_eq!(
            (opcode, &body[..4]),
            (8, &[0, 0, 0, 5][..]),
            "SCHEMA_CHANGE: {}",
            String::from_utf8_lossy(&body)
        );
        let (opcode, body) = frame(&mut listener).await;
        assert_eq!(opcode, 0x0C);
        assert_eq!(
            body,
            b"\x00\x0dSCHEMA_CHANGE\x00\x07CREATED\x00\x05TABLE\x00\x02ks\x00\x03new"
        );
        cluster.stop(DB3);
        let (opcode, body) = frame(&mut listener).await;
        assert_eq!(opcode, 0x0C);
        assert_eq!(
            body,
            b"\x00\x0dSTATUS_CHANGE\x00\x04DOWN\x04\x0a\x00\x01\x03\x00\x00\x23\x52"
        );
    });
}

#[test]
fn a_client_that_reads_nothing_does_not_stop_the_others() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let mut greedy = open(&cluster).await;
        greedy.write_all(STARTUP).await.expect("written");
        assert_eq!(frame(&mut greedy).await.0, 2);
        // Nothing is read until all requests are written, or the node stops reading them.
        let text = "SELECT * FROM system_schema.columns";
        let mut request = vec![4, 0, 0, 7, 7];
        request.extend((text.len() as u32 + 7).to_be_bytes());
        request.extend((text.len() as u32).to_be_bytes());
        request.extend_from_slice(text.as_bytes());
        request.extend([0, 1, 0]);
        let (mut reader, mut writer) = greedy.into_split();
        let flood = tokio::spawn(async move {
            for _ in 0..20_000 {
                writer.write_all(&request).await.expect("written sooner or later");
            }
            writer
        });
        sleep_ms(1_000).await;
        assert!(!flood.is_finished(), "the node stopped reading");
        let session = connect(&cluster).await;
        session
            .query_unpaged("INSERT INTO ks.u (k, v) VALUES (1, 1)", ())
            .await
            .expect("served meanwhile");
        for n in 0..20_000 {
            assert_eq!(frame(&mut reader).await.0, 8, "answer {n} is rows");
        }
        flood.await.expect("it went on as its answers were read");
    });
}

/// A run of plain requests, by its hash.
fn run_of(seed: u64) -> u64 {
    let config = WorldConfig {
        time_limit_ns: Some(60_000_000_000),
        ..WorldConfig::default()
    };
    let outcome = World::run(Seed(seed), config, |world| async move {
        let cluster =
            SimCluster::start_with(&world, ClusterConfig::new(3, Flavor::Scylla), DDL).expect("a schema image");
        cluster.ready().await;
        let client = world.host("client", "10.0.2.1".parse().expect("an address"));
        let work = client.spawn(async move {
            let mut stream = open(&cluster).await;
            stream.write_all(STARTUP).await.expect("written");
            frame(&mut stream).await;
            for k in 0..50 {
                let text = format!(
                    "BEGIN BATCH INSERT INTO ks.t (k, c, v) VALUES ({k}, 1, 'x'); INSERT INTO ks.u (k, v) VALUES ({k}, 1); APPLY BATCH"
                );
                assert_eq!(query(&mut stream, &text).await, (8, vec![0, 0, 0, 1]));
            }
            cluster.kill(DB3);
            sleep_ms(3_000).await;
            cluster.restart(DB3);
            sleep_ms(3_000).await;
        });
        work.await.expect("no panic");
    });
    outcome.unwrap_or_else(|e| panic!("{e}")).1.trace_hash
}

#[test]
fn a_seed_is_a_run() {
    let (first, again, other) = (run_of(7), run_of(7), run_of(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
}
