//! What is shipped and built: archives made of this host's own files, as OCI layouts for the registry, and build contexts.

use super::registry::ADDRESS;
use crate::ground::{Ground, run};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use spec::value::Digest;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of files in the image that is pulled and pushed: those of a small distribution.
const SYSTEM_BYTES: u64 = 180_000_000;
/// Larger files are passed over: a distribution is many small ones.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Layers of the layered image.
const LAYERS: usize = 10;

/// Files of the large context.
const TREE_FILES: usize = 20_000;
/// Bytes of each.
const TREE_FILE_BYTES: usize = 4_000;

const STEPS: &str = r#"ENV STAGE=bench
WORKDIR /app
COPY files /app/files
COPY one /app/one
RUN i=0; while [ $i -lt 500 ]; do echo $i > /app/f$i; i=$((i+1)); done
RUN cat /app/f[0-9]* > /app/all
RUN dd if=/dev/urandom of=/app/random bs=1M count=20
LABEL bench=yes
EXPOSE 80
CMD ["sh"]
"#;

/// The files of a measurement.
pub struct Stock {
    directory: PathBuf,
}

impl Stock {
    /// Makes archives and layouts; contexts are made when asked for.
    pub fn make(ground: &Ground) -> Result<Self> {
        let stock = Self { directory: ground.path("stock") };
        fs::create_dir_all(&stock.directory)?;
        let mut files = Vec::new();
        let mut bytes = 0;
        gather(Path::new("/usr"), &mut files, &mut bytes)?;
        stock.archive("one-0", &files)?;
        for (number, part) in files.chunks(files.len().div_ceil(LAYERS)).enumerate() {
            stock.archive(&format!("ten-{number}"), part)?;
        }
        println!("\nthe image has {} files, {} MB", files.len(), bytes / 1_000_000);
        stock.layout("one", 1)?;
        stock.layout("ten", LAYERS)?;
        Ok(stock)
    }

    /// The archive of the image with one layer.
    pub fn system(&self) -> PathBuf {
        self.directory.join("one-0.tar")
    }

    /// Puts a layout into the registry; `one` or `ten`. Returns its reference.
    pub fn publish(&self, name: &str) -> Result<String> {
        let reference = format!("{ADDRESS}/{name}:1");
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:1", self.directory.join(name).display())).arg(format!("docker://{reference}"));
        run(&mut copy)?;
        Ok(reference)
    }

    fn archive(&self, name: &str, files: &[PathBuf]) -> Result<()> {
        let list = self.directory.join("list");
        let lines: Vec<&[u8]> = files.iter().map(|file| file.as_os_str().as_bytes()).collect();
        fs::write(&list, lines.join(&b'\0'))?;
        let mut tar = Command::new("tar");
        tar.args(["--create", "--null", "--no-recursion", "--absolute-names", "--transform=s,^/,,"]);
        run(tar.arg("--file").arg(self.directory.join(format!("{name}.tar"))).arg("--files-from").arg(list)).map(drop)
    }

    /// An image in OCI's layout, compressed as most are: gzip at its usual level.
    fn layout(&self, name: &str, layers: usize) -> Result<()> {
        let directory = self.directory.join(name);
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        let put = |bytes: &[u8], kind: &str| -> Result<Value> {
            let digest = Digest::of(bytes);
            fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes)?;
            Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
        };
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        for number in 0..layers {
            let tar = self.directory.join(format!("{name}-{number}.tar"));
            diff_ids.push(Digest::of(&fs::read(&tar)?));
            let zipped = run(Command::new("gzip").args(["--stdout", "--no-name"]).arg(&tar))?.stdout;
            descriptors.push(put(&zipped, "application/vnd.oci.image.layer.v1.tar+gzip")?);
        }
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({"os": "linux", "architecture": architecture, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = put(&serde_json::to_vec(&config)?, "application/vnd.oci.image.config.v1+json")?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors});
        let mut manifest = put(&serde_json::to_vec(&manifest)?, kind)?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        fs::write(directory.join("index.json"), serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [manifest]}))?)?;
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(())
    }

    /// A context for ten steps on a base: metadata, files, commands.
    pub fn ten_steps(&self, base: &str) -> Result<PathBuf> {
        let context = self.directory.join("steps");
        fs::create_dir_all(context.join("files"))?;
        for number in 0..200 {
            fs::write(context.join(format!("files/{number}")), format!("file {number}\n").repeat(50))?;
        }
        fs::write(context.join("one"), "one\n")?;
        fs::write(context.join("Dockerfile"), format!("FROM {base}\n{STEPS}"))?;
        Ok(context)
    }

    /// A new copy of a context with a large tree: other inodes, other times, the same content.
    pub fn tree(&self) -> Result<PathBuf> {
        let context = self.directory.join("tree");
        if context.exists() {
            fs::remove_dir_all(&context)?;
        }
        for directory in 0..TREE_FILES / 100 {
            let path = context.join(format!("tree/{directory}"));
            fs::create_dir_all(&path)?;
            for file in 0..100 {
                let line = format!("file {directory}/{file}\n");
                let mut content = line.repeat(TREE_FILE_BYTES / line.len() + 1);
                content.truncate(TREE_FILE_BYTES);
                fs::write(path.join(file.to_string()), content)?;
            }
        }
        fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY tree /tree\n")?;
        Ok(context)
    }
}

/// Collects small files of a directory, in order of their names, until there is enough.
fn gather(directory: &Path, files: &mut Vec<PathBuf>, bytes: &mut u64) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let entries: BTreeSet<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    for path in entries {
        let found = fs::symlink_metadata(&path)?;
        if *bytes >= SYSTEM_BYTES {
            break;
        }
        if found.is_dir() && path != Path::new("/usr/local") {
            gather(&path, files, bytes)?;
        } else if found.is_file() && found.len() <= FILE_BYTES_MAX || found.is_symlink() {
            *bytes += if found.is_file() { found.len() } else { 0 };
            files.push(path);
        }
    }
    Ok(())
}

/// Runs a command and returns the largest amount of memory it had resident, in KiB: its own high-water mark, read until it ends.
pub fn peak_kib(command: &mut Command) -> Result<f64> {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", process.id()));
    let mut peak = 0;
    while process.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(mark.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    anyhow::ensure!(process.wait()?.success(), "{command:?} failed");
    Ok(peak as f64)
}
