use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cache_registry_api::{LONGEST_POD_SAMPLE, UsedBy};
use cache_registry_core::{NodeAddress, Reference};
use kube_runtime::watcher::Event;

use crate::pod_sources::{Pod, sources};

/// Which pods use which images, kept from the pods' watch. Of a pod only its name and its images stay in memory.
#[derive(Debug)]
pub(crate) struct Usage {
    node: NodeAddress,
    index: Index,
    /// What a listing has brought so far; it takes the index's place when it is complete.
    listing: Index,
    complete: bool,
}

#[derive(Debug, Default)]
struct Index {
    images_of: HashMap<Arc<str>, Vec<Arc<Reference>>>,
    pods_of: HashMap<Arc<Reference>, BTreeSet<Arc<str>>>,
}

impl Usage {
    /// Nothing known yet.
    pub(crate) fn new(node: NodeAddress) -> Self {
        Self { node, index: Index::default(), listing: Index::default(), complete: false }
    }

    /// Takes in what the watch says, and names the images of which the pods changed.
    pub(crate) fn apply(&mut self, event: &Event<Pod>) -> HashSet<Arc<Reference>> {
        match event {
            Event::Init => {
                self.listing = Index::default();
                HashSet::new()
            }
            Event::InitApply(pod) => {
                self.listing.set(&key(pod), sources(pod, &self.node));
                HashSet::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.index, std::mem::take(&mut self.listing));
                self.complete = true;
                self.index.differences(&before)
            }
            Event::Apply(pod) => self.index.set(&key(pod), sources(pod, &self.node)),
            Event::Delete(pod) => self.index.set(&key(pod), HashSet::new()),
        }
    }

    /// True once all pods were listed. Before, that an image has no pods means nothing.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// True when a pod uses the image.
    pub(crate) fn uses(&self, source: &Reference) -> bool {
        self.index.pods_of.contains_key(source)
    }

    /// The images that pods use.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<Reference>> {
        self.index.pods_of.keys()
    }

    /// The pods that use the image, as a status tells it; `None` before all pods were listed.
    pub(crate) fn used_by(&self, source: &Reference) -> Option<UsedBy> {
        if !self.complete {
            return None;
        }
        let Some(pods) = self.index.pods_of.get(source) else {
            return Some(UsedBy::default());
        };
        Some(UsedBy {
            count: i32::try_from(pods.len()).unwrap_or(i32::MAX),
            pods: pods.iter().take(LONGEST_POD_SAMPLE).map(ToString::to_string).collect(),
        })
    }
}

impl Index {
    fn set(&mut self, pod: &Arc<str>, sources: HashSet<Reference>) -> HashSet<Arc<Reference>> {
        let before = self.images_of.remove(pod).unwrap_or_default();
        let mut changed = HashSet::new();
        for source in before.iter().filter(|source| !sources.contains(source.as_ref())) {
            if let Some(pods) = self.pods_of.get_mut(source) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.pods_of.remove(source);
                }
            }
            changed.insert(source.clone());
        }
        if sources.is_empty() {
            return changed;
        }
        let mut images = Vec::with_capacity(sources.len());
        for source in sources {
            // One allocation for an image however many pods use it.
            let source =
                self.pods_of.get_key_value(&source).map_or_else(|| Arc::new(source), |(known, _)| known.clone());
            if self.pods_of.entry(source.clone()).or_default().insert(pod.clone()) {
                changed.insert(source.clone());
            }
            images.push(source);
        }
        self.images_of.insert(pod.clone(), images);
        changed
    }

    fn differences(&self, before: &Self) -> HashSet<Arc<Reference>> {
        let both = self.pods_of.keys().chain(before.pods_of.keys());
        both.filter(|source| self.pods_of.get(*source) != before.pods_of.get(*source)).cloned().collect()
    }
}

fn key(pod: &Pod) -> Arc<str> {
    let [namespace, name] =
        [&pod.metadata.namespace, &pod.metadata.name].map(|part| part.as_deref().unwrap_or_default());
    format!("{namespace}/{name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, images: &[&str]) -> Pod {
        let containers: Vec<_> = images
            .iter()
            .map(|image| json!({"name": image, "image": format!("localhost:7439/docker.io/library/{image}:1")}))
            .collect();
        let pod = json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"containers": containers}});
        serde_json::from_value(pod).unwrap()
    }

    fn image(name: &str) -> Reference {
        format!("{name}:1").parse().unwrap()
    }

    fn changed(usage: &mut Usage, event: &Event<Pod>) -> Vec<String> {
        let mut changed: Vec<_> = usage.apply(event).iter().map(|source| source.repository().to_owned()).collect();
        changed.sort();
        changed
    }

    fn listed(pods: Vec<Pod>) -> Usage {
        let mut usage = Usage::new(NodeAddress::default());
        usage.apply(&Event::Init);
        for pod in pods {
            usage.apply(&Event::InitApply(pod));
        }
        usage.apply(&Event::InitDone);
        usage
    }

    #[test]
    fn nothing_is_said_before_all_pods_are_listed() {
        let mut usage = Usage::new(NodeAddress::default());
        usage.apply(&Event::Init);
        usage.apply(&Event::InitApply(pod("a", &["nginx"])));
        assert_eq!(usage.used_by(&image("nginx")), None);
        assert_eq!(changed(&mut usage, &Event::InitDone), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx")).unwrap().pods, ["ns/a"]);
        assert_eq!(usage.used_by(&image("redis")), Some(UsedBy::default()));
    }

    #[test]
    fn counts_follow_the_pods() {
        let mut usage = listed(vec![pod("a", &["nginx"])]);
        assert_eq!(
            changed(&mut usage, &Event::Apply(pod("b", &["nginx", "redis"]))),
            ["library/nginx", "library/redis"]
        );
        assert_eq!(usage.used_by(&image("nginx")).unwrap().count, 2);
        // The kubelet writes a pod's status all the time: that is no change.
        assert_eq!(changed(&mut usage, &Event::Apply(pod("b", &["nginx", "redis"]))), Vec::<String>::new());
        assert_eq!(changed(&mut usage, &Event::Apply(pod("b", &["redis"]))), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx")).unwrap().pods, ["ns/a"]);
        assert_eq!(changed(&mut usage, &Event::Delete(pod("b", &["redis"]))), ["library/redis"]);
        assert!(!usage.uses(&image("redis")) && usage.uses(&image("nginx")));
    }

    #[test]
    fn pods_that_a_new_listing_does_not_have_are_gone_when_it_is_complete() {
        let mut usage = listed(vec![pod("a", &["nginx"]), pod("b", &["redis"])]);
        usage.apply(&Event::Init);
        usage.apply(&Event::InitApply(pod("b", &["redis"])));
        assert_eq!(usage.used_by(&image("nginx")).unwrap().count, 1, "until the listing is complete");
        assert_eq!(changed(&mut usage, &Event::InitDone), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx")).unwrap().count, 0);
    }

    #[test]
    fn the_sample_is_bounded() {
        let usage = listed((0..25).map(|number| pod(&format!("p{number:02}"), &["nginx"])).collect());
        let used_by = usage.used_by(&image("nginx")).unwrap();
        assert_eq!((used_by.count, used_by.pods.len()), (25, LONGEST_POD_SAMPLE));
        assert_eq!(used_by.pods[0], "ns/p00");
    }
}
