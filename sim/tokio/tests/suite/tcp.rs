//! TCP as programs see it on Linux.

use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Long enough for everything local, on a busy machine.
const SOON: Duration = Duration::from_millis(200);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (client.expect("connect"), server.expect("accept").0)
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

#[tokio::test]
async fn nobody_listens_refused() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind")
        .local_addr()
        .expect("address");
    assert_eq!(kind(TcpStream::connect(free).await), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn addresses_agree() {
    let (client, server) = pair().await;
    assert_eq!(
        client.local_addr().expect("address"),
        server.peer_addr().expect("address")
    );
    assert_eq!(
        client.peer_addr().expect("address"),
        server.local_addr().expect("address")
    );
}

#[tokio::test]
async fn a_port_is_bound_once() {
    let first = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = first.local_addr().expect("address");
    assert_ne!(addr.port(), 0);
    assert_eq!(kind(TcpListener::bind(addr).await), ErrorKind::AddrInUse);
    drop(first);
    TcpListener::bind(addr).await.expect("free again");
}

#[tokio::test]
async fn an_address_of_another_machine_cannot_be_bound() {
    assert_eq!(
        kind(TcpListener::bind("192.0.2.7:0").await),
        ErrorKind::AddrNotAvailable
    );
}

#[tokio::test]
async fn localhost_is_a_name() {
    let listener = TcpListener::bind(("localhost", 0)).await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (client, _server) = tokio::join!(TcpStream::connect(("localhost", port)), listener.accept());
    client.expect("connect");
    let addrs: Vec<_> = tokio::net::lookup_host(("127.0.0.1", port))
        .await
        .expect("literal")
        .collect();
    assert_eq!(addrs, [([127, 0, 0, 1], port).into()]);
}

#[tokio::test]
async fn unspecified_addresses_are_all_addresses() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    assert!(addr.ip().is_unspecified());
    let (client, server) = tokio::join!(TcpStream::connect(("127.0.0.1", addr.port())), listener.accept());
    client.expect("connect");
    assert_eq!(
        server
            .expect("accept")
            .0
            .local_addr()
            .expect("address")
            .ip()
            .to_string(),
        "127.0.0.1"
    );
}

#[tokio::test]
async fn bytes_arrive_in_order_whatever_the_reads() {
    let (mut client, mut server) = pair().await;
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        for chunk in copy.chunks(777) {
            client.write_all(chunk).await.expect("write");
        }
    });
    let (mut got, mut sizes) = (Vec::new(), [1, 13, 4096].into_iter().cycle());
    loop {
        let mut buf = vec![0; sizes.next().expect("a cycle")];
        let n = server.read(&mut buf).await.expect("read");
        assert!(n <= buf.len());
        if n == 0 {
            break;
        }
        got.extend_from_slice(&buf[..n]);
    }
    writer.await.expect("writer");
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

#[tokio::test]
async fn a_read_returns_what_is_there() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"abc").await.expect("write");
    let mut buf = [0; 10];
    assert_eq!(server.read(&mut buf).await.expect("read"), 3);
    assert!(timeout(SOON, server.read(&mut buf)).await.is_err());
}

#[tokio::test]
async fn clean_close_is_the_end_of_the_stream() {
    let (mut client, server) = pair().await;
    let mut server = server;
    server.write_all(b"bye").await.expect("write");
    drop(server);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.expect("read");
    assert_eq!(all, b"bye");
    assert_eq!(client.read(&mut [0; 1]).await.expect("still the end"), 0);
}

#[tokio::test]
async fn writing_to_a_closed_peer_breaks_the_pipe() {
    let (mut client, server) = pair().await;
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).await.expect("end"), 0);
    client
        .write_all(b"x")
        .await
        .expect("the first write is accepted, and answered with a reset");
    sleep(SOON).await;
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_direction_can_be_finished_alone() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"request").await.expect("write");
    client.shutdown().await.expect("shutdown");
    let mut request = Vec::new();
    server.read_to_end(&mut request).await.expect("read");
    assert_eq!(request, b"request");
    server.write_all(b"answer").await.expect("the other direction is open");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.expect("read");
    assert_eq!(&answer, b"answer");
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn closing_with_unread_bytes_resets() {
    let (mut client, server) = pair().await;
    client.write_all(b"unread").await.expect("write");
    sleep(SOON).await;
    drop(server);
    assert_eq!(kind(client.read(&mut [0; 1]).await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_is_reported_once() {
    let (mut client, server) = pair().await;
    server.set_zero_linger().expect("linger");
    drop(server);
    assert_eq!(kind(client.read(&mut [0; 1]).await), ErrorKind::ConnectionReset);
    assert_eq!(client.read(&mut [0; 1]).await.expect("the end"), 0);
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_reset_reaches_a_writer_too() {
    let (mut client, server) = pair().await;
    server.set_zero_linger().expect("linger");
    drop(server);
    sleep(SOON).await;
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::ConnectionReset);
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_arrived_before_the_end_can_be_read_after_it() {
    let (mut client, mut server) = pair().await;
    server.write_all(b"last words").await.expect("write");
    server.shutdown().await.expect("shutdown");
    sleep(SOON).await;
    let mut words = String::new();
    client.read_to_string(&mut words).await.expect("read");
    assert_eq!(words, "last words");
}

#[tokio::test]
async fn a_writer_waits_for_a_slow_reader() {
    const TOTAL: usize = 32 << 20;
    let (mut client, mut server) = pair().await;
    let writer = tokio::spawn(async move {
        let chunk = vec![7; 64 << 10];
        let mut written = 0;
        while written < TOTAL {
            match timeout(SOON, client.write(&chunk)).await {
                Ok(n) => written += n.expect("write"),
                Err(_) => break,
            }
        }
        (client, written)
    });
    let (client, written) = writer.await.expect("writer");
    assert!(written < TOTAL, "nobody reads, and yet all {TOTAL} bytes were taken");
    drop(client);
    let mut got = 0;
    let mut buf = vec![0; 1 << 20];
    loop {
        match server.read(&mut buf).await.expect("read") {
            0 => break,
            n => got += n,
        }
    }
    assert_eq!(got, written);
}

#[tokio::test]
async fn reading_makes_room_for_a_blocked_writer() {
    const TOTAL: usize = 16 << 20;
    let (mut client, mut server) = pair().await;
    let writer = tokio::spawn(async move { client.write_all(&vec![7; TOTAL]).await });
    let mut got = 0;
    let mut buf = vec![0; 100_000];
    while got < TOTAL {
        let n = server.read(&mut buf).await.expect("read");
        assert!(n > 0 && buf[..n].iter().all(|b| *b == 7));
        got += n;
    }
    writer.await.expect("writer").expect("all written");
}

#[tokio::test]
async fn a_dropped_listener_resets_what_it_did_not_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let mut client = TcpStream::connect(listener.local_addr().expect("address"))
        .await
        .expect("the backlog takes it");
    sleep(SOON).await;
    drop(listener);
    assert_eq!(
        kind(timeout(SOON * 10, client.read(&mut [0; 1])).await.expect("soon")),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_connection_whose_client_has_gone_can_be_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let mut client = TcpStream::connect(listener.local_addr().expect("address"))
        .await
        .expect("connect");
    client.write_all(b"hello").await.expect("write");
    drop(client);
    sleep(SOON).await;
    let (mut server, _) = listener.accept().await.expect("accept");
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.expect("read");
    assert_eq!(all, b"hello");
}

#[tokio::test]
async fn nothing_to_accept_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    assert!(timeout(SOON, listener.accept()).await.is_err());
}

#[tokio::test]
async fn peeking_does_not_consume() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"abc").await.expect("write");
    let mut buf = [0; 2];
    assert_eq!(server.peek(&mut buf).await.expect("peek"), 2);
    let mut all = [0; 3];
    server.read_exact(&mut all).await.expect("read");
    assert_eq!((&buf, &all), (b"ab", b"abc"));
}

#[tokio::test]
async fn trying_does_not_wait() {
    let (mut client, server) = pair().await;
    let mut buf = [0; 8];
    assert_eq!(kind(server.try_read(&mut buf)), ErrorKind::WouldBlock);
    client.write_all(b"x").await.expect("write");
    server.readable().await.expect("readable");
    assert_eq!(server.try_read(&mut buf).expect("read"), 1);
    server.writable().await.expect("writable");
    assert_eq!(server.try_write(b"yz").expect("write"), 2);
    client.read_exact(&mut buf[..2]).await.expect("read");
    assert_eq!(&buf[..2], b"yz");
}

#[tokio::test]
async fn halves_work_apart_and_the_writing_one_finishes_its_direction() {
    let (client, server) = pair().await;
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let echo = tokio::spawn(async move {
        tokio::io::copy(&mut server_read, &mut server_write)
            .await
            .expect("copy");
    });
    client_write.write_all(b"there and back").await.expect("write");
    drop(client_write);
    let mut all = Vec::new();
    client_read.read_to_end(&mut all).await.expect("read");
    assert_eq!(all, b"there and back");
    echo.await.expect("echo");
}

#[tokio::test]
async fn halves_of_one_stream_reunite() {
    let (client, mut server) = pair().await;
    let (read, write) = client.into_split();
    let mut client = read.reunite(write).expect("halves of one stream");
    client.write_all(b"x").await.expect("write");
    assert_eq!(server.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn a_socket_connects_from_the_port_it_is_bound_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind")
        .local_addr()
        .expect("address");
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_nodelay(true).expect("nodelay");
    socket.set_reuseaddr(true).expect("reuse");
    socket.bind(free).expect("bind");
    let client = socket.connect(addr).await.expect("connect");
    assert_eq!(client.local_addr().expect("address"), free);
    assert!(client.nodelay().expect("nodelay"));
    assert_eq!(listener.accept().await.expect("accept").1, free);
}

#[tokio::test]
async fn streams_and_sockets_take_options_through_their_descriptor() {
    let (client, _server) = pair().await;
    let socket = TcpSocket::new_v4().expect("socket");
    for fd in [std::os::fd::AsFd::as_fd(&client), std::os::fd::AsFd::as_fd(&socket)] {
        assert!(std::os::fd::AsRawFd::as_raw_fd(&fd) >= 0);
    }
    fn shared_between_threads<T: Send + Sync>(_: &T) {}
    shared_between_threads(&client);
}

#[tokio::test]
async fn an_empty_write_does_nothing_and_an_empty_read_waits_for_bytes() {
    let (mut client, mut server) = pair().await;
    assert_eq!(client.write(b"").await.expect("write"), 0);
    assert!(timeout(SOON, server.read(&mut [])).await.is_err());
    client.write_all(b"x").await.expect("write");
    assert_eq!(server.read(&mut []).await.expect("read"), 0);
    assert_eq!(server.read_u8().await.expect("read"), b'x');
}
