use std::sync::Arc;

use cache_registry_api::{CachedImage, CachedImageSpec, CachedImageStatus};
use cache_registry_core::{Reason, Reference, object_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use kube_runtime::events::{Event, EventType};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::events::Events;
use crate::lease::bounded;
use crate::plan::reason;
use crate::{FIELD_MANAGER, created_by_us};

/// At most so many writes are on their way to the API server: a new leader must not flood it.
const WRITES_AT_ONCE: usize = 8;

/// What is written to the API server.
#[derive(Clone)]
pub(crate) struct Cluster {
    images: Api<CachedImage>,
    events: Events,
    writes: Arc<Semaphore>,
}

impl Cluster {
    /// `identity` is named as the reporter of Events.
    pub(crate) fn new(client: Client, identity: String) -> Self {
        Self {
            images: Api::all(client.clone()),
            events: Events::new(client, identity),
            writes: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
        }
    }

    /// Creates the `CachedImage` of an image that pods use. That there is one already is fine.
    pub(crate) async fn create(&self, source: &Reference) -> Result<(), kube::Error> {
        let spec = CachedImageSpec { source_image: source.to_string(), retain: false };
        let image = CachedImage::new(&object_name(source), spec);
        let _turn = self.writes.acquire().await;
        match bounded(self.images.create(&created_by_us(), &image)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a status, and tells by an Event where it says something new. Returns the object as it is then.
    pub(crate) async fn report(
        &self,
        image: &CachedImage,
        status: &CachedImageStatus,
    ) -> Result<CachedImage, kube::Error> {
        let _turn = self.writes.acquire().await;
        // With its uid: an object that was deleted and created anew must not get the status of the old one.
        let patch = json!({
            "apiVersion": CachedImage::api_version(&()),
            "kind": CachedImage::kind(&()),
            "metadata": {"name": image.name_any(), "uid": image.uid()},
            "status": status,
        });
        let by = PatchParams::apply(FIELD_MANAGER).force();
        let written = bounded(self.images.patch_status(&image.name_any(), &by, &Patch::Apply(&patch))).await?;
        if let Some(event) = event(image.status.as_ref(), status) {
            self.events.tell(&written.object_ref(&()), event).await;
        }
        Ok(written)
    }

    /// Deletes an image whose time is over, as it was when that was decided: not one that has changed since. One that is
    /// gone is fine.
    pub(crate) async fn expire(&self, image: &CachedImage) -> Result<(), kube::Error> {
        let _turn = self.writes.acquire().await;
        let (uid, resource_version) = (image.uid(), image.resource_version());
        let as_it_was = DeleteParams::default().preconditions(Preconditions { uid, resource_version });
        match bounded(self.images.delete(&image.name_any(), &as_it_was)).await {
            Ok(_) => {
                self.events.tell(&image.object_ref(&()), end(image)).await;
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The Event for the end of an image.
fn end(image: &CachedImage) -> Event {
    let since = image.status.as_ref().and_then(|status| status.unused_since.as_ref());
    let since = since.map_or_else(String::new, |since| format!(" since {}", since.0));
    Event {
        type_: EventType::Normal,
        reason: "Expired".to_owned(),
        note: Some(format!("Nothing has used it{since}: it is removed from the registry.")),
        action: "Expire".to_owned(),
        secondary: None,
    }
}

/// The Event for a change of status; `None` where only details changed.
fn event(before: Option<&CachedImageStatus>, after: &CachedImageStatus) -> Option<Event> {
    let ready = after.ready()?;
    let same = |last: &&Condition| last.status == ready.status && last.reason == ready.reason;
    if before.and_then(CachedImageStatus::ready).is_some_and(|last| same(&last)) {
        return None;
    }
    let expected = matches!(reason(after), Some(Reason::Cached | Reason::Copying));
    Some(Event {
        type_: if expected { EventType::Normal } else { EventType::Warning },
        reason: ready.reason.clone(),
        note: Some(ready.message.clone()),
        action: "Cache".to_owned(),
        secondary: None,
    })
}
