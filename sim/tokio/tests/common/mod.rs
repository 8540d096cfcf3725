//! A world of two machines, for the tests that need faults: a server that echoes and a client that runs the test.
#![allow(dead_code, reason = "every test file uses its own part")]

use sim_world::{Host, RunSummary, Seed, World, WorldConfig};
use std::fmt::Debug;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where the server echoes.
pub const SERVER: &str = "10.0.0.1:7000";

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn kind<T: Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Serves a port, answering every byte with itself.
pub async fn echo(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.expect("bind");
    loop {
        let (mut stream, _) = listener.accept().await.expect("accept");
        tokio::spawn(async move {
            let mut buf = [0; 1024];
            while let Ok(n) = stream.read(&mut buf).await {
                if n == 0 || stream.write_all(&buf[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// One round trip.
pub async fn ping(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// The two machines. The test itself runs as a task of the client.
#[derive(Clone)]
pub struct Pair {
    pub world: World,
    pub server: Host,
    pub client: Host,
}

impl Pair {
    pub fn run<F, Fut>(f: F) -> RunSummary
    where
        F: FnOnce(Pair) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Pair::run_with(WorldConfig::default(), f)
    }

    pub fn run_with<F, Fut>(config: WorldConfig, f: F) -> RunSummary
    where
        F: FnOnce(Pair) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Pair::run_seed(Seed(7), config, f)
    }

    pub fn run_seed<F, Fut>(seed: Seed, config: WorldConfig, f: F) -> RunSummary
    where
        F: FnOnce(Pair) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let run = World::run(seed, config, |world| async move {
            let server = world.host("server", [10, 0, 0, 1].into());
            let client = world.host("client", [10, 0, 0, 2].into());
            server.start(|| Box::pin(echo(7000)));
            tokio::time::sleep(ms(10)).await;
            let pair = Pair {
                world,
                server,
                client: client.clone(),
            };
            client.spawn(async move { f(pair).await }).await
        });
        match run {
            Ok((Ok(()), summary)) => summary,
            Ok((Err(error), _)) => panic!("the client's task: {error}"),
            Err(error) => panic!("{error}"),
        }
    }

    pub fn cut_to_server(&self, cut: bool) {
        self.world.links().cut(self.client.id(), self.server.id(), cut);
    }

    pub fn cut_to_client(&self, cut: bool) {
        self.world.links().cut(self.server.id(), self.client.id(), cut);
    }
}
