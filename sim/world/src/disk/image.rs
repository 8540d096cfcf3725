//! The bytes of one file, in chunks: a file that grows is never copied as a whole, takes the memory of its bytes, and
//! may share them with whoever wrote them.

use bytes::Bytes;

/// Largest chunk of copied bytes.
const CHUNK: usize = 64 << 10;
/// Fewer bytes than these are copied rather than shared: a chunk of its own costs more.
const SHARE_MIN: usize = 256;

/// Room for chunks in a file that shares some: it will share many.
const SHARED_MIN: usize = 4 << 10;

/// What is written.
#[derive(Clone)]
pub(super) enum Content<'a> {
    /// Bytes to be copied.
    Copied(&'a [u8]),
    /// Bytes to be shared with their owner.
    Shared(Bytes),
}

impl Content<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Content::Copied(bytes) => bytes,
            Content::Shared(bytes) => bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The first `len` bytes.
    pub(super) fn cut(self, len: usize) -> Self {
        match self {
            Content::Copied(bytes) => Content::Copied(&bytes[..len]),
            Content::Shared(bytes) => Content::Shared(bytes.slice(..len)),
        }
    }
}

enum Data {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Data {
    fn bytes(&self) -> &[u8] {
        match self {
            Data::Own(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        }
    }

    /// The bytes, to be changed; shared ones are copied first.
    fn own(&mut self) -> &mut Vec<u8> {
        if let Data::Shared(bytes) = self {
            *self = Data::Own(bytes.to_vec());
        }
        match self {
            Data::Own(bytes) => bytes,
            Data::Shared(_) => unreachable!("copied just above"),
        }
    }
}

struct Chunk {
    /// Offset in the file.
    start: usize,
    data: Data,
}

impl Chunk {
    fn end(&self) -> usize {
        self.start + self.data.bytes().len()
    }
}

/// The content of a file.
#[derive(Default)]
pub(super) struct Image {
    /// One after the other, none empty.
    chunks: Vec<Chunk>,
    len: usize,
}

impl Image {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds content at the end.
    pub(super) fn append(&mut self, content: Content<'_>) {
        match content {
            Content::Shared(bytes) if bytes.len() >= SHARE_MIN => {
                let start = self.len;
                self.len += bytes.len();
                let data = Data::Shared(bytes);
                if self.chunks.capacity() == self.chunks.len() {
                    self.chunks.reserve(self.chunks.len().max(SHARED_MIN));
                }
                self.chunks.push(Chunk { start, data });
            }
            content => self.extend(content.bytes()),
        }
    }

    /// Copies bytes to the end.
    pub(super) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let last = match self.chunks.last_mut() {
                Some(Chunk {
                    data: Data::Own(own), ..
                }) if own.len() < CHUNK => own,
                _ => self.open(),
            };
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - last.len()));
            last.extend_from_slice(now);
            self.len += now.len();
            bytes = later;
        }
    }

    /// Begins a chunk at the end: with all its room behind a full one, because then it will be filled, and else with none.
    fn open(&mut self) -> &mut Vec<u8> {
        let full = |chunk: &Chunk| matches!(&chunk.data, Data::Own(bytes) if bytes.len() == CHUNK);
        let capacity = if self.chunks.last().is_some_and(full) { CHUNK } else { 0 };
        let (start, data) = (self.len, Data::Own(Vec::with_capacity(capacity)));
        self.chunks.push(Chunk { start, data });
        let last = self.chunks.len() - 1;
        self.chunks[last].data.own()
    }

    /// Cuts the file, or lengthens it with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        const ZEROS: [u8; 512] = [0; 512];
        while self.len < len {
            self.extend(&ZEROS[..ZEROS.len().min(len - self.len)]);
        }
        self.len = len;
        while self.chunks.last().is_some_and(|chunk| chunk.start >= len) {
            self.chunks.pop();
        }
        if let Some(Chunk { start, data }) = self.chunks.last_mut() {
            match data {
                Data::Own(bytes) => bytes.truncate(len - *start),
                Data::Shared(bytes) => bytes.truncate(len - *start),
            }
        }
    }

    /// The first chunk that reaches beyond an offset.
    fn chunk_at(&self, at: usize) -> usize {
        self.chunks.partition_point(|chunk| chunk.end() <= at)
    }

    /// Gives `change` the parts of a range within the file, with their offsets in the file.
    fn change(&mut self, from: usize, to: usize, mut change: impl FnMut(usize, &mut [u8])) {
        let first = self.chunk_at(from);
        for chunk in self.chunks[first..].iter_mut().take_while(|chunk| chunk.start < to) {
            let (start, end) = (from.max(chunk.start), to.min(chunk.end()));
            let base = chunk.start;
            change(start, &mut chunk.data.own()[start - base..end - base]);
        }
    }

    /// Overwrites bytes that are there; what would lie behind the end is left out.
    pub(super) fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(self.len);
        self.change(at, end, |start, part| {
            part.copy_from_slice(&bytes[start - at..start - at + part.len()]);
        });
    }

    /// Makes the bytes of a range zero.
    pub(super) fn clear(&mut self, from: usize, to: usize) {
        self.change(from, to.min(self.len), |_, part| part.fill(0));
    }

    /// Copies from `at` as far as there is room and content; returns how many bytes.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) -> usize {
        let end = self.len.min(at.saturating_add(out.len()));
        if at >= end {
            return 0;
        }
        let chunks = self.chunks[self.chunk_at(at)..].iter();
        for chunk in chunks.take_while(|chunk| chunk.start < end) {
            let (from, to) = (at.max(chunk.start), end.min(chunk.end()));
            let part = &chunk.data.bytes()[from - chunk.start..to - chunk.start];
            out[from - at..to - at].copy_from_slice(part);
        }
        end - at
    }

    /// A copy of a range within the file.
    pub(super) fn slice(&self, from: usize, to: usize) -> Box<[u8]> {
        let mut bytes = vec![0; to - from];
        let read = self.read(from, &mut bytes);
        bytes.truncate(read);
        bytes.into()
    }

    /// A copy of everything.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        let chunks = self.chunks.iter();
        chunks.for_each(|chunk| bytes.extend_from_slice(chunk.data.bytes()));
        bytes
    }

    /// One byte, to be changed.
    pub(super) fn byte_mut(&mut self, at: usize) -> Option<&mut u8> {
        let chunk = self.chunk_at(at);
        let Chunk { start, data } = self.chunks.get_mut(chunk)?;
        data.own().get_mut(at - *start)
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Image {
        let mut image = Image::default();
        image.extend(&bytes);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Extend(usize),
        Share(usize),
        Resize(usize),
        Overwrite(usize, usize),
        Clear(usize, usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let size = || prop_oneof![0..700usize, 0..3 * CHUNK];
        let op = prop_oneof![
            size().prop_map(Op::Extend),
            size().prop_map(Op::Share),
            size().prop_map(Op::Resize),
            (size(), size()).prop_map(|(at, n)| Op::Overwrite(at, n)),
            (size(), size()).prop_map(|(at, n)| Op::Clear(at, n)),
        ];
        prop::collection::vec(op, 0..12)
    }

    proptest! {
        #[test]
        fn chunks_are_one_run_of_bytes(ops in ops(), at in 0..3 * CHUNK, n in 0..3 * CHUNK) {
            let (mut image, mut plain) = (Image::default(), Vec::<u8>::new());
            let content = |seed: usize, n: usize| (0..n).map(|i| (i * 7 + seed * 31 + 1) as u8).collect::<Vec<u8>>();
            for (i, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Extend(n) => {
                        image.extend(&content(i, n));
                        plain.extend(content(i, n));
                    }
                    Op::Share(n) => {
                        image.append(Content::Shared(content(i, n + 1).into()));
                        plain.extend(content(i, n + 1));
                    }
                    Op::Resize(n) => {
                        image.resize(n);
                        plain.resize(n, 0);
                    }
                    Op::Overwrite(at, n) => {
                        image.overwrite(at, &content(i, n));
                        let end = (at + n).min(plain.len());
                        if at < end {
                            plain[at..end].copy_from_slice(&content(i, n)[..end - at]);
                        }
                    }
                    Op::Clear(at, n) => {
                        image.clear(at, at + n);
                        let end = (at + n).min(plain.len());
                        plain[at.min(end)..end].fill(0);
                    }
                }
                prop_assert_eq!(image.len(), plain.len());
            }
            prop_assert_eq!(&image.to_vec(), &plain);
            let mut out = vec![0; n];
            let read = image.read(at, &mut out);
            let end = (at + n).min(plain.len());
            prop_assert_eq!(&out[..read], &plain[at.min(end)..end]);
            prop_assert_eq!(image.byte_mut(at).copied(), plain.get(at).copied());
        }
    }
}
