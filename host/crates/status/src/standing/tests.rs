use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, since: i64) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: format!("it is {reason}"),
        last_transition_time: Time(at(since)),
        observed_generation: None,
    }
}

fn image(source: &str, conditions: Vec<Condition>, expires_at: Option<i64>) -> CachedImage {
    let mut image =
        CachedImage::new("any", cache_registry_api::CachedImageSpec { source_image: source.to_owned(), retain: false });
    let expires_at = expires_at.map(|second| Time(at(second)));
    image.status = Some(CachedImageStatus { conditions, size: Some(100), expires_at, ..CachedImageStatus::default() });
    image
}

fn cached(since: i64) -> Condition {
    condition("Ready", "True", "Cached", since)
}

#[test]
fn what_is_missing_is_told_longest_first() {
    let mut new = image("docker.io/library/new:1", vec![], None);
    new.status = None;
    let images = vec![
        image("docker.io/library/a:1", vec![cached(1)], None),
        new,
        image("docker.io/library/b:1", vec![condition("Ready", "False", "NotFound", 9)], None),
        image("quay.io/c:1", vec![condition("Ready", "False", "RateLimited", 5)], None),
    ];
    let standing = Standing::of(&Seen { images, ..Seen::default() });
    let told: Vec<_> = standing.missing.iter().map(|missing| (&*missing.image, &*missing.reason)).collect();
    let expected =
        [("quay.io/c:1", "RateLimited"), ("docker.io/library/b:1", "NotFound"), ("docker.io/library/new:1", "Copying")];
    assert_eq!(told, expected);
    assert_eq!(standing.missing[1].message, "it is NotFound");
    assert_eq!((standing.images.total, standing.images.bytes), (4, 300));
    let reasons: Vec<_> = standing.images.reasons.iter().map(|(reason, count)| (&**reason, *count)).collect();
    assert_eq!(reasons, [("Cached", 1), ("Copying", 1), ("NotFound", 1), ("RateLimited", 1)]);
}

#[test]
fn what_upstreams_say_is_told_by_their_host() {
    let up_to_date = |status, since| condition("UpToDate", status, "Any", since);
    let images = vec![
        image("docker.io/library/a:1", vec![cached(1), up_to_date("True", 2)], None),
        image("docker.io/library/b:1", vec![cached(1), up_to_date("Unknown", 7)], None),
        image("docker.io/library/c:1", vec![cached(1), up_to_date("False", 5)], None),
        image("quay.io/d:1", vec![condition("Ready", "False", "RegistryUnreachable", 5)], None),
        image("quay.io/e:1", vec![condition("Ready", "False", "UpstreamUnreachable", 8)], None),
        image("no reference", vec![condition("Ready", "False", "InvalidReference", 8)], None),
    ];
    let upstreams = Standing::of(&Seen { images, ..Seen::default() }).upstreams;
    let new = |host: &str, images, failing, unasked, gone, since| Upstream {
        host: host.to_owned(),
        images,
        failing,
        unasked,
        gone,
        since: Some(at(since)),
    };
    assert_eq!(upstreams, [new("docker.io", 3, 0, 1, 1, 5), new("quay.io", 2, 1, 0, 0, 8)]);
}

#[test]
fn what_expires_is_told_soonest_first() {
    let images = vec![
        image("docker.io/library/later:1", vec![cached(1)], Some(90)),
        image("docker.io/library/used:1", vec![cached(1)], None),
        image("docker.io/library/sooner:1", vec![cached(1)], Some(50)),
    ];
    let expiring = Standing::of(&Seen { images, ..Seen::default() }).expiring;
    let told: Vec<_> = expiring.iter().map(|expiring| (&*expiring.image, expiring.expires_at)).collect();
    assert_eq!(told, [("docker.io/library/sooner:1", at(50)), ("docker.io/library/later:1", at(90))]);
}

#[test]
fn proxies_are_added_up_and_those_that_do_not_tell_are_counted() {
    let page = "cache_registry_proxy_requests_total{served_by=\"cache\",status=\"200\"} 4\n\
        cache_registry_proxy_requests_total{served_by=\"memory\",status=\"200\"} 2\n\
        cache_registry_proxy_requests_total{served_by=\"nobody\",status=\"404\"} 1\n\
        cache_registry_proxy_sent_bytes_total{leg=\"upstream\"} 500\n";
    let sick = "cache_registry_proxy_breaker_state 2\n";
    let proxies = vec![Ok(Samples::read(page)), Err("p-2: gone".to_owned()), Ok(Samples::read(&[page, sick].concat()))];
    let pulls = Standing::of(&Seen { proxies, ..Seen::default() }).pulls;
    let expected = Pulls {
        proxies: 3,
        told: 2,
        untold: Some("p-2: gone".to_owned()),
        without_cache: 1,
        requests: Served { cache: 12, upstream: 0, nobody: 2 },
        bytes: Served { cache: 0, upstream: 1000, nobody: 0 },
    };
    assert_eq!(pulls, expected);
}
