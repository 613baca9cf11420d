//! An allocator that counts what each thread asks of it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory, growth in place included.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Bytes that this thread has asked for and not given back. What another thread frees stays counted here.
pub(crate) fn held_bytes() -> i64 {
    HELD_BYTES.with(Cell::get)
}

fn count(bytes: usize) {
    // A thread that is ending has no cell any more, and nobody who reads it.
    let _ended = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    hold(bytes as i64);
}

fn hold(bytes: i64) {
    let _ended = HELD_BYTES.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes to `System` with the arguments it came with; counting neither allocates nor
// panics, since the cell has a constant start and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        hold(-(layout.size() as i64));
        // SAFETY: `block` came from `System`, as every method here hands out what it gives.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn the_counter_counts() {
    let (before, held) = (allocations(), held_bytes());
    let boxed = std::hint::black_box(Box::new(7_u64));
    assert_eq!(allocations() - before, 1);
    assert_eq!(held_bytes() - held, 8);
    drop(boxed);
    assert_eq!(allocations() - before, 1);
    assert_eq!(held_bytes(), held);
}
