//! The heap of a command that reads much at once and ends with the answer.

use crate::sys;

/// Address space taken at a time: what a look at a thousand containers fills in each thread, and some.
const STEP_BYTES: i32 = 8 << 20;

/// Lets the heap grow in big steps from now on: threads that allocate side by side then do not wait for each other's system calls.
/// Not for what runs for long: that much more of the heap's end is kept when it shrinks.
pub fn grow_in_big_steps() {
    sys::grow_heap_by(STEP_BYTES);
}
