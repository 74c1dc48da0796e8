//! Which devices a container may use: Docker's list. Any node may be made, only these opened.
//!
//! The rules sit on the instance's group, which every container's group is below, so a start pays nothing for them.

use super::{CgroupError, read, write};
use crate::sys::{Instruction, attach_device_program, device_program_count, load_device_program};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
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

/// Held while rules are looked at and written: of two first starts at once, neither may see the other's half-written list, which its
/// own group would then keep. The kernel releases it with the descriptor.
fn lock(directory: &Path) -> std::io::Result<OwnedFd> {
    let group = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&group, FlockOperation::LockExclusive)?;
    Ok(group)
}

/// Writes the rules to `devices.deny` and `devices.allow` of a v1 group; groups made below it later start with them.
pub(super) fn restrict_legacy(directory: &Path) -> Result<(), CgroupError> {
    let _lock = lock(directory).map_err(|source| CgroupError::Devices { path: directory.to_owned(), source })?;
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
        let group = lock(directory)?;
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

    #[test]
    fn the_kernel_takes_the_program_and_obeys_it() {
        let layout = super::super::Layout::detect().ok();
        let Some(tree) = layout.as_ref().and_then(super::super::Layout::unified).filter(|_| rustix::process::geteuid().is_root()) else {
            return eprintln!("SKIPPED: the device program, without root or a cgroup v2 tree");
        };
        let directory = tree.mount.join(format!("host-agent-devices-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let restricted = restrict_unified(&directory).and_then(|()| restrict_unified(&directory));
        let node = tempfile::tempdir().unwrap().keep();
        let script = r#"echo 0 > "$1/cgroup.procs" && cd "$2" && mknod disk b 254 0 && echo made && echo x > /dev/null && head -c 1 disk"#;
        let output = std::process::Command::new("/bin/sh").args(["-c", script, "sh"]).arg(&directory).arg(&node).output().unwrap();
        std::fs::remove_dir_all(&node).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        restricted.unwrap();
        assert_eq!(output.stdout, b"made\n", "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{output:?}");
    }

    #[test]
    fn first_starts_at_once_all_get_the_whole_list() {
        let layout = super::super::Layout::detect().ok();
        let devices = layout.as_ref().and_then(|layout| layout.with_controller("devices"));
        let Some(devices) = devices.filter(|_| rustix::process::geteuid().is_root()) else {
            return eprintln!("SKIPPED: device rules of version 1, without root or that controller");
        };
        let instance = devices.mount.join(format!("host-agent-race-{}", std::process::id()));
        std::fs::create_dir(&instance).unwrap();
        let start = &|number: u32| {
            let child = instance.join(number.to_string());
            let listed = restrict_legacy(&instance)
                .and_then(|()| super::super::create_directory(&child))
                .and_then(|_| read(&child.join("devices.list")));
            let _ = std::fs::remove_dir(&child);
            listed
        };
        let lists: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || start(number))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        std::fs::remove_dir(&instance).unwrap();
        for list in lists {
            assert_eq!(list.unwrap().unwrap().lines().count(), ALLOWED.len() + 2);
        }
    }
}
