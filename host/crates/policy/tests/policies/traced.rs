//! The spans of policies: one for each that a request asks, on whichever threads it is answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_registry_core::TRACES;
use cache_registry_policy::{Limits, PolicySet};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

use crate::guest::{Answer, filter, filter_and_rewriter, filter_answering, rewriter_answering};
use crate::{LIMITS, decide, engine, engine_with, policy, set_of};

/// The spans for traces in their order, and what happened in them.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Span>>>);

#[derive(Debug, Default)]
struct Span {
    id: Option<Id>,
    parent: String,
    fields: Fields,
    events: Vec<String>,
}

#[derive(Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != TRACES {
            return;
        }
        assert_eq!(attributes.metadata().name(), "policy");
        let parent = context.span(id).and_then(|span| span.parent()).map_or("", |parent| parent.name()).to_owned();
        let mut span = Span { id: Some(id.clone()), parent, ..Span::default() };
        attributes.record(&mut span.fields);
        self.0.lock().unwrap().push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(span) = self.0.lock().unwrap().iter_mut().find(|span| span.id.as_ref() == Some(id)) {
            values.record(&mut span.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(within) = context.event_span(event).map(|span| span.id()) else { return };
        if let Some(span) = self.0.lock().unwrap().iter_mut().find(|span| span.id.as_ref() == Some(&within)) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            span.events.push(fields.get("message").to_owned());
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        // Ids are used again.
        if let Some(span) = self.0.lock().unwrap().iter_mut().find(|span| span.id.as_ref() == Some(&id)) {
            span.id = None;
        }
    }
}

/// The spans of a review of these images.
async fn spans(set: &PolicySet, images: &[&str]) -> Vec<Span> {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(registry().with(seen.clone()));
    decide(set, images).instrument(tracing::info_span!("review")).await;
    let spans: Vec<_> = seen.0.lock().unwrap().drain(..).collect();
    for span in &spans {
        assert_eq!((&span.id, &*span.parent), (&None, "review"), "one that has ended, within the review: {span:?}");
    }
    spans
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.fields.get("policy")).collect()
}

#[tokio::test]
async fn each_that_is_asked_has_one_and_no_other_has() {
    let engine = engine();
    let both = filter_and_rewriter("", "", "");
    let rewriter = rewriter_answering(&Answer::NoOpinion);
    let both = set_of(&engine, vec![policy(&engine, "both", &both), policy(&engine, "rewriter", &rewriter)]);
    let asked = spans(&both, &["a:1", "b:1"]).await;
    assert_eq!(names(&asked), ["both", "default-filter", "rewriter", "default-rewrite"]);
    assert!(asked.iter().all(|span| span.fields.get("cache_registry.failure").is_empty()), "{asked:?}");

    let ignore = set_of(&engine, vec![policy(&engine, "ignore", &filter_answering(&Answer::Ignore("no")))]);
    assert_eq!(names(&spans(&ignore, &["a:1"]).await), ["ignore"]);
    assert!(spans(&ignore, &[]).await.is_empty());
}

/// It says something, is stopped in the middle and goes on in the slow lane, and its failure is told when it is back.
#[tokio::test]
async fn one_that_fails_elsewhere_has_one_that_says_so() {
    let engine = engine_with(&Limits { time: Duration::from_millis(20), ..LIMITS });
    let guest = filter("(call $log (i32.const 1) (i32.const 0) (i32.const 0)) (loop $forever (br $forever))");
    let looping = set_of(&engine, vec![policy(&engine, "looping", &guest)]);
    let failed = spans(&looping, &["a:1", "b:1"]).await;
    assert_eq!(names(&failed), ["looping"]);
    assert_eq!(failed[0].fields.get("cache_registry.failure"), "time");
    assert_eq!(failed[0].events, ["policy says", "policy failed: policy looping took longer than 20ms"]);
}
