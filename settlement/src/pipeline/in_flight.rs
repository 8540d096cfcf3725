//! How many batches may be in flight at once: a bounded number that follows the database's answers. More in flight is what
//! throughput is bought with, up to the point where the database only lets them wait; from there on it buys nothing but
//! latency, and in the end timeouts, which cost a batch twice. Where that point lies depends on the database, its disks
//! and its other users, and moves; so it is found, not configured.
//!
//! A pure state machine: it is told what came back and when, and says how many may be out. Who sends, and what a failure
//! means for an event, is not here.
//!
//! # How it moves
//!
//! Answers are looked at in rounds of as many as the limit was, so that each round sees what the limit of the one before
//! did.
//!
//! | what a round shows | what follows |
//! |---|---|
//! | answers took longer than [`Bounds::quick`] on average | an eighth fewer |
//! | they were quick, and the limit was reached | an eighth more |
//! | they were quick, and the limit was not reached | nothing: more room would prove nothing |
//! | an attempt failed (timeout, overload, unavailable, broken connection) | half, once per round |
//!
//! An average, not a minimum seen once: the minimum of a lucky moment would hold the limit down for ever, and a database
//! that is compacting is slow without being overloaded. Falling is faster than rising, and neither leaves the bounds.

use std::time::Duration;

use tokio::time::Instant;

/// What the limit may be, and what counts as a quick answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer.
    pub min: usize,
    /// Where it begins.
    pub initial: usize,
    /// Never more.
    pub max: usize,
    /// Answers that take longer on average are waiting behind each other.
    pub quick: Duration,
}

/// After a failure at least this long passes before the next one counts. Without answers a round never ends, and an
/// outage must not halve the limit with every batch that it swallows: the retries' own pauses already slow them down.
const FAILURES_APART: Duration = Duration::from_secs(1);

/// A round is at least so many answers: the average of fewer is chance.
const ROUND_MIN: usize = 8;

/// The share by which it moves.
const STEP_PARTS: usize = 8;

/// The limit, and what was seen since it last moved.
#[derive(Debug)]
pub struct InFlight {
    bounds: Bounds,
    limit: usize,
    answers: usize,
    /// Of the answers of this round, together.
    took: Duration,
    /// The limit kept something back in this round.
    was_reached: bool,
    failed_at: Option<Instant>,
}

impl InFlight {
    /// Begins at the initial limit. Bounds that contradict each other are settled by the largest: `max` wins over
    /// `min`, and both over `initial`; nothing is ever below 1.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let max = bounds.max.max(1);
        let min = bounds.min.clamp(1, max);
        let initial = bounds.initial.clamp(min, max);
        Self {
            bounds: Bounds {
                min,
                initial,
                max,
                ..bounds
            },
            limit: initial,
            answers: 0,
            took: Duration::ZERO,
            was_reached: false,
            failed_at: None,
        }
    }

    /// For a design that settles one event after the other.
    #[must_use]
    pub fn one() -> Self {
        Self::new(Bounds {
            min: 1,
            initial: 1,
            max: 1,
            quick: Duration::ZERO,
        })
    }

    /// How many may be in flight now.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Something waits that the limit keeps back.
    pub const fn reached(&mut self) {
        self.was_reached = true;
    }

    /// A batch was acknowledged; its last attempt took so long.
    pub fn answered(&mut self, took: Duration) {
        self.answers += 1;
        self.took = self.took.saturating_add(took);
        if self.answers < self.limit.max(ROUND_MIN) {
            return;
        }
        let mean = self.took / u32::try_from(self.answers).unwrap_or(u32::MAX);
        if mean > self.bounds.quick {
            self.set(self.limit - self.step());
        } else if self.was_reached {
            self.set(self.limit + self.step());
        } else {
            self.begin_round();
        }
    }

    /// Attempts failed, as far as is known at `now`: the database was overloaded, too slow, or away.
    pub fn failed(&mut self, now: Instant) {
        if self
            .failed_at
            .is_some_and(|at| now.saturating_duration_since(at) < FAILURES_APART)
        {
            return;
        }
        self.failed_at = Some(now);
        self.set(self.limit / 2);
    }

    fn step(&self) -> usize {
        (self.limit / STEP_PARTS).max(1)
    }

    fn set(&mut self, limit: usize) {
        self.limit = limit.clamp(self.bounds.min, self.bounds.max);
        self.begin_round();
    }

    fn begin_round(&mut self) {
        self.answers = 0;
        self.took = Duration::ZERO;
        self.was_reached = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_millis(50);

    const BOUNDS: Bounds = Bounds {
        min: 16,
        initial: 64,
        max: 1_024,
        quick: QUICK,
    };

    /// A round of answers that each took so long, with something waiting.
    fn round(subject: &mut InFlight, took: Duration) {
        for _ in 0..subject.limit().max(ROUND_MIN) {
            subject.reached();
            subject.answered(took);
        }
    }

    #[test]
    fn it_rises_to_its_bound_while_answers_stay_quick_and_something_waits() {
        let mut subject = InFlight::new(BOUNDS);
        let mut before = subject.limit();
        while before < BOUNDS.max {
            round(&mut subject, QUICK);
            assert!(subject.limit() > before, "{before}");
            before = subject.limit();
        }
        round(&mut subject, QUICK);
        assert_eq!(subject.limit(), BOUNDS.max);
    }

    #[test]
    fn it_stays_where_it_is_while_nothing_waits() {
        let mut subject = InFlight::new(BOUNDS);
        for _ in 0..10_000 {
            subject.answered(Duration::from_millis(1));
        }
        assert_eq!(subject.limit(), BOUNDS.initial);
    }

    #[test]
    fn it_falls_to_its_bound_while_answers_are_slow() {
        let mut subject = InFlight::new(BOUNDS);
        for _ in 0..50 {
            round(&mut subject, QUICK * 3);
        }
        assert_eq!(subject.limit(), BOUNDS.min);
    }

    /// A database that carries out so many batches at once, and lets the others wait.
    #[test]
    fn it_ends_where_the_database_answers_as_quickly_as_is_asked() {
        for carried_out_ms in [1, 5] {
            let mut subject = InFlight::new(BOUNDS);
            let served = 8;
            let mut seen = Vec::new();
            for _ in 0..200 {
                let waves = u32::try_from(subject.limit().div_ceil(served)).expect("small");
                round(&mut subject, Duration::from_millis(carried_out_ms) * waves);
                seen.push(subject.limit());
            }
            let ideal = usize::try_from(50 / carried_out_ms).expect("small") * served;
            for limit in &seen[100..] {
                assert!((ideal * 3 / 4..=ideal * 5 / 4).contains(limit), "{limit} for {ideal}");
            }
        }
    }

    #[tokio::test]
    async fn it_halves_on_a_failure_once_and_recovers() {
        let mut subject = InFlight::new(BOUNDS);
        let now = Instant::now();
        for _ in 0..100 {
            subject.failed(now);
        }
        assert_eq!(subject.limit(), 32, "one outage, one step");
        subject.failed(now + FAILURES_APART);
        assert_eq!(subject.limit(), 16);
        subject.failed(now + 2 * FAILURES_APART);
        assert_eq!(subject.limit(), 16, "never below the bound");
        for _ in 0..20 {
            round(&mut subject, Duration::from_millis(2));
        }
        assert!(subject.limit() > BOUNDS.initial, "{}", subject.limit());
    }

    #[test]
    fn a_design_that_goes_one_by_one_stays_at_one() {
        let mut subject = InFlight::one();
        for _ in 0..100 {
            round(&mut subject, Duration::ZERO);
            round(&mut subject, Duration::from_secs(1));
        }
        assert_eq!(subject.limit(), 1);
    }

    #[derive(Clone, Debug)]
    enum Input {
        Reached,
        Answered(u64),
        Failed,
        Passes(u64),
    }

    fn inputs() -> impl Strategy<Value = Vec<Input>> {
        let one = prop_oneof![
            Just(Input::Reached),
            (0_u64..200).prop_map(Input::Answered),
            Just(Input::Failed),
            (0_u64..3_000).prop_map(Input::Passes),
        ];
        prop::collection::vec(one, 0..2_000)
    }

    proptest! {
        #[test]
        fn whatever_comes_back_it_stays_within_its_bounds_and_the_same_gives_the_same(
            bounds in (0_usize..64, 0_usize..5_000, 0_usize..5_000, 0_u64..100), inputs in inputs(),
        ) {
            let (min, initial, max, quick_ms) = bounds;
            let bounds = Bounds { min, initial, max, quick: Duration::from_millis(quick_ms) };
            let began = Instant::now();
            let run = || {
                let (mut subject, mut now, mut seen) = (InFlight::new(bounds), began, Vec::new());
                for input in &inputs {
                    match input {
                        Input::Reached => subject.reached(),
                        Input::Answered(ms) => subject.answered(Duration::from_millis(*ms)),
                        Input::Failed => subject.failed(now),
                        Input::Passes(ms) => now += Duration::from_millis(*ms),
                    }
                    seen.push(subject.limit());
                }
                seen
            };
            let seen = run();
            prop_assert!(seen.iter().all(|limit| (min.min(max).max(1)..=max.max(1)).contains(limit)));
            prop_assert_eq!(seen, run());
        }
    }
}
