//! What the rows say in the end about the events that a timeline follows, and about the first account that is wrong. Words
//! for people about what the invariants have found; it judges nothing.
use crate::evidence::Evidence;
use crate::rows::BalanceRow;
use oracle::{AccountKey, Fact, Posting};
use std::collections::{BTreeMap, BTreeSet};

/// A line for each followed trade, and one for the first wrong account.
pub fn rows(evidence: &Evidence, followed: &BTreeSet<u64>) -> Vec<String> {
    let mut lines: Vec<String> = followed.iter().filter_map(|event| trade(evidence, *event)).collect();
    lines.extend(first_wrong_account(evidence, followed));
    lines
}

/// The events around the place where the first wrong account went wrong: the last that its row knows of, which may have
/// been written late, and the first that it does not.
pub fn suspicion(evidence: &Evidence) -> BTreeSet<u64> {
    let found = balances(evidence);
    let mut wrong = wrong_accounts(evidence, &found);
    let around = wrong.find_map(|(key, postings)| overwritten(postings, money(found.get(&key))));
    around.map_or_else(BTreeSet::new, |(last, gone)| [last, gone[0]].into())
}

fn balances(evidence: &Evidence) -> BTreeMap<AccountKey, &BalanceRow> {
    let rows = evidence.found.balances.iter();
    rows.map(|row| ((row.user_id as u64, row.asset_id as u32), row))
        .collect()
}

fn wrong_accounts<'a>(
    evidence: &'a Evidence,
    found: &BTreeMap<AccountKey, &BalanceRow>,
) -> impl Iterator<Item = (AccountKey, &'a [Posting])> {
    let accounts = evidence.books.accounts.iter();
    accounts
        .filter(|(key, account)| money(found.get(*key)) != account.balance())
        .map(|(key, account)| (*key, account.postings.as_slice()))
}

fn trade(evidence: &Evidence, event: u64) -> Option<String> {
    let (_, Fact::Trade(trade)) = evidence.facts.iter().find(|(seq, _)| *seq == event)? else {
        return None;
    };
    let rows = evidence.found.trades.values().flatten();
    let rows = rows.filter(|row| row.trade_id as u64 == trade.trade_id).count();
    let stands = match rows {
        0 => "is not in settled_trades".to_string(),
        1 => "stands in settled_trades".to_string(),
        n => format!("stands {n} times in settled_trades"),
    };
    Some(format!("trade {} of event {event} {stands}", trade.trade_id))
}

/// The first account whose balance is wrong, one that a followed event changes if there is one, and what its row is
/// instead: the account as an earlier event left it, if it is that.
fn first_wrong_account(evidence: &Evidence, followed: &BTreeSet<u64>) -> Option<String> {
    let found = balances(evidence);
    let wrong: Vec<(AccountKey, &[Posting])> = wrong_accounts(evidence, &found).collect();
    let concerned = |(_, postings): &&(AccountKey, &[Posting])| postings.iter().any(|p| followed.contains(&p.seq));
    let ((user, asset), postings) = *wrong.iter().find(concerned).or(wrong.first())?;
    let (avail, frozen) = money(found.get(&(user, asset)));
    let (want_avail, want_frozen) = postings.last().map_or((0, 0), |p| (p.avail, p.frozen));
    let show = |minor: i128| evidence.amount(asset, minor);
    let name = evidence.asset_name(asset);
    let mut parts = Vec::new();
    for (what, found, expected) in [("available", avail, want_avail), ("frozen", frozen, want_frozen)] {
        if found != expected {
            parts.push(format!("{what} is {}, expected {}", show(found), show(expected)));
        }
    }
    let mut text = format!("user {user}, {name}: {}", parts.join("; "));
    if let Some((last, gone)) = overwritten(postings, (avail, frozen)) {
        text.push_str(&format!(
            ": the row is what event {last} left, without the {} of {}",
            if gone.len() == 1 { "change" } else { "changes" },
            listed(&gone)
        ));
    }
    Some(text)
}

fn money(row: Option<&&BalanceRow>) -> (i128, i128) {
    row.map_or((0, 0), |row| (row.avail.into(), row.frozen.into()))
}

/// The last event after which the account was as the row has it, and the events after it.
fn overwritten(postings: &[Posting], found: (i128, i128)) -> Option<(u64, Vec<u64>)> {
    let at = postings.iter().rposition(|p| (p.avail, p.frozen) == found)?;
    let mut gone: Vec<u64> = postings[at + 1..].iter().map(|p| p.seq).collect();
    // A trade with oneself changes an account twice.
    gone.dedup();
    (!gone.is_empty()).then_some((postings[at].seq, gone))
}

/// `event 7`, `events 7 and 9`, `the 12 events 7 to 31`.
fn listed(events: &[u64]) -> String {
    match events {
        [] => "no event".into(),
        [one] => format!("event {one}"),
        [rest @ .., last] if events.len() <= 4 => {
            let rest: Vec<String> = rest.iter().map(u64::to_string).collect();
            format!("events {} and {last}", rest.join(", "))
        }
        [first, .., last] => format!("the {} events from {first} to {last}", events.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oracle::Cause;

    fn posting(seq: u64, avail: i128) -> Posting {
        Posting {
            seq,
            version: seq,
            cause: Cause::Deposit,
            delta_avail: 1,
            delta_frozen: 0,
            avail,
            frozen: 0,
        }
    }

    #[test]
    fn an_overwritten_account_is_named_with_what_it_lost() {
        let postings = [posting(3, 10), posting(5, 12), posting(8, 15)];
        assert_eq!(overwritten(&postings, (10, 0)), Some((3, vec![5, 8])));
        assert_eq!(overwritten(&postings, (15, 0)), None);
        assert_eq!(overwritten(&postings, (11, 0)), None);
    }

    #[test]
    fn events_as_people_list_them() {
        assert_eq!(listed(&[7]), "event 7");
        assert_eq!(listed(&[7, 9, 12]), "events 7, 9 and 12");
        assert_eq!(listed(&[7, 9, 12, 13, 31]), "the 5 events from 7 to 31");
    }
}
