use std::sync::Arc;

use cache_registry_api::CachedImage;
use cache_registry_core::Reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube_runtime::watcher::Event;

use super::{Name, Reconciler};
use crate::copier::Copier;
use crate::pod_sources::{Pod, PodSpec, PodStatus};
use crate::tracked::{Tracked, is_older};
use crate::workloads::{Kind, Workload};

/// What the watches bring.
impl<C: Copier> Reconciler<C> {
    pub(super) fn pods_changed(&mut self, event: Event<DeserializeGuard<Pod>>) {
        let done = matches!(event, Event::InitDone);
        for source in self.usage.pods_changed(&readable_pod(event)) {
            for name in self.named.get(&source).cloned().unwrap_or_default() {
                if let Some(tracked) = self.images.get_mut(&name).filter(|tracked| tracked.lacks_access()) {
                    tracked.may_be_pulled_with(&self.usage.pull_secrets(&source, &tracked.originals));
                }
                self.touch_soon(&name);
            }
            self.ensure(&source);
        }
        if done {
            // Of those that no pod uses the status may still say otherwise.
            self.touch_all_soon();
            self.all_listed();
        }
    }

    pub(super) fn workloads_changed(&mut self, kind: Kind, event: Event<DeserializeGuard<Workload>>) {
        let done = matches!(event, Event::InitDone);
        let changed = self.usage.workloads_changed(kind, &readable_workload(event));
        if done {
            self.touch_all_soon();
        } else if !changed.is_empty() {
            let uses = |tracked: &Tracked| tracked.names().any(|image| changed.contains(image));
            let touched: Vec<_> =
                self.images.iter().filter(|(_, tracked)| uses(tracked)).map(|(name, _)| name.clone()).collect();
            for name in touched {
                self.touch_soon(&name);
            }
        }
    }

    fn touch_all_soon(&mut self) {
        for name in self.images.keys().cloned().collect::<Vec<_>>() {
            self.touch_soon(&name);
        }
    }

    pub(super) fn images_changed(&mut self, event: Event<DeserializeGuard<CachedImage>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(image) => {
                self.listing.insert(image.name_any().into());
                self.appeared(image);
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let gone: Vec<Name> = self.images.keys().filter(|name| !listing.contains(*name)).cloned().collect();
                for name in gone {
                    self.disappeared(&name);
                }
                self.listed = true;
                self.all_listed();
            }
            Event::Apply(image) => self.appeared(image),
            Event::Delete(image) => self.disappeared(&image.name_any()),
        }
    }

    /// Once all pods and all `CachedImage`s are known, it is known which are missing.
    fn all_listed(&mut self) {
        if self.listed && self.usage.knows_all_pods() {
            for source in self.usage.images_of_pods().cloned().collect::<Vec<_>>() {
                self.ensure(&source);
            }
            // Once: both are listed anew after each interruption.
            if self.ready.take().is_some() {
                self.take_inventory();
                self.sample();
            }
        }
    }

    fn appeared(&mut self, image: DeserializeGuard<CachedImage>) {
        let name: Name = image.name_any().into();
        let mut image = match image.0 {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(image = %name, %error, "this CachedImage can't be read and is left alone");
                self.forget(&name);
                return;
            }
        };
        image.metadata.managed_fields = None;
        match self.images.get_mut(&name) {
            Some(tracked) if tracked.image.metadata.uid == image.metadata.uid => {
                if !is_older(&image, &tracked.image) {
                    tracked.is_now(image);
                }
            }
            _ => {
                self.forget(&name);
                let source = image.spec.source_image.parse::<Reference>().ok();
                if let Some(source) = &source {
                    self.named.entry(source.clone()).or_default().insert(name.clone());
                }
                self.images.insert(name.clone(), Tracked::new(image, source));
            }
        }
        self.touch(&name);
    }

    fn disappeared(&mut self, name: &str) {
        let Some(source) = self.forget(name).map(Arc::new) else { return };
        if self.usage.has_pods(&source) {
            // Deleted while pods use it: they need it still.
            self.ensure(&source);
        } else if self.usage.knows_all_pods() {
            self.remove_tag(&source);
        }
    }

    fn forget(&mut self, name: &str) -> Option<Reference> {
        let tracked = self.images.remove(name)?;
        if let Some(running) = tracked.running {
            running.abort();
        }
        if let Some((key, _)) = tracked.timer {
            self.timers.try_remove(&key);
        }
        if let Some(reason) = tracked.counted {
            self.metrics.images(reason).dec();
        }
        let source = tracked.source?;
        if let Some(names) = self.named.get_mut(&source) {
            names.remove(name);
            if names.is_empty() {
                self.named.remove(&source);
            }
        }
        Some(source)
    }
}

/// A pod that can't be read uses nothing that could be seen. Before anything is removed, it is in the way.
fn readable_pod(event: Event<DeserializeGuard<Pod>>) -> Event<Pod> {
    readable(event, |metadata| Pod { metadata, spec: PodSpec::default(), status: PodStatus::default() })
}

fn readable_workload(event: Event<DeserializeGuard<Workload>>) -> Event<Workload> {
    readable(event, Workload::without_images)
}

fn readable<K>(event: Event<DeserializeGuard<K>>, without_images: impl Fn(ObjectMeta) -> K) -> Event<K> {
    let read = |object: DeserializeGuard<K>| {
        object.0.unwrap_or_else(|invalid| {
            let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
            tracing::warn!(
                namespace,
                name,
                error = invalid.error,
                "this object can't be read; its images are not seen"
            );
            without_images(invalid.metadata)
        })
    };
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object)),
        Event::Delete(object) => Event::Delete(read(object)),
    }
}
