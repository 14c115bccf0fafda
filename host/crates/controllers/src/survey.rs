use std::collections::HashSet;
use std::fmt::Debug;

use cache_registry_core::{NodeAddress, Reference};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::PAGE;
use crate::lease::bounded;
use crate::pod_sources::{Pod, wanted};
use crate::workloads::{Kind, uses};

/// Looks afresh at what is in use, before anything is removed: a watch may be behind, and nobody would notice.
#[derive(Clone)]
pub(crate) struct Survey {
    client: Client,
    node: NodeAddress,
}

/// Not everything could be seen, so nothing can be said to be unused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    #[error("listing {kind}: {error}")]
    List { kind: String, error: kube::Error },
    #[error("the {kind} {name} can't be read: {problem}")]
    Unreadable { kind: String, name: String, problem: String },
}

impl Survey {
    pub(crate) fn new(client: Client, node: NodeAddress) -> Self {
        Self { client, node }
    }

    /// Every image that a pod uses or that a workload's template names, as the API server has them now.
    pub(crate) async fn images(&self) -> Result<HashSet<Reference>, SurveyError> {
        let mut found = HashSet::new();
        each(&Api::all(self.client.clone()), "pods", |pod: &Pod| {
            for wanted in wanted(pod, &self.node) {
                found.insert(wanted.source);
                found.extend(wanted.original);
            }
        })
        .await?;
        for kind in Kind::ALL {
            let resource = kind.resource();
            let api = Api::all_with(self.client.clone(), &resource);
            each(&api, &resource.plural, |workload| found.extend(uses(kind, workload, &self.node).images)).await?;
        }
        Ok(found)
    }
}

/// Lists all objects in pages. No resource version is asked for, so the answer is the latest
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>).
async fn each<K>(api: &Api<DeserializeGuard<K>>, kind: &str, mut see: impl FnMut(&K)) -> Result<(), SurveyError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list =
            bounded(api.list(&page)).await.map_err(|error| SurveyError::List { kind: kind.to_owned(), error })?;
        for object in list.items {
            let name = format!("{}/{}", object.meta().namespace.as_deref().unwrap_or_default(), object.name_any());
            let object = object.0.map_err(|invalid| SurveyError::Unreadable {
                kind: kind.to_owned(),
                name,
                problem: invalid.error,
            })?;
            see(&object);
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
