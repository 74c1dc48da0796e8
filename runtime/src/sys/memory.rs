//! Giving back memory that is mapped and not needed: what only a start needs, a monitor would otherwise keep for ever.

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

/// Unmaps the pages of our own program's code; what is still needed comes back from the page cache when it is run.
pub(crate) fn forget_code() -> io::Result<()> {
    let own = std::fs::metadata("/proc/self/exe")?.ino();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for range in maps.lines().filter_map(|line| code_of(line, own)) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: a private mapping of our executable that was never writable (relocations lie elsewhere, there is no DT_TEXTREL):
        // what is read there afterwards is the file, as before.
        checked(unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) }.into())?;
    }
    Ok(())
}

/// The range of a line of proc_pid_maps(5), if it is executable and of the file with this inode.
fn code_of(line: &str, inode: u64) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && fields.nth(2)?.parse::<u64>().ok()? == inode;
    let address = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_code_is_found() {
        let line = |permissions: &str| format!("55e107a65000-55e107a66000 {permissions} 0001f000 fd:00 1234   /usr/bin/x");
        assert_eq!(code_of(&line("r-xp"), 1234), Some(0x55e1_07a6_5000..0x55e1_07a6_6000));
        assert_eq!(code_of(&line("r-xp"), 1235), None);
        assert_eq!(code_of(&line("r--p"), 1234), None);
        assert_eq!(code_of("7ffc76b3c000-7ffc76b3d000 rw-p 00000000 00:00 0 [stack]", 0), None);
    }

    #[test]
    fn forgotten_code_still_runs() {
        forget_code().expect("forget");
        trim_heap();
    }
}
