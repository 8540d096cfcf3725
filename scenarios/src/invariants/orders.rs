//! Invariant 6. Every order row agrees with what the facts give: its terms, how much is filled, where it stands and
//! with which version. On replicas before the heal, an order row is one of the states that the order went through, so
//! no illegal transition was ever written. Not verified here: that trades are settled (3).
use super::Finding;
use crate::evidence::{Evidence, distinct};
use crate::rows::OrderRow;
use oracle::{Order, OrderStep, Side, Status};
use std::collections::BTreeMap;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let found: BTreeMap<u64, &OrderRow> = evidence
        .found
        .orders
        .iter()
        .map(|row| (row.order_id as u64, row))
        .collect();
    for (id, order) in &evidence.books.orders {
        match (found.get(id), order.steps.last()) {
            (None, _) => findings.push(Finding::text(format!("order {id} of user {} is missing", order.user))),
            (Some(row), Some(step)) => findings.extend(differs(evidence, order, step, row)),
            (Some(_), None) => {}
        }
    }
    for id in found.keys().filter(|id| !evidence.books.orders.contains_key(id)) {
        findings.push(Finding::text(format!(
            "order {id} stands in the books, but nobody placed it"
        )));
    }
    for (node, tables) in distinct(&evidence.replicas_before_heal) {
        for row in &tables.orders {
            findings.extend(
                at_any_time(evidence, row).map(|text| Finding::text(format!("on node {node} before the heal: {text}"))),
            );
        }
    }
    findings
}

/// What is wrong with an order row wherever and whenever it is found: it must be a state that the order went through.
pub(super) fn at_any_time(evidence: &Evidence, row: &OrderRow) -> Option<String> {
    let Some(order) = evidence.books.orders.get(&(row.order_id as u64)) else {
        return Some(format!("order {} stands there, but nobody placed it", row.order_id));
    };
    let states = &order.steps;
    let known = states.iter().any(|step| differs(evidence, order, step, row).is_none());
    (!known).then(|| {
        format!(
            "order {} was {} with {} filled, a state it was never in",
            row.order_id, row.status, row.filled_quantity
        )
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Placed => "PLACED",
        Status::Partial => "PARTIAL",
        Status::Filled => "FILLED",
        Status::Cancelled => "CANCELLED",
    }
}

fn differs(evidence: &Evidence, order: &Order, step: &OrderStep, row: &OrderRow) -> Option<Finding> {
    let side = if order.side == Side::Buy { "BUY" } else { "SELL" };
    let wrong = |name: &str, found: String, expected: String| {
        Some(Finding::text(format!(
            "order {}: {name} is {found}, it should be {expected}",
            row.order_id
        )))
    };
    let numbers = [
        ("user_id", row.user_id as u64, order.user),
        ("symbol", row.symbol as u64, order.symbol.into()),
        ("price", row.price as u64, order.price),
        ("quantity", row.quantity as u64, order.quantity),
        ("filled_quantity", row.filled_quantity as u64, step.filled),
    ];
    if let Some((name, found, expected)) = numbers.into_iter().find(|(_, found, expected)| found != expected) {
        return wrong(name, found.to_string(), expected.to_string());
    }
    if row.side != side {
        return wrong("side", row.side.to_string(), side.into());
    }
    if row.status != status(step.status) {
        return wrong("status", row.status.to_string(), status(step.status).into());
    }
    if evidence.promises.ledger {
        if row.version as u64 != step.version {
            return wrong("version", row.version.to_string(), step.version.to_string());
        }
        if row.digest.as_deref()
            != evidence
                .digests
                .get(&step.seq)
                .map(|d| d.short())
                .as_ref()
                .map(|d| &d[..])
        {
            return wrong(
                "digest",
                format!("{:02x?}", row.digest),
                format!("event {}'s", step.seq),
            );
        }
    }
    None
}
