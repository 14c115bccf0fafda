//! The Kubernetes API of cache-registry: its resource, the labels and annotations that it puts on pods, and the keys of
//! a policy's `ConfigMap`.
//!
//! ```text
//! webhook ── images annotation ──▶ pod ──▶ controllers ──▶ CachedImage ──▶ its status: what a person sees
//! ```
//!
//! Everything here is a name or a shape that others depend on. Nothing here talks to an API server.

mod cached_image;
mod collection;
mod crds;
mod images_annotation;
pub mod labels;
pub mod policy_keys;

pub use cached_image::{CachedImage, CachedImageSpec, CachedImageStatus, LONGEST_SAMPLE, READY, UP_TO_DATE, UsedBy};
pub use collection::{CollectionRecord, CollectionReport};
pub use crds::crds;
pub use images_annotation::{ImageEntry, ImagesAnnotation, InvalidImagesAnnotation, Outcome};
