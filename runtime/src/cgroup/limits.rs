//! Limits of a group: written, changed while it runs, and read back as the kernel keeps them.

use super::{Cgroup, CgroupError, Layout, read, write};
use crate::container::config::ResourceLimits;
use crate::places::Places;
use crate::store::small::{self, FilesOf};
use crate::sys;
use rustix::fs::{Mode, OFlags};
use spec::value::{ByteSize, ContainerId, Cpus};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The period in which a share of processor time is handed out, in microseconds: the kernel's and Docker's default.
const CPU_PERIOD_US: u64 = 100_000;
/// cgroup v1 says "no limit" with the largest multiple of a page; whatever comes near it is none.
const V1_UNLIMITED: u64 = 1 << 62;
/// Longest value read: two numbers of 64 bits.
const VALUE_BYTES_MAX: usize = 64;

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
        let has = |controller: &str| self.directory(controller);
        read_limits(self.layout.is_unified(), |controller, file| has(controller).map(|at| read(&at.join(file))).transpose())
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

/// The files a limit is kept in, on v2 and v1: who writes one of them changes a limit.
pub const LIMIT_FILES: [&str; 8] = [
    "cpu.max",
    "memory.max",
    "memory.swap.max",
    "pids.max",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
];

/// The groups of all containers of an instance, for many looks: each hierarchy's directory is opened once.
#[derive(Debug)]
pub struct Groups {
    is_unified: bool,
    /// By controller, where the host has it.
    directories: BTreeMap<&'static str, Directory>,
}

/// The instance's directory in one hierarchy; without a descriptor if it is not there.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    descriptor: Option<OwnedFd>,
}

impl Groups {
    /// Those of this instance, whether or not there are any.
    pub fn open(places: &Places) -> Result<Self, CgroupError> {
        let layout = Layout::detect()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = |controller| {
            let path = layout.with_controller(controller)?.mount.join(places.instance());
            let descriptor = rustix::fs::open(&path, flags, Mode::empty()).ok();
            Some((controller, Directory { path, descriptor }))
        };
        Ok(Self { is_unified: layout.is_unified(), directories: ["memory", "cpu", "pids"].into_iter().filter_map(directory).collect() })
    }

    /// Where the [`LIMIT_FILES`] of a container are, whether or not it has groups now.
    pub fn directories_of(&self, id: &ContainerId) -> BTreeSet<PathBuf> {
        self.directories.values().map(|directory| directory.path.join(id.to_string())).collect()
    }

    /// The limits of a container as the kernel has them now.
    pub fn read_limits(&self, id: &ContainerId) -> Result<ResourceLimits, CgroupError> {
        let mut files = FilesOf::new(id);
        read_limits(self.is_unified, |controller, file| {
            self.directories.get(controller).map(|directory| directory.read(files.path(file))).transpose()
        })
    }
}

impl Directory {
    fn read(&self, file: &str) -> Result<String, CgroupError> {
        let path = || self.path.join(file);
        let bytes = match &self.descriptor {
            Some(descriptor) => small::read_at(descriptor, file, VALUE_BYTES_MAX),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into()));
        text.map_err(|source| CgroupError::Read { path: path(), source })
    }
}

/// Reads what limits a group, by a reader of one file of one controller; `None` if the host lacks that.
fn read_limits(
    is_unified: bool,
    mut read: impl FnMut(&'static str, &'static str) -> Result<Option<String>, CgroupError>,
) -> Result<ResourceLimits, CgroupError> {
    let memory = read("memory", if is_unified { "memory.max" } else { "memory.limit_in_bytes" })?;
    let cpus = if is_unified {
        read("cpu", "cpu.max")?
    } else {
        match read("cpu", "cpu.cfs_quota_us")? {
            Some(quota) if quota.trim() != "-1" => read("cpu", "cpu.cfs_period_us")?.map(|period| format!("{} {period}", quota.trim())),
            Some(_) | None => None,
        }
    };
    let pids = read("pids", "pids.max")?;
    Ok(ResourceLimits {
        memory: memory.and_then(|text| number(&text)).filter(|bytes| *bytes < V1_UNLIMITED).map(ByteSize::from_bytes),
        cpus: cpus.and_then(|text| parse_cpu_max(&text)),
        pids: pids.and_then(|text| number(&text)).and_then(|count| u32::try_from(count).ok()),
    })
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
