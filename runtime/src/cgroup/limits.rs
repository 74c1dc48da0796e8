//! Limits of a group: written, changed while it runs, and read back as the kernel keeps them.

use super::{Cgroup, CgroupError, read, write};
use crate::container::config::ResourceLimits;
use crate::sys;
use spec::value::{ByteSize, Cpus};
use std::path::Path;

/// The period in which a share of processor time is handed out, in microseconds: the kernel's and Docker's default.
const CPU_PERIOD_US: u64 = 100_000;
/// cgroup v1 says "no limit" with the largest multiple of a page; whatever comes near it is none.
const V1_UNLIMITED: u64 = 1 << 62;

impl Cgroup {
    /// Sets all limits, also while processes run in it.
    ///
    /// Errors: [`CgroupError::NoController`] for a limit whose controller the host lacks; [`CgroupError::Write`] with `EBUSY` if a
    /// memory limit below what is in use cannot be reached by reclaim.
    pub fn apply(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        self.apply_memory(limits.memory)?;
        self.apply_cpus(limits.cpus)?;
        self.apply_pids(limits.pids)
    }

    /// The limits as the kernel has them now.
    pub fn read_limits(&self) -> Result<ResourceLimits, CgroupError> {
        let v2 = self.layout.is_unified();
        let memory =
            self.directory("memory").map(|at| read(&at.join(if v2 { "memory.max" } else { "memory.limit_in_bytes" }))).transpose()?;
        let pids = self.directory("pids").map(|at| read(&at.join("pids.max"))).transpose()?;
        let cpus = match self.directory("cpu") {
            None => None,
            Some(at) if v2 => parse_cpu_max(&read(&at.join("cpu.max"))?),
            Some(at) => match read(&at.join("cpu.cfs_quota_us"))?.trim() {
                "-1" => None,
                quota => parse_cpu_max(&format!("{quota} {}", read(&at.join("cpu.cfs_period_us"))?)),
            },
        };
        Ok(ResourceLimits {
            memory: memory.and_then(|text| number(&text)).filter(|bytes| *bytes < V1_UNLIMITED).map(ByteSize::from_bytes),
            cpus,
            pids: pids.and_then(|text| number(&text)).and_then(|count| u32::try_from(count).ok()),
        })
    }

    fn apply_memory(&self, memory: Option<ByteSize>) -> Result<(), CgroupError> {
        let Some(at) = self.directory("memory") else { return absent("memory", memory.is_some()) };
        if self.layout.is_unified() {
            let max = memory.map_or_else(|| "max".to_owned(), |size| size.bytes().to_string());
            // Swap is part of the limit: what fits in memory is all there is.
            write_if_present(&at.join("memory.swap.max"), if memory.is_some() { "0" } else { "max" })?;
            return write(&at.join("memory.max"), &max);
        }
        let value = memory.map_or_else(|| "-1".to_owned(), |size| size.bytes().to_string());
        let (limit, total) = (at.join("memory.limit_in_bytes"), at.join("memory.memsw.limit_in_bytes"));
        // The total may never be below the limit on the way: raise it first, lower it last.
        if write_if_present(&total, &value).is_ok() {
            return write(&limit, &value);
        }
        write(&limit, &value)?;
        write_if_present(&total, &value)
    }

    fn apply_cpus(&self, cpus: Option<Cpus>) -> Result<(), CgroupError> {
        let Some(at) = self.directory("cpu") else { return absent("cpu", cpus.is_some()) };
        let quota = cpus.map(|cpus| u64::from(cpus.milli()) * CPU_PERIOD_US / 1000);
        if self.layout.is_unified() {
            let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
            return write(&at.join("cpu.max"), &format!("{quota} {CPU_PERIOD_US}"));
        }
        write(&at.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
        write(&at.join("cpu.cfs_quota_us"), &quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string()))
    }

    fn apply_pids(&self, pids: Option<u32>) -> Result<(), CgroupError> {
        let Some(at) = self.directory("pids") else { return absent("pids", pids.is_some()) };
        write(&at.join("pids.max"), &pids.map_or_else(|| "max".to_owned(), |count| count.to_string()))
    }
}

/// The limits as [`Cgroup::read_limits`] gives them back once applied: the kernel counts memory in whole pages.
pub fn settled(limits: &ResourceLimits) -> ResourceLimits {
    let page = sys::page_size();
    let memory = limits.memory.map(|size| ByteSize::from_bytes(size.bytes() / page * page));
    ResourceLimits { memory, ..limits.clone() }
}

fn absent(controller: &'static str, is_wanted: bool) -> Result<(), CgroupError> {
    if is_wanted { Err(CgroupError::NoController { controller }) } else { Ok(()) }
}

/// Swap accounting may be compiled out or turned off; its files are then missing.
fn write_if_present(path: &Path, value: &str) -> Result<(), CgroupError> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `quota period` in microseconds; `max` or `-1` is no limit.
fn parse_cpu_max(text: &str) -> Option<Cpus> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let milli = quota.checked_mul(1000)?.checked_div(period)?;
    u32::try_from(milli).ok().map(Cpus::from_milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_reads_back_as_written() {
        assert_eq!(parse_cpu_max("50000 100000\n"), Some(Cpus::from_milli(500)));
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max("50000 0"), None);
    }

    #[test]
    fn memory_settles_on_whole_pages() {
        let limits = ResourceLimits { memory: Some(ByteSize::from_bytes(10_000_000)), cpus: None, pids: Some(7) };
        let bytes = settled(&limits).memory.unwrap().bytes();
        assert!(bytes <= 10_000_000 && bytes.is_multiple_of(4096) && settled(&limits).pids == Some(7));
    }

    /// The control files of cgroup v2 as plain files: this shows what is written where, not that a kernel takes it.
    #[test]
    fn version_2_keeps_limits_in_its_own_files() {
        let tree = tempfile::tempdir().unwrap();
        for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
            std::fs::write(tree.path().join(file), "").unwrap();
        }
        let group = Cgroup { layout: super::super::Layout::imitation(tree.path()), path: "".into() };
        let limits = ResourceLimits { memory: Some(ByteSize::from_bytes(1 << 20)), cpus: Some(Cpus::from_milli(1500)), pids: Some(9) };
        group.apply(&limits).unwrap();
        let text = |file: &str| std::fs::read_to_string(tree.path().join(file)).unwrap();
        assert_eq!(["memory.max", "memory.swap.max", "cpu.max", "pids.max"].map(text), ["1048576", "0", "150000 100000", "9"]);
        assert_eq!(group.read_limits().unwrap(), limits);
    }
}
