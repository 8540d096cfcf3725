//! Faults on the feed: taps on settlement's connections to the engine. Messages are lost, doubled or held back where the
//! bytes leave the engine, so that neither program carries a failpoint. ZMTP framing is read here (greeting of 64 bytes,
//! then frames of flags, length, body); what a payload means is asked of a [`FeedCodec`].
use super::{Blow, Executor, WeakExecutor};
use crate::plan::{Action, Fault, Forged, Plan, When};
use sim_world::{ConnInfo, TapVerdict, TcpTap};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a ZMTP 3 greeting.
const GREETING_BYTES: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// How long after a loss the engine's replay goes on being slow, partial or refused, ms: longer than any replay takes then.
const REPLAY_TROUBLE_MS: u64 = 20_000;
/// Something is forged only behind so many events without a hole: behind one nobody can tell the false from the true.
const KNOWN_EVENTS: u32 = 20;
/// A replay reply with an event in it has at least so many bytes, one without has fewer.
const EVENTS_REPLY_BYTES: usize = 120;

/// Knows what the feed's payloads mean.
pub trait FeedCodec: Send + Sync {
    /// The output sequence of a published event; None for anything else, such as a heartbeat.
    fn sequence(&self, payload: &[u8]) -> Option<u64>;
    /// A replay reply with at most `max_entries` events; None for a reply that has no more than that.
    fn shorten_reply(&self, payload: &[u8], max_entries: usize) -> Option<Vec<u8>>;
    /// The refusal that an engine gives which does not keep these events any more, in place of a reply that has some.
    fn refuse_reply(&self, payload: &[u8]) -> Option<Vec<u8>>;
    /// Another event under the sequence of this one, sealed as it must be; with `break_chain` it names another event as
    /// the one before it.
    fn forge(&self, payload: &[u8], break_chain: bool) -> Option<Vec<u8>>;
    /// A heartbeat that says that this event is the head, with another digest than it has.
    fn forge_head(&self, payload: &[u8]) -> Option<Vec<u8>>;
}

/// Where the feed is.
#[derive(Clone)]
pub struct FeedPorts {
    /// The engine's PUB socket.
    pub publish: u16,
    /// The engine's REP socket.
    pub replay: u16,
    /// What payloads mean.
    pub codec: Arc<dyn FeedCodec>,
}

/// How replay behaves for now.
#[derive(Default)]
struct ReplayTrouble {
    until_ms: u64,
    slow_ms: u64,
    max_entries: usize,
    refused: bool,
    /// How many replies with events in them come damaged.
    damaged: u32,
}

/// Installs both taps, if the plan has faults for them.
pub(super) fn install(executor: &Executor, plan: &Plan, ports: &FeedPorts) {
    let waiting: Vec<Fault> = plan
        .faults
        .iter()
        .filter(|fault| matches!(fault.when, When::Published { .. }))
        .cloned()
        .collect();
    if waiting.is_empty() {
        return;
    }
    let trouble = Arc::new(Mutex::new(ReplayTrouble::default()));
    let settlement = executor.machines().settlement.id();
    let publish = PublishTap {
        executor: executor.weak(),
        codec: ports.codec.clone(),
        waiting,
        active: Vec::new(),
        silent_until_ms: 0,
        first: None,
        last: (0, 0),
        trouble: trouble.clone(),
        streams: BTreeMap::new(),
    };
    executor.keep(executor.world().tap(settlement, ports.publish, Box::new(publish)));
    let replay = ReplayTap {
        executor: executor.weak(),
        codec: ports.codec.clone(),
        trouble,
        streams: BTreeMap::new(),
    };
    executor.keep(executor.world().tap(settlement, ports.replay, Box::new(replay)));
}

/// One direction of a ZMTP connection, cut into messages.
#[derive(Default)]
struct Stream {
    buffer: Vec<u8>,
    greeted: bool,
}

/// What a stream gives.
enum Piece {
    /// Greeting or command: not ours.
    Other(Vec<u8>),
    /// A message: its bytes on the wire, and the body of its last frame.
    Message { wire: Vec<u8>, payload: Vec<u8> },
}

impl Stream {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.buffer.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        if !self.greeted {
            if self.buffer.len() < GREETING_BYTES {
                // Greetings are short and come in parts; nothing else can precede their end.
                return vec![];
            }
            pieces.push(Piece::Other(self.buffer.drain(..GREETING_BYTES).collect()));
            self.greeted = true;
        }
        while let Some((length, payload)) = message(&self.buffer) {
            let wire: Vec<u8> = self.buffer.drain(..length).collect();
            pieces.push(match payload {
                None => Piece::Other(wire),
                Some((from, to)) => Piece::Message {
                    payload: wire[from..to].to_vec(),
                    wire,
                },
            });
        }
        pieces
    }
}

/// Length of the complete message or command at the start of `bytes`, and where its last frame's body is.
#[allow(
    clippy::type_complexity,
    reason = "a private pair of pairs with its meaning in the line above"
)]
fn message(bytes: &[u8]) -> Option<(usize, Option<(usize, usize)>)> {
    let mut at = 0;
    loop {
        let flags = *bytes.get(at)?;
        let (header, length) = if flags & LONG != 0 {
            let field: [u8; 8] = bytes.get(at + 1..at + 9)?.try_into().ok()?;
            (9, usize::try_from(u64::from_be_bytes(field)).ok()?)
        } else {
            (2, usize::from(*bytes.get(at + 1)?))
        };
        let (from, to) = (at + header, at.checked_add(header)?.checked_add(length)?);
        if bytes.len() < to {
            return None;
        }
        at = to;
        if flags & COMMAND != 0 {
            return Some((at, None));
        }
        if flags & MORE == 0 {
            return Some((at, Some((from, to))));
        }
    }
}

/// The same message with another body in its last frame.
fn with_payload(wire: &[u8], old_bytes: usize, payload: &[u8]) -> Vec<u8> {
    let header = if old_bytes > 255 { 9 } else { 2 };
    let mut out = wire[..wire.len() - old_bytes - header].to_vec();
    if payload.len() > 255 {
        out.push(LONG);
        out.extend((payload.len() as u64).to_be_bytes());
    } else {
        out.push(0);
        out.push(payload.len() as u8);
    }
    out.extend_from_slice(payload);
    out
}

/// Changes one bit of the body of a message's last frame.
fn damage(wire: &mut [u8], payload_bytes: usize) {
    let at = wire.len() - payload_bytes / 3;
    wire[at] ^= 1;
}

struct PublishTap {
    executor: WeakExecutor,
    codec: Arc<dyn FeedCodec>,
    /// Faults whose event has not been published yet.
    waiting: Vec<Fault>,
    /// Faults at work: with the sequence at which each ends, and what it holds back.
    active: Vec<Active>,
    /// Events are lost until then.
    silent_until_ms: u64,
    /// The first event that came by.
    first: Option<Vec<u8>>,
    /// The last one, and how many came without a hole up to it.
    last: (u64, u32),
    trouble: Arc<Mutex<ReplayTrouble>>,
    streams: BTreeMap<u64, Stream>,
}

struct Active {
    from: u64,
    to: u64,
    effect: Effect,
}

enum Effect {
    Duplicate,
    Drop,
    Damage,
    Forge(Forged),
    Hold { wire: Option<Vec<u8>> },
}

impl TcpTap for PublishTap {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        if conn.to_server {
            return TapVerdict::Pass;
        }
        let Some(executor) = self.executor.upgrade() else {
            return TapVerdict::Pass;
        };
        let mut out = Vec::with_capacity(bytes.len());
        for piece in self.streams.entry(conn.id).or_default().feed(bytes) {
            match piece {
                Piece::Other(wire) => out.extend(wire),
                Piece::Message { wire, payload } => match self.codec.sequence(&payload) {
                    None => out.extend(wire),
                    Some(sequence) => self.event(&executor, sequence, wire, &payload, &mut out),
                },
            }
        }
        TapVerdict::Replace(out)
    }
}

impl PublishTap {
    fn event(&mut self, executor: &Executor, sequence: u64, mut wire: Vec<u8>, payload: &[u8], out: &mut Vec<u8>) {
        self.first.get_or_insert_with(|| payload.to_vec());
        self.last = match self.last {
            (last, run) if last + 1 == sequence => (sequence, run + 1),
            _ => (sequence, 0),
        };
        self.begin(executor, sequence);
        let now_ms = executor.now_ms();
        let mut times = usize::from(now_ms >= self.silent_until_ms);
        let (mut held, mut behind) = (None, None);
        for active in self.active.iter_mut().filter(|a| (a.from..a.to).contains(&sequence)) {
            match &mut active.effect {
                Effect::Duplicate => times *= 2,
                Effect::Drop => times = 0,
                Effect::Damage => damage(&mut wire, payload.len()),
                Effect::Forge(how) => {
                    let first = self.first.as_deref().unwrap_or(payload);
                    let forged = match how {
                        Forged::Instead => self.codec.forge(payload, true),
                        Forged::Behind => self.codec.forge(payload, false),
                        Forged::Old => self.codec.forge(first, false),
                        Forged::Head => self.codec.forge_head(payload),
                    };
                    behind = forged.map(|forged| with_payload(&wire, payload.len(), &forged));
                    if *how == Forged::Instead {
                        times = 0;
                    }
                }
                Effect::Hold { wire: kept } if sequence == active.from => {
                    *kept = Some(wire.clone());
                    times = 0;
                }
                Effect::Hold { wire: kept } if sequence + 1 == active.to => held = kept.take(),
                Effect::Hold { .. } => {}
            }
        }
        self.active.retain(|active| sequence + 1 < active.to);
        for _ in 0..times {
            out.extend_from_slice(&wire);
        }
        out.extend(behind.unwrap_or_default());
        out.extend(held.unwrap_or_default());
    }

    /// Starts the faults whose event is here, or has been passed over.
    fn begin(&mut self, executor: &Executor, sequence: u64) {
        let known = self.last.1 >= KNOWN_EVENTS;
        let due = |fault: &Fault| {
            let is_forged = matches!(fault.action, Action::Forge { .. });
            matches!(fault.when, When::Published { output_sequence } if output_sequence <= sequence)
                && (known || !is_forged)
        };
        while let Some(index) = self.waiting.iter().position(due) {
            let Some(fault) = executor.take(self.waiting.remove(index).id) else {
                continue;
            };
            self.start(executor, &fault, sequence);
        }
    }

    fn start(&mut self, executor: &Executor, fault: &Fault, from: u64) {
        let now_ms = executor.now_ms();
        let mut until_ms = now_ms;
        let (to, effect, what) = match fault.action {
            Action::Duplicate { count } => (from + u64::from(count), Effect::Duplicate, "delivered twice"),
            Action::Delay { by } => (from + u64::from(by) + 1, Effect::Hold { wire: None }, "delivered late"),
            Action::Drop {
                count,
                replay_slow_ms,
                replay_max_entries,
                replay_refused,
                silence_ms,
            } => {
                self.silent_until_ms = self.silent_until_ms.max(now_ms + silence_ms);
                until_ms = now_ms + silence_ms;
                if replay_slow_ms > 0 || replay_max_entries > 0 || replay_refused {
                    let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    if now_ms >= trouble.until_ms {
                        *trouble = ReplayTrouble {
                            damaged: trouble.damaged,
                            ..ReplayTrouble::default()
                        };
                    }
                    trouble.until_ms = now_ms + REPLAY_TROUBLE_MS;
                    trouble.slow_ms = trouble.slow_ms.max(replay_slow_ms);
                    trouble.max_entries = trouble.max_entries.max(replay_max_entries as usize);
                    trouble.refused |= replay_refused;
                    until_ms = until_ms.max(trouble.until_ms);
                }
                (from + u64::from(count), Effect::Drop, "lost")
            }
            Action::Damage { count } => {
                // And the first answer to who asks for them again.
                self.trouble.lock().unwrap_or_else(PoisonError::into_inner).damaged += 1;
                (from + u64::from(count), Effect::Damage, "damaged")
            }
            Action::Forge { how } => (from + 1, Effect::Forge(how), "forged"),
            // The event leaves; nothing behind it does.
            Action::PowerLoss {
                target,
                restart_after_ms,
            } => return executor.outage_now(fault, target, restart_after_ms, Blow::Power),
            Action::PublishRefused { .. } => {
                return executor.fired_until(
                    fault,
                    now_ms,
                    format!("a contradiction is published around event {from}"),
                );
            }
            _ => return executor.left_out(fault, "this action is not one of the feed".into()),
        };
        executor.fired_until(
            fault,
            until_ms,
            format!("from event {from} up to event {}: {what}", to - 1),
        );
        self.active.push(Active { from, to, effect });
    }
}

/// Slows, shortens, refuses and damages replay replies while there is trouble.
struct ReplayTap {
    executor: WeakExecutor,
    codec: Arc<dyn FeedCodec>,
    trouble: Arc<Mutex<ReplayTrouble>>,
    streams: BTreeMap<u64, Stream>,
}

impl ReplayTap {
    /// What stands in the place of this reply, if anything does.
    fn instead(&self, payload: &[u8], max_entries: usize, refused: bool) -> Option<Vec<u8>> {
        match refused {
            true => self.codec.refuse_reply(payload),
            false if max_entries > 0 => self.codec.shorten_reply(payload, max_entries),
            false => None,
        }
    }

    /// Whether the reply that goes by is one of the damaged.
    fn is_damaged(&self) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let left = trouble.damaged.checked_sub(1);
        trouble.damaged = left.unwrap_or(0);
        left.is_some()
    }
}

impl TcpTap for ReplayTap {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        if conn.to_server {
            return TapVerdict::Pass;
        }
        let Some(executor) = self.executor.upgrade() else {
            return TapVerdict::Pass;
        };
        let (slow_ms, max_entries, refused) = {
            let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if executor.now_ms() < trouble.until_ms {
                (trouble.slow_ms, trouble.max_entries, trouble.refused)
            } else {
                (0, 0, false)
            }
        };
        let mut out = Vec::with_capacity(bytes.len());
        for piece in self.streams.entry(conn.id).or_default().feed(bytes) {
            match piece {
                Piece::Other(wire) => out.extend(wire),
                Piece::Message { mut wire, mut payload } => {
                    if let Some(other) = self.instead(&payload, max_entries, refused) {
                        wire = with_payload(&wire, payload.len(), &other);
                        payload = other;
                    }
                    if payload.len() >= EVENTS_REPLY_BYTES && self.is_damaged() {
                        damage(&mut wire, payload.len());
                    }
                    out.extend(wire);
                }
            }
        }
        if slow_ms > 0 && out == bytes {
            return TapVerdict::Hold {
                extra_ns: slow_ms * 1_000_000,
            };
        }
        TapVerdict::Replace(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if body.len() > 255 {
            out.push(flags | LONG);
            out.extend((body.len() as u64).to_be_bytes());
        } else {
            out.extend([flags, body.len() as u8]);
        }
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let mut wire = vec![0xff; GREETING_BYTES];
        wire.extend(frame(COMMAND, b"\x05READY"));
        let first = [frame(MORE, b"me"), frame(0, &[7; 300])].concat();
        wire.extend(&first);
        wire.extend([frame(MORE, b"me"), frame(0, b"x")].concat());
        for cut in 0..wire.len() {
            let mut stream = Stream::default();
            let mut pieces = stream.feed(&wire[..cut]);
            pieces.extend(stream.feed(&wire[cut..]));
            let messages: Vec<_> = pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Message { payload, .. } => Some(payload.len()),
                    Piece::Other(_) => None,
                })
                .collect();
            assert_eq!(messages, [300, 1], "cut at {cut}");
            let all: usize = pieces
                .iter()
                .map(|p| match p {
                    Piece::Other(w) | Piece::Message { wire: w, .. } => w.len(),
                })
                .sum();
            assert_eq!(all, wire.len());
        }
    }

    #[test]
    fn a_body_is_replaced_whatever_the_lengths() {
        for (old, new) in [(300, 10), (300, 400), (10, 300), (10, 5)] {
            let message = |n: usize| [frame(MORE, b""), frame(0, &vec![9; n])].concat();
            assert_eq!(
                with_payload(&message(old), old, &vec![9; new]),
                message(new),
                "{old} to {new}"
            );
        }
    }
}
