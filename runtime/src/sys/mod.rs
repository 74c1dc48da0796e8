//! The system calls that rustix lacks, and the only `unsafe` of the runtime: one call a function, each with its proof.
//!
//! Nothing here decides anything; every function is the kernel's call in Rust's types.
#![allow(unsafe_code)]

mod bpf;
mod clone;
mod exec;
mod interface;
mod keyring;
mod memory;
mod mount;
mod page;
mod pidfd;
mod seccomp;
mod signal;
mod signalfd;

pub(crate) use bpf::{Instruction, attach_device_program, device_program_count, load_device_program};
pub(crate) use clone::{Forked, Namespaces, clone3, unshare_control_group, unshare_mounts};
pub(crate) use exec::{close_on_exec_from, execve, execveat_self, exit_now};
pub(crate) use interface::bring_up_loopback;
pub(crate) use keyring::join_new_session_keyring;
pub(crate) use memory::{forget_program, grow_heap_by, trim_heap};
pub(crate) use mount::{MountAttributes, Reach, set_mount_attributes};
pub(crate) use page::page_size;
pub(crate) use pidfd::{pidfd_exit_status, pidfd_send_signal};
pub(crate) use seccomp::load_seccomp_filter;
pub(crate) use signal::reset_signals;
pub(crate) use signalfd::{block_signals, signalfd};

/// The result of a call that returns -1 and sets `errno`.
fn checked(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
