//! How much memory is allocated: an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, which counts what is allocated in all threads. A program that measures memory makes it
/// its global allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What is allocated at one moment, in bytes; or the difference between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// What was asked for.
    pub requested: i64,
    /// What the allocator set aside for it: its rounding, and the word before each block.
    pub occupied: i64,
}

static REQUESTED: AtomicI64 = AtomicI64::new(0);
static OCCUPIED: AtomicI64 = AtomicI64::new(0);

/// glibc keeps the size of a block in the word before it.
const BLOCK_HEADER_BYTES: i64 = 8;

impl Allocated {
    /// What is allocated now. Zero for ever unless [`CountingAllocator`] is the global allocator.
    #[must_use]
    pub fn now() -> Self {
        Self { requested: REQUESTED.load(Ordering::Relaxed), occupied: OCCUPIED.load(Ordering::Relaxed) }
    }

    /// What came since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { requested: self.requested - earlier.requested, occupied: self.occupied - earlier.occupied }
    }
}

fn count(block: *mut u8, layout: Layout, sign: i64) {
    if block.is_null() {
        return;
    }
    // SAFETY: `block` came from the system's allocator and is not freed yet.
    let usable = unsafe { libc::malloc_usable_size(block.cast()) };
    REQUESTED.fetch_add(sign * layout.size() as i64, Ordering::Relaxed);
    OCCUPIED.fetch_add(sign * (usable as i64 + BLOCK_HEADER_BYTES), Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises of `alloc`.
        let block = unsafe { System.alloc(layout) };
        count(block, layout, 1);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        let block = unsafe { System.alloc_zeroed(layout) };
        count(block, layout, 1);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(block, layout, -1);
        // SAFETY: the caller keeps the promises of `dealloc`, and all memory came from `System`.
        unsafe { System.dealloc(block, layout) };
    }
}
