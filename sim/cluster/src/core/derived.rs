//! Coordinating writes that need to know what is there: the reads, one after the other, then the write.

use super::message::{ClientRef, OpId};
use super::node::{Cx, Node, Op};
use crate::model::{Consistency, CoordinatorError, DerivedWrite, ReadRequest, ReadResult, WriteRequest, WriteSet};

/// A derived write under way: reading.
#[derive(Debug)]
pub(super) struct DerivedOp {
    client: ClientRef,
    request: DerivedWrite,
    found: Vec<ReadResult>,
}

impl Node {
    pub(super) fn client_derived(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: DerivedWrite) {
        let id = self.ops.reserve();
        let found = Vec::with_capacity(request.reads.len());
        self.next_derived_read(cx, id, DerivedOp { client, request, found });
    }

    /// Reads on, or writes when everything is read.
    fn next_derived_read(&mut self, cx: &mut Cx<'_>, id: OpId, op: DerivedOp) {
        if let Some(command) = op.request.reads.get(op.found.len()).cloned() {
            // C reads for a write at ANY as at ONE.
            let consistency = match op.request.consistency {
                Consistency::Any => Consistency::One,
                other => other,
            };
            self.ops.put(id, Op::Derived(Box::new(op)));
            let request = ReadRequest {
                command,
                consistency,
                timeout_ms: None,
            };
            return self.read_for_derived(cx, id, request);
        }
        self.ops.release(id);
        let mut writes = WriteSet::new();
        match op.request.derive.write(&op.found, &mut writes) {
            Err(what) => self.answer_error(cx, op.client, CoordinatorError::Invalid { what }),
            Ok(()) if writes.is_empty() => self.answer_nothing_done(cx, op.client),
            Ok(()) => {
                let request = WriteRequest {
                    kind: op.request.kind,
                    consistency: op.request.consistency,
                    writes,
                    timestamp_us: op.request.timestamp_us,
                    timeout_ms: op.request.timeout_ms,
                };
                // Lists are no counters.
                self.client_write(cx, op.client, request);
            }
        }
    }

    pub(super) fn derived_read(&mut self, cx: &mut Cx<'_>, id: OpId, rows: Result<ReadResult, CoordinatorError>) {
        let Some(Op::Derived(mut op)) = self.ops.take(id) else {
            return;
        };
        match rows {
            Ok(rows) => {
                op.found.push(rows);
                self.next_derived_read(cx, id, *op);
            }
            Err(error) => {
                self.ops.release(id);
                self.answer_error(cx, op.client, error);
            }
        }
    }
}
