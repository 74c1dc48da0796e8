//! Which devices a container may use: Docker's list. Any node may be made, only these opened.
//!
//! The rules sit on the instance's group, which every container's group is below, so a start pays nothing for them.

use super::{CgroupError, read, write};
use crate::sys::{Instruction, attach_device_program, device_program_count, load_device_program};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// Character devices that may be read and written: (major, minor), `None` for every minor.
const ALLOWED: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

/// Writes the rules to `devices.deny` and `devices.allow` of a v1 group; groups made below it later start with them.
pub(super) fn restrict_legacy(directory: &Path) -> Result<(), CgroupError> {
    // A group that has them lists them; one that has not is allowed everything, `a *:* rwm`.
    if !read(&directory.join("devices.list"))?.starts_with('a') {
        return Ok(());
    }
    write(&directory.join("devices.deny"), "a")?;
    let allow = directory.join("devices.allow");
    write(&allow, "c *:* m")?;
    write(&allow, "b *:* m")?;
    ALLOWED.iter().try_for_each(|(major, minor)| {
        let minor = minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        write(&allow, &format!("c {major}:{minor} rwm"))
    })
}

/// Attaches the rules as a program to a v2 group, unless one is there.
pub(super) fn restrict_unified(directory: &Path) -> Result<(), CgroupError> {
    let restrict = || -> std::io::Result<()> {
        let group = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if device_program_count(group.as_fd())? > 0 {
            return Ok(());
        }
        let program = load_device_program(&program())?;
        attach_device_program(group.as_fd(), program.as_fd())
    };
    restrict().map_err(|source| CgroupError::Devices { path: directory.to_owned(), source })
}

/// Access kinds in the high half of `access_type`, struct bpf_cgroup_dev_ctx.
const ACCESS_MAKE: i32 = 1;
/// Device kind in its low half.
const DEVICE_CHARACTER: i32 = 2;

/// The same rules as eBPF: r1 points at { access_type, major, minor }, and the answer in r0 is 1 for yes.
fn program() -> Vec<Instruction> {
    const ANSWER: u8 = 0;
    const ACCESS: u8 = 2;
    const KIND: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    let load = |to: u8, offset| Instruction { code: 0x61, registers: to | 1 << 4, offset, immediate: 0 };
    let set = |to, immediate| Instruction { code: 0xb7, registers: to, offset: 0, immediate };
    let copy = |to: u8, from: u8| Instruction { code: 0xbf, registers: to | from << 4, offset: 0, immediate: 0 };
    let and = |to, immediate| Instruction { code: 0x57, registers: to, offset: 0, immediate };
    let shift_right = |to, immediate| Instruction { code: 0x77, registers: to, offset: 0, immediate };
    let unless_equal = |left, immediate, offset| Instruction { code: 0x55, registers: left, offset, immediate };
    let exit = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

    let mut program = vec![load(KIND, 0), copy(ACCESS, KIND), and(KIND, 0xffff), shift_right(ACCESS, 16), load(MAJOR, 4), load(MINOR, 8)];
    program.extend([unless_equal(ACCESS, ACCESS_MAKE, 2), set(ANSWER, 1), exit]);
    // Patched below: a block device skips the whole list and is refused.
    let kind_check = program.len();
    program.push(unless_equal(KIND, DEVICE_CHARACTER, 0));
    for (major, minor) in ALLOWED {
        match minor {
            Some(minor) => program.extend([unless_equal(MAJOR, major as i32, 3), unless_equal(MINOR, minor as i32, 2)]),
            None => program.push(unless_equal(MAJOR, major as i32, 2)),
        }
        program.extend([set(ANSWER, 1), exit]);
    }
    let refuse = program.len();
    program.extend([set(ANSWER, 0), exit]);
    program[kind_check].offset = i16::try_from(refuse - kind_check - 1).expect("the program has under 50 instructions");
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few operations that the program uses.
    fn allows(access: i32, kind: i32, major: i64, minor: i64) -> bool {
        let context = [i64::from(access << 16 | kind), major, minor];
        let (program, mut registers, mut at) = (program(), [0i64; 6], 0usize);
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            at += 1;
            match code {
                0x61 => registers[to] = context[usize::try_from(offset / 4).unwrap()],
                0xb7 => registers[to] = immediate.into(),
                0xbf => registers[to] = registers[from],
                0x57 => registers[to] &= i64::from(immediate),
                0x77 => registers[to] >>= immediate,
                0x55 if registers[to] != i64::from(immediate) => at = at.checked_add_signed(offset.into()).unwrap(),
                0x55 => {}
                0x95 => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    #[test]
    fn any_node_may_be_made_and_only_harmless_ones_opened() {
        let (make, read, write, block, character) = (1, 2, 4, 1, 2);
        assert!(allows(make, block, 8, 0));
        assert!(allows(read | write, character, 1, 3));
        assert!(allows(read | write, character, 136, 77));
        assert!(!allows(read, character, 1, 1), "memory");
        assert!(!allows(read, block, 1, 3), "a ram disk has null's numbers");
        assert!(!allows(read, block, 8, 0), "a disk");
        assert!(!allows(make | read, block, 8, 0), "a disk made and opened");
    }
}
