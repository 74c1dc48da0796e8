//! Linux capabilities by name.

use super::{ValueError, serde_as_text};
use std::fmt;
use std::str::FromStr;

/// capabilities(7); the place in the list is the kernel's number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What libcap and the manual pages put before the names.
const PREFIX: &str = "CAP_";

/// One capability, read as `NET_ADMIN` or `CAP_NET_ADMIN` in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Docker's default set, the most a container gets unless its manifest adds one.
    pub const DOCKER_DEFAULT: [Self; 14] = [
        Self(0),
        Self(1),
        Self(3),
        Self(4),
        Self(5),
        Self(6),
        Self(7),
        Self(8),
        Self(10),
        Self(13),
        Self(18),
        Self(27),
        Self(29),
        Self(31),
    ];

    /// The kernel's number of it.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Every capability this agent knows, in the kernel's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).take(NAMES.len()).map(Self)
    }
}

impl FromStr for Capability {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = match text.split_at_checked(PREFIX.len()) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(PREFIX) => name,
            Some(_) | None => text,
        };
        let position = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        let position = position.ok_or_else(|| {
            ValueError::with_hint(format!("{text:?} is not a capability"), "write a name from capabilities(7), such as NET_ADMIN")
        })?;
        Ok(Self(u8::try_from(position).expect("the list has 41 names")))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(NAMES[usize::from(self.0)])
    }
}

serde_as_text!(Capability);
