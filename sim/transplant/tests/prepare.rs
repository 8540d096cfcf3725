//! The whole way from a source to `OUT_DIR`, over made-up crates: what is accepted, what is detected, what is written.
//! Real cargo, real network and real vendoring are not covered here; `ci/test` runs the transplants themselves.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use sim_transplant::{
    Error, Prepared, Surroundings, Transplant,
    locate::By,
    proof::{Proof, VENDOR_CHECKSUMS, sha256_hex},
};
use tempfile::TempDir;

const MANIFEST: &str = "[package]\nname = \"x\"\nversion = \"1.0.0\"\nbuild = false\n";
const LIB: &str = "//! Docs.\n#![recursion_limit = \"256\"]\n#![allow(\n    dead_code,\n)]\npub mod inner;\n";
const INNER: &str = "//! Inner docs stay.\npub fn answer() -> u8 { 42 }\n";
const OUR_LIB: &str = "//! Ours.\n#![cfg_attr(madsim, recursion_limit = \"256\")]\n";
const TRANSPLANT: Transplant = Transplant::of("x", "1.0.0");

/// A cargo home with a fetched crate, a workspace that locks it, and no cargo to ask: `cargo metadata` fails, as it does
/// where some other package was never fetched.
struct Scene {
    root: TempDir,
    surroundings: Surroundings,
}

fn published() -> BTreeMap<&'static str, &'static str> {
    [
        ("Cargo.toml", MANIFEST),
        ("README.md", "read"),
        ("src/lib.rs", LIB),
        ("src/inner.rs", INNER),
    ]
    .into()
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("create folder");
    fs::write(path, content).expect("write");
}

fn archive(files: &BTreeMap<&str, &str>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("x-1.0.0/{path}"), content.as_bytes())
            .expect("append");
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar.into_inner().expect("tar")).expect("gzip");
    gz.finish().expect("gzip")
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("temp dir");
        let at = |path: &str| root.path().join(path);
        let surroundings = Surroundings {
            cargo: at("no-cargo-here"),
            cargo_home: at("home"),
            manifest_dir: at("work/sim/x"),
            out_dir: at("out"),
            target: "x86_64-unknown-linux-gnu".into(),
            stated_source: BTreeMap::new(),
        };
        let scene = Self { root, surroundings };
        let bytes = archive(&published());
        scene.lock("1.0.0", &sha256_hex(&bytes));
        write(&scene.archive_path(), bytes);
        for (path, content) in published() {
            write(&scene.source().join(path), content);
        }
        write(&scene.source().join(".cargo-ok"), "{\"v\":1}");
        write(&scene.surroundings.manifest_dir.join("src/lib.rs"), OUR_LIB);
        scene
    }

    fn lock(&self, version: &str, checksum: &str) {
        let text =
            format!("version = 4\n[[package]]\nname = \"x\"\nversion = \"{version}\"\nchecksum = \"{checksum}\"\n");
        write(&self.root.path().join("work/Cargo.lock"), text);
    }

    fn source(&self) -> PathBuf {
        self.surroundings.cargo_home.join("registry/src/index-1/x-1.0.0")
    }

    fn archive_path(&self) -> PathBuf {
        self.surroundings
            .cargo_home
            .join("registry/cache/index-1/x-1.0.0.crate")
    }

    /// Moves the crate out of the registry into a folder, as the environment may state it.
    fn state(&mut self, path: PathBuf) {
        self.surroundings.stated_source.insert("QUENCH_SOURCE_X".into(), path);
    }

    /// Gives the source a vendored crate's checksum file, and takes the archive away.
    fn vendor(&mut self) {
        let sums: BTreeMap<_, _> = published()
            .into_iter()
            .map(|(path, content)| (path, sha256_hex(content.as_bytes())))
            .collect();
        let json = serde_json::json!({ "files": sums, "package": sha256_hex(&archive(&published())) });
        write(&self.source().join(VENDOR_CHECKSUMS), json.to_string());
        fs::remove_file(self.archive_path()).expect("remove archive");
    }

    fn prepare(&self) -> Result<Prepared, Error> {
        TRANSPLANT.prepare(&self.surroundings)
    }

    /// The message of the error that must come, checked to say what to do.
    fn refusal(&self) -> String {
        let message = self.prepare().expect_err("must be refused").to_string();
        assert!(message.contains("do this: "), "{message}");
        message
    }

    fn written(&self, path: &str) -> String {
        fs::read_to_string(self.surroundings.out_dir.join("src").join(path)).expect("written")
    }
}

#[test]
fn a_fetched_source_is_proven_by_its_archive_and_written() {
    let scene = Scene::new();
    let prepared = scene.prepare().expect("prepared");
    assert_eq!(prepared.proof, Proof::Archive(scene.archive_path()));
    assert_eq!((prepared.located.by, prepared.files), (By::Registry, 2));
    assert_eq!(scene.written("lib.rs"), "\n\n\n\n\npub mod inner;\n");
    assert_eq!(scene.written("inner.rs"), INNER);
}

#[test]
fn what_an_earlier_version_left_behind_is_cleared() {
    let scene = Scene::new();
    write(&scene.surroundings.out_dir.join("src/old.rs"), "");
    scene.prepare().expect("prepared");
    assert!(!scene.surroundings.out_dir.join("src/old.rs").exists());
}

#[test]
fn a_changed_file_is_detected() {
    let scene = Scene::new();
    write(&scene.source().join("src/inner.rs"), INNER.replace("42", "43"));
    let message = scene.refusal();
    assert!(message.contains("src/inner.rs was changed"), "{message}");
    assert!(message.contains("cargo fetch --locked"), "{message}");
    assert!(
        !scene.surroundings.out_dir.join("src").exists(),
        "nothing may be written"
    );
}

#[test]
fn an_added_and_a_missing_file_are_detected() {
    let scene = Scene::new();
    write(&scene.source().join("src/extra.rs"), "");
    fs::remove_file(scene.source().join("README.md")).expect("remove");
    let message = scene.refusal();
    assert!(message.contains("src/extra.rs was added"), "{message}");
    assert!(message.contains("README.md is missing"), "{message}");
}

#[test]
fn an_archive_that_the_lock_does_not_name_is_detected() {
    let scene = Scene::new();
    let mut other = published();
    other.insert("src/inner.rs", "pub fn answer() -> u8 { 43 }\n");
    write(&scene.archive_path(), archive(&other));
    write(&scene.source().join("src/inner.rs"), "pub fn answer() -> u8 { 43 }\n");
    assert!(matches!(scene.prepare(), Err(Error::ArchiveChecksum { .. })));
    assert!(scene.refusal().contains("not the published archive"));
}

#[test]
fn another_locked_version_says_how_to_pin() {
    let scene = Scene::new();
    scene.lock("1.0.1", "00");
    let message = scene.refusal();
    assert!(
        message.contains("compiles x 1.0.0") && message.contains("locks 1.0.1"),
        "{message}"
    );
    assert!(message.contains("cargo update -p x --precise 1.0.0"), "{message}");
}

#[test]
fn without_a_lock_file_nothing_is_published() {
    let scene = Scene::new();
    fs::remove_file(scene.root.path().join("work/Cargo.lock")).expect("remove");
    assert!(scene.refusal().contains("no Cargo.lock above"));
}

#[test]
fn a_source_that_is_nowhere_lists_the_places() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.source()).expect("remove");
    let message = scene.refusal();
    for expected in [
        "cargo metadata",
        "registry/src",
        "cargo fetch --locked",
        "cargo vendor",
        "QUENCH_SOURCE_X",
    ] {
        assert!(message.contains(expected), "{message} should name {expected}");
    }
}

#[test]
fn a_vendored_source_is_proven_by_its_checksums() {
    let mut scene = Scene::new();
    scene.vendor();
    fs::remove_file(scene.source().join(".cargo-ok")).expect("remove");
    let prepared = scene.prepare().expect("prepared");
    assert_eq!(
        prepared.proof,
        Proof::VendorChecksums(scene.source().join(VENDOR_CHECKSUMS))
    );
    assert_eq!(scene.written("inner.rs"), INNER);
}

#[test]
fn tampering_with_a_vendored_source_is_detected() {
    let mut scene = Scene::new();
    scene.vendor();
    write(&scene.source().join("src/inner.rs"), "");
    write(&scene.source().join("src/extra.rs"), "");
    let message = scene.refusal();
    assert!(
        message.contains("src/inner.rs was changed") && message.contains("src/extra.rs was added"),
        "{message}"
    );
    assert!(message.contains("cargo vendor"), "{message}");
}

#[test]
fn a_vendored_source_of_another_archive_is_detected() {
    let mut scene = Scene::new();
    scene.vendor();
    scene.lock("1.0.0", "1234");
    assert!(scene.refusal().contains("Cargo.lock wants 1234"));
}

#[test]
fn a_forged_vendor_checksum_is_detected_where_the_archive_is_at_hand() {
    let mut scene = Scene::new();
    let bytes = fs::read(scene.archive_path()).expect("archive");
    scene.vendor();
    write(&scene.archive_path(), bytes);
    fs::remove_file(scene.source().join("README.md")).expect("vendoring may leave files out");
    scene.prepare().expect("an honest vendored copy");
    let forged = fs::read_to_string(scene.source().join(VENDOR_CHECKSUMS))
        .expect("read")
        .replace(&sha256_hex(INNER.as_bytes()), &sha256_hex(b""));
    write(&scene.source().join(VENDOR_CHECKSUMS), forged);
    write(&scene.source().join("src/inner.rs"), "");
    assert!(scene.refusal().contains("src/inner.rs was changed"));
}

#[test]
fn an_unpacked_source_without_its_archive_says_how_to_get_it_back() {
    let scene = Scene::new();
    fs::remove_file(scene.archive_path()).expect("remove");
    assert!(scene.refusal().contains("brings x-1.0.0.crate back"));
}

#[test]
fn a_stated_folder_is_checked_where_possible_and_called_unproven_where_not() {
    let mut scene = Scene::new();
    let mirror = scene.root.path().join("mirror/x");
    fs::create_dir_all(mirror.parent().expect("parent")).expect("create");
    fs::rename(scene.source(), &mirror).expect("move");
    scene.state(mirror.clone());
    let prepared = scene.prepare().expect("prepared");
    assert_eq!(
        (prepared.located.by, prepared.proof),
        (By::Stated, Proof::Archive(scene.archive_path()))
    );

    fs::remove_file(scene.archive_path()).expect("remove");
    let Proof::None { why } = scene.prepare().expect("prepared").proof else {
        panic!("nothing is there to prove it by")
    };
    assert!(why.contains("mirror/x was stated"), "{why}");

    write(&mirror.join("Cargo.toml"), MANIFEST.replace("1.0.0", "0.9.0"));
    assert!(scene.refusal().contains("says x 0.9.0"));
}

#[test]
fn a_changed_stated_folder_is_detected() {
    let mut scene = Scene::new();
    write(&scene.source().join("src/inner.rs"), "");
    scene.state(scene.source());
    let message = scene.refusal();
    assert!(
        message.contains("src/inner.rs was changed") && message.contains("QUENCH_SOURCE_X"),
        "{message}"
    );
}

#[test]
fn a_stated_archive_is_proven_by_itself() {
    let mut scene = Scene::new();
    let elsewhere = scene.root.path().join("x.crate");
    fs::rename(scene.archive_path(), &elsewhere).expect("move");
    fs::remove_dir_all(scene.source()).expect("remove");
    scene.state(elsewhere.clone());
    assert_eq!(
        scene.prepare().expect("prepared").proof,
        Proof::Archive(elsewhere.clone())
    );
    write(&elsewhere, "not an archive");
    assert!(matches!(scene.prepare(), Err(Error::ArchiveChecksum { .. })));
}

#[test]
fn a_stated_path_that_does_not_exist_is_no_reason_to_look_elsewhere() {
    let mut scene = Scene::new();
    scene.state(scene.root.path().join("nowhere"));
    assert!(scene.refusal().contains("nowhere (does not exist)"));
}

#[test]
fn an_attribute_that_our_lib_lacks_is_named() {
    let scene = Scene::new();
    write(
        &scene.surroundings.manifest_dir.join("src/lib.rs"),
        "//! Ours, without the limit.\n",
    );
    let message = scene.refusal();
    assert!(
        message.contains("recursion_limit=\"256\"") && message.contains("cfg_attr(madsim"),
        "{message}"
    );
}
