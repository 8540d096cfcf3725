//! A connection that speaks protocol 5: frames out of its segments, and its answers into segments; or protocol 3. Only hosts on real sockets
//! let clients have it ([`Front::speaking_up_to`]); in the simulated world everybody speaks protocol 4.

use super::{Connection, Front, Outcome};
use crate::cql::error::CqlError;
use crate::cql::frame::v5::{self, Segment};
use crate::cql::frame::{HEADER_BYTES, Opcode, VERSION, response, v3};
use crate::cql::system::NodeView;
use std::collections::BTreeSet;

/// What a connection of protocol 5 remembers beyond one of protocol 4.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Frames, and the beginning of the next one, that came in segments.
    frames: Vec<u8>,
    /// How much of `frames` was taken.
    taken: usize,
    /// STARTUP was answered: everything goes in segments from here on.
    is_sending: bool,
    /// Streams whose clients have the metadata of other columns than they are about to get.
    changed: BTreeSet<i16>,
}

impl Segments {
    /// The client of this stream is to be told of its new columns.
    pub(super) fn changed(&mut self, stream: i16) {
        self.changed.insert(stream);
    }
}

impl Front {
    /// Speaks versions of the protocol up to this one; without a word, the lowest of them.
    #[must_use]
    pub fn speaking_up_to(mut self, greatest: u8) -> Front {
        self.greatest_version = greatest;
        self
    }

    /// As [`Front::next`], when everything the client sends is in segments.
    pub(super) fn next_in_segments(
        &mut self,
        node: &NodeView<'_>,
        connection: &mut Connection,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Outcome) {
        let frames = std::mem::take(&mut connection.segments.frames);
        let at = connection.segments.taken;
        let (taken, outcome) = self.next_frame(node, connection, &frames[at..], out);
        let segments = &mut connection.segments;
        segments.frames = frames;
        segments.taken += taken;
        if !matches!(outcome, Outcome::Incomplete) {
            return (0, outcome);
        }
        match v5::segment(input) {
            Segment::Incomplete => (0, Outcome::Incomplete),
            Segment::Payload(payload) => {
                segments.frames.drain(..std::mem::take(&mut segments.taken));
                segments.frames.extend_from_slice(payload);
                (payload.len() + Segment::AROUND_BYTES, Outcome::Answered)
            }
            Segment::Corrupt(what) => {
                response::error(out, 0, &[], &CqlError::protocol(what));
                (input.len(), Outcome::Close)
            }
        }
    }
}

impl Connection {
    /// The bytes for the socket, of whole answers as they were written.
    pub fn outgoing(&mut self, answers: Vec<u8>) -> Vec<u8> {
        match self.version {
            v3::VERSION => each(&answers, v3::downgrade),
            0..=VERSION => answers,
            _ => self.in_segments(&answers),
        }
    }

    fn in_segments(&mut self, answers: &[u8]) -> Vec<u8> {
        let segments = &mut self.segments;
        let (mut plain, mut framed) = (Vec::new(), Vec::with_capacity(answers.len()));
        let mut rest = answers;
        while let Some(length) = v5::frame_length(rest).filter(|n| *n <= rest.len()) {
            let (frame, others) = rest.split_at(length);
            rest = others;
            let is_changed = segments.changed.remove(&i16::from_be_bytes([frame[2], frame[3]]));
            let to = if segments.is_sending { &mut framed } else { &mut plain };
            v5::upgrade(to, self.version, frame, is_changed);
            segments.is_sending |= [Opcode::Ready as u8, Opcode::Authenticate as u8].contains(&frame[HEADER_BYTES - 5]);
        }
        v5::put_segments(&mut plain, &framed);
        plain
    }
}

/// The frames, each as `put` writes it.
fn each(frames: &[u8], put: fn(&mut Vec<u8>, &[u8])) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(frames.len()), frames);
    while let Some(length) = v5::frame_length(rest).filter(|n| *n <= rest.len()) {
        let (frame, others) = rest.split_at(length);
        rest = others;
        put(&mut out, frame);
    }
    out
}
