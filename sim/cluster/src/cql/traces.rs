//! Traces of requests whose clients asked for one: what `system_traces.sessions` and `events` hold. They are those of one
//! cluster, kept in memory, the newest of them; what replicas do is not in them.

use crate::cql::frame::response::{put_bytes, put_int};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Traces that are kept; the oldest go first. (The servers keep them for a day.)
pub const TRACES_MAX: usize = 1_000;
/// Bytes of a statement's text that a trace keeps.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What a trace says of its request at the beginning.
#[derive(Debug, Clone)]
pub struct Begun {
    /// `Execute CQL3 query`, say.
    pub request: &'static str,
    /// Name and value.
    pub parameters: Vec<(&'static str, String)>,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// Who was asked, and on which port.
    pub coordinator: IpAddr,
    /// See there.
    pub port: u16,
}

#[derive(Debug)]
struct Session {
    id: Uuid,
    number: NonZeroU32,
    began_us: u64,
    duration_us: Option<u64>,
    begun: Begun,
    /// What happened, when, and where.
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    at_us: u64,
    activity: String,
    source: IpAddr,
}

#[derive(Debug, Default)]
struct Kept {
    sessions: VecDeque<Session>,
    /// Makes ids unique.
    last: u32,
}

/// The clock of a host: microseconds since the Unix epoch.
pub type Now = Box<dyn Fn() -> u64 + Send + Sync>;

/// All traces.
pub struct Traces {
    now: Now,
    kept: Mutex<Kept>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// From 1582-10-15, where times of UUIDs begin, to 1970, in their unit of 100 ns.
const UUID_EPOCH_100NS: u64 = 0x01b2_1dd2_1381_4000;

/// A UUID of version 1 of a time; `n` tells those of one microsecond apart.
fn time_uuid(at_us: u64, n: u64) -> Uuid {
    let ticks = UUID_EPOCH_100NS + at_us * 10 + n % 10;
    let node = (n / 10).to_be_bytes();
    // The bit of group addresses: no machine's own.
    let node = [node[2] | 1, node[3], node[4], node[5], node[6], node[7]];
    Uuid::from_fields(
        ticks as u32,
        (ticks >> 32) as u16,
        (ticks >> 48) as u16 & 0x0fff | 0x1000,
        &[0x80, 0x01, node[0], node[1], node[2], node[3], node[4], node[5]],
    )
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Traces {
    /// No traces yet.
    pub fn new(now: Now) -> Traces {
        Traces {
            now,
            kept: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; returns the id of its trace.
    pub fn begin(&self, mut begun: Begun) -> Uuid {
        let began_us = (self.now)();
        let mut kept = self.lock();
        kept.last = kept.last.wrapping_add(1).max(1);
        let number = NonZeroU32::MIN.saturating_add(kept.last - 1);
        let id = time_uuid(began_us, number.get().into());
        if kept.sessions.len() == TRACES_MAX {
            kept.sessions.pop_front();
        }
        for (_, value) in &mut begun.parameters {
            *value = cut(value);
        }
        kept.sessions.push_back(Session {
            id,
            number,
            began_us,
            duration_us: None,
            begun,
            events: Vec::new(),
        });
        id
    }

    /// The number of a trace: shorter than its id, and its own among those that are kept.
    pub fn number(&self, id: Uuid) -> Option<NonZeroU32> {
        let kept = self.lock();
        kept.sessions.iter().find(|s| s.id == id).map(|s| s.number)
    }

    /// The id of the trace of this number.
    pub fn id(&self, number: NonZeroU32) -> Option<Uuid> {
        let kept = self.lock();
        kept.sessions.iter().find(|s| s.number == number).map(|s| s.id)
    }

    /// Its coordinator does something for it.
    pub fn event(&self, id: Uuid, activity: &str) {
        self.event_at(id, None, activity);
    }

    /// A node does something for it: its coordinator, if it is not said which.
    pub fn event_at(&self, id: Uuid, source: Option<IpAddr>, activity: &str) {
        let at_us = (self.now)();
        if let Some(session) = self.lock().sessions.iter_mut().find(|s| s.id == id) {
            session.events.push(Event {
                at_us,
                activity: cut(activity),
                source: source.unwrap_or(session.begun.coordinator),
            });
        }
    }

    /// It is answered.
    pub fn end(&self, id: Uuid) {
        let at_us = (self.now)();
        if let Some(session) = self.lock().sessions.iter_mut().find(|s| s.id == id) {
            session.duration_us = Some(at_us.saturating_sub(session.began_us));
        }
    }

    /// Deletes columns of a trace's session, or, without columns, all that one of the two tables has of it. Of the columns only
    /// the duration can be gone: it is how clients tell a trace that is whole.
    pub(crate) fn delete(&self, id: Uuid, table: &str, columns: &[&str]) {
        let mut kept = self.lock();
        let Some(place) = kept.sessions.iter().position(|s| s.id == id) else {
            return;
        };
        match (table, columns) {
            ("sessions", []) => drop(kept.sessions.remove(place)),
            ("sessions", columns) if columns.contains(&"duration") => kept.sessions[place].duration_us = None,
            ("events", []) => kept.sessions[place].events.clear(),
            _ => {}
        }
    }

    /// The rows of one of the two tables, with values for these columns.
    pub(crate) fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Option<Vec<u8>>>> {
        let kept = self.lock();
        let mut rows = Vec::new();
        for session in &kept.sessions {
            if table == "sessions" {
                rows.push(columns.iter().map(|c| session.value(c)).collect());
                continue;
            }
            for (n, event) in session.events.iter().enumerate() {
                rows.push(columns.iter().map(|c| session.value_of_event(n, event, c)).collect());
            }
        }
        rows
    }
}

fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn int(n: u64) -> Vec<u8> {
    i32::try_from(n).unwrap_or(i32::MAX).to_be_bytes().to_vec()
}

/// The thread that the servers name first.
const THREAD: &str = "Native-Transport-Requests-1";

impl Session {
    fn value(&self, column: &str) -> Option<Vec<u8>> {
        Some(match column {
            "session_id" => self.id.as_bytes().to_vec(),
            "client" => address(self.begun.client?),
            "command" => b"QUERY".to_vec(),
            "coordinator" => address(self.begun.coordinator),
            "coordinator_port" => int(self.begun.port.into()),
            "duration" => int(self.duration_us?),
            "request" => self.begun.request.into(),
            "started_at" => (self.began_us / 1000).to_be_bytes().to_vec(),
            "parameters" => {
                let mut map = Vec::new();
                put_int(&mut map, self.begun.parameters.len() as i32);
                for (name, value) in &self.begun.parameters {
                    put_bytes(&mut map, Some(name.as_bytes()));
                    put_bytes(&mut map, Some(value.as_bytes()));
                }
                map
            }
            _ => return None,
        })
    }

    fn value_of_event(&self, n: usize, event: &Event, column: &str) -> Option<Vec<u8>> {
        Some(match column {
            "session_id" => self.id.as_bytes().to_vec(),
            "event_id" => time_uuid(event.at_us, n as u64).as_bytes().to_vec(),
            "activity" => event.activity.clone().into_bytes(),
            "source" => address(event.source),
            "source_port" => int(self.begun.port.into()),
            "source_elapsed" => int(event.at_us.saturating_sub(self.began_us)),
            "thread" => THREAD.into(),
            "scylla_parent_id" | "scylla_span_id" => 0i64.to_be_bytes().to_vec(),
            _ => return None,
        })
    }
}
