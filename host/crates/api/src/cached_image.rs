// The columns are attributes within one attribute, where two of one type look like a repetition.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of a `CachedImage`'s condition that is True when the registry has the image.
pub const READY: &str = "Ready";

/// The type of a `CachedImage`'s condition that is True when upstream meant the same by the tag when it was last asked.
/// References with a digest have one only while a part of the image is to be copied that could not be.
pub const UP_TO_DATE: &str = "UpToDate";

/// At most so many pods, and so many workloads, are named in [`UsedBy`]: a status must not grow with the cluster.
pub const LONGEST_SAMPLE: usize = 10;

/// What shall be cached.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cache-registry.enix.io",
    version = "v1alpha1",
    kind = "CachedImage",
    plural = "cachedimages",
    shortname = "ci",
    status = "CachedImageStatus",
    derive = "PartialEq",
    doc = "An image that is kept in the cluster's own registry.",
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.sourceImage"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest"),
    printcolumn(name = "Size", type_ = "integer", format = "int64", json_path = ".status.size", priority = 1),
    printcolumn(name = "Used", type_ = "integer", format = "int32", json_path = ".status.usedBy.count"),
    // A column of the type `date` shows how long ago it was, and `<invalid>` for the future.
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CachedImageSpec {
    /// The image to keep, with the host of its registry: `docker.io/library/nginx:1.27`. It cannot be changed: another
    /// image is another `CachedImage`.
    #[schemars(
        length(min = 1, max = 1024),
        extend("x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "sourceImage cannot be changed: create another CachedImage"
        }])
    )]
    pub source_image: String,

    /// True keeps the image even when nothing uses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
}

/// What is known about the image. The registry is the truth; this reports it, and may be a little behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CachedImageStatus {
    /// `Ready` is True when the registry has the image. Its reason is one of `Cached`, `Copying`, `NotFound`,
    /// `Unauthorized`, `RateLimited`, `Unsupported`, `UpstreamUnreachable`, `RegistryUnreachable` and
    /// `InvalidReference`; its message says what to do.
    ///
    /// `UpToDate`, of an image without a digest, is True when upstream had the same under the tag when it was last
    /// asked, `False` when upstream has no such tag any more, and `Unknown` when upstream could not be asked; the image
    /// stays in either case, and `lastTransitionTime` says since when that is so. An image with a digest has it only
    /// while images for further platforms are to be copied and cannot be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The digest of the image's manifest or index as it was last copied: upstream's, to the letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// The size of the copy in bytes: manifests, configurations and compressed layers of all its platforms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size: Option<i64>,

    /// The platforms of the copy, such as `linux/amd64` and `linux/arm64/v8`. The index may name more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub platforms: Vec<String>,

    /// What was left out when the image was last copied, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub notes: Vec<String>,

    /// When the image was last found to be in the registry complete after a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_copied: Option<Time>,

    /// When the registry was last asked whether it still has the image. It is asked every hour, and this is written once a
    /// day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checked: Option<Time>,

    /// What uses the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_by: Option<UsedBy>,

    /// What pods asked for, where a policy has this image fetched instead. A workload whose template names one of these
    /// uses the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub originals: Vec<String>,

    /// Since when nothing uses the image. Absent while it is in use, and where it is retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Time>,

    /// When the image will be removed from the registry unless it is used before. Absent while it is in use, and where
    /// it is retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// The generation of the `CachedImage` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What uses an image: pods, and workloads whose templates name it. A workload counts without any replica as well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// How many pods.
    #[schemars(range(min = 0))]
    pub count: i32,

    /// A sample of them, at most 10, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub pods: Vec<String>,

    /// A sample of the workloads, at most 10, as `Kind/namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub workloads: Vec<String>,
}

impl CachedImageStatus {
    /// The condition [`READY`], once there is one.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == READY)
    }
}
