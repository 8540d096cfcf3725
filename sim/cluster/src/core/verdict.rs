//! Carrying out verdicts: what a hook asked for at a boundary point, in the coordinator's own terms.
//!
//! Nothing here runs without an armed hook. A verdict never does what no real coordinator could: a frozen one goes on
//! where it stood, a late one stamps with the clock of then, a replayed batch keeps its timestamps.

use super::boundary::{BatchInfo, Point, Subject, Then, Told, Verdict};
use super::message::{ClientRef, Effect, Event, Msg, OpId};
use super::node::{Cx, Node, Op};
use super::timers::Timer;
use super::write::{Manner, Purpose, Stage, WriteOp};
use crate::model::{Consistency, CoordinatorError, Request, Response, WriteKind, WriteRequest, WriteType};

/// A request that waits to be executed: its coordinator is frozen, or executes it late.
#[derive(Debug)]
pub(super) struct Parked {
    client: Option<ClientRef>,
    request: Request,
}

impl Node {
    /// A client's write arrives.
    pub(super) fn client_write(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: WriteRequest) {
        if request.kind == WriteKind::Logged && self.is_lost_on_waking(cx) {
            let over = Manner {
                is_over: true,
                ..Manner::default()
            };
            return self.mutely(cx, |node, cx| {
                node.execute_write(cx, Purpose::Client(client), request, over);
            });
        }
        if cx.hook.is_none() {
            return self.execute_write(cx, Purpose::Client(client), request, Manner::default());
        }
        let schema = self.schema.clone();
        let info = BatchInfo::asked(request.kind, &schema, &request.writes);
        if !cx.hook.as_deref_mut().is_some_and(|h| h.watches(&info)) {
            return self.execute_write(cx, Purpose::Client(client), request, Manner::default());
        }
        let watched = Manner {
            watched: true,
            ..Manner::default()
        };
        let subject = Subject::write(&info, request.consistency);
        let verdict = self.consult(cx, Point::RequestArrived, subject, &schema);
        match verdict {
            Verdict::Continue => self.execute_write(cx, Purpose::Client(client), request, watched),
            Verdict::SwallowResponse => {
                self.execute_write(
                    cx,
                    Purpose::Client(client),
                    request,
                    Manner {
                        swallow: true,
                        ..watched
                    },
                );
            }
            Verdict::Drop => {}
            Verdict::KillNode => self.die(cx),
            Verdict::PauseNode { ms } => {
                cx.fx.push(Effect::PauseSelf { ms });
                self.park(cx.now_us + 1, Some(client), Request::Write(request));
            }
            Verdict::Slow { ms } => self.park(cx.now_us + ms * 1000, Some(client), Request::Write(request)),
            Verdict::Timeout { then, .. } | Verdict::Refuse { then, .. } => {
                if let Some(error) = self.told(verdict, request.consistency) {
                    self.answer_error(cx, client, error);
                }
                self.notice_unavailable(cx, verdict);
                match self.kindly(then) {
                    Then::NeverApply => {}
                    Then::ApplyNow => self.execute_write(cx, Purpose::Detached, request, Manner::default()),
                    Then::ByReplay => {
                        let manner = Manner {
                            leave_to_replay: true,
                            ..Manner::default()
                        };
                        self.execute_write(cx, Purpose::Detached, request, manner);
                    }
                    Then::ExecuteLate { after_ms } => {
                        self.park(cx.now_us + after_ms * 1000, None, Request::Write(request));
                    }
                }
            }
        }
    }

    /// Carries out a verdict on the arrival of what has no batchlog and is seen at no later point: an addition to counters, a
    /// conditional request.
    pub(super) fn arrived(
        &mut self,
        cx: &mut Cx<'_>,
        verdict: Verdict,
        client: ClientRef,
        request: Request,
        asked: Consistency,
    ) {
        match verdict {
            Verdict::Continue => self.start_unlogged(cx, client, request),
            Verdict::SwallowResponse => self.start_unlogged(cx, ClientRef::NOBODY, request),
            Verdict::Drop => {}
            Verdict::KillNode => self.die(cx),
            Verdict::PauseNode { ms } => {
                cx.fx.push(Effect::PauseSelf { ms });
                self.park(cx.now_us + 1, Some(client), request);
            }
            Verdict::Slow { ms } => self.park(cx.now_us + ms * 1000, Some(client), request),
            Verdict::Timeout { then, .. } | Verdict::Refuse { then, .. } => {
                if let Some(error) = self.told(verdict, asked) {
                    self.answer_error(cx, client, error);
                }
                match self.kindly(then) {
                    // Nothing keeps it for a replay.
                    Then::NeverApply | Then::ByReplay => {}
                    Then::ApplyNow => self.start_unlogged(cx, ClientRef::NOBODY, request),
                    Then::ExecuteLate { after_ms } => self.park(cx.now_us + after_ms * 1000, None, request),
                }
            }
        }
    }

    fn start_unlogged(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: Request) {
        match request {
            Request::Cas(cas) => self.start_cas(cx, client, *cas),
            Request::Write(write) => self.start_counter(cx, client, write),
            // Others do not come here.
            _ => {}
        }
    }

    /// The error that a verdict puts in place of the answer.
    pub(super) fn told(&self, verdict: Verdict, asked: Consistency) -> Option<CoordinatorError> {
        match verdict {
            Verdict::Timeout {
                write_type,
                received,
                required,
                ..
            } => Some(CoordinatorError::WriteTimeout {
                consistency: self.timeout_level(write_type, required, asked),
                received,
                required,
                write_type,
            }),
            Verdict::Refuse { told, .. } => Some(match told {
                Told::Unavailable { required, alive } => CoordinatorError::Unavailable {
                    consistency: asked,
                    required,
                    alive,
                    batchlog: false,
                },
                Told::Overloaded => CoordinatorError::Overloaded {
                    what: "as it was told to be".to_owned(),
                },
                // The sizes are for people who look at the model; no client is told them.
                Told::BatchTooLarge => CoordinatorError::BatchTooLarge {
                    size_bytes: 0,
                    threshold_bytes: 0,
                },
                Told::ReadTimeout { received, required } => CoordinatorError::ReadTimeout {
                    consistency: asked,
                    received,
                    required,
                    data_present: false,
                },
            }),
            _ => None,
        }
    }

    /// A kind cluster rolls back what it reports as failed.
    pub(super) fn kindly(&self, then: Then) -> Then {
        if self.config.kindness.rollback_failed_batch {
            Then::NeverApply
        } else {
            then
        }
    }

    /// The level a write timeout names: the batchlog's own for BATCH_LOG.
    pub(super) fn timeout_level(&self, write_type: WriteType, required: u32, asked: Consistency) -> Consistency {
        match (write_type, required) {
            (WriteType::BatchLog, 2) => Consistency::Two,
            (WriteType::BatchLog, _) => Consistency::One,
            _ => asked,
        }
    }

    pub(super) fn park(&mut self, at_us: u64, client: Option<ClientRef>, request: Request) {
        let id = self.ops.reserve();
        self.ops.put(id, Op::Parked(Box::new(Parked { client, request })));
        self.timers.set(at_us, Timer::Resume(id));
    }

    /// Executes a parked request, with the clock of now.
    pub(super) fn unpark(&mut self, cx: &mut Cx<'_>, parked: Parked) {
        let request = match parked.request {
            Request::Write(write) => write,
            Request::Read(read) => {
                if let Some(client) = parked.client {
                    self.start_read(cx, client, read, false);
                }
                return;
            }
            Request::Derived(write) => {
                if let Some(client) = parked.client {
                    self.client_derived(cx, client, *write);
                }
                return;
            }
            Request::Cas(cas) => return self.start_cas(cx, parked.client.unwrap_or(ClientRef::NOBODY), *cas),
            // The others are never put away.
            Request::Schema(_) | Request::Truncate(_) | Request::Unsupported { .. } => return,
        };
        let purpose = parked.client.map_or(Purpose::Detached, Purpose::Client);
        if purpose == Purpose::Detached {
            let timestamp_us = request.timestamp_us.unwrap_or_else(|| self.clock.wall_us(cx.now_us));
            cx.event(Event::ExecutedLate { timestamp_us });
        }
        if request.kind.is_counter() {
            return self.start_counter(cx, parked.client.unwrap_or(ClientRef::NOBODY), request);
        }
        let watched = purpose != Purpose::Detached;
        self.execute_write(
            cx,
            purpose,
            request,
            Manner {
                watched,
                ..Manner::default()
            },
        );
    }

    pub(super) fn consult_sealed(&mut self, cx: &mut Cx<'_>, point: Point, op: &WriteOp) -> Verdict {
        if cx.hook.is_none() {
            return Verdict::Continue;
        }
        let schema = self.schema.clone();
        let info = BatchInfo::sealed(op.kind, &schema, &op.sealed);
        self.consult(cx, point, Subject::write(&info, op.consistency), &schema)
    }

    /// Carries out a verdict between two steps. Gives the write back if it goes on at once; otherwise it was put away.
    pub(super) fn obey(
        &mut self,
        cx: &mut Cx<'_>,
        id: OpId,
        mut op: Box<WriteOp>,
        verdict: Verdict,
    ) -> Option<Box<WriteOp>> {
        match verdict {
            Verdict::Continue | Verdict::Slow { .. } => return Some(op),
            Verdict::SwallowResponse => {
                op.swallow = true;
                return Some(op);
            }
            Verdict::Drop => self.ops.release(id),
            Verdict::KillNode => self.die(cx),
            Verdict::PauseNode { ms } => {
                cx.fx.push(Effect::PauseSelf { ms });
                self.freeze(cx.now_us + 1, id, op);
            }
            Verdict::Timeout { then, .. } | Verdict::Refuse { then, .. } => {
                let error = self.told(verdict, op.consistency);
                if let (Purpose::Client(client), Some(error)) =
                    (std::mem::replace(&mut op.purpose, Purpose::Detached), error)
                {
                    self.answer_error(cx, client, error);
                }
                match self.kindly(then) {
                    Then::ApplyNow => return Some(op),
                    Then::ByReplay => self.ops.release(id),
                    Then::NeverApply => {
                        self.abandon_batch(cx, &op);
                        self.ops.release(id);
                    }
                    Then::ExecuteLate { after_ms } => self.freeze(cx.now_us + after_ms * 1000, id, op),
                }
            }
        }
        None
    }

    /// Puts a write away between two steps; it goes on from there.
    pub(super) fn freeze(&mut self, until_us: u64, id: OpId, mut op: Box<WriteOp>) {
        op.stage = Stage::Frozen;
        self.ops.put(id, Op::Write(op));
        self.timers.set(until_us, Timer::Resume(id));
    }

    pub(super) fn write_resume(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if op.stage != Stage::Frozen {
            return self.ops.put(id, Op::Write(op));
        }
        if matches!(op.purpose, Purpose::View { .. }) && self.views.holds(id) {
            return self.ops.put(id, Op::Write(op));
        }
        // The pause may have outlived the deadline: the write goes on all the same and has its full time again, as a
        // thread does that slept between two steps.
        op.deadline_us = op.deadline_us.max(cx.now_us + self.config.timeouts.write_ms * 1000);
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        self.send_mutations(cx, id, op);
    }

    pub(super) fn response_leaves(&mut self, cx: &mut Cx<'_>, client: ClientRef, op: &mut WriteOp) {
        if op.observed {
            let verdict = self.consult_sealed(cx, Point::ResponseLeaving, op);
            match verdict {
                Verdict::KillNode => return self.die(cx),
                Verdict::PauseNode { ms } => {
                    // The answer was written out before the process froze, or just after: the client sees it late.
                    cx.fx.push(Effect::PauseSelf { ms });
                }
                Verdict::Drop | Verdict::SwallowResponse => return,
                Verdict::Timeout { .. } | Verdict::Refuse { .. } => {
                    if self.config.kindness.rollback_failed_batch {
                        self.undo_batch(cx, op);
                    }
                    if let Some(error) = self.told(verdict, op.consistency) {
                        self.answer_error(cx, client, error);
                    }
                    return;
                }
                Verdict::Continue | Verdict::Slow { .. } => {}
            }
        }
        if !op.swallow {
            let warnings = std::mem::take(&mut op.warnings);
            cx.fx.push(Effect::Reply {
                to: client,
                response: Response::Done { warnings },
            });
        }
    }

    /// A verdict says that what was not sent never arrives: nor does the batchlog's copy.
    pub(super) fn abandon_batch(&mut self, cx: &mut Cx<'_>, op: &WriteOp) {
        if self.config.kindness.rollback_failed_batch {
            return self.undo_batch(cx, op);
        }
        if let Some(b) = &op.batchlog {
            for holder in b.holders.iter() {
                self.send(cx, holder, Msg::RemoveBatch { op: None, id: b.id });
            }
        }
    }

    /// Takes a batch back everywhere, as no real server does.
    pub(super) fn undo_batch(&mut self, cx: &mut Cx<'_>, op: &WriteOp) {
        let Some(b) = &op.batchlog else { return };
        let everybody = op.groups.iter().fold(b.holders, |set, g| set.or(g.replicas));
        for n in everybody.iter() {
            self.send(cx, n, Msg::UndoBatch { id: b.id });
        }
    }
}
