//! Memory taken from the kernel in bigger steps, and given back when it is mapped and not needed: what only a start needs, a
//! monitor would otherwise keep for ever.

use super::checked;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;

/// Gives free heap back to the kernel.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() {
    // SAFETY: takes no pointers; only free memory is given back.
    unsafe { libc::malloc_trim(0) };
}

/// Gives free heap back to the kernel: other allocators than glibc's do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim_heap() {}

/// Makes the heap, that of each thread too, take so many bytes of address space at a time. A thread's otherwise grows page by page,
/// a system call each (glibc's `grow_heap`; mallopt(3), `M_TOP_PAD`). What is not touched costs nothing.
#[cfg(target_env = "gnu")]
pub(crate) fn grow_heap_by(bytes: i32) {
    // SAFETY: sets a number that the allocator reads under its own locks.
    unsafe { libc::mallopt(libc::M_TOP_PAD, bytes) };
}

/// Takes address space in bigger steps: other allocators than glibc's do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn grow_heap_by(_: i32) {}

/// The program comes back from the page cache in pieces of at most so many bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// Unmaps the pages of our own program's code and constants; what is still needed comes back from the page cache when touched.
pub(crate) fn forget_program() -> io::Result<()> {
    let own = std::fs::metadata("/proc/self/exe")?.ino();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for range in maps.lines().filter_map(|line| unwritten(line, own)) {
        advise(&range, libc::MADV_DONTNEED)?;
        cut(range)?;
    }
    Ok(())
}

/// Cuts a mapping of our program into pieces, by leaving every other one out of core dumps: files are in none anyway. Where a folio of
/// the page cache fits into a mapping, Linux maps all of it for a single byte (since 6.18 whatever its size, and it may be megabytes).
fn cut(range: Range<usize>) -> io::Result<()> {
    for start in range.clone().step_by(PIECE_BYTES).skip(1).step_by(2) {
        advise(&(start..range.end.min(start + PIECE_BYTES)), libc::MADV_DONTDUMP)?;
    }
    Ok(())
}

/// Advises the kernel on part of a mapping that [`unwritten`] found.
fn advise(range: &Range<usize>, advice: libc::c_int) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: a private mapping of our executable that was never writable: what is read there afterwards is the file, as before.
    checked(unsafe { libc::madvise(start, range.len(), advice) }.into()).map(drop)
}

/// The range of a line of proc_pid_maps(5), if it is of the file with this inode and nobody can have written to it: code, as there is
/// no DT_TEXTREL, and the head of the file with its constants. Other read-only parts were relocated before they became so.
fn unwritten(line: &str, inode: u64) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset) = (fields.next()?, fields.next()?);
    let is_ours = fields.nth(1)?.parse::<u64>().ok()? == inode;
    let is_unwritten = permissions == "r-xp" || (permissions == "r--p" && u64::from_str_radix(offset, 16).ok()? == 0);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_ours && is_unwritten).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_to_is_found() {
        let line = |kind: &str| format!("55e107a65000-55e107a66000 {kind} fd:00 1234   /usr/bin/x");
        let range = Some(0x55e1_07a6_5000..0x55e1_07a6_6000);
        assert_eq!(unwritten(&line("r-xp 0001f000"), 1234), range);
        assert_eq!(unwritten(&line("r--p 00000000"), 1234), range);
        assert_eq!(unwritten(&line("r-xp 0001f000"), 1235), None);
        assert_eq!(unwritten(&line("r--p 00184000"), 1234), None);
        assert_eq!(unwritten(&line("rw-p 00000000"), 1234), None);
        assert_eq!(unwritten("7ffc76b3c000-7ffc76b3d000 rw-p 00000000 00:00 0 [stack]", 0), None);
    }

    #[test]
    fn a_forgotten_program_still_runs() {
        forget_program().expect("forget");
        trim_heap();
    }
}
