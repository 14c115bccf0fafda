//! `values.yaml`, its schema, the README and the seed's document say the same.

use std::collections::BTreeSet;
use std::fs;

use cache_registry_chart::values::{commented, leaves, table};
use cache_registry_chart::{at, folder, render};
use serde_json::Value;

const BEGIN: &str = "<!-- values: begin -->\n\n";
const END: &str = "\n<!-- values: end -->";

fn yaml() -> String {
    fs::read_to_string(folder().join("values.yaml")).unwrap()
}

fn values() -> Value {
    serde_saphyr::from_str(&yaml()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn every_value_has_a_comment() {
    let commented: Vec<String> = commented(&yaml()).into_iter().map(|found| found.path).collect();
    for leaf in leaves(&values()) {
        let covered = commented.iter().any(|path| leaf == *path || leaf.starts_with(&format!("{path}.")));
        // What covers it has to be about it alone: a section's comment is no comment of each of its keys.
        let own = commented.iter().rev().find(|path| leaf == **path || leaf.starts_with(&format!("{path}.")));
        let section = own.is_some_and(|path| commented.iter().any(|other| other.starts_with(&format!("{path}."))));
        assert!(covered && !section, "{leaf} has no comment in values.yaml");
    }
}

#[test]
fn the_readme_has_the_table_of_values() {
    let file = folder().join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("README.md has no table of values");
    let (_, after) = rest.split_once(END).expect("the table of values has no end");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table(&yaml(), &values()));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &fresh).unwrap();
    }
    let checked_in = fs::read_to_string(&file).unwrap();
    assert!(checked_in == fresh, "values.yaml changed: run `UPDATE=1 cargo test -p cache-registry-chart` and commit");
}

/// The paths of the keys that a schema allows, as deep as `values` goes.
fn allowed(schema: &Value, part: &Value, path: &str, values: &Value, found: &mut BTreeSet<String>) {
    let part = match part["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => part,
    };
    let (Some(properties), Some(map)) =
        (part["properties"].as_object(), values.as_object().filter(|map| !map.is_empty()))
    else {
        found.insert(path.to_owned());
        return;
    };
    for (key, property) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        allowed(schema, property, &path, map.get(key).unwrap_or(&Value::Null), found);
    }
}

#[test]
fn the_schema_knows_the_values_and_no_others() {
    let (schema, values) = (schema(), values());
    let mut allowed_paths = BTreeSet::new();
    allowed(&schema, &schema, "", &values, &mut allowed_paths);
    let known: BTreeSet<String> = leaves(&values).into_iter().collect();
    let unknown: Vec<_> = known.difference(&allowed_paths).filter(|path| !free(path)).collect();
    assert!(unknown.is_empty(), "not in values.schema.json: {unknown:?}");
    // Fields of Kubernetes' own types are allowed without being in values.yaml.
    let kubernetes = ["SecurityContext", "securityContext", "resources", "readerResources", "updateStrategy"];
    let hidden: Vec<_> = allowed_paths
        .difference(&known)
        .filter(|path| !free(path) && !kubernetes.iter().any(|word| path.contains(word)))
        .collect();
    assert_eq!(hidden, ["global"], "in values.schema.json and not in values.yaml");
}

/// Maps of anything: the schema cannot name their keys.
fn free(path: &str) -> bool {
    ["nodeSelector", "resources.", "readerResources.", "seccompProfile"].iter().any(|word| path.contains(word))
}

#[test]
fn nothing_in_the_schema_is_open() {
    fn walk(path: &str, part: &Value) {
        if part["properties"].is_object() {
            assert_eq!(part["additionalProperties"], false, "{path} takes any key");
        }
        for (key, child) in part.as_object().into_iter().flatten() {
            walk(&format!("{path}/{key}"), child);
        }
    }
    walk("", &schema());
}

/// The values file of the document that the product started from.
#[test]
fn the_seeds_values_are_taken() {
    let values = "
cachedImagesExpiryDelay: 30
controllers:
  webhook:
    objectSelector: { matchExpressions: [{ key: a, operator: NotIn, values: [b] }] }
    ignoredNamespaces: [monitoring]
    createCertificateIssuer: true
    certificateIssuerRef: { kind: Issuer, name: cache-registry-selfsigned-issuer }
proxy: { hostPort: 7439 }
registry:
  image: { repository: registry, pullPolicy: IfNotPresent, tag: '3' }
  persistance: { enabled: true, storageClass: null, size: 20Gi }
  garbageCollectionSchedule: ''
  env: [{ name: REGISTRY_LOG_LEVEL, value: warn }]
";
    render(values).unwrap();
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart: Value = serde_saphyr::from_str(&fs::read_to_string(folder().join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!(at(&chart, "appVersion"), env!("CARGO_PKG_VERSION"));
    assert_eq!(at(&chart, "version"), env!("CARGO_PKG_VERSION"));
}
