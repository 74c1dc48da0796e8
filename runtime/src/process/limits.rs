//! Resource limits of a process, getrlimit(2), by Docker's names.

use super::error::{During, StartError, Step};
use crate::container::config::Rlimit;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io;

/// Every limit that can be asked for.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Sets the limits that are asked for and leaves all others as they are.
pub(super) fn apply(limits: &BTreeMap<String, Rlimit>) -> Result<(), StartError> {
    limits.iter().try_for_each(|(name, limit)| set(name, *limit).during(Step::ResourceLimit, name))
}

fn set(name: &str, limit: Rlimit) -> io::Result<()> {
    let found = RESOURCES.iter().find(|(known, _)| *known == name);
    let (_, resource) = found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such limit"))?;
    // The kernel's "unlimited" is the largest number.
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    let wanted = rustix::process::Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
    match setrlimit(*resource, wanted) {
        Err(rustix::io::Errno::PERM) => {
            let now = getrlimit(*resource).maximum.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
            let text = format!("raising the hard limit from {now} to {} needs CAP_SYS_RESOURCE, which this host does not give", limit.hard);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
        set => Ok(set?),
    }
}
