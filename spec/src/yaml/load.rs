//! Text to trees: one a document, with a budget on everything a hostile file could inflate.

use super::tree::{Content, Entry, Node, NodeId, Tree};
use crate::diagnostic::{Problems, Source, Span};
use granit_parser::{Event, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Most documents in a file: ten times the containers a host can run.
const DOCUMENTS_MAX: usize = 10_000;
/// Deepest nesting; a manifest needs about eight levels, and every reader below us recurses.
const DEPTH_MAX: usize = 32;
/// Most values of a document: one resource is described in dozens, and what is done with them and their keys need not be linear.
const NODES_MAX: usize = 10_000;
/// Most nodes that the aliases of one document may stand for: the bound on "billion laughs".
const ALIAS_NODES_MAX: usize = 10_000;

/// Reads every document of a file that can be read. After a syntax error it goes on with the next document.
pub(crate) fn load(source: &Source, problems: &mut Problems) -> Vec<Tree> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(source.text(), options);
    let mut loader = Loader { source, problems, trees: Vec::new(), document: Document::default() };
    let mut documents = 0;
    while !loader.problems.is_full() {
        let stop = match parser.next_event() {
            None => break,
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(source.text().len());
                loader.problem(Span { start: at, end: at + 1 }, format!("not valid YAML: {}", error.info()), syntax_help(&error));
                Err(Abandoned)
            }
            Some(Ok((event, span))) => {
                documents += usize::from(matches!(event, Event::DocumentStart(..)));
                if documents > DOCUMENTS_MAX {
                    loader.problem(bytes(&span), format!("more than {DOCUMENTS_MAX} documents in a file"), None);
                    break;
                }
                loader.event(event, bytes(&span))
            }
        };
        if stop.is_err() {
            loader.document = Document::default();
            match parser.proceed_next_document() {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
    }
    loader.trees
}

/// The rest of the document cannot be read; its problem has been noted.
struct Abandoned;

struct Loader<'a> {
    source: &'a Source,
    problems: &'a mut Problems,
    trees: Vec<Tree>,
    document: Document,
}

/// The document being read.
#[derive(Default)]
struct Document {
    nodes: Vec<Node>,
    /// Anchors by the parser's id; `None` while the anchored node is still open.
    anchors: BTreeMap<usize, Option<NodeId>>,
    open: Vec<Open>,
    root: Option<NodeId>,
    /// Nodes that aliases stand for so far.
    aliased: usize,
}

/// A list or map whose end has not been read.
struct Open {
    anchor: usize,
    start: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<NodeId>),
    Map {
        entries: Vec<Entry>,
        /// The key whose value comes next; no text if it was refused.
        key: Option<(Option<String>, Span)>,
        merges: Vec<(NodeId, Span)>,
    },
}

impl Document {
    /// Whether what comes next is the key of a map.
    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { parts: Parts::Map { key: None, .. }, .. }))
    }
}

impl Loader<'_> {
    fn problem(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.problems.push(self.source.error(span, message).help(help));
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Abandoned> {
        match event {
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) if self.document.nodes.len() >= NODES_MAX => {
                self.problem(span, format!("more than {NODES_MAX} values in one document"), None);
                return Err(Abandoned);
            }
            Event::DocumentStart(..) => self.document = Document::default(),
            Event::DocumentEnd => self.finish(),
            Event::Scalar(text, style, anchor, tag) => {
                let content = self.scalar(text, style, tag.as_deref(), span);
                if anchor == 0 && self.document.awaits_key() {
                    // Nothing can refer to it: it needs no node.
                    self.key(content, span);
                } else {
                    let id = self.add(content, span, anchor, 1);
                    self.attach(id, span);
                }
            }
            Event::SequenceStart(_, anchor, tag) => self.open(anchor, tag, span, Parts::List(Vec::new()))?,
            Event::MappingStart(_, anchor, tag) => {
                self.open(anchor, tag, span, Parts::Map { entries: Vec::new(), key: None, merges: Vec::new() })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end),
            Event::Alias(anchor) => self.alias(anchor, span)?,
            // The stream's ends say nothing; anchors, unresolved aliases and comments (a variant only if some other crate turns
            // the parser's feature on) are not asked for.
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Content {
        self.refuse_custom(tag, span);
        let text_by_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        let null = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
        if null && !text_by_tag { Content::Null } else { Content::Scalar(text.into_owned()) }
    }

    fn refuse_custom(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag.filter(|tag| tag.is_custom() && tag.original() != "!") {
            self.problem(span, format!("tag {:?} is not supported", tag.original()), Some("leave the tag out".to_owned()));
        }
    }

    fn open(&mut self, anchor: usize, tag: Option<Cow<'_, Tag>>, span: Span, parts: Parts) -> Result<(), Abandoned> {
        self.refuse_custom(tag.as_deref(), span);
        if self.document.open.len() >= DEPTH_MAX {
            self.problem(span, format!("nested more than {DEPTH_MAX} levels deep"), None);
            return Err(Abandoned);
        }
        if anchor != 0 {
            self.document.anchors.insert(anchor, None);
        }
        self.document.open.push(Open { anchor, start: span.start, parts });
        Ok(())
    }

    fn close(&mut self, end: usize) {
        let Some(open) = self.document.open.pop() else { return };
        let span = Span { start: open.start, end };
        let (content, children): (Content, Vec<NodeId>) = match open.parts {
            Parts::List(items) => (Content::List(items.clone()), items),
            Parts::Map { mut entries, merges, .. } => {
                for (id, span) in merges {
                    self.merge(&mut entries, id, span);
                }
                let values = entries.iter().map(|entry| entry.value).collect();
                (Content::Map(entries), values)
            }
        };
        let weight = children.iter().fold(1usize, |sum, child| sum.saturating_add(self.document.nodes[child.0].weight));
        let id = self.add(content, span, open.anchor, weight);
        self.attach(id, span);
    }

    fn add(&mut self, content: Content, span: Span, anchor: usize, weight: usize) -> NodeId {
        let id = NodeId(self.document.nodes.len());
        self.document.nodes.push(Node { span, content, weight });
        if anchor != 0 {
            self.document.anchors.insert(anchor, Some(id));
        }
        id
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Abandoned> {
        let Some(Some(id)) = self.document.anchors.get(&anchor).copied() else {
            self.problem(span, "this alias stands for a value that contains it", None);
            return Err(Abandoned);
        };
        self.document.aliased = self.document.aliased.saturating_add(self.document.nodes[id.0].weight);
        if self.document.aliased > ALIAS_NODES_MAX {
            self.problem(span, format!("the aliases of this document stand for more than {ALIAS_NODES_MAX} values"), None);
            return Err(Abandoned);
        }
        self.attach(id, span);
        Ok(())
    }

    /// Puts a finished node where it belongs: the root, the next item, the next key or that key's value.
    fn attach(&mut self, id: NodeId, span: Span) {
        if self.document.awaits_key() {
            let content = self.document.nodes[id.0].content.clone();
            return self.key(content, span);
        }
        let Some(open) = self.document.open.last_mut() else {
            self.document.root = Some(id);
            return;
        };
        let (entries, key, merges) = match &mut open.parts {
            Parts::List(items) => return items.push(id),
            Parts::Map { entries, key, merges } => (entries, key, merges),
        };
        match key.take() {
            None | Some((None, _)) => {}
            Some((Some(text), span)) if text == "<<" => merges.push((id, span)),
            Some((Some(text), key_span)) => {
                if let Some(first) = entries.iter().find(|entry| entry.key == text) {
                    let problem = self.source.error(key_span, format!("key {text:?} is here twice"));
                    self.problems.push(problem.related(self.source.place(first.key_span), "first here"));
                    return;
                }
                let node = &mut self.document.nodes[id.0];
                // An absent value stands nowhere: show its key.
                if matches!(node.content, Content::Null) && node.span.start >= node.span.end {
                    node.span = key_span;
                }
                entries.push(Entry { key: text, key_span, value: id });
            }
        }
    }

    /// Takes the key of the value that comes next.
    fn key(&mut self, content: Content, span: Span) {
        let text = match content {
            Content::Scalar(text) => Some(text),
            // `null:` is a key like any other.
            Content::Null => self.source.text().get(span.start..span.end).map(str::to_owned),
            Content::List(_) | Content::Map(_) => {
                let message = format!("{} cannot be a key", content.describe());
                self.problem(span, message, Some("write a text before the colon".to_owned()));
                None
            }
        };
        if let Some(Open { parts: Parts::Map { key, .. }, .. }) = self.document.open.last_mut() {
            *key = Some((text, span));
        }
    }

    /// `<<: *base` or `<<: [*a, *b]`: keys that are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, id: NodeId, span: Span) {
        let sources = match &self.document.nodes[id.0].content {
            Content::List(items) => items.clone(),
            Content::Map(_) | Content::Scalar(_) | Content::Null => vec![id],
        };
        for source in sources {
            let Content::Map(more) = &self.document.nodes[source.0].content else {
                self.problem(span, "only a map, or a list of maps, can be merged with <<", None);
                return;
            };
            for entry in more {
                if !entries.iter().any(|known| known.key == entry.key) {
                    entries.push(entry.clone());
                }
            }
        }
    }

    fn finish(&mut self) {
        let document = std::mem::take(&mut self.document);
        if let Some(root) = document.root {
            self.trees.push(Tree { nodes: document.nodes, root });
        }
    }
}

fn bytes(span: &granit_parser::Span) -> Span {
    let start = span.start.byte_offset().unwrap_or_default();
    Span { start, end: span.end.byte_offset().unwrap_or(start) }
}

/// The way out of the mistakes people make most.
fn syntax_help(error: &granit_parser::ScanError) -> Option<String> {
    let info = error.info().to_ascii_lowercase();
    if info.contains("tab") {
        return Some("indent with spaces, not tabs".to_owned());
    }
    if info.contains("mapping values") || info.contains("simple key") {
        return Some("quote a text that contains \": \", and indent the keys of one map alike".to_owned());
    }
    info.contains("quoted scalar").then(|| "is a closing quote missing?".to_owned())
}
