//! The JUnit XML report: one test case per scenario and design, because that is what CI systems show. Text in, text out.
use crate::exit::Exit;
use crate::failure::describe;
use crate::problem::Problem;
use crate::table::remarks;
use crate::tally::Tally;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::path::Path;
use std::time::Duration;

/// The report as XML.
pub fn xml(tallies: &[Tally]) -> Result<String, quick_junit::SerializeError> {
    let mut suite = TestSuite::new("scenarios");
    for tally in tallies {
        let mut case = TestCase::new(format!("{} x {}", tally.scenario, tally.design), status(tally));
        case.set_classname("quench")
            .set_time(Duration::from_micros(tally.cpu_us));
        suite.add_test_case(case);
    }
    let mut report = Report::new("quench");
    report.add_test_suite(suite);
    report.to_string()
}

fn status(tally: &Tally) -> TestCaseStatus {
    let exit = tally.exit();
    if exit == Exit::Pass {
        return TestCaseStatus::success();
    }
    let kind = if exit == Exit::Usage {
        NonSuccessKind::Error
    } else {
        NonSuccessKind::Failure
    };
    let mut status = TestCaseStatus::non_success(kind);
    let text = tally
        .worst_failure()
        .map(|failure| describe(&failure.job, &failure.report))
        .unwrap_or_default();
    let summary = remarks(std::slice::from_ref(tally)).join("; ");
    status.set_message(summary).set_type(exit.word()).set_description(text);
    status
}

/// Writes the report.
pub fn write(path: &Path, tallies: &[Tally]) -> Result<(), Problem> {
    let text = xml(tallies).map_err(|error| Problem::Content {
        path: path.to_path_buf(),
        why: error.to_string(),
    })?;
    crate::launch::write_file(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::tests::canned;
    use crate::protocol::ScenarioInfo;
    use crate::tally::tests::report;

    #[test]
    fn a_report_with_a_pass_and_a_failure() {
        let info = |name: &str| ScenarioInfo {
            name: name.into(),
            ..ScenarioInfo::default()
        };
        let mut passing = Tally::new(&info("pause"), "ledger", None, &[]);
        passing.add(&canned().0, report(1, crate::protocol::Verdict::Pass, &[]));
        let mut failing = Tally::new(&info("mid-batch-timeout"), "logged-rmw", None, &[]);
        let (job, failure) = canned();
        failing.add(&job, failure);
        insta::assert_snapshot!("junit", xml(&[passing, failing]).unwrap());
    }
}
