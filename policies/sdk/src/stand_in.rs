//! Natively: a pod that tests make, and what the host would say.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::Owner;
use crate::host::Level;

/// The pod under review. It lives for the duration of a call, each of its functions copies no more than what it
/// returns, and none of them fails.
///
/// This is the stand-in for tests, with the functions that a policy has on WebAssembly; `testing::pod` makes it, and
/// those that begin with `with` say what is in it.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    namespace: String,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    service_account: String,
    owner: Option<Owner>,
    json: String,
}

impl Pod {
    /// The namespace of the request.
    pub fn namespace(&self) -> String {
        self.namespace.clone()
    }

    /// The pod's name; none while the API server has yet to make one from `generateName`.
    pub fn name(&self) -> Option<String> {
        self.name.clone()
    }

    /// The value of one label.
    pub fn label(&self, key: &str) -> Option<String> {
        self.labels.get(key).cloned()
    }

    /// All labels, sorted by key.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The value of one annotation.
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.annotations.get(key).cloned()
    }

    /// The service account; empty where none is set yet.
    pub fn service_account(&self) -> String {
        self.service_account.clone()
    }

    /// Who controls the pod, where somebody does.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.clone()
    }

    /// The whole pod in JSON, for what the functions above do not tell. It can be megabytes, all of which count as the
    /// instance's memory: ask for it last. In tests it is what [`with_json`](Self::with_json) was given, or empty.
    pub fn json(&self) -> String {
        self.json.clone()
    }
}

/// What is in it.
impl Pod {
    pub(crate) fn in_namespace(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// The pod's name.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// One label more.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// One annotation more.
    #[must_use]
    pub fn with_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Its service account.
    #[must_use]
    pub fn with_service_account(self, name: &str) -> Self {
        Self { service_account: name.to_owned(), ..self }
    }

    /// Who controls it: `apps/v1`, `ReplicaSet`, and a name.
    #[must_use]
    pub fn with_owner(self, api_version: &str, kind: &str, name: &str) -> Self {
        let (api_version, kind, name) = (api_version.to_owned(), kind.to_owned(), name.to_owned());
        Self { owner: Some(Owner { api_version, kind, name }), ..self }
    }

    /// The whole pod, for policies that read it.
    #[must_use]
    pub fn with_json(self, json: &str) -> Self {
        Self { json: json.to_owned(), ..self }
    }
}

thread_local! {
    /// A test has a thread of its own.
    static OWN_REGISTRIES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

const NODE_REGISTRY: &str = "localhost:7439";

pub(crate) fn set_own_registries(registries: Vec<String>) {
    OWN_REGISTRIES.replace(registries);
}

#[expect(clippy::print_stdout, reason = "a test's output is shown with its failure")]
pub(crate) fn log(level: Level, message: &str) {
    println!("{level:?}: {message}");
}

pub(crate) fn own_registries() -> Vec<String> {
    OWN_REGISTRIES.with_borrow(Clone::clone)
}

pub(crate) fn node_registry() -> String {
    NODE_REGISTRY.to_owned()
}

/// Reads no more of a reference than it needs; the host reads all of it.
pub(crate) fn node_address(source: &str) -> Result<String, String> {
    let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost";
    match source.split_once('/') {
        Some((host, path)) if is_host(host) && path.split('/').all(|part| !part.is_empty()) => {
            Ok(format!("{NODE_REGISTRY}/{}/{path}", host.replacen(':', "_", 1)))
        }
        _ => Err(format!("{source:?} is not a fully qualified image reference")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_tells_what_a_test_put_into_it() {
        let pod = Pod::in_namespace("shop")
            .with_name("web-1")
            .with_label("team", "blue")
            .with_label("app", "web")
            .with_annotation("team", "green")
            .with_service_account("runner")
            .with_owner("apps/v1", "ReplicaSet", "web")
            .with_json("{}");
        assert_eq!((pod.namespace(), pod.name()), ("shop".to_owned(), Some("web-1".to_owned())));
        assert_eq!((pod.label("team"), pod.label("tier")), (Some("blue".to_owned()), None));
        let labels = [("app", "web"), ("team", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pod.labels(), labels);
        assert_eq!((pod.annotation("team"), pod.annotation("app")), (Some("green".to_owned()), None));
        assert_eq!((pod.service_account(), pod.json()), ("runner".to_owned(), "{}".to_owned()));
        let owner = Owner { api_version: "apps/v1".into(), kind: "ReplicaSet".into(), name: "web".into() };
        assert_eq!(pod.owner(), Some(owner));
    }

    #[test]
    fn the_caches_registries_are_those_of_this_test() {
        set_own_registries(vec!["cache.example".to_owned()]);
        assert_eq!(own_registries(), ["cache.example"]);
    }
}
