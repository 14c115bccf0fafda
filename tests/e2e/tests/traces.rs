//! What a collector is told, and what it can't disturb. The collector is OpenTelemetry's; the API server and the registry
//! send it theirs.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_bed::{Answer, Bed, CacheKind, IpVersion, Node, Options, Part, Span, pod, until};
use cache_registry_e2e::{PolicyMaps, Published, WebhookConnection, note, publish, review_of, run, tests};
use cache_registry_guests::filter;
use futures::future::try_join_all;
use http::{Method, Request};
use serde_json::{Value, json};

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::Guarded, traces: true, ..Options::default() },
        tests![
            a_pod_is_one_trace_from_who_asks_over_the_api_server_to_the_webhook,
            a_policy_that_fails_says_so_in_its_span_and_in_a_line_of_its_review,
            a_copy_is_one_trace_to_the_registry,
            a_pull_goes_on_with_the_trace_of_who_asks,
            no_span_tells_a_secret,
            a_collector_that_is_not_trusted_is_told_in_words,
            a_collector_that_is_away_disturbs_nobody,
            a_collector_that_hangs_disturbs_nobody,
        ],
    )
}

/// Spans are sent every 5 s.
const LONGEST: Duration = Duration::from_secs(30);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKER: &str = "00f067aa0ba902b7";

/// The first span that is like this.
async fn span(bed: &mut Bed, what: &str, is_it: impl Fn(&Span) -> bool) -> Result<Span> {
    let collector = bed.collector()?;
    until(format!("a span of {what}"), LONGEST, async || Ok(collector.spans()?.into_iter().find(&is_it))).await
}

/// The header that names a trace, of which its asker sends its own spans or does not.
fn traceparent(trace: &str, sent: bool) -> String {
    format!("00-{trace}-{ASKER}-{}", if sent { "01" } else { "00" })
}

async fn a_pod_is_one_trace_from_who_asks_over_the_api_server_to_the_webhook(bed: &mut Bed) -> Result<()> {
    let trace = TRACE.replace('4', "7");
    create_pod(bed, "traced", &trace).await?;

    let review = span(bed, "the review", |span| span.name == "review" && span.trace == trace).await?;
    assert_eq!((&*review.service, &*review.role), ("cache-registry", "webhook"));
    assert_eq!(review.attribute("k8s.pod.name"), "traced");
    assert_eq!(review.attribute("cache_registry.outcome"), "patched");
    for policy in ["default-filter", "default-rewrite"] {
        let asked = span(bed, policy, |span| span.parent == review.id && span.attribute("policy") == policy).await?;
        assert_eq!((&*asked.name, &*asked.attribute("cache_registry.failure")), ("policy", ""));
    }
    let caller = span(bed, "who asks the webhook", |span| span.id == review.parent).await?;
    assert_eq!((&*caller.trace, &*caller.service), (&*trace, "apiserver"), "{caller:?}");
    Ok(())
}

async fn a_policy_that_fails_says_so_in_its_span_and_in_a_line_of_its_review(bed: &mut Bed) -> Result<()> {
    let policies = PolicyMaps::of(bed);
    policies.bring("trapping", &filter("unreachable")).await?;
    let trace = TRACE.replace('4', "9");
    create_pod(bed, "trapped", &trace).await?;
    policies.clear().await?;

    let failed = |span: &Span| span.trace == trace && span.attribute("policy") == "trapping";
    let failed = span(bed, "the policy", failed).await?;
    assert_eq!((&*failed.name, &*failed.attribute("cache_registry.failure")), ("policy", "trap"));
    ensure!(
        failed.text.contains("policy failed: policy trapping panicked"),
        "its failure is an event: {}",
        failed.text
    );
    let review = span(bed, "its review", |span| span.id == failed.parent).await?;
    assert_eq!(review.name, "review");
    let log = bed.webhook.log();
    let line = log.lines().find(|line| line.contains("policy failed")).context("it is not in the log")?;
    ensure!(line.contains(" review{uid=") && !line.contains("policy{"), "{line}");
    Ok(())
}

async fn a_copy_is_one_trace_to_the_registry(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "copied").await?;
    let is_copy = |span: &Span| span.name == "copy" && span.attribute("image") == published.source;
    let copy = span(bed, "the copy", is_copy).await?;
    assert_eq!((&*copy.role, &*copy.parent), ("controllers", ""));
    span(bed, "the registry", |span| span.trace == copy.trace && span.service != "cache-registry").await?;
    Ok(())
}

async fn a_pull_goes_on_with_the_trace_of_who_asks(bed: &mut Bed) -> Result<()> {
    let hit = cached(bed, "pulled").await?;
    let miss = publish(bed, "pulled-from-upstream").await?;
    // The one that its asker does not send comes first: it would be there before the other.
    let (unsent, other) = (TRACE.replace('4', "5"), publish(bed, "pulled-and-not-sent").await?);
    for (trace, sent, published) in [(&*unsent, false, &other), (TRACE, true, &hit), (TRACE, true, &miss)] {
        let answer = ask(&bed.a, published, Some(&traceparent(trace, sent))).await?;
        assert_eq!(answer.status, 200);
    }
    let pull_of = |published: &Published| {
        let name = format!("docker.io/{}", published.repository);
        move |span: &Span| span.name == "pull" && span.attribute("cache_registry.repository") == name
    };
    for (published, leg) in [(&hit, "cache"), (&miss, "upstream")] {
        let pull = span(bed, "the pull", pull_of(published)).await?;
        assert_eq!((&*pull.role, &*pull.trace, &*pull.parent), ("proxy", TRACE, ASKER));
        assert_eq!(pull.attribute("cache_registry.served_by"), leg);
        span(bed, leg, |span| span.parent == pull.id && span.attribute("leg") == leg).await?;
    }
    let is_registry = |span: &Span| span.trace == TRACE && span.service != "cache-registry";
    let registry = span(bed, "the registry", is_registry).await?;
    let caller = span(bed, "its caller", |span| span.id == registry.parent || span.id == registry.id).await?;
    ensure!(caller.trace == TRACE, "{caller:?}");
    // The registry sends whatever it is asked.
    let is_ours = |span: &Span| span.trace == unsent && span.service == "cache-registry";
    let sent_anyway = bed.collector()?.spans()?.into_iter().find(is_ours);
    ensure!(sent_anyway.is_none(), "its asker does not send it: {sent_anyway:?}");
    Ok(())
}

async fn no_span_tells_a_secret(bed: &mut Bed) -> Result<()> {
    let secrets = bed.mount_registry_credentials().await?;
    let published = cached(bed, "secret").await?;
    ask(&bed.a, &published, Some(&traceparent(&TRACE.replace('4', "6"), true))).await?;
    span(bed, "a copy", |span| span.name == "copy" && span.attribute("image") == published.source).await?;
    span(bed, "a pull", |span| span.name == "pull" && span.text.contains("library/secret")).await?;
    let passwords: Vec<&str> = secrets.values().filter_map(|line| line.split_once(':')).map(|(_, word)| word).collect();
    ensure!(passwords.iter().filter(|word| word.len() > 8).count() >= 2, "no passwords to look for");
    let ours: Vec<_> = bed.collector()?.spans()?.into_iter().filter(|span| span.service == "cache-registry").collect();
    ensure!(ours.len() > 4, "{ours:#?}");
    for span in ours {
        let text = span.text.to_ascii_lowercase();
        let told = ["authorization", "bearer ", "basic "].into_iter().find(|word| text.contains(word));
        ensure!(told.is_none() && !passwords.iter().any(|word| span.text.contains(word.trim())), "{}", span.text);
    }
    Ok(())
}

async fn a_collector_that_is_not_trusted_is_told_in_words(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "untrusted").await?;
    // Another certificate than that of the collector's authority.
    let (trusted, other) = (bed.folder().join("ca.crt"), bed.folder().join("webhook.crt"));
    let from = bed.b.proxy.log().len();
    restart(&mut bed.b.proxy, &other).await?;
    let trace = TRACE.replace('4', "8");
    assert_eq!(ask(&bed.b, &published, Some(&traceparent(&trace, true))).await?.status, 200);
    let line = until("it to be told", LONGEST, async || {
        let log = bed.b.proxy.log().split_off(from);
        Ok(log.lines().find(|line| line.contains("the collector does not take traces")).map(ToOwned::to_owned))
    })
    .await?;
    ensure!(line.contains("https://") && line.contains("invalid peer certificate: UnknownIssuer"), "{line}");
    note!("{line}");
    restart(&mut bed.b.proxy, &trusted).await?;
    let sent =
        bed.collector()?.spans()?.into_iter().find(|span| span.trace == trace && span.service == "cache-registry");
    ensure!(sent.is_none(), "it was sent to somebody who is not trusted: {sent:?}");
    Ok(())
}

async fn restart(part: &mut Part, authority: &Path) -> Result<()> {
    part.kill().await?;
    part.set("SSL_CERT_FILE", &authority.display().to_string());
    part.start().await
}

async fn a_collector_that_is_away_disturbs_nobody(bed: &mut Bed) -> Result<()> {
    bed.collector()?.part.kill().await?;
    undisturbed(bed, "refused").await
}

async fn a_collector_that_hangs_disturbs_nobody(bed: &mut Bed) -> Result<()> {
    bed.collector()?.part.freeze()?;
    undisturbed(bed, "hanging").await
}

/// For a review or a pull, on a machine that is busy with other tests: less than the exporter waits for its collector.
const PROMPT: Duration = Duration::from_secs(2);

/// How long a role may take to end: the webhook still answers for 3 s, and the last spans are waited for 2 s.
const END: Duration = Duration::from_secs(9);

/// Together more reviews than the queue of a role holds.
const CONNECTIONS: usize = 25;
const EACH: usize = 100;

/// Reviews and pulls are answered, and the roles end in their time, whatever the collector does.
async fn undisturbed(bed: &mut Bed, name: &str) -> Result<()> {
    let published = cached(bed, name).await?;
    let from = bed.webhook.log().len();
    let began = Instant::now();
    let slowest = try_join_all((0..CONNECTIONS).map(|_| reviews(bed, name))).await?;
    let took = began.elapsed();
    let mut slowest = slowest.into_iter().max().unwrap_or_default();
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(ask(&bed.a, &published, None).await?.status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    ensure!(slowest < PROMPT, "the slowest took {slowest:?}");
    let many = CONNECTIONS * EACH;
    note!("{name}: {many} reviews in {took:?}; the slowest review or pull took {slowest:?}");

    // Told once, however many batches are lost.
    let log = until("it to be told", LONGEST, async || {
        let log = bed.webhook.log().split_off(from);
        Ok(log.contains("spans are lost until it does").then_some(log))
    })
    .await?;
    assert_eq!(log.matches("spans are lost until it does").count(), 1, "{log}");

    let controllers = bed.controllers.first_mut().context("no controllers")?;
    for part in [&mut bed.webhook, controllers, &mut bed.a.proxy] {
        ends(part).await.with_context(|| part.name().to_owned())?;
    }
    Ok(())
}

/// Asks for the same pod again and again, and says how long the slowest answer took.
async fn reviews(bed: &Bed, name: &str) -> Result<Duration> {
    let pod = json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "app", "image": name }] } });
    let review = review_of(&pod);
    let mut webhook = WebhookConnection::open(bed).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..EACH {
        let asked = Instant::now();
        let (status, answer) = webhook.review(&review).await?;
        ensure!(status == 200 && answer["response"]["patch"] != Value::Null, "{status}: {answer}");
        slowest = slowest.max(asked.elapsed());
    }
    Ok(slowest)
}

async fn ends(part: &mut Part) -> Result<()> {
    let began = Instant::now();
    part.terminate()?;
    let status = part.ended(END).await?;
    ensure!(status.success(), "{status}");
    note!("{} ended within {:?}", part.name(), began.elapsed());
    Ok(())
}

/// Creates a pod within a trace.
async fn create_pod(bed: &Bed, name: &str, trace: &str) -> Result<()> {
    let containers = json!([{ "name": "app", "image": format!("{name}:1.0") }]);
    let request = Request::post("/api/v1/namespaces/default/pods")
        .header("content-type", "application/json")
        .header("traceparent", traceparent(trace, true))
        .body(serde_json::to_vec(&pod(name, &containers))?)?;
    bed.control_plane.client().request_text(request).await?;
    Ok(())
}

/// Publishes an image, creates a pod that uses it, and waits until it is cached.
async fn cached(bed: &Bed, name: &str) -> Result<Published> {
    let published = publish(bed, name).await?;
    bed.objects().create_pod(name, &published.source).await?;
    bed.objects().cached(&published.source).await?;
    Ok(published)
}

/// Pulls a manifest as containerd does, within a trace.
async fn ask(node: &Node, published: &Published, trace: Option<&str>) -> Result<Answer> {
    let path = format!("/v2/docker.io/{}/manifests/1.0", published.repository);
    let headers: Vec<_> = trace.iter().map(|trace| ("traceparent", *trace)).collect();
    node.request(Method::GET, &path, IpVersion::V4, &headers).await
}
