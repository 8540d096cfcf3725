//! One injection of an experiment: an even load of statements of all kinds, a strike in the middle of it, and a watch on
//! what takes effect.
//!
//! Each statement has a connection to itself while it is under way, opened before the strike: a node that stands still
//! takes no new ones. Looks go through node 1, which is never struck, at QUORUM.

use super::statement::{Kind, parameters};
use super::summary::{Effect, Observation};
use super::{Experiment, Part};
use crate::bind;
use crate::target::Target;
use crate::wire::{Connection, Parameters, Reply, Request};
use scylla_cql::Consistency;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// How long a statement's client waits: the longest timeout of a server for what is sent here is 5 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// What is seen so soon after the answer was there at once: views lag by milliseconds without any fault.
const PROMPT: Duration = Duration::from_millis(250);
/// What is answered so long after the strike was under way then.
const UNDER_WAY: Duration = Duration::from_millis(1500);
/// Between two looks: the first pause, doubled up to the second.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LAST: Duration = Duration::from_millis(500);
/// Nodes have so long to see each other again before the next strike: a restart takes up to 30 s on a loaded machine.
const RECOVERY: Duration = Duration::from_secs(180);
/// Clients that keep batches in flight stop this long after the strike: who had none under way then proves nothing.
const IN_FLIGHT_AFTER: Duration = Duration::from_secs(1);
/// Nodes are struck one after another, and a real machine takes its time for each.
const BETWEEN_NODES: Duration = Duration::from_millis(100);
/// Statements of one injection at most, for their keys.
const IDS: i64 = 1_000_000;

/// Idle connections to one node.
#[derive(Debug)]
struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    async fn open(address: SocketAddr, connections: usize) -> Result<Arc<Pool>, String> {
        let mut idle = Vec::new();
        for _ in 0..connections {
            idle.push(Connection::open(address).await?);
        }
        let idle = Mutex::new(idle);
        Ok(Arc::new(Pool { address, idle }))
    }

    async fn ask(&self, request: &Request, parameters: &Parameters) -> Reply {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => match Connection::open(self.address).await {
                Ok(connection) => connection,
                Err(error) => return Reply::failed(error, false),
            },
        };
        let reply = connection.ask(request, parameters, PATIENCE, 0).await;
        if reply.is_alive {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
        reply
    }
}

/// What all statements of an injection share.
#[derive(Debug)]
struct Course {
    begin: Instant,
    strike: Instant,
    watch: Arc<Pool>,
    /// When nothing is looked for any more; known once the fault is undone.
    end: Mutex<Option<Instant>>,
}

impl Course {
    fn is_over(&self) -> bool {
        let end = *self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.is_some_and(|end| Instant::now() >= end)
    }
}

/// Strikes once. `number` keeps the keys of injections apart.
///
/// # Errors
/// What could not be done to a node, or that the cluster does not come back.
pub async fn inject(target: &Target, experiment: &Experiment, number: i64) -> Result<Vec<Observation>, String> {
    whole(target).await?;
    let in_time = (PATIENCE.as_millis() as u64).div_ceil(experiment.every_ms) as usize + 1;
    let begin = Instant::now();
    let mut pools = Vec::new();
    for (part, node) in experiment.coordinators() {
        let pool = Pool::open(target.address(node)?, in_time * Kind::ALL.len()).await?;
        pools.push((part, pool));
    }
    let watch = Pool::open(target.address(1)?, 1).await?;
    // Opening took its time; the load begins now.
    let begin = begin.max(Instant::now());
    let course = Arc::new(Course {
        begin,
        strike: begin + Duration::from_millis(experiment.before_ms),
        watch,
        end: Mutex::new(None),
    });
    let mut tasks = Vec::new();
    let mut id = number * IDS;
    for (part, pool) in &pools {
        for kind in Kind::ALL {
            let statements = (experiment.before_ms + experiment.until_ms) / experiment.every_ms;
            let of_kind = Sender {
                kind,
                part: *part,
                course: course.clone(),
                pool: pool.clone(),
            };
            tasks.push(tokio::spawn(of_kind.even(id, statements, experiment.every_ms)));
            id += statements as i64;
        }
    }
    for client in 0..experiment.in_flight {
        let kind = Kind::IN_FLIGHT[client % Kind::IN_FLIGHT.len()];
        let pool = Pool::open(target.address(experiment.nodes[0])?, 1).await?;
        let of_client = Sender {
            kind,
            part: Part::InFlight,
            course: course.clone(),
            pool,
        };
        tasks.push(tokio::spawn(of_client.without_pause(id)));
        id += IDS / 100;
    }
    strike(target, experiment, &course).await?;
    let mut seen = Vec::new();
    for task in tasks {
        seen.extend(joined(task).await?);
    }
    Ok(seen)
}

/// Does the fault, undoes it, and says when it is over.
async fn strike(target: &Target, experiment: &Experiment, course: &Course) -> Result<(), String> {
    sleep_until(course.strike).await;
    for node in &experiment.nodes {
        target.disturb(experiment.fault, *node).await?;
        sleep(BETWEEN_NODES).await;
    }
    sleep_until(course.strike + Duration::from_millis(experiment.undo_ms)).await;
    for node in &experiment.nodes {
        target.disturb(experiment.undo(), *node).await?;
        sleep(BETWEEN_NODES).await;
    }
    let loaded = course.strike + Duration::from_millis(experiment.until_ms);
    let end = loaded.max(Instant::now()) + Duration::from_millis(experiment.settle_ms);
    *course.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    Ok(())
}

async fn joined<T>(task: JoinHandle<Result<T, String>>) -> Result<T, String> {
    task.await.map_err(|e| e.to_string())?
}

/// Sends statements of one kind through one coordinator.
#[derive(Debug, Clone)]
struct Sender {
    kind: Kind,
    part: Part,
    course: Arc<Course>,
    pool: Arc<Pool>,
}

impl Sender {
    /// At an even pace, but not in step with anything: each at its own moment of its interval.
    async fn even(self, first_id: i64, statements: u64, every_ms: u64) -> Result<Vec<Observation>, String> {
        let mut tasks = Vec::new();
        for n in 0..statements {
            let id = first_id + n as i64;
            // Spread by the golden ratio: no two injections have the same moments.
            let moment = ((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % every_ms;
            sleep_until(self.course.begin + Duration::from_millis(n * every_ms + moment)).await;
            let sender = self.clone();
            tasks.push(tokio::spawn(async move { sender.one(id).await }));
        }
        let mut seen = Vec::new();
        for task in tasks {
            seen.push(joined(task).await?);
        }
        Ok(seen)
    }

    /// One after another, until the first that is not answered as it should be. Only that one counts.
    async fn without_pause(self, first_id: i64) -> Result<Vec<Observation>, String> {
        for id in first_id.. {
            if Instant::now() > self.course.strike + IN_FLIGHT_AFTER {
                break;
            }
            let sent = Instant::now();
            let reply = self.pool.ask(&self.kind.request(id)?, &self.kind.parameters()).await;
            // What was answered after the strike was under way then.
            if reply.lines[0] != "void"
                || (sent < self.course.strike && Instant::now() > self.course.strike + UNDER_WAY)
            {
                return Ok(vec![self.observed(id, sent, &reply).await?]);
            }
        }
        Ok(vec![])
    }

    async fn one(self, id: i64) -> Result<Observation, String> {
        let sent = Instant::now();
        let reply = self.pool.ask(&self.kind.request(id)?, &self.kind.parameters()).await;
        self.observed(id, sent, &reply).await
    }

    async fn observed(&self, id: i64, sent: Instant, reply: &Reply) -> Result<Observation, String> {
        let answered = Instant::now();
        let mut seen = Observation {
            kind: self.kind,
            part: self.part,
            answer: plain(self.kind, &reply.lines),
            answer_ms: (answered - sent).as_millis() as u64,
            effect: None,
            effect_ms: None,
        };
        if self.kind.is_write() {
            let (effect, at) = self.watch(id).await?;
            let is_prompt = at.is_some_and(|at| at - answered <= PROMPT);
            seen.effect = Some(match effect {
                Effect::Later if is_prompt => Effect::AtOnce,
                effect => effect,
            });
            seen.effect_ms = at.map(|at| (at - sent).as_millis() as u64);
        }
        Ok(seen)
    }

    /// Looks until all of a statement is there or nothing is looked for any more. What the first look finds that is
    /// answered was there at once, however long the look took.
    async fn watch(&self, id: i64) -> Result<(Effect, Option<Instant>), String> {
        let looks = self.kind.looks(id);
        let mut pause = LOOK_FIRST;
        let mut was_missed = false;
        loop {
            let is_last = self.course.is_over();
            let found = self.look(&looks, Consistency::Quorum).await?;
            let now = Instant::now();
            match seen(&found) {
                Seen::Whole if was_missed => return Ok((Effect::Later, Some(now))),
                Seen::Whole => return Ok((Effect::AtOnce, Some(now))),
                Seen::Twice => return Ok((Effect::Twice, Some(now))),
                Seen::Unknown if is_last => return Ok((Effect::Unknown, None)),
                Seen::Part if is_last => return Ok((Effect::Part, None)),
                Seen::Nothing if is_last => return Ok((self.at_last(&looks).await?, None)),
                Seen::Unknown => {}
                Seen::Part | Seen::Nothing => was_missed = true,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// What became of a statement of which nothing was seen. A serial read ends a round of Paxos that was decided and not
    /// told to all; before the last look it would have changed the outcome.
    async fn at_last(&self, looks: &[String]) -> Result<Effect, String> {
        let serial = self.kind == Kind::Cas && self.look(looks, Consistency::Serial).await? == [Some(1)];
        Ok(match serial {
            true => Effect::OnSerialRead,
            false => Effect::Never,
        })
    }

    /// For each part, how often it is there; nothing where the look failed.
    async fn look(&self, looks: &[String], level: Consistency) -> Result<Vec<Option<i64>>, String> {
        let mut found = Vec::new();
        for text in looks {
            let request = Request::Query(text.clone(), bind::values(&[])?);
            let reply = self.course.watch.ask(&request, &parameters(level)).await;
            let row = reply.lines.get(1);
            found.push(match (reply.lines[0].starts_with("rows"), row, self.kind) {
                (false, _, _) => None,
                (true, None, _) => Some(0),
                (true, Some(n), Kind::Counter) => Some(n.parse().map_err(|e| format!("counter '{n}': {e}"))?),
                (true, Some(_), _) => Some(1),
            });
        }
        Ok(found)
    }
}

/// What a look saw of a statement.
enum Seen {
    Whole,
    Part,
    Nothing,
    Twice,
    /// A part of the look failed.
    Unknown,
}

fn seen(found: &[Option<i64>]) -> Seen {
    let Some(found) = found.iter().copied().collect::<Option<Vec<i64>>>() else {
        return Seen::Unknown;
    };
    match (found.iter().min(), found.iter().max()) {
        (_, Some(2..)) => Seen::Twice,
        (Some(1), _) => Seen::Whole,
        (_, Some(1)) => Seen::Part,
        _ => Seen::Nothing,
    }
}

/// An answer without what differs from one machine to another: addresses, texts, and whether a node that is gone is noticed
/// by a connection that breaks or by one that cannot be made.
fn plain(kind: Kind, lines: &[String]) -> String {
    let line = &lines[0];
    if line == "void" {
        return "ok".into();
    }
    if line.starts_with("rows") {
        let is_there = lines.get(1).is_some_and(|l| kind != Kind::Cas || l.starts_with("true"));
        return if is_there {
            "ok"
        } else {
            "ok, and no row or not applied"
        }
        .into();
    }
    if line.contains("no answer") {
        return "no answer".into();
    }
    if line.contains("cannot connect") || line.contains("connection lost") {
        return "no connection".into();
    }
    let of_a_kind = ["Unavailable", "Timeout", "Failure"].iter().any(|w| line.contains(w));
    match line.split_once(": ") {
        Some((head, _)) if of_a_kind => head.to_owned(),
        _ => line.clone(),
    }
}

/// Waits until every node serves and sees all others.
async fn whole(target: &Target) -> Result<(), String> {
    let until = Instant::now() + RECOVERY;
    while let Err(error) = target.is_whole().await {
        if Instant::now() >= until {
            return Err(format!(
                "the cluster is not whole after {} s: {error}",
                RECOVERY.as_secs()
            ));
        }
        sleep(LOOK_LAST).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::plain;
    use crate::frequency::statement::Kind;

    #[test]
    fn answers_are_told_apart_by_what_they_say_and_not_by_whom_they_name() {
        let of = |kind, lines: &[&str]| plain(kind, &lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(Kind::Write, &["void", "warning x"]), "ok");
        assert_eq!(of(Kind::Cas, &["rows [applied]:boolean", "true"]), "ok");
        assert_eq!(
            of(Kind::Cas, &["rows [applied]:boolean", "false"]),
            "ok, and no row or not applied"
        );
        assert_eq!(of(Kind::Read, &["rows v:bigint"]), "ok, and no row or not applied");
        assert_eq!(
            of(
                Kind::Write,
                &[
                    "error 0x1500 WriteFailure ONE received 0 required 1 SIMPLE: Operation failed - UNKNOWN from /127.0.0.3:1"
                ]
            ),
            "error 0x1500 WriteFailure ONE received 0 required 1 SIMPLE"
        );
        assert_eq!(
            of(Kind::Write, &["127.0.0.3:1 does not answer STARTUP: no answer"]),
            "no answer"
        );
        assert_eq!(
            of(Kind::Write, &["connection lost"]),
            of(Kind::Write, &["cannot connect to 127.0.0.3:1: connection refused"])
        );
        assert_eq!(
            of(Kind::Write, &["error 0x2200 Key may: not be empty"]),
            "error 0x2200 Key may: not be empty"
        );
    }
}
