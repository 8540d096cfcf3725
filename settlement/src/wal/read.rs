//! Reading events back, for resends. What to read is decided at once from the index; the reading is a future of its
//! own, in spans as long as the records lie behind one another.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use settlement_events::{Envelope, OutputSequence};

use super::error::DamageReport;
use super::log::{Entry, after};
use super::{Damage, WalError, record, storage};

/// Records that lie behind one another in one segment.
#[derive(Debug)]
pub(super) struct Span {
    segment: u32,
    bytes: Range<u32>,
    entries: Vec<(OutputSequence, Entry)>,
}

/// Groups entries into spans, up to the bounds; at least one entry, however large.
pub(super) fn plan(
    entries: impl Iterator<Item = (OutputSequence, Entry)>,
    events_max: usize,
    bytes_max: usize,
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut bytes = 0;
    for (seq, entry) in entries.take(events_max) {
        bytes += entry.record_bytes as usize;
        if bytes > bytes_max && !spans.is_empty() {
            break;
        }
        let end = entry.offset + entry.record_bytes;
        match spans.last_mut() {
            Some(span) if span.segment == entry.segment && span.bytes.end == entry.offset => {
                span.bytes.end = end;
                span.entries.push((seq, entry));
            }
            _ => {
                spans.push(Span {
                    segment: entry.segment,
                    bytes: entry.offset..end,
                    entries: vec![(seq, entry)],
                });
            }
        }
    }
    spans
}

/// Reads the spans; every record is checked again.
pub(super) async fn run(dir: PathBuf, spans: Vec<Span>) -> Result<Vec<(OutputSequence, Envelope)>, WalError> {
    let mut out = Vec::new();
    for span in spans {
        let path = storage::segment_path(&dir, span.segment);
        let image = Bytes::from(storage::read_span(&path, span.bytes.start, span.bytes.len()).await?);
        for (seq, entry) in span.entries {
            let start = (entry.offset - span.bytes.start) as usize;
            let sound = record::find_at(&image, start);
            if !sound.is_some_and(|found| found.seq == seq && found.digest == entry.digest) {
                return Err(changed(&path, seq, entry));
            }
            let event = start + record::RECORD_HEAD_BYTES..start + entry.record_bytes as usize;
            out.push((
                seq,
                Envelope {
                    digest: entry.digest,
                    bytes: image.slice(event),
                },
            ));
        }
    }
    Ok(out)
}

fn changed(path: &std::path::Path, seq: OutputSequence, entry: Entry) -> WalError {
    let before = OutputSequence(seq.0.saturating_sub(1));
    WalError::Damaged(Box::new(DamageReport {
        places: vec![Damage {
            file: path.to_owned(),
            segment: entry.segment,
            offset: entry.offset,
            bytes: entry.record_bytes,
            after: Some(before),
            before: Some(after(seq)),
        }],
        missing: vec![(seq, seq)],
        unknown_from: after(seq),
    }))
}
