//! How much a Job has removed, as far as it tells.

use cache_registry_volume::Size;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// What was removed, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) blobs: u64,
    /// `None` for a bucket.
    pub(crate) bytes: Option<u64>,
    /// The same.
    pub(crate) kept: Option<Size>,
}

impl Freed {
    /// By what was on the volume before and after.
    pub(crate) fn between(before: Size, after: Size) -> Self {
        let freed = before - after;
        Self { blobs: freed.blobs, bytes: Some(freed.bytes), kept: Some(after) }
    }

    /// By a line of distribution's log: `123 blobs marked, 4 blobs and 0 manifests eligible for deletion`. It goes on to
    /// delete these, and fails where it can't. `None` for another line.
    pub(crate) fn told_by(line: &str) -> Option<Self> {
        let (_, rest) = line.strip_suffix(" manifests eligible for deletion")?.split_once(" blobs marked, ")?;
        let (blobs, _) = rest.split_once(" blobs and ")?;
        Some(Self { blobs: blobs.parse().ok()?, bytes: None, kept: None })
    }
}

/// The container that works on a bucket, beside which there is no other; and the pod that has it. `None` where the Job is one
/// for a volume.
pub(crate) fn worker(pods: &[Pod]) -> Option<(String, String)> {
    pods.iter().find_map(|pod| match pod.spec.as_ref()?.containers.as_slice() {
        [only] if only.name == COLLECT => Some((pod.name_any(), only.name.clone())),
        _ => None,
    })
}

const COLLECT: &str = "collect";

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn a_line_of_the_log_tells_how_many_are_removed() {
        let freed = Freed::told_by("12 blobs marked, 3 blobs and 0 manifests eligible for deletion");
        assert_eq!(freed, Some(Freed { blobs: 3, bytes: None, kept: None }));
    }

    #[rstest]
    #[case("docker.io/library/nginx: marking manifest sha256:12 ")]
    #[case("blob eligible for deletion: sha256:12")]
    #[case("blobs marked, blobs and manifests eligible for deletion")]
    #[case("1 blobs marked, many blobs and 0 manifests eligible for deletion")]
    fn any_other_does_not(#[case] line: &str) {
        assert_eq!(Freed::told_by(line), None);
    }

    #[test]
    fn a_volume_is_measured() {
        let (before, after) = (Size { blobs: 5, bytes: 100 }, Size { blobs: 2, bytes: 30 });
        assert_eq!(Freed::between(before, after), Freed { blobs: 3, bytes: Some(70), kept: Some(after) });
    }

    #[test]
    fn the_log_is_asked_for_where_nothing_measures() {
        let pod = |names: &[&str]| -> Pod {
            let containers: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
            serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } }))
                .unwrap()
        };
        assert_eq!(worker(&[pod(&["after"])]), None);
        assert_eq!(worker(&[pod(&["after"]), pod(&["collect"])]), Some(("p".to_owned(), "collect".to_owned())));
    }
}
