//! Files as programs see them on Linux while nothing fails.

use std::io::{ErrorKind, SeekFrom};
use std::path::PathBuf;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// A directory of its own for each test.
struct Scratch {
    path: PathBuf,
    #[cfg(not(madsim))]
    _real: tempfile::TempDir,
}

impl Scratch {
    #[cfg(not(madsim))]
    async fn new() -> Scratch {
        let real = tempfile::tempdir().expect("a temporary directory");
        Scratch {
            path: real.path().to_owned(),
            _real: real,
        }
    }

    #[cfg(madsim)]
    async fn new() -> Scratch {
        let path = PathBuf::from("/tmp/scratch");
        fs::create_dir(&path).await.expect("a fresh disk");
        Scratch { path }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

#[tokio::test]
async fn what_is_written_can_be_read() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    let mut file = File::create(&path).await.expect("create");
    file.write_all(b"hello ").await.expect("write");
    file.write_all(b"world").await.expect("write");
    file.flush().await.expect("flush");
    assert_eq!(fs::read(&path).await.expect("read"), b"hello world");
    assert_eq!(fs::read_to_string(&path).await.expect("read"), "hello world");
    assert_eq!(fs::metadata(&path).await.expect("metadata").len(), 11);
    file.sync_all().await.expect("sync");
    file.sync_data().await.expect("sync");
}

#[tokio::test]
async fn missing_files_are_not_found() {
    let dir = Scratch::new().await;
    let path = dir.file("missing");
    assert_eq!(kind(File::open(&path).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::read(&path).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::remove_file(&path).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::rename(&path, dir.file("b")).await), ErrorKind::NotFound);
    assert_eq!(kind(fs::metadata(&path).await), ErrorKind::NotFound);
    assert_eq!(kind(File::create(dir.file("no/such/dir")).await), ErrorKind::NotFound);
    assert!(!fs::try_exists(&path).await.expect("no error"));
}

#[tokio::test]
async fn append_writes_at_the_end_whatever_the_position() {
    let dir = Scratch::new().await;
    let path = dir.file("log");
    fs::write(&path, b"one").await.expect("write");
    let mut file = OpenOptions::new().append(true).open(&path).await.expect("open");
    file.seek(SeekFrom::Start(0)).await.expect("seek");
    file.write_all(b"two").await.expect("write");
    file.flush().await.expect("flush");
    let mut other = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .await
        .expect("open");
    other.write_all(b"three").await.expect("write");
    other.flush().await.expect("flush");
    file.write_all(b"four").await.expect("write");
    file.flush().await.expect("flush");
    assert_eq!(fs::read(&path).await.expect("read"), b"onetwothreefour");
}

#[tokio::test]
async fn create_new_insists() {
    let dir = Scratch::new().await;
    let path = dir.file("once");
    File::create_new(&path).await.expect("create");
    assert_eq!(kind(File::create_new(&path).await), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn truncate_and_set_len_cut_and_extend() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    fs::write(&path, vec![1; 2000]).await.expect("write");
    let file = OpenOptions::new().write(true).open(&path).await.expect("open");
    file.set_len(700).await.expect("cut");
    assert_eq!(fs::read(&path).await.expect("read"), vec![1; 700]);
    file.set_len(1300).await.expect("extend");
    let mut want = vec![1; 700];
    want.resize(1300, 0);
    assert_eq!(fs::read(&path).await.expect("read"), want);
    File::create(&path).await.expect("create empties");
    assert_eq!(fs::metadata(&path).await.expect("metadata").len(), 0);
}

#[tokio::test]
async fn seeking_moves_reads_and_writes() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .await
        .expect("open");
    file.write_all(b"0123456789").await.expect("write");
    assert_eq!(file.seek(SeekFrom::Start(3)).await.expect("seek"), 3);
    file.write_all(b"xy").await.expect("write");
    assert_eq!(file.seek(SeekFrom::Current(-1)).await.expect("seek"), 4);
    let mut two = [0; 2];
    file.read_exact(&mut two).await.expect("read");
    assert_eq!(&two, b"y5");
    assert_eq!(file.seek(SeekFrom::End(-1)).await.expect("seek"), 9);
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).await.expect("read");
    assert_eq!(rest, b"9");
    assert_eq!(file.stream_position().await.expect("position"), 10);
    assert!(file.seek(SeekFrom::Current(-11)).await.is_err());
}

#[tokio::test]
async fn a_write_beyond_the_end_leaves_zeros() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    let mut file = File::create(&path).await.expect("create");
    file.seek(SeekFrom::Start(600)).await.expect("seek");
    file.write_all(b"x").await.expect("write");
    file.flush().await.expect("flush");
    let all = fs::read(&path).await.expect("read");
    assert_eq!((all.len(), all[600]), (601, b'x'));
    assert!(all[..600].iter().all(|b| *b == 0));
}

#[tokio::test]
async fn the_wrong_mode_is_refused() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    fs::write(&path, b"x").await.expect("write");
    let mut read_only = File::open(&path).await.expect("open");
    // tokio reports a write done before it happens: the error comes with the flush
    read_only.write_all(b"y").await.expect("taken");
    assert!(read_only.flush().await.is_err());
    assert!(read_only.set_len(0).await.is_err());
    let mut write_only = OpenOptions::new().write(true).open(&path).await.expect("open");
    assert!(write_only.read_u8().await.is_err());
    assert_eq!(kind(OpenOptions::new().open(&path).await), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn rename_replaces_and_open_files_follow() {
    let dir = Scratch::new().await;
    let (a, b) = (dir.file("a"), dir.file("b"));
    fs::write(&a, b"new").await.expect("write");
    fs::write(&b, b"old").await.expect("write");
    let mut old = File::open(&b).await.expect("open");
    fs::rename(&a, &b).await.expect("rename");
    assert_eq!(fs::read(&b).await.expect("read"), b"new");
    assert!(!fs::try_exists(&a).await.expect("no error"));
    let mut text = String::new();
    old.read_to_string(&mut text)
        .await
        .expect("a replaced file lives while it is open");
    assert_eq!(text, "old");
}

#[tokio::test]
async fn a_removed_file_lives_while_it_is_open() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    fs::write(&path, b"ghost").await.expect("write");
    let mut file = File::open(&path).await.expect("open");
    fs::remove_file(&path).await.expect("remove");
    let mut text = String::new();
    file.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "ghost");
    assert_eq!(kind(File::open(&path).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn directories_are_listed_and_removed() {
    let dir = Scratch::new().await;
    let deep = dir.file("x/y/z");
    fs::create_dir_all(&deep).await.expect("create");
    fs::create_dir_all(&deep).await.expect("again");
    assert_eq!(kind(fs::create_dir(&deep).await), ErrorKind::AlreadyExists);
    fs::write(dir.file("x/file"), b"123").await.expect("write");
    let mut entries = fs::read_dir(dir.file("x")).await.expect("read");
    let mut seen = Vec::new();
    while let Some(entry) = entries.next_entry().await.expect("entry") {
        let metadata = entry.metadata().await.expect("metadata");
        assert_eq!(entry.path(), dir.file("x").join(entry.file_name()));
        seen.push((entry.file_name().into_string().expect("text"), metadata.is_dir()));
    }
    seen.sort();
    assert_eq!(seen, [("file".to_owned(), false), ("y".to_owned(), true)]);
    assert_eq!(kind(fs::remove_dir(dir.file("x")).await), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(fs::read_dir(dir.file("x/file")).await), ErrorKind::NotADirectory);
    fs::remove_dir(&deep).await.expect("empty");
    fs::remove_dir_all(dir.file("x")).await.expect("with everything in it");
    assert!(!fs::try_exists(dir.file("x")).await.expect("no error"));
}

#[tokio::test]
async fn a_directory_can_be_renamed_with_what_is_in_it() {
    let dir = Scratch::new().await;
    fs::create_dir_all(dir.file("a/b")).await.expect("create");
    fs::write(dir.file("a/b/c"), b"deep").await.expect("write");
    fs::rename(dir.file("a"), dir.file("z")).await.expect("rename");
    assert_eq!(fs::read(dir.file("z/b/c")).await.expect("read"), b"deep");
    assert!(!fs::try_exists(dir.file("a/b/c")).await.expect("no error"));
}

#[tokio::test]
async fn a_directory_is_synced_by_opening_it() {
    let dir = Scratch::new().await;
    fs::write(dir.file("a"), b"x").await.expect("write");
    let handle = File::open(&dir.path).await.expect("directories open for reading");
    assert!(handle.metadata().await.expect("metadata").is_dir());
    handle.sync_all().await.expect("sync");
    assert_eq!(
        kind(OpenOptions::new().write(true).open(&dir.path).await),
        ErrorKind::IsADirectory
    );
}

#[tokio::test]
async fn two_handles_see_one_file() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    let mut writer = File::create(&path).await.expect("create");
    let mut reader = File::open(&path).await.expect("open");
    writer.write_all(b"ab").await.expect("write");
    writer.flush().await.expect("flush");
    assert_eq!(reader.read_u16().await.expect("read"), 0x6162);
    writer.write_all(b"c").await.expect("write");
    writer.flush().await.expect("flush");
    assert_eq!(reader.read_u8().await.expect("read on"), b'c');
    assert_eq!(kind(reader.read_u8().await), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn copies_are_independent() {
    let dir = Scratch::new().await;
    let (a, b) = (dir.file("a"), dir.file("b"));
    fs::write(&a, b"same").await.expect("write");
    assert_eq!(fs::copy(&a, &b).await.expect("copy"), 4);
    fs::write(&a, b"other").await.expect("write");
    assert_eq!(fs::read(&b).await.expect("read"), b"same");
}

#[tokio::test]
async fn clones_of_a_handle_share_its_position() {
    let dir = Scratch::new().await;
    let path = dir.file("a");
    fs::write(&path, b"abcd").await.expect("write");
    let mut one = File::open(&path).await.expect("open");
    let mut two = one.try_clone().await.expect("clone");
    one.seek(SeekFrom::Start(2)).await.expect("seek");
    assert_eq!(two.read_u8().await.expect("read"), b'c');
}
