//! Where everything happens: namespaces of mounts, network and processes, an empty `/run` in memory as a host has it, a directory
//! for the rest, and one control group above all that peers make.

use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Set in the process that runs inside.
const INSIDE: &str = "AGENT_BENCH_INSIDE";

/// Programs of the test image, all of them busybox.
const PROGRAMS: [&str; 3] = ["sh", "sleep", "true"];

/// A hybrid host's second tree, without controllers: crun and podman find no controllers there and give up.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Where directories of runs lie: on a disk, as states are; /tmp may be memory.
const DIRECTORIES: &str = "/var/tmp";

/// What their names begin with.
const PREFIX: &str = "agent-bench-";

/// The ground of one run.
pub struct Ground {
    directory: PathBuf,
    /// Held as long as the run lasts: whoever finds the directory without its lock may remove it.
    _lock: File,
}

/// Whether this process already runs in namespaces of its own.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Becomes this program inside. A shell is the first process there: it reaps whatever is orphaned, and the kernel ends everything
/// with it, and it with us.
pub fn enter() -> Result<ExitCode> {
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    let error = command.arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(error).context("run unshare (util-linux, as root)")
}

impl Ground {
    /// Makes the ground. Only inside.
    pub fn prepare() -> Result<Self> {
        sh("mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up")?;
        // What is written there in its absence must not reach the host either.
        sh(&format!("! mountpoint -q {UNIFIED} || {{ umount {UNIFIED} && mount -t tmpfs tmpfs {UNIFIED}; }}"))?;
        // dockerd writes a key there, wherever its data is.
        sh("[ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker")?;
        clear_abandoned()?;
        let directory = Path::new(DIRECTORIES).join(format!("{PREFIX}{}", unique()));
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let lock = File::open(&directory)?;
        lock.lock().with_context(|| format!("lock {}", directory.display()))?;
        let ground = Self { directory, _lock: lock };
        ground.make_image()?;
        Ok(ground)
    }

    /// The directory of the run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A root file system: busybox and a few names for it.
    pub fn root(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// The same as a tar archive.
    pub fn archive(&self) -> PathBuf {
        self.path("rootfs.tar")
    }

    /// The control group above all that peers make, relative to each hierarchy's root.
    pub fn control_group(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn make_image(&self) -> Result<()> {
        for directory in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"] {
            fs::create_dir_all(self.root().join(directory))?;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.context("no busybox (package busybox-static)")?, self.root().join("bin/busybox"))?;
        for program in PROGRAMS {
            symlink("busybox", self.root().join("bin").join(program))?;
        }
        run(Command::new("tar").arg("-C").arg(self.root()).arg("-cf").arg(self.archive()).arg(".")).map(drop)
    }

    /// Removes what is left: the directory, and the control group in every hierarchy.
    pub fn leave(self) -> Result<()> {
        sh(&format!("! mountpoint -q {UNIFIED} || umount {UNIFIED}"))?;
        clear(&self.directory)
    }
}

/// Removes what runs left that were ended from outside.
fn clear_abandoned() -> Result<()> {
    for entry in fs::read_dir(DIRECTORIES)?.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && File::open(entry.path()).is_ok_and(|directory| directory.try_lock().is_ok()) {
            clear(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a run's directory, and its control group in every hierarchy.
fn clear(directory: &Path) -> Result<()> {
    let group = directory.file_name().unwrap_or_default();
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        remove_group(&hierarchy.path().join(group))?;
    }
    remove_group(&Path::new("/sys/fs/cgroup").join(group))?;
    fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))
}

/// Removes a control group with those in it; a process that is just dying is waited for.
fn remove_group(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    for _ in 0..500 {
        if fs::remove_dir(path).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    bail!("remove {}: it is busy", path.display())
}

/// Runs a line of shell.
fn sh(line: &str) -> Result<Output> {
    run(Command::new("sh").args(["-c", line]))
}

/// Runs a command to its end; anything but success is an error with what it wrote.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {}", command.get_program().display()))?;
    if !output.status.success() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        bail!("{command:?}: {}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    }
    Ok(output)
}

/// Whether a program can be found.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}

fn unique() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since.as_millis())
}
