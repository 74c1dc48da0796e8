//! A host of one's own: a network namespace, directories, and the real programs. Gone without a trace when dropped.

use crate::census;
use anyhow::{Context as _, Result, bail};
use runtime::places::Places;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything that should happen by itself: generous, since a loaded machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait for what was removed to be gone.
const GONE_MAX: Duration = Duration::from_secs(2);

/// A host for one test.
pub struct Host {
    directory: TempDir,
    /// Holds the network namespace open.
    namespace: Child,
}

/// What a program came to.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The output, if the program ended well.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Fine if the program failed and said this.
    pub fn err_with(self, because: &str) -> Result<()> {
        if self.code == 0 || !(self.stderr.contains(because) || self.stdout.contains(because)) {
            bail!("wanted {because:?}, but: exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(())
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Where cargo has put the programs: beside the directory of the test executables.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let directory = test.ancestors().nth(2).expect("tests are built into target/<profile>/deps");
    directory.join(name)
}

/// Whether this test may touch the kernel; says so loudly where it may not.
pub fn is_root(test: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !root {
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}

impl Host {
    /// A fresh host with loopback up and nothing else. Needs root.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("host-agent-test-").tempdir()?;
        let namespace = Command::new("unshare")
            // It ends with us, however we end: then its standard input is at its end.
            .args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare --net")?;
        let mut host = Self { directory, namespace };
        let mut line = [0; 3];
        let stdout = host.namespace.stdout.as_mut().context("the namespace's output is piped")?;
        std::io::Read::read_exact(stdout, &mut line).context("bring the namespace's loopback up")?;
        Ok(host)
    }

    /// The directory everything of this host lies in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The host's network namespace.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.namespace.id()).into()
    }

    /// Where the agent of this host keeps everything.
    pub fn places(&self) -> Places {
        let [state, run, config] = ["state", "run", "config"].map(|name| self.path().join(name));
        Places { state, run, config }
    }

    /// A program run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display())).arg("--").arg(program);
        self.place(&mut command);
        command
    }

    /// Everything the command does with files happens below this host's directory.
    fn place(&self, command: &mut Command) {
        let Places { state, run, config } = self.places();
        command.env("AGENT_STATE_DIR", state).env("AGENT_RUN_DIR", run).env("AGENT_CONFIG_DIR", config);
        command.env("NO_COLOR", "1").stdin(Stdio::null());
    }

    /// `agent` with these arguments, waited for.
    pub fn agent(&self, arguments: &[&str]) -> Ran {
        self.command(program("agent")).args(arguments).output().map(Ran::from).expect("nsenter and agent can be run")
    }

    /// Any program with these arguments, waited for.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        self.command(program).args(arguments).output().map(Ran::from).expect("nsenter can be run")
    }

    /// `agent` in the background; ended when dropped.
    pub fn spawn_agent(&self, arguments: &[&str]) -> Result<Running> {
        self.spawn(program("agent"), arguments)
    }

    /// Any program in the background; ended when dropped.
    pub fn spawn(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Running> {
        let program = program.as_ref();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let log = self.path().join(format!("{name}-{}.log", arguments.first().unwrap_or(&"none").replace('/', "-")));
        let file = fs::File::create(&log)?;
        let mut command = self.command(program);
        let spawned = command.args(arguments).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Running { child: spawned.with_context(|| format!("spawn {name}"))?, log })
    }

    /// Any program on this host's files, but in the machine's own network: for what has to reach a package mirror.
    pub fn command_outside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        self.place(&mut command);
        command
    }

    /// Writes files below this host's directory, `("site/web.yaml", "…")`, and gives the directory of the first one.
    pub fn files(&self, files: &[(&str, &str)]) -> Result<PathBuf> {
        for (name, text) in files {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().context("a file has a parent")?)?;
            fs::write(path, text)?;
        }
        let first = files.first().context("at least one file")?.0;
        Ok(self.path().join(first).parent().context("a file has a parent")?.to_owned())
    }

    /// Puts a static busybox at this path of the host's directory.
    pub fn busybox(&self, path: &str) -> Result<()> {
        let target = self.path().join(path);
        fs::create_dir_all(target.parent().context("a file has a parent")?)?;
        fs::copy("/bin/busybox", target).context("copy /bin/busybox (package busybox-static)")?;
        Ok(())
    }
}

impl Drop for Host {
    /// Removes everything and proves it: a test that leaves something behind is a failed test.
    fn drop(&mut self) {
        let reset = self.agent(&["system", "reset", "--force"]);
        // The kernel tears down killed processes and their cgroups in its own time.
        let gone = Instant::now() + GONE_MAX;
        let mut left = census::traces(self);
        while !left.is_empty() && Instant::now() < gone {
            std::thread::sleep(Duration::from_millis(20));
            left = census::traces(self);
        }
        if reset.code != 0 {
            left.push(format!("system reset: exit code {}\n{}{}", reset.code, reset.stdout, reset.stderr));
        }
        // Both fail only for a child that is already gone.
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        if left.is_empty() {
            return;
        }
        let report = format!("left behind by {}:\n  {}", self.path().display(), left.join("\n  "));
        if std::thread::panicking() { eprintln!("{report}") } else { panic!("{report}") }
    }
}

/// A program in the background.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its process id: `nsenter` becomes the program it starts.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{signal} {}", self.pid()) }
    }

    /// All it has printed, once it has ended by itself.
    pub fn output_at_end(mut self) -> Result<String> {
        eventually("it ends by itself", || self.child.try_wait()?.context("it goes on"))?;
        Ok(self.output())
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<i32> {
        Ok(self.child.wait()?.code().unwrap_or(-1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes; the last answer is the error.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("waited {} s: {what}", PATIENCE.as_secs()))),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
