//! The program of a database machine: recover from the log, open the port, pump messages and deadlines until the end.
//! It runs as tasks of its machine, so a paused machine neither reads nor steps and a killed one does nothing more.

use super::process::{CQL_PORT, Process, view};
use super::{Cluster, Pumped, connection};
use crate::core::message::Input;
use crate::core::{Node, Start};
use crate::model::NodeIdx;
use sim_world::disk::{DiskFile, OpenFlags};
use sim_world::net::TcpListener;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

/// Directory of a node's data on its simulated disk.
pub const DATA_DIR: &str = "/var/lib/db";
/// A node's commit log.
pub const LOG_PATH: &str = "/var/lib/db/commitlog";

/// Cleans up when the process ends, however it ends.
struct Life {
    cluster: Arc<Cluster>,
    me: NodeIdx,
    start: u64,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.cluster.ended(self.me, self.start);
    }
}

/// Runs a node from one start to the end of its process.
pub(super) async fn run(cluster: Arc<Cluster>, me: NodeIdx) {
    let start = cluster.started(me);
    let life = Life {
        cluster: cluster.clone(),
        me,
        start,
    };
    match open_log().await {
        Ok((log, bytes)) => boot(&cluster, me, start, log, &bytes),
        Err(error) => {
            super::record::halted(&cluster, me, format!("cannot open {LOG_PATH}: {error}"));
            return;
        }
    }
    drop(sim_world::task::spawn(sync_log(cluster.clone(), me)));
    let mut listening = false;
    let mut registered = false;
    poll_fn(|cx| {
        // A task's waker stays the same one.
        if !std::mem::replace(&mut registered, true) {
            cluster.with_inbox(me, |inbox| inbox.listen(cx.waker()));
            cluster.with_process(me, |process| process.listen(cx.waker()));
        }
        match cluster.pump(me) {
            Pumped::Over => return Poll::Ready(()),
            Pumped::Serving if !listening => {
                listening = true;
                drop(sim_world::task::spawn(accept(cluster.clone(), me)));
                cluster.look_again();
            }
            Pumped::Serving | Pumped::NotYet => {}
        }
        Poll::Pending
    })
    .await;
    drop(life);
}

async fn open_log() -> io::Result<(DiskFile, Vec<u8>)> {
    let disk = sim_world::disk::here();
    disk.create_dir_all(DATA_DIR)?;
    let log = disk.open(
        LOG_PATH,
        OpenFlags {
            read: true,
            append: true,
            create: true,
            ..OpenFlags::default()
        },
    )?;
    let bytes = log.read_all()?;
    if bytes.is_empty() {
        // The name has to survive a power loss, or what is synced under it would not.
        disk.sync_dir(DATA_DIR).await?;
        for parent in ["/var/lib", "/var", "/"] {
            disk.sync_dir(parent).await?;
        }
    }
    Ok((log, bytes))
}

fn boot(cluster: &Arc<Cluster>, me: NodeIdx, start: u64, log: DiskFile, bytes: &[u8]) {
    let mut node = Node::new(cluster.config.clone(), me, cluster.draw(me));
    let now_us = cluster.now_us();
    node.set_clock(now_us, cluster.clock(me));
    let mut process = Process::new(cluster, node, log);
    let replacing = super::lock(&cluster.slot(me).replacing).take();
    let start = match replacing {
        Some(generation) => Start::InPlaceOf { generation },
        None if start == 1 => Start::Together,
        None => Start::Alone,
    };
    process.boot(now_us, bytes, start);
    cluster.install(me, process);
    cluster.turn(me, |_, _| {});
}

/// Accepts connections until the process ends.
async fn accept(cluster: Arc<Cluster>, me: NodeIdx) {
    let address = SocketAddr::new(cluster.config.nodes[usize::from(me.0)].ip, CQL_PORT);
    let listener = match TcpListener::bind_one(address) {
        Ok(listener) => listener,
        Err(error) => return super::record::halted(&cluster, me, format!("cannot listen on {address}: {error}")),
    };
    while let Ok((stream, _)) = listener.accept().await {
        drop(sim_world::task::spawn(connection::serve(cluster.clone(), me, stream)));
    }
}

/// Syncs the log whenever the core asked for it; requests that come during a sync share the next one.
async fn sync_log(cluster: Arc<Cluster>, me: NodeIdx) {
    loop {
        let wanted = poll_fn(|cx| {
            let mut old = None;
            let wanted = cluster.with_process(me, |process| {
                let tokens: Vec<u64> = process.syncs.drain(..).collect();
                old = process.sync_waker.replace(cx.waker().clone());
                (tokens, process.log.clone())
            });
            drop(old);
            match wanted {
                None => Poll::Ready(None),
                Some((tokens, _)) if tokens.is_empty() => Poll::Pending,
                Some(wanted) => Poll::Ready(Some(wanted)),
            }
        })
        .await;
        let Some((tokens, log)) = wanted else { return };
        let outcome = log.sync().await;
        cluster.turn(me, |process, now_us| match &outcome {
            Ok(()) => tokens
                .iter()
                .for_each(|token| process.step(&cluster, now_us, Input::LogSynced { token: *token })),
            Err(error) => process.step(
                &cluster,
                now_us,
                Input::LogFailed {
                    error: format!("sync: {error}"),
                },
            ),
        });
    }
}

/// Used by checks: what a node's front would be told.
pub(super) fn port_and_generation(process: &Process) -> (u16, i32) {
    let view = view(&process.node);
    (view.port, view.generation)
}
