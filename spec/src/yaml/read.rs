//! Trees to values by serde, every problem on the way.
//!
//! An unknown field is noted and skipped. A value that cannot be read is noted, cut out, and the document read again without
//! it: each turn finds the next problem, so one run of the agent shows them all.

use super::nearest;
use super::tree::{Content, Entry, NodeId, Tree};
use crate::diagnostic::{Diagnostic, Problems, Source, Span};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most bad values of one document that are worth showing; each costs a turn.
const TURNS_MAX: usize = 50;

/// Most unknown fields of one document that are worth showing.
const UNKNOWN_MAX: usize = 100;

/// An enum of this name is not asked for its variant but for the shape of the value: `text`, `list` or `map`, of which the
/// variants are the allowed ones. That is how a field with a short and a long form is read without losing positions.
pub(crate) const SHAPES: &str = "shapes";

/// What could be read of a document.
pub(crate) struct Reading<T> {
    /// The value without what was cut out; `None` if too little was left.
    pub(crate) value: Option<T>,
    /// Nodes that were cut out because of a problem.
    pub(crate) cut: BTreeSet<NodeId>,
}

/// Words of other tools for a field, with the name it has here. Compose's and Kubernetes' spellings are found by likeness.
pub(crate) type Synonyms = &'static [(&'static str, &'static str)];

/// Reads the node with this id.
pub(crate) fn read<T: DeserializeOwned>(
    source: &Source,
    tree: &Tree,
    root: NodeId,
    synonyms: Synonyms,
    problems: &mut Problems,
) -> Reading<T> {
    let mut context = Context { source, tree, synonyms, cut: BTreeSet::new(), unknown: RefCell::default() };
    let mut value = None;
    for _ in 0..TURNS_MAX {
        let error = match T::deserialize(Reader { context: &context, id: root, key: None }) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(error) => error,
        };
        let at = error.at.unwrap_or(At { id: root, span: tree.node(root).span });
        if !error.follows_from_a_cut {
            problems.push(source.error(at.span, error.message).help(error.help));
        }
        if at.id == root || !context.cut.insert(at.id) {
            break;
        }
    }
    context.unknown.into_inner().into_values().for_each(|problem| problems.push(problem));
    Reading { value, cut: context.cut }
}

struct Context<'a> {
    source: &'a Source,
    tree: &'a Tree,
    synonyms: Synonyms,
    cut: BTreeSet<NodeId>,
    /// Keys that were reported as unknown, in this turn or an earlier one.
    unknown: RefCell<BTreeMap<Span, Diagnostic>>,
}

/// The node an error is about, and the stretch to underline.
#[derive(Debug, Clone, Copy)]
struct At {
    id: NodeId,
    span: Span,
}

/// Why a node is not the value it should be.
#[derive(Debug)]
pub(crate) struct ReadError {
    message: String,
    help: Option<String>,
    at: Option<At>,
    /// The field that is missing, if that is the problem.
    missing: Option<&'static str>,
    follows_from_a_cut: bool,
}

impl ReadError {
    fn new(message: String, help: Option<String>) -> Self {
        Self { message, help, at: None, missing: None, follows_from_a_cut: false }
    }

    /// Gives the error its place, unless a deeper node has done so.
    fn or_at(mut self, at: At) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    /// The alternate form of a [`crate::value::ValueError`] carries its hint on a second line.
    fn custom<M: fmt::Display>(message: M) -> Self {
        let text = format!("{message:#}");
        match text.split_once("\nhelp: ") {
            Some((problem, help)) => Self::new(problem.to_owned(), Some(help.to_owned())),
            None => Self::new(text, None),
        }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a map".to_owned(),
            de::Unexpected::Unit | de::Unexpected::Option => "an empty value".to_owned(),
            de::Unexpected::Str(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        Self::new(format!("{found} where {expected} is wanted"), None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(variant, expected.iter().copied()) {
            Some(near) => format!("write {near}"),
            None => format!("use {}", one_of(expected)),
        };
        Self::new(format!("{variant:?} is not one of {}", one_of(expected)), Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(format!("field `{field}` is missing"), None) }
    }
}

/// `a, b or c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

/// The field that was meant by a word that is none.
fn meant<'a>(word: &str, fields: &[&'a str], synonyms: Synonyms) -> Option<&'a str>
where
    'static: 'a,
{
    if fields.contains(&word) {
        return None;
    }
    let synonym = || synonyms.iter().filter(|(other, _)| *other == word).map(|(_, field)| *field);
    // A synonym that is a field here is better than one that stands elsewhere (`metadata.name`).
    let here = synonym().find(|field| fields.contains(field));
    here.or_else(|| nearest(word, fields.iter().copied())).or_else(|| synonym().find(|field| field.contains('.')))
}

/// The field that was meant, else all there are.
fn known_fields(word: &str, fields: &'static [&'static str], synonyms: Synonyms) -> String {
    match meant(word, fields, synonyms) {
        Some(field) => format!("write `{field}`"),
        None => format!("known fields: {}", fields.join(", ")),
    }
}

/// serde's view of one node.
struct Reader<'a> {
    context: &'a Context<'a>,
    id: NodeId,
    /// The key it stands under.
    key: Option<Span>,
}

impl<'a> Reader<'a> {
    fn content(&self) -> &'a Content {
        &self.context.tree.node(self.id).content
    }

    fn at(&self) -> At {
        At { id: self.id, span: self.context.tree.node(self.id).span }
    }

    fn wanted(&self, what: &str) -> ReadError {
        let content = self.content();
        let help = match content {
            Content::Null if what == "a text" => Some("write \"\" for an empty text".to_owned()),
            Content::Scalar(text) if what.starts_with("a list") => Some(format!("write [{text:?}]")),
            Content::Null | Content::Scalar(_) | Content::List(_) | Content::Map(_) => None,
        };
        ReadError::new(format!("{} where {what} is wanted", content.describe()), help).or_at(self.at())
    }

    fn text(&self, what: &str) -> Result<&'a str, ReadError> {
        match self.content() {
            Content::Scalar(text) => Ok(text),
            Content::Null | Content::List(_) | Content::Map(_) => Err(self.wanted(what)),
        }
    }

    fn shape(&self, allowed: &[&'static str]) -> Result<&'static str, ReadError> {
        let shape = match self.content() {
            Content::Null => None,
            Content::Scalar(_) => Some("text"),
            Content::List(_) => Some("list"),
            Content::Map(_) => Some("map"),
        };
        let allowed_shape = shape.and_then(|shape| allowed.iter().find(|allowed| **allowed == shape));
        allowed_shape.copied().ok_or_else(|| self.wanted(&format!("a {}", allowed.join(" or a "))))
    }

    /// A whole number from 0 to `most`.
    fn whole_number<T: TryFrom<u64> + fmt::Display>(&self, most: T) -> Result<T, ReadError> {
        let text = self.text("a whole number")?;
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| ReadError::new(format!("{text:?} is not a whole number from 0 to {most}"), None).or_at(self.at()))
    }

    /// Reads a map; with `fields` any other key is noted and skipped.
    fn map<V: Visitor<'a>>(self, entries: &'a [Entry], fields: Option<&'static [&'static str]>, visitor: V) -> Result<V::Value, ReadError> {
        let at = self.at();
        let (synonyms, tree) = (self.context.synonyms, self.context.tree);
        let cut = |entry: &Entry| self.context.cut.contains(&entry.value);
        let access = MapReader { context: self.context, entries: entries.iter(), fields, value: None };
        visitor.visit_map(access).map_err(|mut error| {
            if error.at.is_none() {
                // A missing field is shown at the key of the map that lacks it.
                let first = entries.first().map_or(at.span, |entry| entry.key_span);
                error.at = Some(At { id: at.id, span: self.key.unwrap_or(if at.id == tree.root() { first } else { at.span }) });
                // If its value was cut out, or it was misspelt, that has been said.
                error.follows_from_a_cut = error.missing.is_some_and(|missing| {
                    let misspelt = |entry: &Entry| fields.is_some_and(|fields| meant(&entry.key, fields, synonyms) == Some(missing));
                    entries.iter().any(|entry| if entry.key == missing { cut(entry) } else { misspelt(entry) })
                });
            }
            error
        })
    }

    fn list<V: Visitor<'a>>(self, items: &'a [NodeId], visitor: V) -> Result<V::Value, ReadError> {
        let at = self.at();
        visitor.visit_seq(ListReader { context: self.context, items: items.iter() }).map_err(|error| error.or_at(at))
    }
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    /// For the few types that do not say what they want.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let at = self.at();
        match self.content() {
            Content::Null => visitor.visit_unit().map_err(|error: ReadError| error.or_at(at)),
            Content::Scalar(text) => visitor.visit_borrowed_str(text).map_err(|error: ReadError| error.or_at(at)),
            Content::List(items) => self.list(items, visitor),
            Content::Map(entries) => self.map(entries, None, visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let at = self.at();
        visitor.visit_borrowed_str(self.text("a text")?).map_err(|error: ReadError| error.or_at(at))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text("true or false")? {
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            other => {
                let help = match other.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "1" => Some("write true".to_owned()),
                    "no" | "off" | "n" | "0" => Some("write false".to_owned()),
                    _ => None,
                };
                Err(ReadError::new(format!("{other:?} where true or false is wanted"), help).or_at(self.at()))
            }
        }
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u16(self.whole_number(u16::MAX)?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u32(self.whole_number(u32::MAX)?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u64(self.whole_number(u64::MAX)?)
    }

    /// An empty value is an absent one: `ports:` with every item commented out.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.content() {
            Content::Null => visitor.visit_none(),
            Content::Scalar(_) | Content::List(_) | Content::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.content() {
            Content::List(items) => self.list(items, visitor),
            Content::Null | Content::Scalar(_) | Content::Map(_) => Err(self.wanted("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.content() {
            Content::Map(entries) => self.map(entries, None, visitor),
            Content::Null | Content::Scalar(_) | Content::List(_) => Err(self.wanted("a map")),
        }
    }

    /// An empty value is a map without keys: `spec:` and nothing below it.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.content() {
            Content::Map(entries) => self.map(entries, Some(fields), visitor),
            Content::Null => self.map(&[], Some(fields), visitor),
            Content::Scalar(_) | Content::List(_) => Err(self.wanted("a map")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let at = self.at();
        if name == SHAPES {
            let shape = self.shape(variants)?;
            return visitor.visit_enum(ShapeReader { shape, reader: self }).map_err(|error| error.or_at(at));
        }
        let word: de::value::StrDeserializer<'_, ReadError> = self.text("a word")?.into_deserializer();
        visitor.visit_enum(word).map_err(|error| error.or_at(at))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit_struct tuple tuple_struct
    }
}

/// A value by its shape.
struct ShapeReader<'a> {
    shape: &'static str,
    reader: Reader<'a>,
}

impl<'a> de::EnumAccess<'a> for ShapeReader<'a> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let shape: de::value::StrDeserializer<'_, ReadError> = self.shape.into_deserializer();
        Ok((seed.deserialize(shape)?, self))
    }
}

impl<'a> de::VariantAccess<'a> for ShapeReader<'a> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_seq(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'a>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_struct(self.reader, "", fields, visitor)
    }
}

struct ListReader<'a> {
    context: &'a Context<'a>,
    items: std::slice::Iter<'a, NodeId>,
}

impl<'a> de::SeqAccess<'a> for ListReader<'a> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(id) = self.items.find(|id| !self.context.cut.contains(id)) else { return Ok(None) };
        let reader = Reader { context: self.context, id: *id, key: None };
        let at = reader.at();
        seed.deserialize(reader).map(Some).map_err(|error| error.or_at(at))
    }
}

struct MapReader<'a> {
    context: &'a Context<'a>,
    entries: std::slice::Iter<'a, Entry>,
    fields: Option<&'static [&'static str]>,
    value: Option<&'a Entry>,
}

impl<'a> de::MapAccess<'a> for MapReader<'a> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        for entry in self.entries.by_ref() {
            if self.context.cut.contains(&entry.value) {
                continue;
            }
            if let Some(fields) = self.fields.filter(|fields| !fields.contains(&entry.key.as_str())) {
                self.context.unknown(entry, fields);
                continue;
            }
            self.value = Some(entry);
            let key: de::value::BorrowedStrDeserializer<'a, ReadError> = de::value::BorrowedStrDeserializer::new(&entry.key);
            return seed.deserialize(key).map(Some).map_err(|error| error.or_at(At { id: entry.value, span: entry.key_span }));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some(entry) = self.value.take() else {
            return Err(ReadError::new("a value without a key".to_owned(), None));
        };
        let reader = Reader { context: self.context, id: entry.value, key: Some(entry.key_span) };
        let at = reader.at();
        seed.deserialize(reader).map_err(|error| error.or_at(at))
    }
}

impl Context<'_> {
    fn unknown(&self, entry: &Entry, fields: &'static [&'static str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() >= UNKNOWN_MAX || unknown.contains_key(&entry.key_span) {
            return;
        }
        let help = known_fields(&entry.key, fields, self.synonyms);
        let problem = self.source.error(entry.key_span, format!("unknown field {:?}", entry.key)).help(help);
        unknown.insert(entry.key_span, problem);
    }
}
