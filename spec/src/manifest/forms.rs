//! Short and long forms of one field: the shape of the value (text, list, map) says which one was written.

use crate::value::{ValueError, duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
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

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = TextOrList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrList, E> {
                Ok(TextOrList::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<TextOrList, A::Error> {
                Ok(TextOrList::List(collect(items)?))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl<'de, S: FromStr<Err = ValueError> + Deserialize<'de>> Deserialize<'de> for OneOrMany<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<S>(PhantomData<S>);
        impl<'de, S: FromStr<Err = ValueError> + Deserialize<'de>> Visitor<'de> for Forms<S> {
            type Value = OneOrMany<S>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(|one| OneOrMany(vec![one])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                collect(items).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

impl<'de, S: FromStr<Err = ValueError>, M: Deserialize<'de>> Deserialize<'de> for TextOrMap<S, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<S, M>(PhantomData<(S, M)>);
        impl<'de, S: FromStr<Err = ValueError>, M: Deserialize<'de>> Visitor<'de> for Forms<S, M> {
            type Value = TextOrMap<S, M>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a map")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(TextOrMap::Short).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(TextOrMap::Long)
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for ListOrMap<I, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<I, M>(PhantomData<(I, M)>);
        impl<'de, I: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for Forms<I, M> {
            type Value = ListOrMap<I, M>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or a map")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                collect(items).map(ListOrMap::List)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(ListOrMap::Map)
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

fn collect<'de, I: Deserialize<'de>, A: SeqAccess<'de>>(mut access: A) -> Result<Vec<I>, A::Error> {
    let mut items = Vec::new();
    while let Some(item) = access.next_element()? {
        items.push(item);
    }
    Ok(items)
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
