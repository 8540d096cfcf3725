//! What became of the money, computed from the rows: for each account whose balance is wrong, which effects of which
//! trades are missing, doubled or overwritten. It reads only balances and trade rows, because the designs taken from the
//! source keep nothing else.
use crate::evidence::Evidence;
use crate::protocol::Causes;
use oracle::{AccountKey, Posting};
use std::collections::{BTreeMap, BTreeSet};

/// Looks for at most this many consecutive postings whose loss explains a difference.
const CLOBBERED_MAX: usize = 64;

/// Classifies every wrong balance, and counts trades of which only a part is there.
pub fn classify(evidence: &Evidence) -> Causes {
    let mut causes = Causes::default();
    let mut hurt: BTreeMap<u64, BTreeSet<AccountKey>> = BTreeMap::new();
    let found: BTreeMap<AccountKey, (i128, i128)> = evidence
        .found
        .balances
        .iter()
        .map(|row| {
            (
                (row.user_id as u64, row.asset_id as u32),
                (row.avail.into(), row.frozen.into()),
            )
        })
        .collect();
    for (key, account) in &evidence.books.accounts {
        let (avail, frozen) = account.balance();
        let (found_avail, found_frozen) = found.get(key).copied().unwrap_or((0, 0));
        let difference = (found_avail - avail, found_frozen - frozen);
        if difference == (0, 0) {
            continue;
        }
        match explain(&account.postings, difference) {
            Explained::Lost(seq) => {
                causes.lost += 1;
                hurt.entry(seq).or_default().insert(*key);
            }
            Explained::Doubled => causes.doubled += 1,
            Explained::Clobbered => causes.clobbered += 1,
            // Several effects at once: the sign of the money tells which way most of them went.
            Explained::Mixed => {
                if difference.0 + difference.1 < 0 {
                    causes.lost += 1;
                } else {
                    causes.doubled += 1;
                }
            }
        }
    }
    causes.partial = partial(evidence, &hurt);
    causes
}

enum Explained {
    Lost(u64),
    Doubled,
    Clobbered,
    Mixed,
}

/// One posting missing or doubled, or a run of consecutive postings overwritten by an older state.
fn explain(postings: &[Posting], (avail, frozen): (i128, i128)) -> Explained {
    let moves = |p: &&Posting| (p.delta_avail, p.delta_frozen) != (0, 0);
    if let Some(p) = postings
        .iter()
        .filter(moves)
        .find(|p| (-p.delta_avail, -p.delta_frozen) == (avail, frozen))
    {
        return Explained::Lost(p.seq);
    }
    if postings
        .iter()
        .filter(moves)
        .any(|p| (p.delta_avail, p.delta_frozen) == (avail, frozen))
    {
        return Explained::Doubled;
    }
    for start in 0..postings.len() {
        let (mut a, mut f) = (0, 0);
        for p in postings[start..].iter().take(CLOBBERED_MAX) {
            (a, f) = (a - p.delta_avail, f - p.delta_frozen);
            if (a, f) == (avail, frozen) {
                return Explained::Clobbered;
            }
        }
    }
    Explained::Mixed
}

/// Trades that stand in the trade table while an effect of theirs is lost.
fn partial(evidence: &Evidence, hurt: &BTreeMap<u64, BTreeSet<AccountKey>>) -> u64 {
    let settled: BTreeSet<u64> = evidence
        .found
        .trades
        .values()
        .flatten()
        .map(|row| row.output_sequence as u64)
        .collect();
    hurt.keys().filter(|seq| settled.contains(seq)).count() as u64
}
