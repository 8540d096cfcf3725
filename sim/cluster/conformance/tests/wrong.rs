//! Cases can fail: a wrong expectation of every kind is reported, and says what was expected and what was found. In the
//! simulator under `--cfg madsim`, else on TCP.

use conformance::case::{self, Case};
use conformance::report::{self, Outcome, Verdict};
use sim_cluster::core::Flavor;
use std::collections::BTreeMap;

#[cfg(madsim)]
fn run(cases: &[Case]) -> Vec<Outcome> {
    conformance::backend::sim::run_all(cases, Flavor::Cassandra, "here", &|_| {})
}

#[cfg(not(madsim))]
fn run(cases: &[Case]) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let tell = |_: &Outcome| {};
    let run = conformance::backend::scylla_sim::run_all(cases, Flavor::Cassandra, "here", &tell);
    runtime.expect("a runtime").block_on(run)
}

/// The difference that the only case, with these steps, shows.
fn difference(steps: &str) -> String {
    match outcome(steps).verdict {
        Verdict::Differs(lines) => lines.join("\n"),
        other => panic!("{steps}: {other:?}"),
    }
}

fn outcome(steps: &str) -> Outcome {
    let text = format!("[[case]]\nname = 'wrong'\nsteps = [{steps}]\n");
    let cases = case::parse("wrong", &text).unwrap_or_else(|e| panic!("{e}"));
    run(&cases).remove(0)
}

const INSERT: &str = "{ cql = 'INSERT INTO conf.kv (k, v) VALUES (1, 2)', answer = 'void' }";

#[test]
fn a_wrong_row_is_shown_beside_the_right_one() {
    let select = "{ cql = 'SELECT k, v FROM conf.kv WHERE k = 1', answer = ['rows k:bigint v:bigint', '1 | 3'] }";
    assert_eq!(
        difference(&format!("{INSERT}, {select}")),
        "step 2: SELECT k, v FROM conf.kv WHERE k = 1
    expected | rows k:bigint v:bigint
             | 1 | 3
    found    | rows k:bigint v:bigint
             | 1 | 2"
    );
}

#[test]
fn a_wrong_type_text_code_count_and_warning_are_seen() {
    for (step, found) in [
        (
            "{ cql = 'SELECT v FROM conf.kv WHERE k = 7', answer = 'rows v:int' }",
            "rows v:bigint",
        ),
        (
            "{ cql = 'SELECT x FROM conf.kv WHERE k = 7', answer = 'error 0x2200 Undefined column name y in table conf.kv' }",
            "error 0x2200 Undefined column name x in table conf.kv",
        ),
        (
            "{ cql = 'SELEC', answer = \"error 0x2200 line 1:0 no viable alternative at input 'SELEC' ([SELEC])\" }",
            "error 0x2000 line 1:0",
        ),
        (
            "{ cql = 'INSERT INTO conf.kv (k, v) VALUES (1, 2)', level = 'TWO', answer = 'error 0x1000 Unavailable TWO required 2 alive 0: Cannot achieve consistency level TWO' }",
            "alive 1",
        ),
        (
            "{ batch = ['INSERT INTO conf.kv (k, t) VALUES (1, \"{x*5200}\")', \"INSERT INTO conf.other (k, v) VALUES (2, 2)\"], answer = 'void' }",
            "error 0x",
        ),
        (
            "{ cql = 'SELECT v FROM conf.kv WHERE k = 7', one_of = ['void', 'rows v:int'] }",
            "rows v:bigint",
        ),
        (
            "{ prepare = 'SELECT v FROM conf.kv WHERE k = ?', answer = 'prepared (k:int) key 0 -> v:bigint' }",
            "(k:bigint)",
        ),
    ] {
        let text = difference(step);
        let (_, after) = text.split_once("found").unwrap_or_else(|| panic!("{text}"));
        assert!(after.contains(found), "{text}");
    }
}

#[test]
fn an_answer_at_the_wrong_time_is_a_difference() {
    let late = "{ cql = 'SELECT v FROM conf.kv WHERE k = 7', answer = 'rows v:bigint', took_ms = [9000, 9500] }";
    assert!(difference(late).contains("after 9000 to 9500 ms (it took "));
}

#[test]
fn what_does_not_come_within_its_time_is_a_difference() {
    let never = "{ cql = 'SELECT v FROM conf.kv WHERE k = 8', answer = ['rows v:bigint', '1'], within_ms = 600 }";
    assert!(difference(never).contains("found    | rows v:bigint"));
}

#[test]
fn a_listed_difference_is_told_apart_from_a_new_one_and_from_none() {
    let step = |ours: &str| {
        format!("{{ cql = 'SELECT v FROM conf.kv WHERE k = 7', answer = 'rows v:text', ours = '{ours}' }}")
    };
    assert_eq!(outcome(&step("rows v:bigint")).verdict, Verdict::Listed);
    assert!(difference(&step("rows v:int")).contains("take it off the list"));
    let gone = "{ cql = 'SELECT v FROM conf.kv WHERE k = 7', answer = 'rows v:bigint', ours = 'rows v:int' }";
    assert!(difference(gone).contains("take it off the list"));
}

#[test]
fn a_fault_that_does_nothing_is_noticed() {
    let text = "[[case]]\nname = 'wrong'\nnodes = 3\nsteps = [
        { fault = 'freeze', nodes = [3] },
        { cql = 'INSERT INTO conf.kv (k, v) VALUES (1, 2)', level = 'ALL', answer = 'void' },
        { fault = 'kill', nodes = [2] },
        { cql = 'SELECT v FROM conf.kv WHERE k = 1', node = 2, answer = 'rows v:bigint' },
    ]\n";
    let cases = case::parse("wrong", text).unwrap_or_else(|e| panic!("{e}"));
    let Verdict::Differs(lines) = run(&cases).remove(0).verdict else {
        panic!("a frozen node answered");
    };
    let text = lines.join("\n");
    assert!(text.contains("WriteTimeout ALL received 2 required 3 SIMPLE"), "{text}");
    // Refused, or reset or lost where the kill comes between the connection and the first answer.
    let told = [
        "found    | cannot connect to the node: connection re",
        "found    | the node does not answer STARTUP: connection lost",
    ];
    assert!(told.iter().any(|words| text.contains(words)), "{text}");
}

#[test]
fn the_table_says_what_differs_and_fails() {
    let outcome = |backend: &str, verdict: Verdict| Outcome {
        group: "group".into(),
        case: "case".into(),
        backend: backend.into(),
        verdict,
        took_ms: 1,
        transcript: Vec::new(),
    };
    let good = [outcome("a", Verdict::Ok), outcome("b", Verdict::Listed)];
    let none = BTreeMap::new();
    assert!(report::report(&good, &none).is_good);
    assert!(!report::report(&[], &none).is_good, "nothing ran");
    let not_run = [outcome("a", Verdict::NotRun("why".into()))];
    assert!(!report::report(&not_run, &none).is_good, "nothing ran");
    let bad = [
        outcome("a", Verdict::Ok),
        outcome(
            "b",
            Verdict::Differs(vec!["expected | x".into(), "found    | y".into()]),
        ),
    ];
    let absent = BTreeMap::from([("real".to_owned(), "no JDK".to_owned())]);
    let report = report::report(&bad, &absent);
    assert!(!report.is_good);
    for line in [
        "DIFFERS  group: case [b]",
        "    expected | x",
        "b                      0 ok, 0 differ (listed), 1 DIFFER, 0 not run",
        "real                   not run: no JDK",
        "1 cases",
    ] {
        assert!(report.text.contains(line), "{line}\n{}", report.text);
    }
}
