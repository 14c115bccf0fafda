use std::time::Duration;

use cache_registry_core::Hasher;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What is told to people by an Event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    /// What it is about.
    pub(crate) regarding: ObjectReference,
    pub(crate) news: News,
    /// What makes it another than the last of its kind about the same object. Replicas have the same, so that of all
    /// that tell the same, one is heard.
    pub(crate) occasion: String,
    pub(crate) note: String,
}

/// What has happened to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum News {
    /// A version is in force.
    Loaded,
    /// A version is not.
    Refused,
    /// It gave no usable answer.
    Failed,
}

/// Who tells it.
const REPORTER: &str = "cache-registry";

/// The longest note, in bytes
/// (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
const LONGEST_NOTE: usize = 1024;

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

impl News {
    /// The Event's reason.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Loaded => "PolicyLoaded",
            Self::Refused => "PolicyRefused",
            Self::Failed => "PolicyFailed",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Loaded | Self::Refused => "Load",
            Self::Failed => "Decide",
        }
    }
}

impl Notice {
    /// The Event, as `instance`, a pod, tells it.
    pub(crate) fn event(&self, instance: &str, at: Timestamp) -> Event {
        let of = self.regarding.name.as_deref().unwrap_or_default();
        let suffix = format!(".{}", self.hash());
        let start = &of[..of.floor_char_boundary(LONGEST_NAME - suffix.len())];
        // What ends a name's part may not be a dash or a dot, and may be what the cut left.
        let name = format!("{}{suffix}", start.trim_end_matches(['-', '.']));
        let note_end = self.note.floor_char_boundary(LONGEST_NOTE);
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(self.news.action().to_owned()),
            event_time: Some(MicroTime(at)),
            note: Some(self.note[..note_end].to_owned()),
            reason: Some(self.news.reason().to_owned()),
            regarding: Some(self.regarding.clone()),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(instance.to_owned()),
            type_: Some(if self.news == News::Loaded { "Normal" } else { "Warning" }.to_owned()),
            ..Event::default()
        }
    }

    /// The same in every replica.
    fn hash(&self) -> String {
        let uid = self.regarding.uid.as_deref().unwrap_or_default();
        let digest = Hasher::sha256(format!("{uid}\n{}\n{}", self.news.reason(), self.occasion).as_bytes());
        digest.digest().chars().take(16).collect()
    }
}

/// Writes Events, one after the other, beside what it tells of. A handle.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(mpsc::Sender<Notice>);

/// How many notices may wait. They are a courtesy: `/policies`, the log and the metrics say the same.
const MOST_WAITING: usize = 256;

/// How often an Event is tried to be written.
const ATTEMPTS: u32 = 4;

/// How long the API server may take for an Event.
const LONGEST_WRITE: Duration = Duration::from_secs(10);

impl Announcer {
    /// With the task that writes until the last handle is dropped. `instance` is a pod's name.
    pub(crate) fn new(client: Client, namespace: &str, instance: String) -> (Self, impl Future<Output = ()>) {
        let (sender, mut receiver) = mpsc::channel::<Notice>(MOST_WAITING);
        let events: Api<Event> = Api::namespaced(client, namespace);
        let write = async move {
            let mut forbidden = false;
            while let Some(notice) = receiver.recv().await {
                match write(&events, &notice.event(&instance, Timestamp::now())).await {
                    Ok(()) => forbidden = false,
                    Err(error) if is_forbidden(&error) => {
                        if !std::mem::replace(&mut forbidden, true) {
                            tracing::warn!(%error, "no Events: this ServiceAccount may not create them");
                        }
                    }
                    Err(error) => tracing::debug!(%error, note = notice.note, "an Event could not be written"),
                }
            }
        };
        (Self(sender), write)
    }

    /// One whose notices a test reads.
    #[cfg(test)]
    pub(crate) fn unwritten() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        (Self(sender), receiver)
    }

    pub(crate) fn tell(&self, notice: Notice) {
        if self.0.try_send(notice).is_err() {
            tracing::debug!("an Event is dropped: too many wait for the API server");
        }
    }
}

/// Creates an Event. That there is one already is fine: another replica was quicker.
async fn write(events: &Api<Event>, event: &Event) -> Result<(), kube::Error> {
    let mut pause = Duration::from_secs(1);
    let mut attempt = 1;
    loop {
        let written = timeout(LONGEST_WRITE, events.create(&PostParams::default(), event)).await;
        match written {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Ok(()),
            // What the API server refuses once it refuses again.
            Ok(Err(error @ kube::Error::Api(_))) if !is_transient(&error) => return Err(error),
            Ok(Err(error)) if attempt == ATTEMPTS => return Err(error),
            Err(_) if attempt == ATTEMPTS => return Ok(()),
            _ => {}
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
        pause *= 2;
    }
}

fn is_transient(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 429 || status.code >= 500)
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock_api::MockApi;
    use http::Method;
    use rstest::rstest;

    fn notice(news: News, occasion: &str, note: &str) -> Notice {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            name: Some("skip".to_owned()),
            namespace: Some("cache".to_owned()),
            uid: Some("7".to_owned()),
            ..ObjectReference::default()
        };
        Notice { regarding, news, occasion: occasion.to_owned(), note: note.to_owned() }
    }

    #[test]
    fn an_event_says_what_happened_to_which_configmap() {
        let event = notice(News::Refused, "5 not-wasm", "no").event("webhook-0", Timestamp::UNIX_EPOCH);
        insta::assert_json_snapshot!(event, @r#"
        {
          "apiVersion": "events.k8s.io/v1",
          "kind": "Event",
          "action": "Load",
          "eventTime": "1970-01-01T00:00:00.000000Z",
          "metadata": {
            "name": "skip.a640975515d1b07c",
            "namespace": "cache"
          },
          "note": "no",
          "reason": "PolicyRefused",
          "regarding": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "skip",
            "namespace": "cache",
            "uid": "7"
          },
          "reportingController": "cache-registry",
          "reportingInstance": "webhook-0",
          "type": "Warning"
        }
        "#);
        assert_eq!(notice(News::Loaded, "", "").event("", Timestamp::UNIX_EPOCH).type_.as_deref(), Some("Normal"));
    }

    #[test]
    fn what_is_told_twice_has_one_name() {
        let name = |notice: Notice, instance| notice.event(instance, Timestamp::now()).metadata.name.unwrap();
        let first = name(notice(News::Refused, "5 import", "a"), "webhook-0");
        assert_eq!(first, name(notice(News::Refused, "5 import", "b"), "webhook-1"));
        for other in [notice(News::Refused, "6 import", "a"), notice(News::Loaded, "5 import", "a")] {
            assert_ne!(first, name(other, "webhook-0"));
        }
    }

    #[test]
    fn names_and_notes_are_no_longer_than_they_may_be() {
        let mut long = notice(News::Failed, "", &"é".repeat(2000));
        long.regarding.name = Some(format!("{}.{}", "a".repeat(235), "b".repeat(17)));
        let event = long.event("webhook-0", Timestamp::UNIX_EPOCH);
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= LONGEST_NAME && !name.contains("..") && name.starts_with("aaa"), "{name}");
        assert_eq!(event.note.unwrap().len(), LONGEST_NOTE);
    }

    fn told(notices: u32) -> (MockApi, Announcer) {
        let (client, api) = MockApi::new();
        let (announcer, write) = Announcer::new(client, "cache", "webhook-0".to_owned());
        tokio::spawn(write);
        for number in 0..notices {
            announcer.tell(notice(News::Refused, &number.to_string(), "no"));
        }
        (api, announcer)
    }

    const PATH: &str = "/apis/events.k8s.io/v1/namespaces/cache/events";

    #[rstest]
    #[case::another_replica_was_quicker(409, "AlreadyExists")]
    #[case::it_may_not_write(403, "Forbidden")]
    #[case::it_is_not_taken(422, "Invalid")]
    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_refused_is_not_tried_again(#[case] code: u16, #[case] reason: &str) {
        let (mut api, _announcer) = told(2);
        let first = api.expect(Method::POST, PATH).await;
        let name = first.body["metadata"]["name"].clone();
        first.refuse(code, reason);
        let second = api.expect(Method::POST, PATH).await;
        assert_ne!(second.body["metadata"]["name"], name);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_tried_again_while_the_api_server_is_busy() {
        let (mut api, _announcer) = told(1);
        let mut names = Vec::new();
        for _ in 0..ATTEMPTS {
            let asked = api.expect(Method::POST, PATH).await;
            names.push(asked.body["metadata"]["name"].clone());
            asked.refuse(503, "ServiceUnavailable");
        }
        names.dedup();
        assert_eq!(names.len(), 1);
        assert!(api.is_quiet().await, "it is tried for ever");
    }
}
