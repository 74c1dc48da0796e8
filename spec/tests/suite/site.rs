//! A site in memory for tests, and how a test case names its files.

use spec::value::Digest;
use spec::{BuildContext, Dockerfile, SiteContent, SiteFileError, SiteFileKind, SiteFiles};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by path; a path that ends with `/` is a directory, and a build context if it holds a `Dockerfile`.
#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) live_root: Option<PathBuf>,
}

impl Site {
    fn text(&self, path: &str) -> Result<&str, SiteFileError> {
        if self.is_directory(path) {
            return Err(SiteFileError::WrongType { path: path.to_owned(), wanted: "a file" });
        }
        self.files.get(path).map(String::as_str).ok_or_else(|| SiteFileError::Missing { path: path.to_owned() })
    }

    fn is_directory(&self, path: &str) -> bool {
        path == "." || self.files.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn tree(&self, path: &str) -> Digest {
        let below = self.files.iter().filter(|(file, _)| path == "." || file.starts_with(&format!("{path}/")));
        Digest::of(format!("{:?}", below.collect::<Vec<_>>()).as_bytes())
    }
}

impl SiteFiles for Site {
    fn read_text(&self, path: &str) -> Result<String, SiteFileError> {
        self.text(path).map(str::to_owned)
    }

    fn content(&self, path: &str) -> Result<SiteContent, SiteFileError> {
        if self.is_directory(path) {
            return Ok(SiteContent { kind: SiteFileKind::Directory, digest: self.tree(path) });
        }
        Ok(SiteContent { kind: SiteFileKind::File, digest: Digest::of(self.text(path)?.as_bytes()) })
    }

    fn build_context(&self, context: &str, dockerfile: Dockerfile<'_>) -> Result<BuildContext, SiteFileError> {
        if !self.is_directory(context) {
            self.text(context)?;
            return Err(SiteFileError::WrongType { path: context.to_owned(), wanted: "a directory" });
        }
        let text = match dockerfile {
            Dockerfile::Inline(text) => text,
            Dockerfile::File(dockerfile) if context == "." => self.text(dockerfile)?,
            Dockerfile::File(dockerfile) => self.text(&format!("{context}/{dockerfile}"))?,
        };
        let references = text.lines().filter_map(|line| line.strip_prefix("FROM ")).map(str::to_owned).collect();
        Ok(BuildContext { content: self.tree(context), references })
    }

    fn repository(&self, _address: &str) -> Option<String> {
        None
    }

    fn live_root(&self) -> Option<&Path> {
        self.live_root.as_deref()
    }
}

/// A case: manifests, each after a line `#### path`, the text before the first one in `site.yaml`. Paths that do not end with
/// `.yaml` are other files of the site. A first line `# git` makes it a checkout without a live directory.
pub(crate) struct Case {
    pub(crate) manifests: Vec<(String, String)>,
    pub(crate) site: Site,
}

impl Case {
    pub(crate) fn new(text: &str) -> Self {
        let live_root = (!text.starts_with("# git\n")).then(|| PathBuf::from("/srv/site"));
        let mut site = Site { live_root, ..Site::default() };
        let mut manifests = Vec::new();
        let mut sections = vec![("site.yaml".to_owned(), String::new())];
        for line in text.split_inclusive('\n') {
            match line.strip_prefix("#### ") {
                Some(path) => sections.push((path.trim().to_owned(), String::new())),
                None => sections.last_mut().expect("there is one from the start").1.push_str(line),
            }
        }
        for (path, text) in sections {
            if path.ends_with(".yaml") {
                manifests.push((path, text));
            } else {
                site.files.insert(path, text);
            }
        }
        Self { manifests, site }
    }

    pub(crate) fn load(&self) -> Result<spec::Resolved, Vec<spec::Diagnostic>> {
        spec::load(self.manifests.iter().map(|(path, text)| (path.as_str(), text.as_bytes())), &self.site)
    }
}
