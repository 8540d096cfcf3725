//! When settlement stops by itself, a person is called. Whether the plan gave it a reason to is decided here: by what the
//! plan holds, not by what settlement says of itself beyond the kind of its error.
use faults::bit::{STOP_DAMAGE, STOP_DISK, STOPPED_NOTE};
use faults::plan::{Fault, RotPlace, Target};
use faults::{Action, Class, Plan};
use settlement::ServeError;
use settlement::wal::WalError;
use std::error::Error as _;
use std::ops::RangeInclusive;

/// What settlement named as its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stream has two contents.
    Fork,
    /// Its own disk.
    Disk,
    /// What was durable in its WAL is not readable.
    Damage,
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
            ServeError::Wal(WalError::Damaged(_)) => Reason::Damage,
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

    /// What the trace says when settlement has stopped for it.
    pub fn note(self) -> String {
        let kind = match self {
            Reason::Fork => "fork",
            Reason::Disk => STOP_DISK,
            Reason::Damage => STOP_DAMAGE,
            Reason::Database => "database",
            Reason::Other => "other",
        };
        format!("{STOPPED_NOTE}{kind}")
    }
}

/// How many forks settlement may count: as many as events were forged. Where nothing else strikes, it must count one, and
/// stops at it; what is forged behind that may come while settlement is away, and where other things strike any may be lost.
pub fn forks(plan: &Plan, fired: &[u32]) -> RangeInclusive<u64> {
    let forged = plan.faults.iter().filter(|fault| is_forged(&fault.action));
    let most = forged.filter(|fault| fired.contains(&fault.id)).count() as u64;
    match plan.faults.iter().all(|fault| is_forged(&fault.action)) {
        true => most.min(1)..=most,
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
        Reason::Disk => has(fails_operations),
        Reason::Damage => has(|class| class == Class::DiskRot),
        Reason::Database => has(is_of_database),
        Reason::Other => false,
    };
    stops
        .filter(|(reason, _)| !is_warranted(*reason))
        .map(|(_, why)| why)
        .collect()
}

/// Damage that settlement must have stopped at, and did not, in words: where no crash explains what is wrong, and nothing
/// else in the plan takes the WAL away before it is looked at.
pub fn unnoticed(plan: &Plan, fired: &[u32], mut stops: impl Iterator<Item = Reason>) -> Option<String> {
    let leaves_it_there = |action: &Action| {
        matches!(
            action,
            Action::DiskRot { .. }
                | Action::DiskUnreadable { .. }
                | Action::PowerLossDatabase { .. }
                | Action::PowerLoss {
                    target: Target::Node(_),
                    ..
                }
        )
    };
    let inexplicable = |fault: &Fault| match fault.action {
        Action::DiskRot { place, .. } if place != RotPlace::Anywhere => Some(place),
        _ => None,
    };
    let is_there = plan.faults.iter().all(|fault| leaves_it_there(&fault.action));
    let mut struck = plan.faults.iter().filter(|fault| fired.contains(&fault.id));
    let place = struck.find_map(inexplicable).filter(|_| is_there)?;
    (!stops.any(|reason| reason == Reason::Damage))
        .then(|| format!("a bit of the WAL turned over ({place:?}), and no start of settlement ended because of it"))
}

/// Whether a class makes operations of settlement's own disk fail.
fn fails_operations(class: Class) -> bool {
    matches!(
        class,
        Class::DiskTornTail | Class::DiskEio | Class::DiskFull | Class::DiskUnreadable
    )
}

/// Whether a class strikes settlement's own disk.
fn is_of_disk(class: Class) -> bool {
    fails_operations(class) || matches!(class, Class::DiskLost | Class::DiskRot)
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
            | Class::GapRefusedReplay
            | Class::DamagedDelivery
            | Class::ForgedDelivery
            | Class::RefusedEvent
            | Class::EngineCrash
            | Class::EnginePowerLoss
    );
    let is_of_settlement = matches!(class, Class::CrashBeforeBatch | Class::CrashAfterBatch);
    // One that is rejected is a batch of settlement's, and nothing that it writes for itself.
    !is_of_feed && !is_of_settlement && !is_of_disk(class) && class != Class::BatchRejected
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::When;
    use faults::plan::Forged;

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
        let forge = (Class::ForgedDelivery, Action::Forge { how: Forged::Behind });
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
    fn damage_that_no_crash_explains_must_be_noticed_where_nothing_takes_the_wal_away() {
        let rot = |place| {
            let action = Action::DiskRot {
                place,
                at_permille: 1,
                bit: 1,
                restart_after_ms: 1,
            };
            (Class::DiskRot, action)
        };
        let told = |classes: &[(Class, Action)], fired: &[u32], stops: &[Reason]| {
            unnoticed(&plan(classes), fired, stops.iter().copied()).is_some()
        };
        for place in [RotPlace::Header, RotPlace::LastHead] {
            assert!(told(&[rot(place)], &[0], &[]));
            assert!(told(&[rot(place)], &[0], &[Reason::Disk]));
            assert!(!told(&[rot(place)], &[0], &[Reason::Damage]));
            assert!(!told(&[rot(place)], &[], &[]), "it did not strike");
            let lost = (Class::DiskLost, Action::DiskLost { restart_after_ms: 1 });
            assert!(!told(&[rot(place), lost], &[0, 1], &[]), "the disk was replaced");
        }
        assert!(!told(&[rot(RotPlace::Anywhere)], &[0], &[]), "it may look like a crash");
    }

    #[test]
    fn every_forged_event_that_came_is_a_fork_where_nothing_else_could_keep_it_away() {
        let forge = || (Class::ForgedDelivery, Action::Forge { how: Forged::Instead });
        let crash = (Class::EngineCrash, Action::PowerLossAll { restart_after_ms: 1 });
        assert_eq!(forks(&Plan::empty(), &[]), 0..=0);
        assert_eq!(forks(&plan(&[forge(), forge()]), &[1]), 1..=1);
        assert_eq!(forks(&plan(&[forge(), forge()]), &[0, 1]), 1..=2, "away at the second");
        assert_eq!(forks(&plan(&[forge(), crash]), &[0, 1]), 0..=1);
    }
}
