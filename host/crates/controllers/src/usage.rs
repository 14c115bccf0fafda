use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::iter;
use std::sync::Arc;

use cache_registry_api::{LONGEST_SAMPLE, UsedBy};
use cache_registry_core::{NodeAddress, Reference};
use kube_runtime::watcher::Event;

use crate::index::{Index, Uses};
use crate::plan::MOST_ORIGINALS;
use crate::pod_sources::{Pod, wanted};
use crate::pull_secrets::PullSecret;
use crate::retention::Use;
use crate::workloads::{Kind, Workload, uses};

/// What uses which images: the pods that are there, and the workloads that may start some. Kept from their watches.
#[derive(Debug)]
pub(crate) struct Usage {
    node: NodeAddress,
    pods: Index,
    /// By what their authors wrote, which a policy may have replaced.
    workloads: BTreeMap<Kind, Index>,
    /// What authors of pods wrote for an image, where a policy had something else fetched.
    originals: HashMap<Reference, BTreeSet<String>>,
}

impl Usage {
    /// Nothing known yet.
    pub(crate) fn new(node: NodeAddress) -> Self {
        let workloads = Kind::ALL.map(|kind| (kind, Index::default()));
        Self { node, pods: Index::default(), workloads: workloads.into(), originals: HashMap::new() }
    }

    /// Takes in what the pods' watch says, and names the images of which the pods changed.
    pub(crate) fn pods_changed(&mut self, event: &Event<Pod>) -> HashSet<Arc<Reference>> {
        let Self { node, pods, originals, .. } = self;
        pods.apply(event, |pod| {
            let mut images = HashSet::new();
            for wanted in wanted(pod, node) {
                if let Some(original) = wanted.original {
                    let known = originals.entry(wanted.source.clone()).or_default();
                    if known.len() < MOST_ORIGINALS {
                        known.insert(original.to_string());
                    }
                }
                images.insert(wanted.source);
            }
            Uses { images, pull_secrets: pod.spec.pull_secrets() }
        })
    }

    /// Takes in what the watch of a kind of workloads says, and names what they ask for of which the workloads changed.
    pub(crate) fn workloads_changed(&mut self, kind: Kind, event: &Event<Workload>) -> HashSet<Arc<Reference>> {
        let Self { node, workloads, .. } = self;
        workloads.entry(kind).or_default().apply(event, |workload| uses(kind, workload, node))
    }

    /// True once all pods were listed. Before, that an image has no pods means nothing.
    pub(crate) fn knows_all_pods(&self) -> bool {
        self.pods.is_complete()
    }

    /// True when a pod uses the image.
    pub(crate) fn has_pods(&self, source: &Reference) -> bool {
        self.pods.users(source).is_some()
    }

    /// The images that pods use.
    pub(crate) fn images_of_pods(&self) -> impl Iterator<Item = &Arc<Reference>> {
        self.pods.images()
    }

    /// What authors of pods wrote for an image, where that is not the image itself.
    pub(crate) fn originals(&self, source: &Reference) -> impl Iterator<Item = &str> {
        self.originals.get(source).into_iter().flatten().map(String::as_str)
    }

    /// Whether an image is in use, of which pods or workloads may also ask for one of its `originals`.
    pub(crate) fn of(&self, source: &Reference, originals: &[Reference]) -> Use {
        let has_workloads = || {
            let mut images = iter::once(source).chain(originals);
            images.any(|image| self.workloads.values().any(|index| index.users(image).is_some()))
        };
        let is_used = self.has_pods(source) || has_workloads();
        let sees_all = self.pods.is_complete() && self.workloads.values().all(Index::is_complete);
        match (is_used, sees_all) {
            (true, _) => Use::Used,
            (false, true) => Use::Unused,
            (false, false) => Use::Unknown,
        }
    }

    /// The Secrets with which the image can be pulled: those of its pods, then those of the templates of workloads, which
    /// are all there is of one that has no pod at the moment.
    pub(crate) fn pull_secrets(&self, source: &Reference, originals: &[Reference]) -> Vec<PullSecret> {
        let of_pods: BTreeSet<_> = self.pods.pull_secrets(source).collect();
        let images = || iter::once(source).chain(originals);
        let indexes = self.workloads.values();
        let of_workloads: BTreeSet<_> =
            indexes.flat_map(|index| images().flat_map(|image| index.pull_secrets(image))).collect();
        let others: Vec<_> = of_workloads.difference(&of_pods).cloned().collect();
        of_pods.into_iter().chain(others).collect()
    }

    /// What uses the image, as a status tells it; `None` before all pods were listed.
    pub(crate) fn used_by(&self, source: &Reference, originals: &[Reference]) -> Option<UsedBy> {
        if !self.pods.is_complete() {
            return None;
        }
        let pods = self.pods.users(source);
        Some(UsedBy {
            count: pods.map_or(0, |pods| i32::try_from(pods.len()).unwrap_or(i32::MAX)),
            pods: pods.into_iter().flatten().take(LONGEST_SAMPLE).map(ToString::to_string).collect(),
            workloads: self.workloads_of(source, originals).take(LONGEST_SAMPLE).collect(),
        })
    }

    fn workloads_of(&self, source: &Reference, originals: &[Reference]) -> impl Iterator<Item = String> {
        let users = self.workloads.iter().flat_map(move |(kind, index)| {
            let images = iter::once(source).chain(originals);
            images.filter_map(|image| index.users(image)).flatten().map(move |user| format!("{kind:?}/{user}"))
        });
        users.collect::<BTreeSet<_>>().into_iter()
    }
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
        let mut changed: Vec<_> =
            usage.pods_changed(event).iter().map(|source| source.repository().to_owned()).collect();
        changed.sort();
        changed
    }

    fn listed(pods: Vec<Pod>) -> Usage {
        let mut usage = Usage::new(NodeAddress::default());
        usage.pods_changed(&Event::Init);
        for pod in pods {
            usage.pods_changed(&Event::InitApply(pod));
        }
        usage.pods_changed(&Event::InitDone);
        usage
    }

    #[test]
    fn nothing_is_said_before_all_pods_are_listed() {
        let mut usage = Usage::new(NodeAddress::default());
        usage.pods_changed(&Event::Init);
        usage.pods_changed(&Event::InitApply(pod("a", &["nginx"])));
        assert_eq!(usage.used_by(&image("nginx"), &[]), None);
        assert_eq!(changed(&mut usage, &Event::InitDone), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx"), &[]).unwrap().pods, ["ns/a"]);
        assert_eq!(usage.used_by(&image("redis"), &[]), Some(UsedBy::default()));
    }

    #[test]
    fn counts_follow_the_pods() {
        let mut usage = listed(vec![pod("a", &["nginx"])]);
        assert_eq!(
            changed(&mut usage, &Event::Apply(pod("b", &["nginx", "redis"]))),
            ["library/nginx", "library/redis"]
        );
        assert_eq!(usage.used_by(&image("nginx"), &[]).unwrap().count, 2);
        // The kubelet writes a pod's status all the time: that is no change.
        assert_eq!(changed(&mut usage, &Event::Apply(pod("b", &["nginx", "redis"]))), Vec::<String>::new());
        assert_eq!(changed(&mut usage, &Event::Apply(pod("b", &["redis"]))), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx"), &[]).unwrap().pods, ["ns/a"]);
        assert_eq!(changed(&mut usage, &Event::Delete(pod("b", &["redis"]))), ["library/redis"]);
        assert!(!usage.has_pods(&image("redis")) && usage.has_pods(&image("nginx")));
    }

    #[test]
    fn pods_that_a_new_listing_does_not_have_are_gone_when_it_is_complete() {
        let mut usage = listed(vec![pod("a", &["nginx"]), pod("b", &["redis"])]);
        usage.pods_changed(&Event::Init);
        usage.pods_changed(&Event::InitApply(pod("b", &["redis"])));
        assert_eq!(usage.used_by(&image("nginx"), &[]).unwrap().count, 1, "until the listing is complete");
        assert_eq!(changed(&mut usage, &Event::InitDone), ["library/nginx"]);
        assert_eq!(usage.used_by(&image("nginx"), &[]).unwrap().count, 0);
    }

    #[test]
    fn the_sample_is_bounded() {
        let usage = listed((0..25).map(|number| pod(&format!("p{number:02}"), &["nginx"])).collect());
        let used_by = usage.used_by(&image("nginx"), &[]).unwrap();
        assert_eq!((used_by.count, used_by.pods.len()), (25, LONGEST_SAMPLE));
        assert_eq!(used_by.pods[0], "ns/p00");
    }
}
