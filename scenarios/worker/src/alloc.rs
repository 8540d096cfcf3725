//! The worker's allocator: memory that lies where it lay last time. Hashers of several crates draw their seeds from
//! addresses, so an address that depends on the size of the job, on an earlier seed or on address randomisation would
//! show in a run. Here every thread has a region of its own at a fixed address, cut from the front and reused by size;
//! what a thread allocates is decided by what it asked for and by nothing else.
//!
//! It suits a process that lives for one seed and ends by `_exit`: regions are never given back, blocks of one size never
//! become blocks of another. It is not an allocator for services; those use what they like.
//!
//! The front of the seed's region is memory that the children of one zygote use one after the other ([`lay_shared`]): for
//! fresh memory the kernel would clear every page for every seed. What an earlier seed left there is as good as any other
//! garbage: nobody reads memory before writing it, and who asks for zeroes gets them written.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the regions lie: far from where Linux puts programs (0x55…), libraries and stacks (0x7f…).
const BASE: usize = 0x1000_0000_0000;
/// Address space of one thread's region. Untouched pages cost nothing.
const SPAN_BYTES: usize = 1 << 36;
/// Regions; a thread beyond them gets the system's allocator. A worker has two threads.
const REGIONS: usize = 64;
/// The region of the first thread that a process starts; in a worker's child that is the seed's.
const SEEDS_REGION: usize = 1;
/// The front of that region, shared by children: what most seeds touch, rounded up. A seed that wants more gets fresh
/// memory for the rest.
const SHARED_BYTES: usize = 32 << 20;
/// A large page of x86-64, and of aarch64 with pages of 4 KiB.
const LARGE_PAGE_BYTES: usize = 2 << 20;
/// Every block is a multiple of this and so aligned.
const GRAIN_BYTES: usize = 16;
/// Up to here a class per grain; above, four classes per doubling.
const FINE_BYTES: usize = 1024;
const FINE_CLASSES: usize = FINE_BYTES / GRAIN_BYTES;
/// Enough for four classes per doubling up to `SPAN_BYTES`.
const CLASSES: usize = FINE_CLASSES + 4 * (36 - 10) + 1;
/// Blocks whose size is a power of two are aligned to their size, up to this.
const PAGE_BYTES: usize = 4096;

const _: () = assert!(FINE_BYTES.is_power_of_two() && GRAIN_BYTES.is_power_of_two() && PAGE_BYTES >= FINE_BYTES);
const _: () = assert!(class_of(SPAN_BYTES) < CLASSES);
const _: () = assert!((BASE + SEEDS_REGION * SPAN_BYTES).is_multiple_of(LARGE_PAGE_BYTES));

/// The allocator. All state is per thread.
pub struct Arenas;

/// A thread's region. Its addresses are plain numbers until they are handed out.
struct Region {
    /// First address never handed out; 0 before the first allocation.
    next: usize,
    /// End of the region; 0 where the thread has none.
    end: usize,
    /// From here on what was never handed out is zero.
    zeroes: usize,
    /// Per class the first free block, 0 if none; a free block's first word is the next one.
    free: [usize; CLASSES],
}

thread_local! {
    // `const` and without a destructor: reached without allocating, at any time in a thread's life.
    static REGION: UnsafeCell<Region> =
        const { UnsafeCell::new(Region { next: 0, end: 0, zeroes: 0, free: [0; CLASSES] }) };
}
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// Bytes at the front of the seed's region that are mapped and shared.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// Lays shared memory under the front of [`SEEDS_REGION`], for the children that this process will fork. To be called once,
/// before any thread but the first exists. Where the kernel has no large pages for it, nothing is laid: a fault for each
/// small page costs more than clearing does.
pub fn lay_shared() {
    let start = BASE + SEEDS_REGION * SPAN_BYTES;
    let Some(front) = map(start, SHARED_BYTES, libc::MAP_SHARED) else {
        return;
    };
    // The kernel makes a page large where there is a small one.
    for page in (0..SHARED_BYTES).step_by(LARGE_PAGE_BYTES) {
        // SAFETY: within the mapping just made, which nobody else has seen.
        unsafe { front.cast::<u8>().add(page).write_volatile(0) };
    }
    // SAFETY: the mapping just made, whole.
    if unsafe { libc::madvise(front, SHARED_BYTES, libc::MADV_COLLAPSE) } == 0 {
        SHARED.store(SHARED_BYTES, Ordering::Relaxed);
    } else {
        // SAFETY: as above; nobody will use it.
        unsafe { libc::munmap(front, SHARED_BYTES) };
    }
}

/// Maps memory at an address where there is none. None where the kernel refuses.
fn map(start: usize, bytes: usize, sharing: libc::c_int) -> Option<*mut libc::c_void> {
    let flags = sharing | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let wanted = start as *mut libc::c_void;
    // SAFETY: MAP_FIXED_NOREPLACE never touches an existing mapping, and nobody else uses these addresses.
    let got = unsafe { libc::mmap(wanted, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got != wanted && got != libc::MAP_FAILED {
        // SAFETY: a kernel older than the flag mapped elsewhere; nobody has seen that mapping but us.
        unsafe { libc::munmap(got, bytes) };
    }
    (got == wanted).then_some(got)
}

/// The class of a size from 1 up.
const fn class_of(bytes: usize) -> usize {
    if bytes <= FINE_BYTES {
        return bytes.div_ceil(GRAIN_BYTES) - 1;
    }
    // 1024 < bytes: the doubling it lies in, and the quarter of that doubling.
    let doubling = (bytes - 1).ilog2() as usize;
    let quarter = (bytes - 1 - (1 << doubling)) >> (doubling - 2);
    FINE_CLASSES + (doubling - FINE_BYTES.ilog2() as usize) * 4 + quarter
}

/// The size of a class's blocks.
const fn size_of_class(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + 1) * GRAIN_BYTES;
    }
    let (doubling, quarter) = (
        (class - FINE_CLASSES) / 4 + FINE_BYTES.ilog2() as usize,
        (class - FINE_CLASSES) % 4,
    );
    (1 << doubling) + (quarter + 1) * (1 << (doubling - 2))
}

/// The class that serves a layout: more alignment than a grain is had from the powers of two.
#[inline(always)]
const fn class_for(layout: &Layout) -> usize {
    // Nearly every layout there is; decided first and in few instructions, because everything allocates. What is empty
    // wraps and is not small.
    if layout.align() <= GRAIN_BYTES && layout.size().wrapping_sub(1) < FINE_BYTES {
        return (layout.size() - 1) / GRAIN_BYTES;
    }
    rare_class_for(layout)
}

/// The class of a layout that is large, empty or aligned to more than a grain.
#[cold]
#[inline(never)]
const fn rare_class_for(layout: &Layout) -> usize {
    let bytes = if layout.size() == 0 { 1 } else { layout.size() };
    if layout.align() <= GRAIN_BYTES {
        return class_of(bytes);
    }
    class_of(if bytes > layout.align() { bytes } else { layout.align() }.next_power_of_two())
}

impl Region {
    /// An address for the layout, and whether its bytes are known to be zero. None: ask the system.
    #[inline(always)]
    fn take(&mut self, layout: &Layout) -> Option<(usize, bool)> {
        let class = class_for(layout);
        let head = self.free[class];
        if head != 0 && layout.align() <= PAGE_BYTES {
            // SAFETY: `head` was freed by `give` on this thread: it is a block of this class within the regions, mapped,
            // owned by nobody else, and its first word holds the next free block.
            self.free[class] = unsafe { *(head as *const usize) };
            return Some((head, false));
        }
        self.cut(size_of_class(class), layout.align())
    }

    /// Cuts a block from the front of what was never used.
    #[inline(never)]
    fn cut(&mut self, bytes: usize, align: usize) -> Option<(usize, bool)> {
        if self.next == 0 {
            self.open();
        }
        let natural = if bytes.is_power_of_two() {
            bytes.min(PAGE_BYTES)
        } else {
            GRAIN_BYTES
        };
        let start = self.next.next_multiple_of(natural.max(align));
        let end = start.checked_add(bytes).filter(|end| *end <= self.end)?;
        self.next = end;
        Some((start, start >= self.zeroes))
    }

    /// Keeps a block for the next who asks. A block of another thread's region is left alone for good: what a thread gets
    /// must not depend on what others free.
    #[inline(always)]
    fn give(&mut self, address: usize, layout: &Layout) {
        if self.end.wrapping_sub(address).wrapping_sub(1) >= SPAN_BYTES {
            return;
        }
        let class = class_for(layout);
        // SAFETY: the caller of `dealloc` gives up a block that `take` handed out for this layout, so it is mapped, at
        // least a grain long, aligned to a grain and used by nobody.
        unsafe { *(address as *mut usize) = self.free[class] };
        self.free[class] = address;
    }

    /// Reserves this thread's address space. On refusal the region stays empty and the thread uses the system's memory.
    #[cold]
    fn open(&mut self) {
        self.next = GRAIN_BYTES;
        let region = TAKEN.fetch_add(1, Ordering::Relaxed);
        if region >= REGIONS {
            return;
        }
        let start = BASE + region * SPAN_BYTES;
        let shared = if region == SEEDS_REGION {
            SHARED.load(Ordering::Relaxed)
        } else {
            0
        };
        let Some(fresh) = map(start + shared, SPAN_BYTES - shared, libc::MAP_PRIVATE) else {
            return;
        };
        (self.next, self.end) = (start, start + SPAN_BYTES);
        self.zeroes = start + shared;
        if region > 0 {
            // A seed touches megabytes that nobody touched before: a large page at a time costs a fifth less than one
            // fault per 4 KiB. Not in the first thread's region, which every fork would have to take apart again.
            // SAFETY: advice about this thread's own mapping; where the kernel does not take it, nothing changes.
            unsafe { libc::madvise(fresh, SPAN_BYTES - shared, libc::MADV_HUGEPAGE) };
        }
    }
}

/// Whether an address came from a region, of whatever thread.
#[inline(always)]
fn is_ours(address: usize) -> bool {
    address.wrapping_sub(BASE) < REGIONS * SPAN_BYTES
}

#[inline(always)]
fn with_region<T>(act: impl FnOnce(&mut Region) -> T) -> T {
    // Only the address is taken inside, so that `act` is compiled into its caller: everything allocates.
    let region = REGION.with(UnsafeCell::get);
    // SAFETY: the cell belongs to this thread, and `act` never comes back here: it calls no code that allocates.
    act(unsafe { &mut *region })
}

// SAFETY: blocks handed out are mapped, as large and as aligned as asked, and owned by nobody else: they are cut from
// memory never used, or were given up through `dealloc` before. What is not ours comes from and goes to the system.
unsafe impl GlobalAlloc for Arenas {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match with_region(|region| region.take(&layout)) {
            Some((address, _)) => address as *mut u8,
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match with_region(|region| region.take(&layout)) {
            Some((address, true)) => address as *mut u8,
            Some((address, false)) => {
                // SAFETY: the block has at least `layout.size()` bytes and is ours alone.
                unsafe { std::ptr::write_bytes(address as *mut u8, 0, layout.size()) };
                address as *mut u8
            }
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_ours(pointer as usize) {
            with_region(|region| region.give(pointer as usize, &layout));
        } else {
            // SAFETY: not ours, so the system's, for this layout.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid for the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        let ours = is_ours(pointer as usize);
        if !ours {
            // SAFETY: not ours, so the system's, for this layout.
            return unsafe { System.realloc(pointer, layout, new_bytes) };
        }
        if class_for(&layout) == class_for(&wanted) {
            return pointer;
        }
        // SAFETY: as in `GlobalAlloc::realloc`'s own default: both blocks hold the smaller size and do not overlap.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(new_bytes));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_fit_and_waste_at_most_a_quarter() {
        for bytes in (1..5_000).chain((12..30).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1])) {
            let size = size_of_class(class_of(bytes));
            assert!(size >= bytes, "{bytes} in {size}");
            assert!(size < bytes + bytes / 4 + GRAIN_BYTES, "{bytes} in {size}");
            assert_eq!(size % GRAIN_BYTES, 0);
            assert_eq!(class_of(size), class_of(bytes), "a block of a class is of that class");
        }
    }

    /// A little generator of its own: the test must not depend on what it tests.
    fn next(state: &mut u64) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize
    }

    fn churn(seed: u64) -> Vec<usize> {
        let mut state = seed;
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::with_capacity(64);
        let mut addresses = Vec::with_capacity(4_000);
        for _ in 0..4_000 {
            let bytes = 1 + next(&mut state) % (1 << (next(&mut state) % 18));
            let layout = Layout::from_size_align(bytes, 1 << (next(&mut state) % 14)).unwrap();
            let mark = next(&mut state) as u8;
            // SAFETY: layouts are not empty; each block is written and read within its size and freed once with its layout.
            unsafe {
                let block = if mark.is_multiple_of(2) {
                    Arenas.alloc(layout)
                } else {
                    Arenas.alloc_zeroed(layout)
                };
                assert_eq!(block as usize % layout.align(), 0);
                if !mark.is_multiple_of(2) {
                    assert!((0..bytes).all(|i| *block.add(i) == 0), "zeroed memory holds something");
                }
                block.write_bytes(mark, bytes);
                addresses.push(block as usize);
                live.push((block, layout, mark));
                if live.len() == 64 {
                    let (block, layout, mark) = live.swap_remove(next(&mut state) % 64);
                    assert!(
                        (0..layout.size()).all(|i| *block.add(i) == mark),
                        "a live block was overwritten"
                    );
                    let grown = layout.size() + next(&mut state) % 3_000;
                    let block = Arenas.realloc(block, layout, grown);
                    assert!((0..layout.size()).all(|i| *block.add(i) == mark), "realloc lost bytes");
                    Arenas.dealloc(block, Layout::from_size_align(grown, layout.align()).unwrap());
                }
            }
        }
        for (block, layout, mark) in live {
            // SAFETY: as above.
            unsafe {
                assert!(
                    (0..layout.size()).all(|i| *block.add(i) == mark),
                    "a live block was overwritten"
                );
                Arenas.dealloc(block, layout);
            }
        }
        addresses
    }

    #[test]
    fn blocks_keep_their_bytes_their_alignment_and_their_place() {
        // One of the threads may get what children share.
        lay_shared();
        let on_a_thread = |seed| std::thread::scope(|scope| scope.spawn(|| churn(seed)).join().unwrap());
        let relative = |addresses: Vec<usize>| {
            assert!(addresses.iter().all(|address| is_ours(*address)), "not in a region");
            addresses
                .iter()
                .map(|address| (address - BASE) % SPAN_BYTES)
                .collect::<Vec<_>>()
        };
        let first = relative(on_a_thread(1));
        assert!(first == relative(on_a_thread(1)), "the same requests lie elsewhere");
        assert!(
            first != relative(on_a_thread(2)),
            "other requests lie in the same places"
        );
    }

    #[test]
    fn a_block_freed_by_another_thread_is_not_used_again() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: allocated once, written within its size, freed once.
        unsafe {
            let address = Arenas.alloc(layout) as usize;
            (address as *mut u8).write_bytes(7, 100);
            let free_and_churn = || {
                Arenas.dealloc(address as *mut u8, layout);
                churn(3)
            };
            let elsewhere = std::thread::scope(|scope| scope.spawn(free_and_churn).join().unwrap());
            assert!(!elsewhere.contains(&address));
            assert_eq!(*(address as *const u8), 7);
        }
    }

    #[test]
    fn only_fresh_memory_counts_as_zero() {
        let start = BASE + SEEDS_REGION * SPAN_BYTES;
        let mut region = Region {
            next: start,
            end: start + SPAN_BYTES,
            zeroes: start + 2 * PAGE_BYTES,
            free: [0; CLASSES],
        };
        let page = Layout::from_size_align(PAGE_BYTES, 16).unwrap();
        let taken: Vec<_> = (0..4).map(|_| region.take(&page)).collect();
        let expected = [(0, false), (1, false), (2, true), (3, true)];
        assert_eq!(taken, expected.map(|(n, zero)| Some((start + n * PAGE_BYTES, zero))));
    }

    #[test]
    fn what_is_mapped_shared_is_one_memory_for_parent_and_child_and_nothing_is_mapped_over_it() {
        let start = BASE + REGIONS * SPAN_BYTES;
        let places = [
            (start, libc::MAP_SHARED, 7),
            (start + LARGE_PAGE_BYTES, libc::MAP_PRIVATE, 0),
        ];
        for (at, sharing, seen) in places {
            let byte = map(at, LARGE_PAGE_BYTES, sharing)
                .expect("nobody is there")
                .cast::<u8>();
            assert!(map(at, LARGE_PAGE_BYTES, sharing).is_none(), "mapped over it");
            // SAFETY: the child does nothing but write to the mapping just made and leave; the parent waits for it.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    byte.write_volatile(7);
                    libc::_exit(0);
                }
                assert!(child > 0 && libc::waitpid(child, std::ptr::null_mut(), 0) == child);
                assert_eq!(byte.read_volatile(), seen);
            }
        }
    }

    #[test]
    fn what_is_larger_than_a_region_is_the_systems_affair() {
        let mut region = Region {
            next: 0,
            end: 0,
            zeroes: 0,
            free: [0; CLASSES],
        };
        region.next = GRAIN_BYTES;
        assert_eq!(region.take(&Layout::from_size_align(8, 8).unwrap()), None);
    }
}
