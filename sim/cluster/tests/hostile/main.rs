//! Malformed, truncated and hostile frames never take a node down: the fuzzer's corpus, and seeded mutations of it, through
//! the same function that the fuzz target runs.

mod corpus;

use sim_cluster::core::rng::Rng;
use sim_cluster::host::hostile::{Fed, feed};
use std::path::Path;

/// Mutated inputs in all.
const MUTATIONS: usize = 20_000;

#[test]
fn the_corpus_is_what_the_list_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
    let inputs = corpus::inputs();
    if std::env::var_os("SIM_CLUSTER_CORPUS").is_some() {
        for (name, bytes) in &inputs {
            std::fs::write(folder.join(name), bytes).expect("written");
        }
    }
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .expect("the corpus")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    let mut listed: Vec<String> = inputs.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(there, listed);
    for (name, bytes) in inputs {
        assert_eq!(std::fs::read(folder.join(name)).expect("a file"), bytes, "{name}");
    }
}

#[test]
fn every_input_of_the_corpus_is_answered() {
    let told: Vec<String> = corpus::inputs()
        .iter()
        .map(|(name, bytes)| {
            let Fed { answers, errors } = feed(bytes);
            format!("{name}: {answers} answers, {errors} errors")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn no_mutation_takes_a_node_down() {
    let inputs = corpus::inputs();
    let mut rng = Rng::new(0x5175_656e_6368);
    let mut total = Fed::default();
    for n in 0..MUTATIONS {
        let (_, seed) = &inputs[n % inputs.len()];
        // The largest are for the corpus itself: each of them costs as much as a hundred others.
        if seed.len() > 8 << 10 {
            continue;
        }
        let input = mutated(seed, &inputs, &mut rng);
        let fed = feed(&input);
        total.answers += fed.answers;
        total.errors += fed.errors;
    }
    // Mutations that break everything at the first byte would try nothing.
    assert!(total.answers > MUTATIONS && total.errors > MUTATIONS / 4, "{total:?}");
    assert!(total.answers - total.errors > MUTATIONS / 8, "{total:?}");
}

/// A number below `n`.
fn below(rng: &mut Rng, n: usize) -> usize {
    rng.between(0, n as u64 - 1) as usize
}

/// One to four edits: bytes turned over, lengths made extreme, pieces cut out, doubled, or taken from another input.
fn mutated(seed: &[u8], inputs: &[(&'static str, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=below(rng, 4) {
        let at = below(rng, bytes.len().max(1));
        let length = 1 + below(rng, 24);
        let end = (at + length).min(bytes.len());
        match below(rng, 6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(rng, 8),
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => {
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let extreme = [
                    &[0xff; 4][..],
                    &[0x7f, 0xff, 0xff, 0xff],
                    &[0; 4],
                    &[0x80, 0, 0, 0],
                    &[0xff, 0xfe],
                ];
                let value = extreme[below(rng, extreme.len())];
                for (byte, new) in bytes.iter_mut().skip(at).zip(value) {
                    *byte = *new;
                }
            }
            4 => bytes.truncate(at.max(1)),
            _ => {
                let (_, other) = &inputs[below(rng, inputs.len())];
                let from = below(rng, other.len());
                let piece = &other[from..(from + 64).min(other.len())];
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), piece.iter().copied());
            }
        }
    }
    bytes
}
