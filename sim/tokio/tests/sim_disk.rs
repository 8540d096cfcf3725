//! Disks as only a simulator can have them: what a power loss takes, errors, a full disk, a slow one, a new one.
#![cfg(madsim)]

extern crate sim_tokio as tokio;

mod common;

use common::{Pair, kind, ms};
use sim_world::disk::{DiskConfig, DiskFault, OpenFlags};
use sim_world::{Seed, WorldConfig};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

const EIO: i32 = 5;

/// Runs a writer on the server, then what `then` does to the machine; returns what is left of `/d/wal`, if anything.
fn after<W, Fut>(seed: u64, writer: W, then: fn(&Pair)) -> Option<Vec<u8>>
where
    W: Fn() -> Fut + Send + Sync + 'static,
    Fut: std::future::Future<Output = ()> + Send + 'static,
{
    let left = Arc::new(Mutex::new(None));
    let found = left.clone();
    Pair::run_seed(Seed(seed), WorldConfig::default(), move |pair| async move {
        pair.server.spawn(writer()).await.expect("the writer ends");
        then(&pair);
        pair.server.restart();
        *found.lock().expect("one thread") = pair.server.disk().read_live("/d/wal");
    });
    left.lock().expect("one thread").take()
}

/// Ten records synced, ten not, and an overwrite of the middle of the synced part.
async fn write_wal() {
    fs::create_dir("/d").await.expect("create");
    let mut file = File::create("/d/wal").await.expect("create");
    File::open("/d").await.expect("open").sync_all().await.expect("sync");
    File::open("/").await.expect("open").sync_all().await.expect("sync");
    for _ in 0..10 {
        file.write_all(&[1; 700]).await.expect("write");
    }
    file.flush().await.expect("flush");
    file.sync_all().await.expect("sync");
    for _ in 0..10 {
        file.write_all(&[2; 700]).await.expect("write");
    }
    let mut other = OpenOptions::new().write(true).open("/d/wal").await.expect("open");
    tokio::io::AsyncSeekExt::seek(&mut other, std::io::SeekFrom::Start(100))
        .await
        .expect("seek");
    other.write_all(&[3; 1000]).await.expect("write");
    other.flush().await.expect("flush");
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let left = after(1, write_wal, |pair| pair.server.kill()).expect("the file");
    assert_eq!(left.len(), 14_000);
    assert!(left[100..1100].iter().all(|b| *b == 3) && left[7000..].iter().all(|b| *b == 2));
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_tears_the_rest() {
    let (mut torn, mut holes, mut short, mut whole) = (0, 0, 0, 0);
    for seed in 0..200 {
        let left = after(seed, write_wal, |pair| pair.server.power_off()).expect("the synced name");
        assert!(
            left.len() >= 7000,
            "seed {seed}: {} bytes left of 7000 synced ones",
            left.len()
        );
        for (at, byte) in left[..7000].iter().enumerate() {
            assert!(
                *byte == 1 || (*byte == 3 && (100..1100).contains(&at)),
                "seed {seed}: {byte} at {at}"
            );
        }
        assert!(left[7000..].iter().all(|b| [0, 2].contains(b)));
        torn += u32::from(left[100] != left[1099]);
        holes += u32::from(left[7000..].contains(&0));
        short += u32::from(left.len() < 14_000);
        whole += u32::from(left[100..1100].iter().all(|b| *b == 3));
    }
    assert!(
        torn > 20 && holes > 100 && short > 150 && whole > 5,
        "torn {torn}, holes {holes}, short {short}, whole {whole}"
    );
}

#[test]
fn a_power_loss_that_does_not_tear_takes_all_that_was_not_synced() {
    let left = after(1, write_wal, |pair| {
        pair.server.disk().set_torn_on_power_loss(false);
        pair.server.power_off();
    });
    assert_eq!(left.expect("the file"), vec![1; 7000]);
}

#[test]
fn a_name_needs_a_sync_of_its_directory() {
    async fn write_without_directory_sync() {
        fs::create_dir("/d").await.expect("create");
        let mut file = File::create("/d/wal").await.expect("create");
        file.write_all(b"x").await.expect("write");
        file.flush().await.expect("flush");
        file.sync_all().await.expect("sync");
    }
    let gone = (0..50)
        .filter(|seed| after(*seed, write_without_directory_sync, |pair| pair.server.power_off()).is_none())
        .count();
    assert!(
        (5..50).contains(&gone),
        "the name was gone in {gone} of 50 power losses"
    );
    assert!(after(1, write_without_directory_sync, |pair| pair.server.kill()).is_some());
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    async fn replace() {
        fs::create_dir("/d").await.expect("create");
        fs::write("/d/wal", b"old").await.expect("write");
        for path in ["/d/wal", "/d", "/"] {
            File::open(path).await.expect("open").sync_all().await.expect("sync");
        }
        fs::write("/d/new", b"new").await.expect("write");
        File::open("/d/new")
            .await
            .expect("open")
            .sync_all()
            .await
            .expect("sync");
        fs::rename("/d/new", "/d/wal").await.expect("rename");
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        seen.insert(after(seed, replace, |pair| pair.server.power_off()).expect("one of the two"));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [b"new".to_vec(), b"old".to_vec()]);
}

#[test]
fn a_sync_in_flight_may_or_may_not_have_happened() {
    async fn start_a_sync() {
        fs::create_dir("/d").await.expect("create");
        let mut file = File::create("/d/wal").await.expect("create");
        for path in ["/d", "/"] {
            File::open(path).await.expect("open").sync_all().await.expect("sync");
        }
        file.write_all(&[1; 4096]).await.expect("write");
        file.flush().await.expect("flush");
        drop(tokio::spawn(async move { file.sync_all().await }));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    let lengths: Vec<usize> = (0..40)
        .map(|seed| {
            after(seed, start_a_sync, |pair| pair.server.power_off())
                .expect("the file")
                .len()
        })
        .collect();
    assert!(
        lengths.iter().any(|n| *n < 4096),
        "the power went during the sync, and yet it always counted"
    );
}

#[test]
fn a_sync_goes_on_when_nobody_waits_for_it() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        let file = disk.open("/tmp/a", OpenFlags::read_write_create()).expect("open");
        file.append(b"abc").expect("append");
        disk.sync_dir("/tmp").await.expect("sync");
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, file.sync())
                .await
                .is_ok()
                || disk.read_durable("/tmp/a") != Some(b"abc".to_vec())
        );
        sleep(ms(5)).await;
        assert_eq!(disk.read_durable("/tmp/a"), Some(b"abc".to_vec()));
    });
}

#[test]
fn what_is_written_during_a_sync_is_not_part_of_it() {
    let slow = DiskConfig {
        fsync_base_ns: 10_000_000,
        fsync_tail: 0,
        ..DiskConfig::default()
    };
    let config = WorldConfig {
        disk: slow,
        ..WorldConfig::default()
    };
    Pair::run_with(config, |pair| async move {
        let disk = pair.client.disk();
        let file = Arc::new(disk.open("/tmp/a", OpenFlags::read_write_create()).expect("open"));
        disk.sync_dir("/tmp").await.expect("sync");
        file.append(b"before").expect("append");
        let syncing = tokio::spawn({
            let file = file.clone();
            async move { file.sync().await }
        });
        sleep(ms(2)).await;
        file.append(b" after").expect("append");
        file.write_at(0, b"B").expect("write");
        syncing.await.expect("joined").expect("sync");
        assert_eq!(disk.read_live("/tmp/a"), Some(b"Before after".to_vec()));
        assert_eq!(disk.read_durable("/tmp/a"), Some(b"before".to_vec()));
        file.sync().await.expect("sync");
        assert_eq!(disk.read_durable("/tmp/a"), Some(b"Before after".to_vec()));
    });
}

#[test]
fn a_failed_sync_loses_its_pages_and_the_next_one_succeeds_without_them() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        let file = disk.open("/tmp/a", OpenFlags::read_write_create()).expect("open");
        disk.sync_dir("/tmp").await.expect("sync");
        file.append(&[1; 1000]).expect("append");
        file.sync().await.expect("sync");
        file.write_at(100, &[2; 50]).expect("write");
        file.append(&[2; 1000]).expect("append");
        disk.set_fault(DiskFault {
            fail_fsyncs: 1,
            ..DiskFault::default()
        });
        assert_eq!(file.sync().await.expect_err("the fault").raw_os_error(), Some(EIO));
        file.sync().await.expect("the next sync has nothing to write");
        // the page cache shows what the platter does not have
        assert_eq!(disk.read_live("/tmp/a").expect("live")[100], 2);
        let platter = disk.read_durable("/tmp/a").expect("durable");
        assert_eq!((platter.len(), platter[100], platter[1500]), (2000, 1, 0));
        // written again by the program, it is safe
        file.write_at(100, &[3; 50]).expect("write");
        file.write_at(1000, &[3; 1000]).expect("write");
        file.sync().await.expect("sync");
        let platter = disk.read_durable("/tmp/a").expect("durable");
        assert_eq!((platter[100], platter[1500]), (3, 3));
        assert_eq!(disk.stats().faults, 1);
    });
}

#[test]
fn failing_writes_are_reported_late_by_tokio_and_strike_only_their_prefix() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        let mut bad = File::create("/tmp/bad").await.expect("create");
        let mut good = File::create("/tmp/good").await.expect("create");
        disk.set_fault(DiskFault {
            fail_writes: 1,
            path_prefix: Some("/tmp/bad".into()),
            ..DiskFault::default()
        });
        good.write_all(b"x").await.expect("write");
        good.flush().await.expect("flush");
        bad.write_all(b"x").await.expect("taken");
        bad.sync_all().await.expect("a sync alone does not report it");
        assert_eq!(bad.flush().await.expect_err("the fault").raw_os_error(), Some(EIO));
        assert_eq!(disk.fault().fail_writes, 0);
        assert_eq!(
            (disk.read_live("/tmp/bad"), disk.read_live("/tmp/good")),
            (Some(vec![]), Some(b"x".to_vec()))
        );
        disk.set_fault(DiskFault {
            fail_reads: 1,
            ..DiskFault::default()
        });
        assert_eq!(
            fs::read("/tmp/good").await.expect_err("the fault").raw_os_error(),
            Some(EIO)
        );
        assert_eq!(fs::read("/tmp/good").await.expect("read"), b"x");
    });
}

#[test]
fn a_full_disk_takes_what_fits() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        disk.set_fault(DiskFault {
            capacity_bytes: Some(1000),
            ..DiskFault::default()
        });
        let file = disk.open("/tmp/a", OpenFlags::read_write_create()).expect("open");
        assert_eq!(file.write_at(0, &[1; 800]).expect("fits"), 800);
        assert_eq!(file.write_at(800, &[1; 800]).expect("partly"), 200);
        assert_eq!(kind(file.write_at(1000, &[1; 1])), ErrorKind::StorageFull);
        assert_eq!(kind(file.set_len(2000)), ErrorKind::StorageFull);
        assert_eq!(file.write_at(0, &[2; 1000]).expect("overwriting needs no room"), 1000);
        assert_eq!(disk.used_bytes(), 1000);
        file.set_len(300).expect("cut");
        assert_eq!(disk.used_bytes(), 300);
        drop(file);
        disk.remove_file("/tmp/a").expect("remove");
        disk.sync_dir("/tmp").await.expect("sync");
        let other = disk.open("/tmp/b", OpenFlags::read_write_create()).expect("open");
        assert_eq!(other.write_at(0, &[1; 1000]).expect("the room is free again"), 1000);
    });
}

#[test]
fn syncs_take_time_and_slow_ones_more() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        let file = File::create("/tmp/a").await.expect("create");
        let start = Instant::now();
        file.sync_all().await.expect("sync");
        let quick = start.elapsed();
        assert!(quick.as_micros() >= 60 && quick < ms(3), "{quick:?}");
        disk.set_fault(DiskFault {
            slow_fsync_ns: 700_000_000,
            ..DiskFault::default()
        });
        let start = Instant::now();
        file.sync_all().await.expect("sync");
        assert!(start.elapsed() >= ms(700));
    });
}

#[test]
fn bits_rot_on_the_platter_and_in_the_cache() {
    Pair::run(|pair| async move {
        let disk = pair.client.disk();
        fs::write("/tmp/a", b"abc").await.expect("write");
        assert!(disk.bit_rot("/tmp/a", 1, 0));
        assert!(!disk.bit_rot("/tmp/a", 3, 0) && !disk.bit_rot("/tmp/missing", 0, 0));
        assert_eq!(fs::read("/tmp/a").await.expect("read"), b"acc");
    });
}

#[test]
fn a_new_disk_is_empty_and_old_files_are_dead() {
    Pair::run(|pair| async move {
        let mut file = File::create("/tmp/a").await.expect("create");
        pair.client.disk().replace();
        file.write_all(b"x").await.expect("taken");
        assert_eq!(file.flush().await.expect_err("dead").raw_os_error(), Some(EIO));
        assert_eq!(kind(fs::read("/tmp/a").await), ErrorKind::NotFound);
        fs::write("/tmp/b", b"new").await.expect("write");
    });
}

#[test]
fn each_machine_has_its_own_disk_wherever_a_task_was_spawned() {
    Pair::run(|pair| async move {
        pair.server
            .spawn(async {
                fs::write("/tmp/mine", b"server").await.expect("write");
                tokio::spawn(async { fs::write("/tmp/also", b"server").await.expect("write") })
                    .await
                    .expect("joined");
            })
            .await
            .expect("joined");
        assert_eq!(kind(fs::read("/tmp/mine").await), ErrorKind::NotFound);
        let files: Vec<_> = pair.server.disk().files().into_iter().map(|(path, _)| path).collect();
        assert_eq!(files, ["/tmp/also", "/tmp/mine"]);
    });
}

#[test]
fn a_dead_process_writes_nothing_more() {
    /// Tries to write when it is dropped, which happens after its machine was killed.
    struct LastWill(sim_world::disk::DiskFile);
    impl Drop for LastWill {
        fn drop(&mut self) {
            assert!(self.0.append(b"late").is_err());
            assert!(
                sim_world::disk::here()
                    .open("/tmp/late", OpenFlags::read_write_create())
                    .is_err()
            );
        }
    }
    Pair::run(|pair| async move {
        drop(pair.server.spawn(async {
            let file = sim_world::disk::here()
                .open("/tmp/will", OpenFlags::read_write_create())
                .expect("open");
            let _will = LastWill(file);
            std::future::pending::<()>().await;
        }));
        sleep(ms(1)).await;
        pair.server.restart();
        sleep(ms(1)).await;
        assert_eq!(pair.server.disk().read_live("/tmp/will"), Some(vec![]));
        assert_eq!(pair.server.disk().read_live("/tmp/late"), None);
    });
}
