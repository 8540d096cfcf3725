//! Runs a case against a target, step by step, and says what was found.

use crate::bind;
use crate::case::{Answer, BatchItem, BatchKind, Case, Fault, Step};
use crate::driver::Driver;
use crate::report::{Outcome, Verdict};
use crate::target::Target;
use crate::wire::{self, BatchStatement, Connection, Parameters, Reply, Request};
use scylla_cql::Consistency;
use sim_cluster::core::Flavor;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use tokio::time::{Duration, Instant, sleep};

/// A client waits so long for an answer: the longest server timeout, 10 s of a range read, and as much again for a machine
/// that is loaded.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks, where a step is asked again until it is as expected.
const LOOK: Duration = Duration::from_millis(250);
/// After a case that disturbed nodes, they have so long to serve and to see each other again: a restart takes up to 30 s
/// on a loaded machine, and gossip a few more.
const RECOVERY: Duration = Duration::from_secs(120);

/// What a case keeps between its steps.
struct Course<'a> {
    target: &'a Target,
    connections: BTreeMap<usize, Connection>,
    /// The ids of what was prepared in this case, by text.
    prepared: BTreeMap<String, Vec<u8>>,
    /// Where the last page ended.
    page_end: Option<Vec<u8>>,
    driver: Option<Driver>,
}

/// What a step found that is not as expected.
struct Difference {
    step: usize,
    found: Vec<String>,
    expected: Vec<String>,
}

/// Why a case cannot run on a target, if so.
pub fn obstacle(case: &Case, target: &Target) -> Option<String> {
    if !case.flavors.contains(&target.flavor) {
        return Some(format!("not for flavour {}", target.flavor.name()));
    }
    match case.nodes {
        Some(nodes) if nodes != target.nodes() => {
            Some(format!("needs {nodes} node{}", if nodes == 1 { "" } else { "s" }))
        }
        _ if !case.disturbed().is_empty() && !target.can_disturb() => Some("no control over the nodes".into()),
        _ => None,
    }
}

/// Runs a case.
pub async fn run(case: &Case, target: &Target) -> Outcome {
    let begun = Instant::now();
    let mut course = Course {
        target,
        connections: BTreeMap::new(),
        prepared: BTreeMap::new(),
        page_end: None,
        driver: None,
    };
    let mut transcript = Vec::new();
    let judged = course.steps(case, &mut transcript).await;
    let healed = heal(case, target).await;
    let verdict = match (judged, healed) {
        (Err(failure), _) | (Ok(_), Err(failure)) => Verdict::Differs(vec![failure]),
        (Ok(judged), Ok(())) => judged,
    };
    Outcome {
        group: case.group.clone(),
        case: case.name.clone(),
        backend: target.label.clone(),
        verdict,
        took_ms: begun.elapsed().as_millis() as u64,
        transcript,
    }
}

impl Course<'_> {
    /// All steps; an error is something that kept the case from running.
    async fn steps(&mut self, case: &Case, transcript: &mut Vec<String>) -> Result<Verdict, String> {
        let mut differences = Vec::new();
        let mut listed = 0;
        for (i, step) in case.steps.iter().enumerate() {
            transcript.push(format!("step {}: {}", i + 1, step.title()));
            let Some((found, took_ms)) = self.step(step).await.map_err(|e| format!("step {}: {e}", i + 1))? else {
                continue;
            };
            transcript.extend(found.iter().map(|l| format!("    {l}")));
            transcript.push(format!("    after {took_ms} ms"));
            match self.judge(step, &found, took_ms) {
                Judgement::AsExpected => {}
                Judgement::AsListed => listed += 1,
                Judgement::Other(expected) => differences.push(Difference {
                    step: i + 1,
                    found,
                    expected,
                }),
            }
        }
        Ok(verdict(case, listed, &differences))
    }

    /// One step: what was answered and after how many milliseconds, if it asks anything.
    async fn step(&mut self, step: &Step) -> Result<Option<(Vec<String>, u64)>, String> {
        if let Some(fault) = step.fault {
            for node in &step.nodes {
                let keyspace = step.keyspace.as_deref().unwrap_or("conf");
                match fault {
                    Fault::Repair => self.target.repair(*node, keyspace).await?,
                    Fault::Compact => self.target.compact(*node, keyspace).await?,
                    _ => self.target.disturb(fault, *node).await?,
                }
                if matches!(fault, Fault::Kill) {
                    self.connections.remove(node);
                }
            }
            return Ok(None);
        }
        if let Some(ms) = step.wait_ms {
            sleep(Duration::from_millis(ms)).await;
            return Ok(None);
        }
        let until = Instant::now() + Duration::from_millis(step.within_ms.unwrap_or(0));
        loop {
            let begun = Instant::now();
            let lines = self.ask(step).await?;
            let took_ms = begun.elapsed().as_millis() as u64;
            let is_right = !matches!(self.judge(step, &lines, took_ms), Judgement::Other(_));
            if is_right || Instant::now() >= until {
                return Ok(Some((lines, took_ms)));
            }
            sleep(LOOK).await;
        }
    }

    async fn ask(&mut self, step: &Step) -> Result<Vec<String>, String> {
        let patience = step.give_up_ms.map_or(PATIENCE, Duration::from_millis);
        if let Some(text) = &step.driver {
            if self.driver.is_none() {
                self.driver = Some(Driver::connect(self.target).await?);
            }
            let driver = self.driver.as_mut().ok_or("no driver")?;
            return driver.run(text, step, self.target.now_us()).await;
        }
        let request = self.request(step)?;
        let parameters = self.parameters(step)?;
        let node = step.node.unwrap_or(1);
        let address = self.target.address(node)?;
        if let Entry::Vacant(place) = self.connections.entry(node) {
            match Connection::open(address).await {
                Ok(connection) => {
                    place.insert(connection);
                }
                // Where a node is down this is an answer like any other.
                Err(error) => return Ok(vec![error.replace(&address.to_string(), "the node")]),
            }
        }
        let connection = self.connections.get_mut(&node).ok_or("no connection")?;
        let reply = connection
            .ask(&request, &parameters, patience, self.target.now_us())
            .await;
        if reply.lines[0].starts_with("schema change") && !step.apart {
            // As drivers do; until then other nodes refuse the requests for the table.
            self.target.agreement().await?;
        }
        Ok(self.take(step, node, reply))
    }

    /// Keeps of a reply what later steps need.
    fn take(&mut self, step: &Step, node: usize, reply: Reply) -> Vec<String> {
        if !reply.is_alive {
            self.connections.remove(&node);
        }
        if let (Some(text), Some(id)) = (&step.prepare, reply.prepared) {
            self.prepared.insert(text.clone(), id);
        }
        if reply.lines[0].starts_with("rows") {
            self.page_end = reply.paging_state;
        }
        reply.lines
    }

    fn request(&self, step: &Step) -> Result<Request, String> {
        let values = bind::values(&step.bind)?;
        if let Some(text) = &step.cql {
            return Ok(Request::Query(expand(text), values));
        }
        if let Some(text) = &step.prepare {
            return Ok(Request::Prepare(expand(text)));
        }
        if let Some(text) = &step.execute {
            return Ok(Request::Execute(self.id_of(text)?, values));
        }
        if let Some(id) = &step.execute_id {
            let id = hex::decode(id).map_err(|e| format!("id {id}: {e}"))?;
            return Ok(Request::Execute(id, values));
        }
        let items = step.batch.as_ref().ok_or("a step that does nothing")?;
        let statements = items.iter().map(|i| self.batch_statement(i));
        let kind = match step.kind {
            BatchKind::Logged => 0,
            BatchKind::Unlogged => 1,
            BatchKind::Counter => 2,
            BatchKind::Unknown => 7,
        };
        Ok(Request::Batch(kind, statements.collect::<Result<_, _>>()?))
    }

    fn batch_statement(&self, item: &BatchItem) -> Result<BatchStatement, String> {
        Ok(match item {
            BatchItem::Text(text) => BatchStatement {
                what: Ok(expand(text)),
                values: bind::values(&[])?,
            },
            BatchItem::Bound { cql, prepared, bind } => BatchStatement {
                what: if *prepared {
                    Err(self.id_of(cql)?)
                } else {
                    Ok(expand(cql))
                },
                values: bind::values(bind)?,
            },
        })
    }

    fn id_of(&self, text: &str) -> Result<Vec<u8>, String> {
        let id = self.prepared.get(text).cloned();
        id.ok_or_else(|| format!("'{text}' was not prepared in this case"))
    }

    fn parameters(&self, step: &Step) -> Result<Parameters, String> {
        let paging_state = match &step.paging_state {
            Some(state) => Some(hex::decode(state).map_err(|e| format!("paging state {state}: {e}"))?),
            None if step.next_page => Some(self.page_end.clone().ok_or("there is no next page")?),
            None => None,
        };
        Ok(Parameters {
            level: level(step.level.as_deref())?.unwrap_or(Consistency::Quorum),
            serial: level(step.serial.as_deref())?,
            timestamp: step.timestamp,
            page: step.page,
            paging_state,
        })
    }

    fn judge(&self, step: &Step, found: &[String], took_ms: u64) -> Judgement {
        judge(step, self.target, found, took_ms)
    }
}

/// How an answer compares.
enum Judgement {
    AsExpected,
    /// Ours, and different in the way that is listed.
    AsListed,
    /// What would have been right.
    Other(Vec<String>),
}

fn judge(step: &Step, target: &Target, found: &[String], took_ms: u64) -> Judgement {
    let (flavor, is_ours) = (target.flavor, target.is_ours);
    if let Some((least, most)) = step.took_ms
        && !(least..=most + target.slack_ms).contains(&took_ms)
    {
        return Judgement::Other(vec![format!("after {least} to {most} ms (it took {took_ms} ms)")]);
    }
    let expected = step.expected(flavor);
    match &step.ours {
        // The difference must be the one that is listed; if it is gone, the list has to know.
        Some(ours) if is_ours && flavor == Flavor::Cassandra => {
            if ours.lines() == found {
                return Judgement::AsListed;
            }
            let mut lines = vec!["(the listed difference; if it is gone, take it off the list)".to_owned()];
            lines.extend(ours.lines().iter().cloned());
            Judgement::Other(lines)
        }
        _ if expected.iter().any(|a| a.lines() == found) => Judgement::AsExpected,
        _ => Judgement::Other(all_of(&expected)),
    }
}

/// The lines of all answers that would be right.
fn all_of(answers: &[&Answer]) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, answer) in answers.iter().enumerate() {
        if i > 0 {
            lines.push("or".into());
        }
        lines.extend(answer.lines().iter().cloned());
    }
    lines
}

fn verdict(case: &Case, listed: usize, differences: &[Difference]) -> Verdict {
    if differences.is_empty() {
        return if listed > 0 { Verdict::Listed } else { Verdict::Ok };
    }
    let mut lines = Vec::new();
    for Difference { step, found, expected } in differences {
        lines.push(format!("step {step}: {}", case.steps[step - 1].title()));
        lines.extend(indented("expected", expected));
        lines.extend(indented("found   ", found));
    }
    Verdict::Differs(lines)
}

fn indented(what: &str, lines: &[String]) -> Vec<String> {
    let name = |i: usize| {
        if i == 0 {
            what.to_owned()
        } else {
            " ".repeat(what.len())
        }
    };
    lines
        .iter()
        .enumerate()
        .map(|(i, l)| format!("    {} | {l}", name(i)))
        .collect()
}

/// Undoes what the case did to nodes, and waits until all see each other again, so that cases do not depend on each other.
async fn heal(case: &Case, target: &Target) -> Result<(), String> {
    let disturbed = case.disturbed();
    if disturbed.is_empty() {
        return Ok(());
    }
    for node in disturbed {
        target.heal(node).await?;
    }
    let until = Instant::now() + RECOVERY;
    loop {
        match target.is_whole().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(format!(
                    "the cluster is not whole {} s after the case: {error}",
                    RECOVERY.as_secs()
                ));
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

fn level(name: Option<&str>) -> Result<Option<Consistency>, String> {
    let of = |name| wire::level(name).ok_or_else(|| format!("'{name}' is no consistency level"));
    name.map(of).transpose()
}

/// `{x*5000}` in a statement stands for 5000 times `x`, `{1..4}` for the set of these numbers: limits need long texts.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else {
        return text.to_owned();
    };
    match rest.split_once('}') {
        Some((inside, after)) if inside.contains('*') => format!("{before}{}{}", bind::repeated(inside), expand(after)),
        Some((inside, after)) if let Some(numbers) = numbers(inside) => {
            format!("{before}{{{numbers}}}{}", expand(after))
        }
        _ => format!("{before}{{{}", expand(rest)),
    }
}

fn numbers(range: &str) -> Option<String> {
    let (first, last) = range.split_once("..")?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let numbers: Vec<String> = (first..=last).map(|n| n.to_string()).collect();
    Some(numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn only_repetitions_are_expanded() {
        assert_eq!(expand("a {x*3} b {'class': 1} c {y*2}"), "a xxx b {'class': 1} c yy");
        assert_eq!(expand("s - {1..3} {'a..b': 1}"), "s - {1, 2, 3} {'a..b': 1}");
    }
}
