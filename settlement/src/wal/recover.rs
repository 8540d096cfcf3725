//! Opening a log: which segments count, which of their bytes can be trusted, what is torn, what is damaged. It changes
//! nothing that a second crash could miss: leftovers go, and the header remembers damage that was set aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use settlement_events::OutputSequence;

use super::error::DamageReport;
use super::group::Group;
use super::header::{self, ACCEPTED_DAMAGE_MAX, Header};
use super::log::{Entry, Opened, Segment, after};
use super::segment::{self, Hole, SEGMENT_HEADER_BYTES, Scan, SegmentHeader};
use super::{OnDamage, Position, StreamId, WalConfig, WalError, storage};

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Everything up to here is durable in the database, says the log's header.
    pub low_water: Position,
    /// Everything up to here is fsynced in the log without a hole.
    pub received: Position,
    /// Events that are kept beyond the hole behind `received`, ascending.
    pub ahead: Vec<OutputSequence>,
    /// The holes between the low-water mark and the highest event kept, as closed ranges.
    pub missing: Vec<(OutputSequence, OutputSequence)>,
    /// Bytes of an unfinished group that were cut off. Nobody was told that these events were received.
    pub torn_bytes: u64,
    /// Events of the last group, which were readable but not proven durable, and were written again.
    pub rewritten_events: usize,
    /// Damage that was set aside, now or by an earlier opening.
    pub damaged: Vec<Damage>,
    /// There was no log.
    pub fresh: bool,
}

/// Bytes that were durable once and no longer hold what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Its segment number; 0 for the header file.
    pub segment: u32,
    /// Where the unreadable bytes begin.
    pub offset: u32,
    /// How many they are, as far as that is known.
    pub bytes: u32,
    /// The event before them in the file. Events stand in the order in which they came.
    pub after: Option<OutputSequence>,
    /// The event behind them in the file.
    pub before: Option<OutputSequence>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes at offset {} of {} were durable and are unreadable",
            self.bytes,
            self.offset,
            self.file.display()
        )?;
        match (self.after, self.before) {
            (Some(after), Some(before)) => write!(f, ", between events {after} and {before}"),
            (Some(after), None) => write!(f, ", behind event {after}"),
            (None, Some(before)) => write!(f, ", before event {before}"),
            (None, None) => Ok(()),
        }
    }
}

/// A segment that counts, before it is read.
#[derive(Clone, Copy, Debug)]
struct Link {
    number: u32,
    /// What its own header or its successor's says was durable.
    proven_bytes: u32,
    /// Its successor says that nothing behind counts.
    closed: bool,
}

/// Reads everything there is.
pub(super) async fn read(
    dir: &Path,
    id: StreamId,
    config: &WalConfig,
    fingerprint: u32,
) -> Result<(Opened, Recovered), WalError> {
    let listing = storage::list_or_create(dir).await?;
    // Nothing is touched before it is known whose log this is.
    let known = read_header(dir, &id, config, &listing.segments).await?;
    for path in &listing.temporary {
        storage::remove(path).await?;
    }
    let Some((mut header, mut places)) = known else {
        return begin(dir, id, config).await;
    };
    let numbers = drop_leftovers(dir, &listing.segments, header.first_segment).await?;
    let links = link(dir, &numbers, &header, fingerprint, &mut places).await?;
    let mut reading = Reading::default();
    for link in &links {
        reading.take(dir, link, &mut places).await?;
    }
    let missing = reading.missing(header.low_water.seq);
    set_aside(dir, config, &mut header, &places, &missing, reading.highest()).await?;
    let recovered = Recovered {
        low_water: header.low_water,
        received: header.low_water,
        ahead: Vec::new(),
        missing,
        torn_bytes: reading.torn_bytes,
        rewritten_events: reading.unproven.waiting.len(),
        damaged: places,
        fresh: false,
    };
    let last_number = listing
        .segments
        .last()
        .copied()
        .unwrap_or(0)
        .max(header.first_segment.saturating_sub(1));
    let opened = Opened {
        header,
        chain: reading.chain,
        next_number: last_number.saturating_add(1),
        index: reading.index,
        unproven: reading.unproven,
        cuts: reading.cuts,
    };
    Ok((opened, recovered))
}

/// A log that begins where the database stands.
async fn begin(dir: &Path, id: StreamId, config: &WalConfig) -> Result<(Opened, Recovered), WalError> {
    let header = Header {
        id,
        low_water: config.start,
        first_segment: 1,
        accepted_damage: Vec::new(),
    };
    storage::sync_names_above(dir).await?;
    storage::write_header(dir, &header).await?;
    let recovered = Recovered {
        low_water: config.start,
        received: config.start,
        ahead: Vec::new(),
        missing: Vec::new(),
        torn_bytes: 0,
        rewritten_events: 0,
        damaged: Vec::new(),
        fresh: true,
    };
    let opened = Opened {
        header,
        chain: Vec::new(),
        next_number: 1,
        index: BTreeMap::new(),
        unproven: Group::default(),
        cuts: Vec::new(),
    };
    Ok((opened, recovered))
}

/// The header and what is wrong with it; `None` when there is no log at all.
async fn read_header(
    dir: &Path,
    id: &StreamId,
    config: &WalConfig,
    segments: &[u32],
) -> Result<Option<(Header, Vec<Damage>)>, WalError> {
    let path = storage::header_path(dir);
    let image = storage::read_file(&path).await?;
    if image.is_none() && segments.is_empty() {
        return Ok(None);
    }
    let bytes = image.as_ref().map_or(0, Vec::len) as u32;
    match image.as_deref().map_or(Err(header::BadHeader::Damaged), Header::decode) {
        Ok(header) => {
            check_identity(&path, &header, id, config)?;
            Ok(Some((header, Vec::new())))
        }
        Err(header::BadHeader::Version(found)) => Err(WalError::Version {
            path,
            found,
            supported: header::FORMAT_VERSION,
        }),
        Err(header::BadHeader::Damaged) => {
            let damage = Damage {
                file: path,
                segment: 0,
                offset: 0,
                bytes,
                after: None,
                before: None,
            };
            Ok(Some((rebuild_header(dir, id, config, segments).await?, vec![damage])))
        }
    }
}

fn check_identity(path: &Path, header: &Header, id: &StreamId, config: &WalConfig) -> Result<(), WalError> {
    if header.id != *id {
        return Err(WalError::OtherStream {
            path: path.to_owned(),
            found: Box::new(header.id.clone()),
            expected: Box::new(id.clone()),
        });
    }
    let (found, expected) = (header.low_water.epoch, config.start.epoch);
    if found != expected {
        return Err(WalError::OtherEpoch {
            path: path.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

/// What the header must have said at least, from the copies of the low-water mark in the segments.
async fn rebuild_header(dir: &Path, id: &StreamId, config: &WalConfig, segments: &[u32]) -> Result<Header, WalError> {
    let fingerprint = header::fingerprint(id, config.start.epoch);
    let mut low_water = Position::start_of(config.start.epoch);
    for &number in segments {
        let image = storage::read_head(&storage::segment_path(dir, number), SEGMENT_HEADER_BYTES).await?;
        if let Ok(head) = SegmentHeader::decode(&image)
            && head.fingerprint == fingerprint
            && head.low_water_seq > low_water.seq
        {
            low_water = Position {
                seq: head.low_water_seq,
                digest: head.low_water_digest,
                ..low_water
            };
        }
    }
    let first_segment = segments.first().copied().unwrap_or(1);
    Ok(Header {
        id: id.clone(),
        low_water,
        first_segment,
        accepted_damage: Vec::new(),
    })
}

/// Removes what a compaction left behind.
async fn drop_leftovers(dir: &Path, segments: &[u32], first_segment: u32) -> Result<Vec<u32>, WalError> {
    let (leftovers, numbers): (Vec<u32>, Vec<u32>) = segments.iter().partition(|&&number| number < first_segment);
    for number in leftovers {
        storage::remove(&storage::segment_path(dir, number)).await?;
    }
    Ok(numbers)
}

/// Follows the segments from the newest to the oldest: each names the one before it. What is skipped was abandoned.
async fn link(
    dir: &Path,
    numbers: &[u32],
    header: &Header,
    fingerprint: u32,
    places: &mut Vec<Damage>,
) -> Result<Vec<Link>, WalError> {
    let mut links = Vec::new();
    // What the successor says about its predecessor; unknown for the newest, and behind an unreadable header.
    let mut named: Option<(u32, u32)> = None;
    for &number in numbers.iter().rev() {
        let path = storage::segment_path(dir, number);
        if let Some((previous, bytes)) = named {
            if number > previous {
                storage::remove(&path).await?;
                continue;
            }
            if number < previous {
                places.push(lost_segment(dir, previous, bytes));
                named = None;
            }
        }
        let proven = named.map(|(_, bytes)| bytes);
        let image = storage::read_head(&path, SEGMENT_HEADER_BYTES).await?;
        let head = match SegmentHeader::decode(&image) {
            Ok(head) => Some(head).filter(|head| head.number == number && head.fingerprint == fingerprint),
            Err(segment::BadHeader::Version(found)) => {
                return Err(WalError::Version {
                    path,
                    found,
                    supported: header::FORMAT_VERSION,
                });
            }
            Err(segment::BadHeader::Damaged) => None,
        };
        if head.is_none() {
            let bytes = SEGMENT_HEADER_BYTES as u32;
            places.push(Damage {
                file: path,
                segment: number,
                offset: 0,
                bytes,
                after: None,
                before: None,
            });
        }
        let proven_bytes = proven.or(head.map(|head| head.born_bytes)).unwrap_or(0);
        links.push(Link {
            number,
            proven_bytes,
            closed: proven.is_some(),
        });
        named = head.map(|head| (head.previous_number, head.previous_bytes));
    }
    if let Some((previous, bytes)) = named.filter(|&(previous, _)| previous >= header.first_segment) {
        places.push(lost_segment(dir, previous, bytes));
    }
    links.reverse();
    Ok(links)
}

fn lost_segment(dir: &Path, segment: u32, bytes: u32) -> Damage {
    Damage {
        file: storage::segment_path(dir, segment),
        segment,
        offset: 0,
        bytes,
        after: None,
        before: None,
    }
}

/// What the segments hold.
#[derive(Debug, Default)]
struct Reading {
    chain: Vec<Segment>,
    index: BTreeMap<OutputSequence, Entry>,
    unproven: Group,
    torn_bytes: u64,
    /// Where files end that hold more than what is proven.
    cuts: Vec<(u32, u32)>,
}

impl Reading {
    async fn take(&mut self, dir: &Path, link: &Link, places: &mut Vec<Damage>) -> Result<(), WalError> {
        let path = storage::segment_path(dir, link.number);
        let image = storage::read_file(&path).await?.unwrap_or_default();
        let scan = segment::scan(&image, link.proven_bytes, link.closed);
        places.extend(scan.holes.iter().map(|hole| damage_of(&path, link.number, hole)));
        self.torn_bytes += u64::from(scan.torn_bytes);
        if !link.closed && image.len() > scan.proven_bytes as usize {
            self.cuts.push((link.number, scan.proven_bytes));
        }
        let segment = self.place(link.number, &image, &scan)?;
        self.chain.push(segment);
        Ok(())
    }

    fn place(&mut self, number: u32, image: &[u8], scan: &Scan) -> Result<Segment, WalError> {
        let mut segment = Segment {
            number,
            bytes: scan.proven_bytes,
            highest: OutputSequence(0),
        };
        for placed in &scan.records {
            let found = placed.record;
            if self.is_known(&found)? {
                continue;
            }
            if placed.offset < scan.proven_bytes {
                segment.highest = segment.highest.max(found.seq);
                let entry = Entry {
                    segment: number,
                    offset: placed.offset,
                    record_bytes: found.record_bytes,
                    digest: found.digest,
                };
                self.index.insert(found.seq, entry);
            } else {
                let start = placed.offset as usize;
                let record = &image[start..start + found.record_bytes as usize];
                self.unproven.push_record(found.seq, found.digest, record);
            }
        }
        Ok(segment)
    }

    /// An event may stand twice if a crash fell between two attempts to write it.
    fn is_known(&self, found: &super::record::Found) -> Result<bool, WalError> {
        let waiting = self.unproven.waiting.iter().find(|waiting| waiting.seq == found.seq);
        let kept = self
            .index
            .get(&found.seq)
            .map(|entry| entry.digest)
            .or(waiting.map(|waiting| waiting.digest));
        match kept {
            None => Ok(false),
            Some(kept) if kept == found.digest => Ok(true),
            Some(kept) => Err(WalError::Conflict {
                seq: found.seq,
                kept,
                came: found.digest,
            }),
        }
    }

    fn known(&self) -> Vec<OutputSequence> {
        let mut known: Vec<_> = self.index.keys().copied().collect();
        known.extend(self.unproven.waiting.iter().map(|waiting| waiting.seq));
        known.sort_unstable();
        known
    }

    fn highest(&self) -> OutputSequence {
        self.known().last().copied().unwrap_or_default()
    }

    fn missing(&self, low_water: OutputSequence) -> Vec<(OutputSequence, OutputSequence)> {
        holes(self.known(), after(low_water), self.highest())
    }
}

fn damage_of(path: &Path, segment: u32, hole: &Hole) -> Damage {
    Damage {
        file: path.to_owned(),
        segment,
        offset: hole.offset,
        bytes: hole.bytes,
        after: hole.after,
        before: hole.before,
    }
}

/// Refuses new damage, or remembers that it was accepted.
async fn set_aside(
    dir: &Path,
    config: &WalConfig,
    header: &mut Header,
    places: &[Damage],
    missing: &[(OutputSequence, OutputSequence)],
    highest: OutputSequence,
) -> Result<(), WalError> {
    let is_new = |place: &&Damage| !header.accepted_damage.contains(&(place.segment, place.offset));
    let new: Vec<Damage> = places.iter().filter(is_new).cloned().collect();
    if new.is_empty() {
        return Ok(());
    }
    if config.on_damage == OnDamage::Refuse || header.accepted_damage.len() + new.len() > ACCEPTED_DAMAGE_MAX {
        let unknown_from = after(highest.max(header.low_water.seq));
        return Err(WalError::Damaged(Box::new(DamageReport {
            places: new,
            missing: missing.to_vec(),
            unknown_from,
        })));
    }
    // The header file is mended by writing it; nothing has to be remembered about it.
    header.accepted_damage.extend(
        new.iter()
            .filter(|place| place.segment > 0)
            .map(|place| (place.segment, place.offset)),
    );
    storage::write_header(dir, header).await
}

/// What of `from..=through` is not in `known` (ascending), as closed ranges.
pub(super) fn holes(
    known: Vec<OutputSequence>,
    from: OutputSequence,
    through: OutputSequence,
) -> Vec<(OutputSequence, OutputSequence)> {
    let mut holes = Vec::new();
    let mut next = from;
    for seq in known {
        if seq > next && seq <= through {
            holes.push((next, OutputSequence(seq.0 - 1)));
        }
        next = next.max(after(seq));
    }
    if next <= through {
        holes.push((next, through));
    }
    holes
}
