//! One file's bytes to manifests with positions, every problem on the way. Pure.

use crate::desired::{Kind, Location};
use crate::diagnostic::{Diagnostic, Place, Problems, Source, Span};
use crate::manifest::{API_VERSION, Container, Envelope, Image, Manifest, Network, SYNONYMS, Spec, Volume};
use crate::value::Name;
use crate::yaml::{self, Content, NodeId, Tree, nearest};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Largest manifest file: a thousand long containers. Anything beyond is a mistake, such as data committed as YAML.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// The kinds as they are written.
const KINDS: [(&str, Kind); 4] =
    [("Container", Kind::Container), ("Image", Kind::Image), ("Network", Kind::Network), ("Volume", Kind::Volume)];

/// What was read of one file.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Its documents, in order. Those with problems are here too, so that references to them are not reported as well.
    pub documents: Vec<Document>,
    /// What is wrong with it.
    pub problems: Vec<Diagnostic>,
}

/// One manifest with its positions.
#[derive(Debug)]
pub struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Its name, as far as it can be read.
    pub name: Option<Name>,
    /// What it says, without what could not be read; `None` if too little was left.
    pub manifest: Option<Manifest>,
    source: Source,
    tree: Tree,
    cut: BTreeSet<NodeId>,
}

/// Reads the bytes of one file. `path` is relative to the site's root and is shown in every message.
pub fn parse(path: &str, bytes: &[u8]) -> Parsed {
    let mut problems = Problems::default();
    let documents = read(path, bytes, &mut problems);
    Parsed { documents, problems: problems.into_sorted() }
}

/// [`parse`], into a list of problems that others write to as well.
pub(crate) fn read(path: &str, bytes: &[u8], problems: &mut Problems) -> Vec<Document> {
    let Some(source) = read_text(path, bytes, problems) else { return Vec::new() };
    let trees = yaml::load(&source, problems);
    trees.into_iter().filter_map(|tree| document(&source, tree, problems)).collect()
}

/// The bytes of a file as text; `None` if they are too many or none.
pub(crate) fn read_text(path: &str, bytes: &[u8], problems: &mut Problems) -> Option<Source> {
    if bytes.len() > FILE_BYTES_MAX {
        problems.push(Diagnostic::file(path, format!("the file has {} bytes, a manifest at most {FILE_BYTES_MAX}", bytes.len())));
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Source::new(path, text)),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let source = Source::new(path, &valid);
            let at = Span { start: valid.len(), end: valid.len() };
            problems.push(source.error(at, "the file is not UTF-8 text from here on").help("save it as UTF-8".to_owned()));
            None
        }
    }
}

/// Reads one document; `None` if it is empty or not even its kind can be told.
fn document(source: &Source, tree: Tree, problems: &mut Problems) -> Option<Document> {
    let root = tree.node(tree.root());
    match &root.content {
        Content::Null => return None,
        Content::Map(_) => {}
        Content::Scalar(_) | Content::List(_) => {
            problems.push(source.error(root.span, format!("{} where a manifest is wanted", root.content.describe())).help(begin_with()));
            return None;
        }
    }
    check_version(source, &tree, problems);
    let kind = kind(source, &tree, problems)?;
    let mut cut = BTreeSet::new();
    let mut reader = Reader { source, tree: &tree, cut: &mut cut, problems };
    let manifest = match kind {
        Kind::Image => reader.required(|image: Image| Spec::Image(Box::new(image))),
        Kind::Container => reader.required(|container: Container| Spec::Container(Box::new(container))),
        Kind::Volume => reader.optional(Spec::Volume as fn(Volume) -> Spec),
        Kind::Network => reader.optional(Spec::Network as fn(Network) -> Spec),
    };
    let name = manifest.as_ref().map(|manifest| manifest.metadata.name.clone()).or_else(|| written_name(&tree));
    Some(Document { kind, name, manifest, source: source.clone(), tree, cut })
}

fn begin_with() -> String {
    format!("begin with apiVersion: {API_VERSION} and kind: Container, Image, Network or Volume")
}

fn scalar(tree: &Tree, id: NodeId) -> Option<&str> {
    match &tree.node(id).content {
        Content::Scalar(text) => Some(text),
        Content::Null | Content::List(_) | Content::Map(_) => None,
    }
}

fn check_version(source: &Source, tree: &Tree, problems: &mut Problems) {
    let Some(entry) = tree.entry(tree.root(), "apiVersion") else {
        // Without a kind either it is no manifest at all, which is said once, there.
        if tree.entry(tree.root(), "kind").is_some() {
            let problem = source.error(first_key(tree), "field `apiVersion` is missing");
            problems.push(problem.help(format!("add apiVersion: {API_VERSION}")));
        }
        return;
    };
    if scalar(tree, entry.value) != Some(API_VERSION) {
        let node = tree.node(entry.value);
        let problem = source.error(node.span, format!("unknown apiVersion {}", node.content.describe()));
        problems.push(problem.help(format!("write {API_VERSION}")));
    }
}

fn kind(source: &Source, tree: &Tree, problems: &mut Problems) -> Option<Kind> {
    let Some(entry) = tree.entry(tree.root(), "kind") else {
        let mut problem = source.error(first_key(tree), "field `kind` is missing").help(begin_with());
        if tree.entry(tree.root(), "services").is_some() {
            problem = problem.note("this looks like a Compose file");
        }
        problems.push(problem);
        return None;
    };
    let written = scalar(tree, entry.value).unwrap_or_default();
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == written) {
        return Some(*kind);
    }
    let node = tree.node(entry.value);
    let help = match nearest(written, KINDS.map(|(name, _)| name)) {
        Some(near) => format!("write {near}"),
        None => "the kinds are Container, Image, Network and Volume".to_owned(),
    };
    problems.push(source.error(node.span, format!("unknown kind {}", node.content.describe())).help(help));
    None
}

/// The first key of the document, for problems that have no place of their own.
fn first_key(tree: &Tree) -> Span {
    match &tree.node(tree.root()).content {
        Content::Map(entries) => entries.first().map(|entry| entry.key_span),
        Content::Null | Content::Scalar(_) | Content::List(_) => None,
    }
    .unwrap_or(tree.node(tree.root()).span)
}

/// The name of a document that could not be read as a whole.
fn written_name(tree: &Tree) -> Option<Name> {
    let metadata = tree.entry(tree.root(), "metadata")?;
    scalar(tree, tree.entry(metadata.value, "name")?.value)?.parse().ok()
}

struct Reader<'a> {
    source: &'a Source,
    tree: &'a Tree,
    cut: &'a mut BTreeSet<NodeId>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn envelope<T: DeserializeOwned>(&mut self) -> Option<Envelope<T>> {
        let reading = yaml::read(self.source, self.tree, self.tree.root(), SYNONYMS, self.problems);
        *self.cut = reading.cut;
        reading.value
    }

    /// A kind whose `spec` may be left out.
    fn optional<T: DeserializeOwned + Default>(&mut self, wrap: fn(T) -> Spec) -> Option<Manifest> {
        let envelope = self.envelope::<T>()?;
        Some(Manifest { metadata: envelope.metadata, spec: wrap(envelope.spec.unwrap_or_default()) })
    }

    /// A kind that says nothing without its `spec`.
    fn required<T: DeserializeOwned>(&mut self, wrap: fn(T) -> Spec) -> Option<Manifest> {
        let envelope = self.envelope::<T>()?;
        let Some(spec) = envelope.spec else {
            let written = self.tree.entry(self.tree.root(), "spec");
            if written.is_none_or(|entry| !self.cut.contains(&entry.value)) {
                let at = written.or_else(|| self.tree.entry(self.tree.root(), "kind")).map(|entry| entry.key_span);
                self.problems.push(self.source.error(at.unwrap_or_else(|| first_key(self.tree)), "field `spec` is missing"));
            }
            return None;
        };
        Some(Manifest { metadata: envelope.metadata, spec: wrap(spec) })
    }
}

/// A field of a document, whether it was written or not. Following keys and items never fails: what was not written stands
/// where the nearest written thing above it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    document: &'a Document,
    node: Option<NodeId>,
    /// The key, where it has one.
    key: Span,
    /// The value, else the key.
    value: Span,
}

impl Document {
    /// The path of its file, relative to the site's root.
    pub fn file(&self) -> &str {
        self.source.path()
    }

    /// What it says, as bytes: equal for two documents exactly if they say the same, in whatever order and formatting.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        self.tree.encode(self.tree.root(), bytes);
    }

    /// The place of the resource as a whole: its name.
    pub(crate) fn spot(&self) -> Spot<'_> {
        let key = first_key(&self.tree);
        let root = Spot { document: self, node: Some(self.tree.root()), key, value: key };
        Spot { node: Some(self.tree.root()), ..root.key("metadata").key("name") }
    }

    /// The place of `metadata`.
    pub(crate) fn metadata(&self) -> Spot<'_> {
        self.spot().key("metadata")
    }

    /// The place of `spec`.
    pub(crate) fn spec(&self) -> Spot<'_> {
        self.spot().key("spec")
    }

    fn collect_fields(&self, node: NodeId, prefix: &str, fields: &mut Vec<(String, Location)>) {
        let dotted = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match &self.tree.node(node).content {
            Content::Null | Content::Scalar(_) => {}
            Content::Map(entries) => {
                for entry in entries {
                    let path = dotted(&entry.key);
                    self.collect_fields(entry.value, &path, fields);
                    fields.push((path, self.source.location(entry.key_span)));
                }
            }
            Content::List(items) => {
                for item in items {
                    if let Some(text) = scalar(&self.tree, *item) {
                        let key = text.split_once('=').map_or(text, |(key, _)| key);
                        fields.push((dotted(key), self.source.location(self.tree.node(*item).span)));
                    }
                }
            }
        }
    }
}

impl<'a> Spot<'a> {
    /// The field with this key.
    pub(crate) fn key(self, key: &str) -> Self {
        let tree = &self.document.tree;
        match self.node.and_then(|node| tree.entry(node, key)) {
            Some(entry) => {
                Self { document: self.document, node: Some(entry.value), key: entry.key_span, value: tree.node(entry.value).span }
            }
            None => Self { node: None, ..self },
        }
    }

    /// The items that could be read; a text that stands for a list of one is its own item.
    pub(crate) fn items(self) -> impl Iterator<Item = Self> {
        let document = self.document;
        let (items, single) = match self.node.map(|node| &document.tree.node(node).content) {
            Some(Content::List(items)) => (items.as_slice(), None),
            Some(Content::Null | Content::Scalar(_) | Content::Map(_)) | None => (&[][..], Some(self)),
        };
        let item = move |id: &NodeId| {
            let span = document.tree.node(*id).span;
            Self { document, node: Some(*id), key: span, value: span }
        };
        items.iter().filter(|id| !document.cut.contains(id)).map(item).chain(single)
    }

    /// The item with this index, among those that could be read.
    pub(crate) fn item(self, index: usize) -> Self {
        self.items().nth(index).unwrap_or(self)
    }

    /// Whether something was written under this key that could not be read.
    pub(crate) fn lost(self, key: &str) -> bool {
        let entry = self.node.and_then(|node| self.document.tree.entry(node, key));
        entry.is_some_and(|entry| self.document.cut.contains(&entry.value))
    }

    /// Every field below this one with its dotted path; an item `KEY=value` or `name` of a list counts as the field `KEY`.
    pub(crate) fn fields(self) -> Vec<(String, Location)> {
        let mut fields = Vec::new();
        if let Some(node) = self.node {
            self.document.collect_fields(node, "", &mut fields);
        }
        fields
    }

    /// Whether the field was written.
    pub(crate) fn is_written(self) -> bool {
        self.node.is_some()
    }

    /// The value's place, quoted.
    pub(crate) fn place(self) -> Place {
        self.document.source.place(self.value)
    }

    /// The value's position.
    pub(crate) fn location(self) -> Location {
        self.document.source.location(self.key)
    }

    /// A problem with the value.
    pub(crate) fn error(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.place(), message)
    }

    /// A doubt about the value.
    pub(crate) fn warning(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.place(), message)
    }

    /// A problem with the key, where the value is a map.
    pub(crate) fn key_error(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.document.source.place(self.key), message)
    }
}
