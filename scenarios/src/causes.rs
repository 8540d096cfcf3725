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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::tests::evidence;
    use oracle::Cause;

    /// Right books, and by how much one account's row is off: what is said of it.
    fn off_by(key: AccountKey, (avail, frozen): (i128, i128)) -> Causes {
        let mut evidence = evidence();
        let row = evidence
            .found
            .balances
            .iter_mut()
            .find(|row| (row.user_id as u64, row.asset_id as u32) == key)
            .expect("a row for every account");
        row.avail += avail as i64;
        row.frozen += frozen as i64;
        classify(&evidence)
    }

    /// An account that a trade moved, and its postings.
    fn traded() -> (AccountKey, Vec<Posting>) {
        let books = evidence().books;
        let is_traded =
            |postings: &[Posting]| postings.len() > 2 && postings.iter().any(|p| matches!(p.cause, Cause::Trade(_)));
        let found = books.accounts.iter().find(|(_, account)| is_traded(&account.postings));
        found
            .map(|(key, account)| (*key, account.postings.clone()))
            .expect("somebody trades")
    }

    fn delta(p: &Posting) -> (i128, i128) {
        (p.delta_avail, p.delta_frozen)
    }

    #[test]
    fn right_books_have_no_cause() {
        assert_eq!(classify(&evidence()), Causes::default());
    }

    #[test]
    fn an_effect_that_is_missing_is_lost_and_its_trade_partial_if_the_row_is_there() {
        let (key, postings) = traded();
        let trade = postings
            .iter()
            .find(|p| matches!(p.cause, Cause::Trade(_)))
            .expect("one");
        let (avail, frozen) = delta(trade);
        let causes = off_by(key, (-avail, -frozen));
        assert_eq!(
            (causes.lost, causes.partial, causes.doubled, causes.clobbered),
            (1, 1, 0, 0)
        );
        let mut without = evidence();
        without.found.trades.clear();
        without.found.balances.clear();
        assert_eq!(
            classify(&without).partial,
            0,
            "a trade of which nothing is there is not partial"
        );
    }

    #[test]
    fn an_effect_that_is_there_twice_is_doubled() {
        let (key, postings) = traded();
        let causes = off_by(key, delta(postings.last().expect("one")));
        assert_eq!((causes.lost, causes.doubled, causes.clobbered), (0, 1, 0));
    }

    #[test]
    fn effects_in_a_row_that_are_missing_are_clobbered() {
        let (key, postings) = traded();
        let moves: Vec<(i128, i128)> = postings.iter().map(delta).collect();
        let sums = moves.windows(2).map(|two| (two[0].0 + two[1].0, two[0].1 + two[1].1));
        // Not what one of them alone, missing or there twice, would leave.
        let is_clear = |sum: &(i128, i128)| !moves.iter().any(|m| m == sum || *m == (-sum.0, -sum.1));
        let (avail, frozen) = sums.filter(|sum| *sum != (0, 0)).find(is_clear).expect("two in a row");
        let causes = off_by(key, (-avail, -frozen));
        assert_eq!((causes.lost, causes.doubled, causes.clobbered), (0, 0, 1));
    }

    #[test]
    fn what_nothing_explains_goes_by_the_sign_of_the_money() {
        let (key, _) = traded();
        assert_eq!(off_by(key, (-1, 0)).lost, 1);
        assert_eq!(off_by(key, (0, 1)).doubled, 1);
    }
}
