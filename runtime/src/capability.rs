//! Capability sets of a process: what is kept is bounding, permitted and effective; inheritable and ambient are always empty.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};
use spec::value::Capability;
use std::collections::BTreeSet;
use std::io;

/// Takes everything else out of the bounding set of this thread, for ever. Needs CAP_SETPCAP.
pub(crate) fn limit_bounding_set(kept: &BTreeSet<Capability>) -> io::Result<()> {
    for capability in Capability::all().filter(|capability| !kept.contains(capability)) {
        match remove_capability_from_bounding_set(bits([capability])) {
            // A kernel older than the capability has nothing to take away.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets what this thread holds: permitted and effective as given, nothing to inherit. Exec of a program by root gives it the bounding
/// set again; to anybody else, nothing.
pub(crate) fn set_own(held: &BTreeSet<Capability>) -> io::Result<()> {
    // What we do not hold ourselves (a host without CAP_SYS_RESOURCE) cannot be given.
    let held = bits(held.iter().copied()) & capabilities(None)?.permitted;
    clear_ambient_capability_set()?;
    Ok(set_capabilities(None, CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() })?)
}

fn bits(capabilities: impl IntoIterator<Item = Capability>) -> CapabilitySet {
    CapabilitySet::from_bits_retain(capabilities.into_iter().fold(0, |bits, capability| bits | 1u64 << capability.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels() {
        assert_eq!(bits(["CHOWN".parse().unwrap(), "NET_RAW".parse().unwrap()]), CapabilitySet::CHOWN | CapabilitySet::NET_RAW);
    }
}
