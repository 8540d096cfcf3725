//! Exit codes: what a script learns from a run without reading its output. The numbers are part of the product (they stand
//! in the help and in CI files), so they are fixed here and nowhere else.
use crate::protocol::Verdict;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything held.
    Pass,
    /// A wrong argument, a file that is not what it should be, a build that failed, a run that broke down: nothing was
    /// found out.
    Usage,
    /// An invariant about the books was violated.
    Safety,
    /// Something did not come to its end.
    Liveness,
    /// Two runs of one seed differed.
    NonDeterminism,
    /// Too much stayed undecided, or a fault class never bit: the run proves nothing.
    Inconclusive,
    /// A seed did not end and was killed.
    Hung,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Pass => 0,
            Exit::Usage => 1,
            Exit::Safety => 10,
            Exit::Liveness => 11,
            Exit::NonDeterminism => 12,
            Exit::Inconclusive => 13,
            Exit::Hung => 14,
        }
    }

    /// One word, as in the table's heads and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Exit::Pass => "pass",
            Exit::Usage => "error",
            Exit::Safety => "safety",
            Exit::Liveness => "liveness",
            Exit::NonDeterminism => "non-determinism",
            Exit::Inconclusive => "inconclusive",
            Exit::Hung => "hung",
        }
    }

    /// What a single seed with this verdict amounts to. An inconclusive seed alone is no failure: its share is judged.
    pub fn of(verdict: &Verdict) -> Exit {
        match verdict {
            Verdict::Pass => Exit::Pass,
            Verdict::Inconclusive => Exit::Inconclusive,
            Verdict::Safety => Exit::Safety,
            Verdict::Liveness => Exit::Liveness,
            Verdict::NonDeterminism => Exit::NonDeterminism,
            Verdict::Hung => Exit::Hung,
            Verdict::Error { .. } => Exit::Usage,
        }
    }

    /// The worse of two: wrong books before everything, then a simulation that cannot be trusted, then what did not end,
    /// then what broke down, then what proves nothing.
    pub fn worse(self, other: Exit) -> Exit {
        if self.gravity() >= other.gravity() { self } else { other }
    }

    fn gravity(self) -> u8 {
        match self {
            Exit::Pass => 0,
            Exit::Inconclusive => 1,
            Exit::Usage => 2,
            Exit::Hung => 3,
            Exit::Liveness => 4,
            Exit::NonDeterminism => 5,
            Exit::Safety => 6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Verdict, u8); 6] = [
        (Verdict::Pass, 0),
        (Verdict::Safety, 10),
        (Verdict::Liveness, 11),
        (Verdict::NonDeterminism, 12),
        (Verdict::Inconclusive, 13),
        (Verdict::Hung, 14),
    ];

    #[test]
    fn each_verdict_has_its_documented_code() {
        for (verdict, code) in ALL {
            assert_eq!(Exit::of(&verdict).code(), code, "{verdict:?}");
        }
        assert_eq!(Exit::of(&Verdict::Error { message: "x".into() }).code(), 1);
    }

    #[test]
    fn wrong_books_outrank_everything_and_pass_nothing() {
        for (verdict, _) in ALL {
            let exit = Exit::of(&verdict);
            assert_eq!(exit.worse(Exit::Safety), Exit::Safety);
            assert_eq!(Exit::Safety.worse(exit), Exit::Safety);
            assert_eq!(exit.worse(Exit::Pass), exit);
            assert_eq!(Exit::Pass.worse(exit), exit);
        }
    }
}
