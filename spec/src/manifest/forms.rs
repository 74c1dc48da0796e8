//! Short and long forms of one field: the shape of the value (text, list, map) says which one was written.

use crate::value::{ValueError, duration};
use crate::yaml::SHAPES;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, EnumAccess, VariantAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

/// A text where a number or a boolean is taken as written too: `VERSION: 1.10` is the text `1.10`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// KEY: value pairs as a map, or a list of `KEY=value`.
pub type Pairs = ListOrMap<Text, BTreeMap<String, Text>>;

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrList {
    /// The short form.
    Text(String),
    /// The long form.
    List(Vec<Text>),
}

/// One value in its short form, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<S>(pub Vec<S>);

/// A text that stands for a whole map, or the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrMap<S, M> {
    /// The short form.
    Short(S),
    /// The long form.
    Long(M),
}

/// A list, or a map that says more about each item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOrMap<I, M> {
    /// The short form.
    List(Vec<I>),
    /// The long form.
    Map(M),
}

/// The shapes a value may have, by the names of [`SHAPES`].
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Text,
    List,
    Map,
}

/// Reads a value in the shape it was written in: the reader answers a question for an enum of this name with the value's
/// shape, and refuses shapes that are not asked for ([`SHAPES`]).
struct Forms<R>(R);

impl<'de, T, R: ReadForm<'de, Value = T>> Visitor<'de> for Forms<R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a map")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<T, A::Error> {
        let (shape, content) = access.variant::<Shape>()?;
        self.0.read(shape, content)
    }
}

/// What to make of each shape.
trait ReadForm<'de> {
    type Value;
    fn read<V: VariantAccess<'de>>(self, shape: Shape, content: V) -> Result<Self::Value, V::Error>;
}

fn parse<'de, S: FromStr<Err = ValueError>, V: VariantAccess<'de>>(content: V) -> Result<S, V::Error> {
    content.newtype_variant::<String>()?.parse().map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> ReadForm<'de> for Read {
            type Value = TextOrList;
            fn read<V: VariantAccess<'de>>(self, shape: Shape, content: V) -> Result<TextOrList, V::Error> {
                match shape {
                    Shape::Text => content.newtype_variant().map(TextOrList::Text),
                    Shape::List | Shape::Map => content.newtype_variant().map(TextOrList::List),
                }
            }
        }
        deserializer.deserialize_enum(SHAPES, &["text", "list"], Forms(Read))
    }
}

impl<'de, S: FromStr<Err = ValueError> + Deserialize<'de>> Deserialize<'de> for OneOrMany<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<S>(PhantomData<S>);
        impl<'de, S: FromStr<Err = ValueError> + Deserialize<'de>> ReadForm<'de> for Read<S> {
            type Value = OneOrMany<S>;
            fn read<V: VariantAccess<'de>>(self, shape: Shape, content: V) -> Result<OneOrMany<S>, V::Error> {
                match shape {
                    Shape::Text => parse(content).map(|one| OneOrMany(vec![one])),
                    Shape::List | Shape::Map => content.newtype_variant().map(OneOrMany),
                }
            }
        }
        deserializer.deserialize_enum(SHAPES, &["text", "list"], Forms(Read(PhantomData)))
    }
}

impl<'de, S: FromStr<Err = ValueError>, M: Deserialize<'de>> Deserialize<'de> for TextOrMap<S, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<S, M>(PhantomData<(S, M)>);
        impl<'de, S: FromStr<Err = ValueError>, M: Deserialize<'de>> ReadForm<'de> for Read<S, M> {
            type Value = TextOrMap<S, M>;
            fn read<V: VariantAccess<'de>>(self, shape: Shape, content: V) -> Result<TextOrMap<S, M>, V::Error> {
                match shape {
                    Shape::Text => parse(content).map(TextOrMap::Short),
                    Shape::List | Shape::Map => content.newtype_variant().map(TextOrMap::Long),
                }
            }
        }
        deserializer.deserialize_enum(SHAPES, &["text", "map"], Forms(Read(PhantomData)))
    }
}

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for ListOrMap<I, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<I, M>(PhantomData<(I, M)>);
        impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> ReadForm<'de> for Read<I, M> {
            type Value = ListOrMap<I, M>;
            fn read<V: VariantAccess<'de>>(self, shape: Shape, content: V) -> Result<ListOrMap<I, M>, V::Error> {
                match shape {
                    Shape::List => content.newtype_variant().map(ListOrMap::List),
                    Shape::Text | Shape::Map => content.newtype_variant().map(ListOrMap::Map),
                }
            }
        }
        deserializer.deserialize_enum(SHAPES, &["list", "map"], Forms(Read(PhantomData)))
    }
}

impl JsonSchema for TextOrList {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TextOrList".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": generator.subschema_for::<Text>() }] })
    }
}

impl<S: JsonSchema> JsonSchema for OneOrMany<S> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", S::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<S>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<S: JsonSchema, M: JsonSchema> JsonSchema for TextOrMap<S, M> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), M::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<S>(), generator.subschema_for::<M>()] })
    }
}

impl<I: JsonSchema, M: JsonSchema> JsonSchema for ListOrMap<I, M> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}ListOr{}", I::schema_name(), M::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "array", "items": generator.subschema_for::<I>() }, generator.subschema_for::<M>()] })
    }
}

/// A span of time with its unit: `10s`, `1m30s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct DurationText(#[serde(with = "duration")] pub Duration);

/// An IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub Ipv4Addr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let problem = || ValueError::with_hint(format!("{text:?} is not an IPv4 address"), "write four numbers, such as 10.20.0.2");
        text.parse().map(Self).map_err(|_| de::Error::custom(problem()))
    }
}
