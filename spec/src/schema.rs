//! The JSON schema of a manifest, draft 2020-12: what an editor's YAML language server needs.
//!
//! Derived from the manifest types, so it cannot drift from what is accepted; `spec/schema.json` is its checked-in copy.

use crate::manifest::container::{CapabilityChoice, Condition, OrderWord};
use crate::manifest::mounts::OctalMode;
use crate::manifest::{API_VERSION, Address, Container, DurationText, Image, Metadata, Network, ShortMount, ShortTmpfs, Volume};
use crate::registries::{REGISTRIES_KIND, Registry};
use crate::value::{
    ByteSize, Capability, Cpus, ImageReference, MountTarget, Name, PortRange, Protocol, RegistryLocation, RestartPolicy, Signal, Subnet,
    UserSpec,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The schema of one document.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    // A condition per kind, not `oneOf`: an editor then complains about the field that is wrong, not about the whole document.
    let kinds: Vec<(&str, Value, &[&str])> = vec![
        ("Container", generator.subschema_for::<Container>().to_value(), &["apiVersion", "kind", "metadata", "spec"]),
        ("Image", generator.subschema_for::<Image>().to_value(), &["apiVersion", "kind", "metadata", "spec"]),
        ("Network", generator.subschema_for::<Network>().to_value(), &["apiVersion", "kind", "metadata"]),
        ("Volume", generator.subschema_for::<Volume>().to_value(), &["apiVersion", "kind", "metadata"]),
    ];
    let metadata = generator.subschema_for::<Metadata>();
    let names: Vec<&str> = kinds.iter().map(|(name, _, _)| *name).collect();
    let conditions: Vec<Value> = kinds
        .iter()
        .map(|(name, spec, required)| {
            json!({
                "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] },
                "then": { "properties": { "spec": spec }, "required": required },
            })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of the host agent",
        "description": "One resource that a host should have.",
        "type": "object",
        "properties": {
            "apiVersion": { "description": "The version of the manifest language.", "const": API_VERSION },
            "kind": { "description": "What it describes.", "enum": names },
            "metadata": metadata,
            "spec": { "description": "What is wanted; its fields depend on the kind." },
        },
        "required": ["apiVersion", "kind", "metadata"],
        "additionalProperties": false,
        "allOf": conditions,
        "$defs": generator.take_definitions(true),
    })
}

/// The schema of `registries.yaml`.
pub fn registries_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let registry = generator.subschema_for::<Registry>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Registries of the host agent",
        "description": "How this host reaches registries and which images it may use, by the beginning of the images' names.",
        "type": "object",
        "properties": {
            "apiVersion": { "description": "The version of the language.", "const": API_VERSION },
            "kind": { "const": REGISTRIES_KIND },
            "spec": {
                "description": "Rules by prefix: docker.io, registry.example/team, or * for all. Each field is taken from the longest prefix that has it.",
                "type": "object",
                "additionalProperties": registry,
            },
        },
        "required": ["apiVersion", "kind"],
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

/// Values that are written as one text, or as the number it looks like.
macro_rules! text_schema {
    ($($type:ty => $name:literal, $json:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($json)
            }
        }
    )*};
}

text_schema! {
    Name => "Name", { "description": "a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends.",
        "type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$" };
    ByteSize => "ByteSize", { "description": "A number of bytes with an optional unit: 256Mi, 1.5Gi. Units are powers of 1024.",
        "type": ["string", "integer"], "examples": ["256Mi", "1.5Gi"] };
    Cpus => "Cpus", { "description": "Processor time: 0.5 is half a core; 500m is the same.",
        "type": ["string", "number"], "examples": [0.5, 2] };
    DurationText => "Duration", { "description": "A number and a unit: 10s, 1m30s, 500ms.",
        "type": ["string", "integer"], "pattern": "^(0|([0-9.]+(h|m|s|ms|us|ns))+)$", "maximum": 0, "examples": ["10s", "1m30s"] };
    Address => "Address", { "description": "An IPv4 address.", "type": "string", "format": "ipv4" };
    Subnet => "Subnet", { "description": "An IPv4 network in CIDR form.", "type": "string",
        "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$", "examples": ["10.20.0.0/24"] };
    ImageReference => "ImageReference", { "description": "[registry/]repository[:tag][@sha256:…], completed as Docker does.",
        "type": "string", "examples": ["docker.io/library/nginx:1.29"] };
    RegistryLocation => "RegistryLocation", { "description": "[https://]host[:port][/path]", "type": "string",
        "examples": ["https://mirror.example", "10.0.0.5:5000/hub"] };
    Signal => "Signal", { "description": "A signal's name or number.", "type": ["string", "integer"], "examples": ["SIGTERM", "SIGINT"] };
    UserSpec => "User", { "description": "user[:group], names or numbers.", "type": ["string", "integer"], "examples": ["1000:1000", "www-data"] };
    RestartPolicy => "RestartPolicy", { "description": "no, always, unless-stopped, on-failure or on-failure:retries.", "type": "string",
        "pattern": "^(no|always|unless-stopped|on-failure(:[0-9]+)?)$", "examples": ["always", "on-failure:5"] };
    MountTarget => "MountTarget", { "description": "An absolute path in the container.", "type": "string", "pattern": "^/" };
    Capability => "Capability", { "description": "A name from capabilities(7), with or without CAP_.", "type": "string" };
    CapabilityChoice => "CapabilityChoice", { "description": "A name from capabilities(7), with or without CAP_, or ALL.",
        "type": "string", "examples": ["NET_ADMIN", "ALL"] };
    Protocol => "Protocol", { "description": "Transport.", "enum": ["tcp", "udp"] };
    Condition => "Condition", { "description": "How far the dependency must have come; Compose's words are taken too.",
        "enum": ["started", "healthy", "completed", "service_started", "service_healthy", "service_completed_successfully"] };
    OrderWord => "UpdateOrder", { "description": "Which goes first.", "enum": ["start-first", "stop-first"] };
    OctalMode => "FileMode", { "description": "Permission bits, octal: 1777, \"0755\".", "type": ["string", "integer"] };
    PortRange => "ShortPort", { "description": "[address:]host:container[/protocol]; ranges stand for many ports.",
        "type": "string", "examples": ["8080:80", "127.0.0.1:8080:80", "53:53/udp"] };
    ShortMount => "ShortMount", { "description": "source:target[:ro]; a source that begins with / or . is a path, any other a volume.",
        "type": "string", "examples": ["data:/var/lib/data", "./conf:/etc/app:ro"] };
    ShortTmpfs => "ShortTmpfs", { "description": "target[:size=…,mode=…]", "type": "string", "examples": ["/run", "/tmp:size=64Mi,mode=1777"] };
}
