//! Adds up what seeds came to, per scenario and design, and judges the sum: exit code, inconclusive share, fault classes
//! that never bit. Keeps counters and a bounded number of failures, never every report. It prints nothing.
use crate::exit::Exit;
use crate::protocol::{Causes, ScenarioInfo, SeedJob, SeedReport, Verdict};
use crate::tape::TapeTally;
use serde::Serialize;
use std::collections::BTreeMap;

/// Below this many seeds a fault class that never bit may be chance; from here on it fails the run.
pub const SEEDS_TO_EXPECT_BITES: u64 = 50;

/// After this many hung seeds a scenario gets no more.
pub const HUNG_MAX: u64 = 3;

/// The sum over the seeds of one scenario and design.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// The scenario's name.
    pub scenario: String,
    /// The design's name.
    pub design: String,
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds by verdict.
    pub pass: u64,
    /// Seeds whose books are wrong.
    pub safety: u64,
    /// Seeds that did not come to their end in simulated time.
    pub liveness: u64,
    /// Seeds of which nothing can be said.
    pub inconclusive: u64,
    /// Seeds that ran differently the second time.
    pub non_determinism: u64,
    /// Seeds that did not come to their end in real time.
    pub hung: u64,
    /// Seeds that broke down.
    pub error: u64,
    /// Failing seeds per cause; a seed may have several.
    pub seeds_with: Causes,
    /// Failing seeds per violated invariant.
    pub invariants: BTreeMap<u32, u64>,
    /// Seeds per fault class.
    pub faults: BTreeMap<String, FaultTally>,
    /// Events settled or not, over all seeds.
    pub events: u64,
    /// Trades settled, over all seeds.
    pub settled_trades: u64,
    /// Simulated time over all seeds, ms.
    pub sim_time_ms: u64,
    /// CPU time over all seeds, microseconds.
    pub cpu_us: u64,
    /// CPU time by stage, microseconds.
    pub stages_us: BTreeMap<String, u64>,
    /// Largest resident size of any seed, KiB.
    pub peak_rss_kib: u64,
    /// Share of inconclusive seeds that is tolerated, percent.
    pub inconclusive_max_percent: u32,
    /// What the first seed had to say besides.
    pub notes: Vec<String>,
    /// What became of the tape, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tape: Option<TapeTally>,
    /// Fault classes that the scenario promises.
    #[serde(skip)]
    pub promised: Vec<String>,
    /// Per kind of failure the one that is easiest to read.
    #[serde(skip)]
    pub failures: BTreeMap<&'static str, Failure>,
}

/// In how many seeds a fault class was planned, came to its moment, and changed an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultTally {
    /// Seeds whose plan has it.
    pub planned: u64,
    /// Seeds in which one fired.
    pub fired: u64,
    /// Seeds in which one bit.
    pub bit: u64,
}

/// A seed that did not pass, with what is needed to run it again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was asked.
    pub job: SeedJob,
    /// What came out.
    pub report: SeedReport,
}

impl Tally {
    /// An empty sum for a scenario as the worker describes it.
    pub fn new(scenario: &ScenarioInfo, design: &str, max_inconclusive: Option<u32>, without: &[String]) -> Tally {
        let promised = scenario
            .faults
            .iter()
            .filter(|class| !without.contains(class))
            .cloned()
            .collect();
        Tally {
            scenario: scenario.name.clone(),
            design: design.to_string(),
            inconclusive_max_percent: max_inconclusive.unwrap_or(scenario.inconclusive_max_percent),
            promised,
            ..Tally::default()
        }
    }

    /// Adds one seed.
    pub fn add(&mut self, job: &SeedJob, report: SeedReport) {
        if self.seeds == 0 {
            self.notes.clone_from(&report.notes);
        }
        self.seeds += 1;
        self.count_verdict(&report);
        self.count_faults(&report);
        TapeTally::add(&mut self.tape, &report);
        let count = |name: &str| report.counts.get(name).copied().unwrap_or(0);
        self.events += count("events");
        self.settled_trades += count("settled_trades");
        self.sim_time_ms += report.sim_time_ms;
        self.cpu_us += report.cost.cpu_us;
        for (stage, us) in &report.cost.stages_us {
            *self.stages_us.entry(stage.clone()).or_default() += us;
        }
        self.peak_rss_kib = self.peak_rss_kib.max(report.cost.peak_rss_kib);
        if report.verdict != Verdict::Pass {
            self.keep(job, report);
        }
    }

    fn count_verdict(&mut self, report: &SeedReport) {
        let counter = match report.verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Safety => &mut self.safety,
            Verdict::Liveness => &mut self.liveness,
            Verdict::Inconclusive => &mut self.inconclusive,
            Verdict::NonDeterminism => &mut self.non_determinism,
            Verdict::Hung => &mut self.hung,
            Verdict::Error { .. } => &mut self.error,
        };
        *counter += 1;
        self.seeds_with.lost += u64::from(report.causes.lost > 0);
        self.seeds_with.doubled += u64::from(report.causes.doubled > 0);
        self.seeds_with.clobbered += u64::from(report.causes.clobbered > 0);
        self.seeds_with.partial += u64::from(report.causes.partial > 0);
        let mut violated: Vec<u32> = report.violations.iter().map(|violation| violation.invariant).collect();
        violated.sort_unstable();
        violated.dedup();
        for invariant in violated {
            *self.invariants.entry(invariant).or_default() += 1;
        }
    }

    fn count_faults(&mut self, report: &SeedReport) {
        let mut seen: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
        for fault in &report.faults {
            let (fired, bit) = seen.entry(&fault.class).or_default();
            *fired |= fault.fired;
            *bit |= fault.bit;
        }
        for (class, (fired, bit)) in seen {
            let sum = self.faults.entry(class.to_string()).or_default();
            sum.planned += 1;
            sum.fired += u64::from(fired);
            sum.bit += u64::from(bit);
        }
    }

    /// Keeps the failure of each kind that is easiest to read: fewest faults, then the shortest timeline, then the lowest
    /// seed. The choice does not depend on the order in which workers answer.
    fn keep(&mut self, job: &SeedJob, report: SeedReport) {
        let ease = |report: &SeedReport| {
            let faults = report.faults.len();
            let lines = if report.timeline.is_empty() {
                usize::MAX
            } else {
                report.timeline.len()
            };
            (faults, lines, report.seed)
        };
        let kind = Exit::of(&report.verdict).word();
        if self
            .failures
            .get(kind)
            .is_none_or(|kept| ease(&report) < ease(&kept.report))
        {
            self.failures.insert(
                kind,
                Failure {
                    job: job.clone(),
                    report,
                },
            );
        }
    }

    /// Seeds that failed: everything but pass and inconclusive.
    pub fn failing(&self) -> u64 {
        self.seeds - self.pass - self.inconclusive
    }

    /// Fault classes that never changed an outcome although there were seeds enough.
    pub fn never_bit(&self) -> Vec<String> {
        if self.seeds < SEEDS_TO_EXPECT_BITES {
            return Vec::new();
        }
        let bit = |class: &String| self.faults.get(class).is_some_and(|sum| sum.bit > 0);
        let drawn = self.faults.keys().filter(|class| !self.promised.contains(class));
        self.promised
            .iter()
            .chain(drawn)
            .filter(|class| !bit(class))
            .cloned()
            .collect()
    }

    /// Whether more seeds are inconclusive than tolerated.
    pub fn too_inconclusive(&self) -> bool {
        self.inconclusive * 100 > self.seeds * u64::from(self.inconclusive_max_percent)
    }

    /// What it all amounts to.
    pub fn exit(&self) -> Exit {
        let seen = [
            (self.safety, Exit::Safety),
            (self.non_determinism, Exit::NonDeterminism),
            (self.liveness, Exit::Liveness),
            (self.hung, Exit::Hung),
            (self.error, Exit::Usage),
            (u64::from(self.too_inconclusive()), Exit::Inconclusive),
            (self.never_bit().len() as u64, Exit::Inconclusive),
        ];
        seen.iter()
            .filter(|(count, _)| *count > 0)
            .fold(Exit::Pass, |worst, (_, exit)| worst.worse(*exit))
    }

    /// The kept failure that decides the exit code; of a sum that only stayed undecided, an undecided one.
    pub fn worst_failure(&self) -> Option<&Failure> {
        self.failures.get(self.exit().word())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::protocol::{FaultOutcome, Violation};

    /// A report with a verdict and faults given as (class, fired, bit).
    pub fn report(seed: u64, verdict: Verdict, faults: &[(&str, bool, bool)]) -> SeedReport {
        let fault = |(id, (class, fired, bit)): (usize, &(&str, bool, bool))| FaultOutcome {
            id: id as u32,
            class: (*class).to_string(),
            fired: *fired,
            bit: *bit,
            detail: String::new(),
        };
        SeedReport {
            seed,
            verdict,
            faults: faults.iter().enumerate().map(fault).collect(),
            ..SeedReport::default()
        }
    }

    fn scenario(faults: &[&str]) -> ScenarioInfo {
        let faults = faults.iter().map(|class| (*class).to_string()).collect();
        ScenarioInfo {
            name: "pause".into(),
            faults,
            inconclusive_max_percent: 5,
            ..ScenarioInfo::default()
        }
    }

    fn sum(reports: impl IntoIterator<Item = SeedReport>) -> Tally {
        let mut tally = Tally::new(&scenario(&["pause"]), "ledger", None, &[]);
        for report in reports {
            tally.add(
                &SeedJob {
                    seed: report.seed,
                    ..SeedJob::default()
                },
                report,
            );
        }
        tally
    }

    fn bitten(seed: u64, verdict: Verdict) -> SeedReport {
        report(seed, verdict, &[("pause", true, true)])
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_seed() {
        assert_eq!(sum([bitten(1, Verdict::Pass)]).exit(), Exit::Pass);
        let several = [
            bitten(1, Verdict::Liveness),
            bitten(2, Verdict::Hung),
            bitten(3, Verdict::Pass),
        ];
        assert_eq!(sum(several.clone()).exit(), Exit::Liveness);
        let with_safety = sum(several.into_iter().chain([bitten(4, Verdict::Safety)]));
        assert_eq!(with_safety.exit(), Exit::Safety);
        assert_eq!(with_safety.worst_failure().unwrap().report.seed, 4);
        assert_eq!(with_safety.failing(), 3);
        assert_eq!(
            sum([bitten(1, Verdict::Error { message: "x".into() })]).exit(),
            Exit::Usage
        );
    }

    #[test]
    fn inconclusive_seeds_are_tolerated_up_to_their_share() {
        let seeds = |inconclusive: u64| {
            sum((0..100).map(|i| {
                bitten(
                    i,
                    if i < inconclusive {
                        Verdict::Inconclusive
                    } else {
                        Verdict::Pass
                    },
                )
            }))
        };
        assert_eq!(seeds(5).exit(), Exit::Pass);
        assert_eq!(seeds(6).exit(), Exit::Inconclusive);
        assert!(seeds(6).worst_failure().is_some());
    }

    #[test]
    fn a_class_that_never_bites_fails_a_run_that_is_long_enough() {
        let idle = |seeds| sum((0..seeds).map(|i| report(i, Verdict::Pass, &[("pause", true, false)])));
        assert_eq!(idle(SEEDS_TO_EXPECT_BITES - 1).exit(), Exit::Pass);
        let long = idle(SEEDS_TO_EXPECT_BITES);
        assert_eq!(
            (long.exit(), long.never_bit()),
            (Exit::Inconclusive, vec!["pause".to_string()])
        );
        let never_planned = sum((0..SEEDS_TO_EXPECT_BITES).map(|i| report(i, Verdict::Pass, &[])));
        assert_eq!(never_planned.never_bit(), ["pause"]);
    }

    #[test]
    fn a_class_that_was_switched_off_is_not_missed() {
        let mut tally = Tally::new(&scenario(&["pause"]), "ledger", None, &["pause".into()]);
        for seed in 0..SEEDS_TO_EXPECT_BITES {
            tally.add(&SeedJob::default(), report(seed, Verdict::Pass, &[]));
        }
        assert_eq!(tally.exit(), Exit::Pass);
    }

    #[test]
    fn classes_and_invariants_are_counted_once_per_seed() {
        let twice = report(
            1,
            Verdict::Pass,
            &[("pause", true, false), ("pause", true, true), ("pause", false, false)],
        );
        let violation = |invariant| Violation {
            invariant,
            ..Violation::default()
        };
        let mut failing = bitten(2, Verdict::Safety);
        failing.violations = vec![violation(3), violation(1), violation(3)];
        failing.causes = Causes {
            lost: 7,
            ..Causes::default()
        };
        let tally = sum([twice, failing]);
        assert_eq!(
            tally.faults["pause"],
            FaultTally {
                planned: 2,
                fired: 2,
                bit: 2
            }
        );
        assert_eq!(tally.invariants, BTreeMap::from([(1, 1), (3, 1)]));
        assert_eq!(
            tally.seeds_with,
            Causes {
                lost: 1,
                ..Causes::default()
            }
        );
    }

    #[test]
    fn the_kept_failure_is_the_easiest_to_read_whatever_the_order() {
        let long = SeedReport {
            timeline: vec!["a".into(); 9],
            ..bitten(1, Verdict::Safety)
        };
        let short = SeedReport {
            timeline: vec!["a".into(); 3],
            ..bitten(5, Verdict::Safety)
        };
        let same = SeedReport {
            timeline: vec!["a".into(); 3],
            ..bitten(4, Verdict::Safety)
        };
        let kept = |reports: [SeedReport; 3]| sum(reports).worst_failure().unwrap().report.seed;
        assert_eq!(kept([long.clone(), short.clone(), same.clone()]), 4);
        assert_eq!(kept([same, short, long]), 4);
    }
}
