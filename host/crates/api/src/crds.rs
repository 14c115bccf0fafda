use kube::CustomResourceExt as _;

use crate::cached_image::CachedImage;

/// The `CustomResourceDefinition`s, as YAML for `kubectl apply -f -`.
pub fn crds() -> String {
    // Only a value that YAML cannot hold fails here (a map with a map as a key), and the test below writes this one.
    serde_saphyr::to_string(&CachedImage::crd()).unwrap_or_else(|error| unreachable!("a CRD is YAML: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_chart_has_the_crds_of_this_source() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../helm/cache-registry/files/cachedimages.yaml");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, crds()).unwrap();
        }
        let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(checked_in == crds(), "the CRD changed: run `UPDATE=1 cargo test -p cache-registry-api` and commit");
    }

    #[test]
    fn the_schema_has_what_the_api_server_enforces() {
        let crd = serde_json::to_value(CachedImage::crd()).unwrap();
        let version = &crd["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"]["properties"];
        let source = &schema["spec"]["properties"]["sourceImage"];
        assert_eq!(source["maxLength"], 1024);
        assert_eq!(source["x-kubernetes-validations"][0]["rule"], "self == oldSelf");
        let status = &schema["status"]["properties"];
        assert_eq!(status["conditions"]["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
        assert_eq!(status["usedBy"]["properties"]["pods"]["maxItems"], crate::LONGEST_SAMPLE);
        assert_eq!(status["usedBy"]["properties"]["workloads"]["maxItems"], crate::LONGEST_SAMPLE);
        assert_eq!(crd["spec"]["scope"], "Cluster");
        assert_eq!(version["subresources"]["status"], serde_json::json!({}));
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|column| column["priority"] != 1)
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(columns, ["Image", "Ready", "Digest", "Used", "Expires", "Age"]);
    }

    /// Each description is what `kubectl explain` shows.
    #[test]
    fn every_field_is_described() {
        fn check(path: &str, schema: &serde_json::Value) {
            let Some(properties) =
                schema["properties"].as_object().or_else(|| schema["items"]["properties"].as_object())
            else {
                return;
            };
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                assert!(property["description"].is_string(), "{path} has no description");
                check(&path, property);
            }
        }
        let crd = serde_json::to_value(CachedImage::crd()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            check(part, &schema["properties"][part]);
        }
    }
}
