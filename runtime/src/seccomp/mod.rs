//! The system call filter: the same effect as Docker's default profile, compiled to classic BPF by ourselves.
//!
//! Pure but for [`load`]. Calls are sorted and found by binary search, so a call costs about ten instructions instead of hundreds, and
//! compiling costs some microseconds: no cache is needed.
//!
//! Two differences from Docker, both stricter: 32-bit (i386, arm) and x32 programs get ENOSYS for every call, and so do calls newer than
//! the profile (runc does the latter too). libseccomp is not needed.

mod profile;

use crate::container::config::SeccompProfile;
use crate::sys;
use libc::sock_filter;
use profile::{
    ALWAYS, CLONE, CLONE_NAMESPACES, CLONE3, Call, NEWEST, PERSONALITIES, PERSONALITY, SOCKET, SOCKET_FAMILIES, WITH_CAPABILITY,
};
use spec::value::Capability;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Program(Vec<sock_filter>);

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system call numbers of this architecture are not known");

/// Offsets in struct seccomp_data: number, architecture, low half of the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT: u32 = 16;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse,
    Absent,
    /// Allowed for some values of the first argument.
    OneOf(&'static [(u32, u32)]),
    /// Allowed if the first argument has none of these bits.
    Without(u32),
}

/// Compiles the profile for a container with these capabilities; `None` if everything is allowed.
pub(crate) fn compile(profile: SeccompProfile, capabilities: &BTreeSet<Capability>) -> Option<Program> {
    match profile {
        SeccompProfile::Unconfined => None,
        SeccompProfile::Default => Some(assemble(&verdicts(capabilities))),
    }
}

/// Puts this thread and what it executes under the filter. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn load(program: &Program) -> io::Result<()> {
    sys::load_seccomp_filter(&program.0)
}

fn number((_, x86_64, aarch64): Call) -> u32 {
    if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
}

/// Every call that is not refused.
fn verdicts(capabilities: &BTreeSet<Capability>) -> BTreeMap<u32, Verdict> {
    let held: BTreeSet<String> = capabilities.iter().map(ToString::to_string).collect();
    let granted = WITH_CAPABILITY.iter().filter(|(capability, ..)| held.contains(*capability));
    let allowed = ALWAYS.into_iter().chain(granted.map(|(_, name, x86_64, aarch64)| (*name, *x86_64, *aarch64)));
    let mut verdicts: BTreeMap<u32, Verdict> = allowed.map(|call| (number(call), Verdict::Allow)).collect();
    verdicts.remove(&u32::MAX);
    verdicts.insert(number(SOCKET), Verdict::OneOf(&SOCKET_FAMILIES));
    verdicts.insert(number(PERSONALITY), Verdict::OneOf(&PERSONALITIES));
    // clone3's flags lie in memory, where no filter can see them: it looks absent, and the C library falls back to clone.
    let (clone, clone3) =
        if held.contains("SYS_ADMIN") { (Verdict::Allow, Verdict::Allow) } else { (Verdict::Without(CLONE_NAMESPACES), Verdict::Absent) };
    verdicts.insert(number(CLONE), clone);
    verdicts.insert(number(CLONE3), clone3);
    verdicts
}

fn assemble(verdicts: &BTreeMap<u32, Verdict>) -> Program {
    let mut ranges = vec![(0, Verdict::Refuse)];
    for (number, verdict) in verdicts {
        begin(&mut ranges, *number, *verdict);
        begin(&mut ranges, number + 1, Verdict::Refuse);
    }
    // The x32 bit makes every number of that kind a large one.
    begin(&mut ranges, NEWEST + 1, Verdict::Absent);
    let mut program = vec![load_word(ARCHITECTURE), jump(libc::BPF_JEQ, AUDIT_ARCH, 1, 0), answer(Verdict::Absent), load_word(NUMBER)];
    program.extend(search(&ranges));
    Program(program)
}

/// From `start` up it is this; a range of the same kind is continued.
fn begin(ranges: &mut Vec<(u32, Verdict)>, start: u32, verdict: Verdict) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((start, verdict));
    }
}

/// A binary search of the loaded word among ranges, each beginning at its number.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = ranges {
        return leaf(*verdict);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(left), search(right));
    let mut program = match u8::try_from(below.len()) {
        Ok(near) => vec![jump(libc::BPF_JGE, right[0].0, near, 0)],
        // A conditional jump reaches 255 instructions; an unconditional one, any.
        Err(_) => vec![jump(libc::BPF_JGE, right[0].0, 0, 1), jump(libc::BPF_JA, below.len() as u32, 0, 0)],
    };
    program.extend(below);
    program.extend(above);
    program
}

fn leaf(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow | Verdict::Refuse | Verdict::Absent => vec![answer(verdict)],
        // The kernel reads all three arguments as 32-bit numbers, so the upper half says nothing.
        Verdict::Without(bits) => {
            vec![load_word(ARGUMENT), jump(libc::BPF_JSET, bits, 0, 1), answer(Verdict::Refuse), answer(Verdict::Allow)]
        }
        Verdict::OneOf(values) => {
            let mut ranges = vec![(0, Verdict::Refuse)];
            for (first, last) in values {
                begin(&mut ranges, *first, Verdict::Allow);
                if let Some(next) = last.checked_add(1) {
                    begin(&mut ranges, next, Verdict::Refuse);
                }
            }
            [load_word(ARGUMENT)].into_iter().chain(search(&ranges)).collect()
        }
    }
}

fn load_word(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(condition: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, value, if_true, if_false)
}

fn answer(verdict: Verdict) -> sock_filter {
    let value = match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Absent => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        Verdict::Refuse | Verdict::OneOf(_) | Verdict::Without(_) => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
    };
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    /// Runs the program as the kernel would.
    fn run(program: &Program, architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            let code = u32::from(code);
            at += 1;
            let holds = match code & 0xf0 {
                _ if code & 0x07 == libc::BPF_LD => {
                    word = match k {
                        ARCHITECTURE => architecture,
                        NUMBER => number,
                        ARGUMENT => argument,
                        other => panic!("load {other}"),
                    };
                    continue;
                }
                _ if code & 0x07 == libc::BPF_RET => return k,
                libc::BPF_JA => {
                    at += k as usize;
                    continue;
                }
                libc::BPF_JEQ => word == k,
                libc::BPF_JGE => word >= k,
                libc::BPF_JSET => word & k != 0,
                other => panic!("jump {other}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    fn docker() -> Program {
        compile(SeccompProfile::Default, &Capability::DOCKER_DEFAULT.into()).unwrap()
    }

    fn call(program: &Program, number: i64, argument: u32) -> u32 {
        run(program, AUDIT_ARCH, number as u32, argument)
    }

    #[test]
    fn every_call_of_the_profile_is_judged_as_listed() {
        let program = docker();
        let expected = verdicts(&Capability::DOCKER_DEFAULT.into());
        for number in 0..=NEWEST {
            let found = run(&program, AUDIT_ARCH, number, 0);
            match expected.get(&number) {
                None => assert_eq!(found, EPERM, "{number}"),
                Some(Verdict::Absent) => assert_eq!(found, ENOSYS, "{number}"),
                Some(_) => assert_eq!(found, ALLOW, "{number}"),
            }
        }
    }

    #[test]
    fn the_table_has_the_kernels_numbers() {
        let by_name = |wanted| ALWAYS.into_iter().find(|(name, ..)| *name == wanted).map(number);
        assert_eq!(by_name("openat"), Some(libc::SYS_openat as u32));
        assert_eq!(by_name("ptrace"), Some(libc::SYS_ptrace as u32));
        assert_eq!(by_name("rseq"), Some(libc::SYS_rseq as u32));
        assert_eq!(number(SOCKET), libc::SYS_socket as u32);
    }

    #[test]
    fn namespaces_mounts_and_keys_are_refused() {
        let program = docker();
        for number in [libc::SYS_unshare, libc::SYS_mount, libc::SYS_keyctl, libc::SYS_bpf, libc::SYS_setns, libc::SYS_userfaultfd] {
            assert_eq!(call(&program, number, 0), EPERM, "{number}");
        }
        assert_eq!(call(&program, libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
        assert_eq!(call(&program, libc::SYS_clone, libc::CLONE_NEWUSER as u32), EPERM);
        assert_eq!(call(&program, libc::SYS_clone3, 0), ENOSYS);
    }

    #[test]
    fn a_capability_brings_its_calls() {
        let admin = compile(SeccompProfile::Default, &["SYS_ADMIN".parse().unwrap()].into()).unwrap();
        assert_eq!(call(&admin, libc::SYS_mount, 0), ALLOW);
        assert_eq!(call(&admin, libc::SYS_clone3, 0), ALLOW);
        assert_eq!(call(&admin, libc::SYS_clone, libc::CLONE_NEWUSER as u32), ALLOW);
        assert_eq!(call(&admin, libc::SYS_chroot, 0), EPERM, "that is SYS_CHROOT's");
    }

    #[test]
    fn sockets_reach_no_hypervisor_and_no_crypto() {
        let program = docker();
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET] {
            assert_eq!(call(&program, libc::SYS_socket, family as u32), ALLOW);
        }
        for family in [libc::AF_VSOCK, libc::AF_ALG, 12, 46] {
            assert_eq!(call(&program, libc::SYS_socket, family as u32), EPERM);
        }
    }

    #[test]
    fn personality_may_be_asked_but_not_made_old() {
        let program = docker();
        assert_eq!(call(&program, libc::SYS_personality, u32::MAX), ALLOW);
        assert_eq!(call(&program, libc::SYS_personality, 0x2_0008), ALLOW);
        assert_eq!(call(&program, libc::SYS_personality, 0x0400_0000), EPERM);
    }

    #[test]
    fn other_architectures_and_newer_calls_look_absent() {
        let program = docker();
        assert_eq!(run(&program, 0x4000_0003, 5, 0), ENOSYS, "i386");
        assert_eq!(call(&program, 0x4000_0000, 0), ENOSYS, "x32 read");
        assert_eq!(call(&program, i64::from(NEWEST) + 1, 0), ENOSYS);
    }

    #[test]
    fn unconfined_is_no_filter() {
        assert!(compile(SeccompProfile::Unconfined, &BTreeSet::new()).is_none());
    }
}
