//! Draws from every source of process randomness that a program under test may touch, inside a simulation, and answers
//! with what came out. Two runs of one seed must answer alike, whatever ran before and in whatever process: this is the
//! worker's own proof that a fork in a fixed process cures what `tokio::select!` and the hashers leak. It proves nothing
//! about scenarios; `quench determinism` does that.
use scenarios::protocol::{Answer, Behave, ProbeJob};
use std::collections::BTreeMap;
use std::hash::BuildHasher;

/// Bits drawn from each source.
const DRAWS: u64 = 64;

/// Runs the probe.
pub fn run(job: &ProbeJob) -> Answer {
    match job.behave {
        Behave::Honest => Answer::Probe {
            drawn: honest(job.seed),
        },
        Behave::Hang => loop {
            std::hint::spin_loop();
        },
        Behave::Panic => panic!("a probe was asked to panic"),
        Behave::Abort => std::process::abort(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "drawing by chance is what is probed: inside a simulation it must not be chance"
)]
fn honest(seed: u64) -> BTreeMap<String, String> {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.block_on(async {
        let mut drawn = BTreeMap::new();
        let mut note = |name: &str, bits: u64| {
            drawn.insert(name.to_string(), format!("{bits:016x}"));
        };
        note("tokio::select!", tokio_select().await);
        note("futures::select!", futures_select().await);
        note("std HashMap", mixed(|i| std::hash::RandomState::new().hash_one(i)));
        note("ahash", mixed(|i| ahash::RandomState::new().hash_one(i)));
        note(
            "hashbrown",
            mixed(|i| hashbrown::DefaultHashBuilder::default().hash_one(i)),
        );
        note("uuid v4", mixed(|_| uuid::Uuid::new_v4().as_u64_pair().0));
        note("heap address", mixed(|i| (&raw const *Box::new(i)) as u64));
        note("large heap address", Vec::<u8>::with_capacity(4 << 20).as_ptr() as u64);
        let here = 0_u8;
        note("stack address", (&raw const here) as u64);
        drawn
    })
}

/// Folds many draws into one number, so that one draw that differs changes it.
fn mixed(mut draw: impl FnMut(u64) -> u64) -> u64 {
    (0..DRAWS).fold(0, |sum: u64, i| {
        sum.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ draw(i)
    })
}

/// The branches that tokio's unbiased `select!` takes first.
async fn tokio_select() -> u64 {
    let mut bits = 0;
    for _ in 0..DRAWS {
        bits = bits << 1 | tokio::select! { () = async {} => 0, () = async {} => 1 };
    }
    bits
}

/// The branches that `futures::select!` takes first.
async fn futures_select() -> u64 {
    let mut bits = 0;
    for _ in 0..DRAWS {
        let (mut left, mut right) = (futures::future::ready(0), futures::future::ready(1));
        bits = bits << 1 | futures::select! { bit = left => bit, bit = right => bit };
    }
    bits
}
