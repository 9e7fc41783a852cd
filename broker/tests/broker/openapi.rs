//! The committed OpenAPI document is the one that this build serves.

use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// Set it to anything to write the document anew: `UPDATE_OPENAPI=1 cargo test -p lucarne-broker --test broker openapi`.
const UPDATE: &str = "UPDATE_OPENAPI";

#[test]
fn the_committed_document_is_what_is_served() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let served = lucarne_broker::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, &served).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == served,
        "broker/openapi.json is not what the handlers say; write it anew with: \
         {UPDATE}=1 cargo test -p lucarne-broker --test broker openapi"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_how_it_fails() {
    let document: Value = serde_json::from_str(&lucarne_broker::openapi().to_json().unwrap()).unwrap();
    let mut names = HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} is there twice");
            let answers = operation["responses"].as_object().unwrap();
            let fails = answers.keys().any(|status| status.starts_with('4'));
            assert!(fails || path == "/api/v1/health", "{method} {path} tells no failure");
        }
    }
    assert!(names.len() > 30);
}
