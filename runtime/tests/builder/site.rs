//! A place for one test: a context, a store, the shim; all gone with it.

use runtime::builder::share::SharedCache;
use runtime::builder::{BuildError, BuildEvent, BuildRequest, Elsewhere, StepEvent, build};
use runtime::cgroup::Cgroup;
use runtime::image::config::ImageConfig;
use runtime::image::registry::IsWanted;
use runtime::image::store::ImageStore;
use runtime::places::Places;
use spec::value::{Digest, ImageReference};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// A context, a store and all that a build needs.
pub(crate) struct Site {
    directory: tempfile::TempDir,
    pub store: ImageStore,
    pub request: BuildRequest,
}

/// What a build came to.
pub(crate) struct Built {
    pub id: Digest,
    pub config: ImageConfig,
    pub tree: BTreeMap<String, String>,
    pub events: Vec<String>,
}

/// Moves the thread of this test, once, into a network namespace of its own: steps have links and rules where their builder is.
pub(crate) fn own_network() {
    thread_local!(static MOVED: Cell<bool> = const { Cell::new(false) });
    if MOVED.replace(true) {
        return;
    }
    #[expect(deprecated, reason = "the other form is unsafe for a flag that is not used here")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).expect("unshare");
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip").success());
}

impl Site {
    /// `None`, said loudly, where builds cannot run.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: builds need root");
            return None;
        }
        own_network();
        let directory = tempfile::tempdir().expect("temporary directory");
        let context = directory.path().join("context");
        fs::create_dir(&context).expect("context");
        let store = ImageStore::open_at(&directory.path().join("state/images")).expect("store");
        let places = ["state", "run", "config"].map(|place| directory.path().join(place));
        let [state, run, config] = places;
        let places = Places { state, run, config };
        let request = BuildRequest::new(context, env!("CARGO_BIN_EXE_container-shim").into(), places);
        Some(Self { directory, store, request })
    }

    /// A site whose images may name `busybox`: its applets in /bin, users root and www.
    pub(crate) fn with_busybox() -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|path| path.exists());
        let Some(busybox) = busybox else {
            eprintln!("SKIPPED: no static busybox on this host");
            return None;
        };
        let mut site = Self::new()?;
        fs::copy(busybox, site.path("busybox")).expect("copy busybox");
        site.file("passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/srv:/bin/sh\n").file("group", "root:x:0:\nweb:x:44:\n");
        let text = "FROM scratch\nCOPY busybox /bin/\nCOPY passwd group /etc/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nCMD [\"sh\"]";
        let id = site.build(text).id;
        site.request.bases.insert("busybox".to_owned(), id);
        for name in ["busybox", "passwd", "group"] {
            fs::remove_file(site.path(name)).expect("remove");
        }
        Some(site)
    }

    /// A path of the context.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.request.context.join(path)
    }

    /// Everything of the site.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the context, mode 0644, with its directories.
    pub(crate) fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        self
    }

    /// Changes the mode of something in the context.
    pub(crate) fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("mode");
        self
    }

    /// A symbolic link of the context.
    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.path(path)).expect("link");
        self
    }

    /// Builds a Dockerfile that has to work.
    pub(crate) fn build(&self, dockerfile: &str) -> Built {
        let (result, events) = self.try_build(dockerfile);
        let id = result.unwrap_or_else(|error| panic!("{dockerfile}\n{}", chain(&error)));
        let image = self.store.image(&id).expect("image");
        let tree = image.layers.iter().fold(BTreeMap::new(), |mut tree, layer| {
            add_layer(&mut tree, layer, "");
            tree
        });
        Built { id, config: image.config, tree, events }
    }

    /// Builds a Dockerfile that must not work; what is said of it.
    pub(crate) fn refusal(&self, dockerfile: &str) -> String {
        match self.try_build(dockerfile).0 {
            Ok(_) => panic!("was built:\n{dockerfile}"),
            Err(error) => chain(&error),
        }
    }

    /// Builds a Dockerfile; what came of it and what was told.
    pub(crate) fn try_build(&self, dockerfile: &str) -> (Result<Digest, BuildError>, Vec<String>) {
        let (result, events) = self.try_build_all(dockerfile);
        (result.map(|built| built.image), events)
    }

    /// As [`Self::try_build`], with all that a build returns.
    pub(crate) fn try_build_all(&self, dockerfile: &str) -> (Result<runtime::builder::Built, BuildError>, Vec<String>) {
        self.try_build_with(dockerfile, &[])
    }

    /// The same with caches of elsewhere.
    pub(crate) fn try_build_with(
        &self,
        dockerfile: &str,
        caches: &[SharedCache<'_>],
    ) -> (Result<runtime::builder::Built, BuildError>, Vec<String>) {
        let path = self.directory.path().join("Dockerfile");
        fs::write(&path, dockerfile).expect("Dockerfile");
        let request = BuildRequest { dockerfile: path, ..self.request.clone() };
        let events = Mutex::new(Vec::new());
        let pull = |reference: &ImageReference, is_wanted: &IsWanted<'_>| {
            // One that never comes.
            while reference.repository().ends_with("endless") && is_wanted() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(format!("{reference} is not there").into())
        };
        let result = build(&self.store, &request, Elsewhere { pull: &pull, caches }, &|event| {
            let mut events = events.lock().expect("events");
            let BuildEvent { step, what } = event;
            let name = if step.stage_name.is_empty() { step.number.to_string() } else { format!("{} {}", step.stage_name, step.number) };
            match what {
                StepEvent::Started => events.push(step.to_string()),
                StepEvent::Cached => events.push(format!("{name} cached")),
                StepEvent::Output { line } => events.push(format!("{name}> {line}")),
                StepEvent::Stopped => events.push(format!("{name} stopped")),
                StepEvent::Fetching { .. } | StepEvent::Finished { .. } | StepEvent::Failed { .. } => {}
            }
        });
        let events = events.into_inner().expect("events");
        (result, events)
    }
}

impl Drop for Site {
    /// The parent control groups of this instance, empty now: nobody else knows when an instance is no more.
    fn drop(&mut self) {
        Cgroup::remove_instance(&self.request.places).unwrap_or_else(|error| eprintln!("left behind: {error}"));
    }
}

/// Directories of a control group in all hierarchies.
pub(crate) fn control_groups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(name)).filter(|group| group.is_dir()).collect()
}

impl Built {
    /// The tree, a line a path, without what the test does not ask for.
    pub(crate) fn below(&self, prefix: &str) -> Vec<String> {
        let inside = |path: &&String| path.as_str() == prefix || path.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
        self.tree.keys().filter(inside).map(|path| format!("{path} {}", self.tree[path])).collect()
    }

    /// How many steps came from the cache.
    pub(crate) fn cached(&self) -> usize {
        self.events.iter().filter(|event| event.ends_with(" cached")).count()
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Puts a layer in overlay format over a tree of lines.
fn add_layer(tree: &mut BTreeMap<String, String>, directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).expect("layer") {
        let entry = entry.expect("entry");
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let stat = fs::symlink_metadata(entry.path()).expect("stat");
        let below = format!("{path}/");
        let whiteout = stat.file_type().is_char_device() && stat.rdev() == 0;
        if whiteout || !stat.is_dir() || is_opaque(&entry.path()) {
            tree.retain(|known, _| known != &path && !known.starts_with(&below));
        }
        if whiteout {
            continue;
        }
        let kind = if stat.is_dir() {
            "d".to_owned()
        } else if stat.is_symlink() {
            format!("l {}", fs::read_link(entry.path()).expect("link").display())
        } else if stat.file_type().is_fifo() {
            "p".to_owned()
        } else {
            format!("f {}", String::from_utf8_lossy(&fs::read(entry.path()).expect("file")))
        };
        let mode = if stat.is_symlink() { String::new() } else { format!("{:04o} ", stat.mode() & 0o7777) };
        tree.insert(path.clone(), format!("{mode}{}:{} {kind}", stat.uid(), stat.gid()));
        if stat.is_dir() {
            add_layer(tree, &entry.path(), &path);
        }
    }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]), Ok(1) if value == *b"y")
}
