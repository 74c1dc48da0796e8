//! The JSON schema: checked in, and of one mind with the loader.
//!
//! `UPDATE=1 cargo test -p spec --test suite schema` writes `spec/schema.json` anew.

use super::site::Case;
use serde_json::{Value, json};
use std::path::Path;

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json")
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&spec::schema()).expect("the schema is a schema")
}

/// The documents of a case as an editor sees them. Only for cases whose scalars mean to YAML what they mean to us.
fn documents(text: &str) -> Vec<Value> {
    let case = Case::new(text);
    let options = serde_saphyr::options! { strict_booleans: true };
    let read = |text: &str| serde_saphyr::from_multiple_with_options::<Value>(text, options.clone()).expect("it is YAML");
    case.manifests.iter().flat_map(|(_, text)| read(text)).collect()
}

#[test]
fn the_checked_in_schema_is_current() {
    let current = format!("{}\n", serde_json::to_string_pretty(&spec::schema()).expect("plain data"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path(), &current).expect("the schema can be written");
    }
    let checked_in = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(checked_in == current, "spec/schema.json is not current: UPDATE=1 cargo test -p spec --test suite schema");
}

#[test]
fn the_schema_accepts_what_the_loader_accepts() {
    let validator = validator();
    for text in [include_str!("../valid/sample.yaml"), include_str!("../valid/short.yaml"), include_str!("../valid/long.yaml")] {
        for document in documents(text) {
            let problems: Vec<String> =
                validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(problems.is_empty(), "{document:#}\n{problems:#?}");
        }
    }
}

#[test]
fn the_schema_refuses_what_has_the_wrong_shape() {
    let validator = validator();
    let manifest = |kind: &str, spec: Value| json!({"apiVersion": "agent/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec});
    let refused = [
        manifest("Contianer", json!({"image": "nginx"})),
        manifest("Container", json!({})),
        manifest("Container", json!({"imgae": "nginx"})),
        manifest("Container", json!({"image": "nginx", "resources": {"mem": "1Gi"}})),
        manifest("Container", json!({"image": "nginx", "ports": "80:80"})),
        manifest("Container", json!({"image": "nginx", "ports": [{"hostPort": 0, "containerPort": 80}]})),
        manifest("Container", json!({"image": "nginx", "restart": "sometimes"})),
        manifest("Container", json!({"image": "nginx", "networkMode": "bridge"})),
        manifest("Container", json!({"image": "nginx", "dependsOn": {"db": "ready"}})),
        manifest("Container", json!({"image": "nginx", "stopGracePeriod": 10})),
        manifest("Volume", json!({"image": "nginx"})),
        manifest("Network", json!({"driver": "macvlan"})),
        manifest("Image", json!({"build": {"dockerfile": "x"}})),
        json!({"apiVersion": "agent/v1", "kind": "Container", "metadata": {"name": "web"}}),
        json!({"apiVersion": "agent/v1", "kind": "Volume", "metadata": {"name": "Web"}}),
        json!({"apiVersion": "agent/v2", "kind": "Volume", "metadata": {"name": "web"}}),
        json!({"apiVersion": "agent/v1", "kind": "Volume"}),
        json!([]),
    ];
    for document in refused {
        assert!(!validator.is_valid(&document), "{document:#}");
    }
    assert!(validator.is_valid(&json!({"apiVersion": "agent/v1", "kind": "Volume", "metadata": {"name": "web"}})));
}

#[test]
fn every_field_is_described() {
    let schema = spec::schema();
    let mut bare = Vec::new();
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        for (field, of) in definition["properties"].as_object().into_iter().flatten() {
            if of.get("description").is_none() && of.get("$ref").is_none() {
                bare.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}
