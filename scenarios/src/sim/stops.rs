//! When settlement stops by itself, a person is called. Whether the plan gave it a reason to is decided here: by what the
//! plan holds, not by what settlement says of itself beyond the kind of its error.
use faults::{Action, Class, Plan};
use settlement::ServeError;
use std::error::Error as _;
use std::ops::RangeInclusive;

/// What settlement named as its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stream has two contents.
    Fork,
    /// Its own disk.
    Disk,
    /// The database did not answer, or answered with an error.
    Database,
    /// Anything else, its end without an error included.
    Other,
}

impl Reason {
    /// The kind of an error.
    pub fn of(error: &ServeError) -> Reason {
        match error {
            ServeError::Fork(_) => Reason::Fork,
            ServeError::Wal(_) => Reason::Disk,
            // What a database answered, or that it did not, is the source of these; other reasons of theirs have none.
            ServeError::Session(_)
            | ServeError::Schema(_)
            | ServeError::Statement(_)
            | ServeError::Checkpoint(_)
            | ServeError::DeadLetters(_)
            | ServeError::Foreign(_)
                if error.source().is_some() =>
            {
                Reason::Database
            }
            _ => Reason::Other,
        }
    }
}

/// How many forks settlement may count: as many as events were forged. Where nothing else strikes, it must count each; else
/// a forged event may be lost as any other, or come while settlement is away.
pub fn forks(plan: &Plan, fired: &[u32]) -> RangeInclusive<u64> {
    let forged = plan.faults.iter().filter(|fault| is_forged(&fault.action));
    let most = forged.filter(|fault| fired.contains(&fault.id)).count() as u64;
    match plan.faults.iter().all(|fault| is_forged(&fault.action)) {
        true => most..=most,
        false => 0..=most,
    }
}

fn is_forged(action: &Action) -> bool {
    matches!(action, Action::Forge { .. })
}

/// Those of these stops for which nothing in the plan is a reason.
pub fn unwarranted(plan: &Plan, stops: impl Iterator<Item = (Reason, String)>) -> Vec<String> {
    let has = |test: fn(Class) -> bool| plan.faults.iter().any(|fault| test(fault.class));
    let mut forks = plan.faults.iter().filter(|fault| is_forged(&fault.action)).count();
    let mut is_warranted = |reason: Reason| match reason {
        Reason::Fork => {
            let left = forks.checked_sub(1);
            forks = left.unwrap_or(0);
            left.is_some()
        }
        Reason::Disk => has(is_of_disk),
        Reason::Database => has(is_of_database),
        Reason::Other => false,
    };
    stops
        .filter(|(reason, _)| !is_warranted(*reason))
        .map(|(_, why)| why)
        .collect()
}

/// Whether a class strikes settlement's own disk.
fn is_of_disk(class: Class) -> bool {
    matches!(class, Class::DiskTornTail | Class::DiskEio | Class::DiskFull)
}

/// Whether a class can keep the database from answering.
fn is_of_database(class: Class) -> bool {
    let is_of_feed = matches!(
        class,
        Class::DuplicateDelivery
            | Class::ReorderedDelivery
            | Class::SequenceGap
            | Class::TailLoss
            | Class::GapSlowReplay
            | Class::GapPartialReplay
            | Class::DamagedDelivery
            | Class::ForgedDelivery
            | Class::RefusedEvent
            | Class::EngineCrash
            | Class::EnginePowerLoss
    );
    let is_of_settlement = matches!(class, Class::CrashBeforeBatch | Class::CrashAfterBatch);
    !is_of_feed && !is_of_settlement && !is_of_disk(class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::When;
    use faults::plan::Fault;

    fn plan(classes: &[(Class, Action)]) -> Plan {
        let fault = |(id, (class, action)): (usize, &(Class, Action))| Fault {
            id: id as u32,
            class: *class,
            when: When::AtMs(1),
            action: action.clone(),
        };
        Plan {
            faults: classes.iter().enumerate().map(fault).collect(),
            ..Plan::empty()
        }
    }

    #[test]
    fn a_stop_has_a_reason_only_in_a_fault_of_its_kind_and_a_forged_event_is_one_reason() {
        let forge = (Class::ForgedDelivery, Action::Forge { instead: false });
        let stops = |plan: &Plan, reasons: &[Reason]| {
            let stops = reasons.iter().map(|reason| (*reason, format!("{reason:?}")));
            unwarranted(plan, stops)
        };
        let all = [Reason::Fork, Reason::Disk, Reason::Database, Reason::Other];
        assert_eq!(stops(&Plan::empty(), &all), ["Fork", "Disk", "Database", "Other"]);
        let one_forged = plan(&[forge]);
        assert_eq!(stops(&one_forged, &[Reason::Fork]), [] as [&str; 0]);
        assert_eq!(stops(&one_forged, &[Reason::Fork, Reason::Fork]), ["Fork"]);
        assert_eq!(stops(&one_forged, &all), ["Disk", "Database", "Other"]);
        let away = Action::PowerLossDatabase {
            restart_after_ms: 1,
            apart_ms: 1,
        };
        let without_database = plan(&[(Class::PowerLossDatabase, away)]);
        assert_eq!(stops(&without_database, &all), ["Fork", "Disk", "Other"]);
    }

    #[test]
    fn every_forged_event_that_came_is_a_fork_where_nothing_else_could_keep_it_away() {
        let forge = || (Class::ForgedDelivery, Action::Forge { instead: true });
        let crash = (Class::EngineCrash, Action::PowerLossAll { restart_after_ms: 1 });
        assert_eq!(forks(&Plan::empty(), &[]), 0..=0);
        assert_eq!(forks(&plan(&[forge(), forge()]), &[1]), 1..=1);
        assert_eq!(forks(&plan(&[forge(), crash]), &[0, 1]), 0..=1);
    }
}
