//! Every label and annotation that cache-registry reads or writes.

/// Label of a pod (or pod template) whose images are to be left alone: [`OPT_OUT_VALUE`].
pub const OPT_OUT_LABEL: &str = "cache-registry.enix.io/image-caching-policy";

/// The value of [`OPT_OUT_LABEL`] that opts a pod out. Any other value means nothing.
pub const OPT_OUT_VALUE: &str = "ignore";

/// Label of a pod of which at least one image was rewritten: [`REWRITTEN_VALUE`].
pub const REWRITTEN_LABEL: &str = "cache-registry.enix.io/images-rewritten";

/// The value of [`REWRITTEN_LABEL`].
pub const REWRITTEN_VALUE: &str = "true";

/// Annotation of a pod that says what was decided for each container, as JSON: an
/// [`ImagesAnnotation`](crate::ImagesAnnotation).
pub const IMAGES_ANNOTATION: &str = "cache-registry.enix.io/images";

/// Label of a `ConfigMap` in the release's namespace that holds a policy: [`POLICY_VALUE`].
pub const POLICY_LABEL: &str = "cache-registry.enix.io/policy";

/// The value of [`POLICY_LABEL`].
pub const POLICY_VALUE: &str = "true";

/// Annotation of a `CachedImage`: how long it stays when nothing uses it, in the place of the release's
/// `cachedImagesExpiryDelay`: `12h`, `30d`, `0s`.
pub const EXPIRY_DELAY_ANNOTATION: &str = "cache-registry.enix.io/expiry-delay";

/// Annotation of a `CachedImage`: how often upstream is asked what it means by the tag, in the place of the release's
/// `controllers.updateInterval`: `10m`, `24h`; `0s` for never.
pub const UPDATE_INTERVAL_ANNOTATION: &str = "cache-registry.enix.io/update-interval";
/// Annotation of the registry's `StatefulSet` while it is stopped for a garbage collection, as JSON: a
/// [`CollectionRecord`](crate::CollectionRecord). As long as it is there, nothing is written to the registry.
pub const COLLECTION_ANNOTATION: &str = "cache-registry.enix.io/garbage-collection";

/// Annotation of the registry's `StatefulSet` that tells of the last garbage collection that succeeded, as JSON: a
/// [`CollectionReport`](crate::CollectionReport).
pub const LAST_COLLECTION_ANNOTATION: &str = "cache-registry.enix.io/last-garbage-collection";

/// Annotation of the Job of a garbage collection: the run whose it is, as [`CollectionRecord::who`](
/// crate::CollectionRecord::who) has it.
pub const COLLECTION_RUN_ANNOTATION: &str = "cache-registry.enix.io/garbage-collection-run";
