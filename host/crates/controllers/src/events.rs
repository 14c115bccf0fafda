use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, Recorder, Reporter};

use crate::FIELD_MANAGER;
use crate::lease::bounded;

/// The longest note that an Event may have, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Tells by Events what happened. They are a courtesy: what matters stands in the objects themselves.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl Events {
    /// `identity` is named as the reporter.
    pub(crate) fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells something of an object. A note that is too long is cut.
    pub(crate) async fn tell(&self, about: &ObjectReference, mut event: Event) {
        if let Some(note) = &mut event.note {
            note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        }
        if let Err(error) = bounded(self.0.publish(&event, about)).await {
            tracing::debug!(object = about.name, %error, "the Event could not be published");
        }
    }
}
