use super::*;
use crate::standing::{Expiring, Missing, Upstream};
use cache_registry_api::{CollectionRecord, CollectionReport};

const NOW: i64 = 1_000_000;

fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds).unwrap()
}

fn shown(standing: &Standing) -> String {
    let mut out = Vec::new();
    write(standing, ago(0), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn bare() -> Standing {
    Standing {
        images: Images::default(),
        registry: None,
        pulls: Pulls::default(),
        upstreams: vec![],
        missing: vec![],
        expiring: vec![],
    }
}

#[test]
fn all_of_it_fits_a_terminal() {
    let standing = Standing {
        images: Images {
            total: 3,
            reasons: [("Cached".to_owned(), 2), ("NotFound".to_owned(), 1)].into(),
            bytes: 3 << 30,
        },
        registry: Some(Registry {
            replicas: 1,
            ready: 1,
            collecting: None,
            last_collection: Some(CollectionReport {
                ended: ago(90_000),
                seconds: 9,
                freed_blobs: 14,
                freed_bytes: Some(1 << 20),
                kept_blobs: Some(5),
                kept_bytes: Some(2 << 30),
            }),
            schedule: Some("0 3 * * 0".to_owned()),
        }),
        pulls: Pulls {
            proxies: 3,
            told: 2,
            untold: Some("p-2: it is gone".to_owned()),
            without_cache: 0,
            requests: Served { cache: 982, upstream: 18, nobody: 0 },
            bytes: Served { cache: 4 << 20, upstream: 0, nobody: 0 },
        },
        upstreams: vec![Upstream {
            host: "docker.io".to_owned(),
            images: 3,
            failing: 1,
            unasked: 0,
            gone: 1,
            since: Some(ago(7_300)),
        }],
        missing: vec![Missing {
            image: "docker.io/library/b:1".to_owned(),
            reason: "NotFound".to_owned(),
            since: Some(ago(60)),
            message: "upstream has no\u{1b}[2Jsuch tag".to_owned(),
        }],
        expiring: vec![Expiring { image: "docker.io/library/c:1".to_owned(), bytes: 512, expires_at: ago(-100_000) }],
    };
    let expected = "\
IMAGES    3: 2 Cached, 1 NotFound
SIZE      3.0 GiB in all images, shared layers counted for each; 2.0 GiB stored after the last garbage collection
REGISTRY  1 of 1 ready
GARBAGE   collected 1d1h ago: 1.0 MiB in 14 blobs freed, the registry was away for 9 s; schedule 0 3 * * 0
PULLS     from the cache 98.2 % of 1000 requests and 100.0 % of 4.0 MiB, as 2 of 3 proxies tell since they started; one does not tell: p-2: it is gone

UPSTREAM   IMAGES  FAILING  NOT ASKED  TAGS GONE  SINCE
docker.io  3       1        0          1          2h1m

NOT IN THE REGISTRY    REASON    SINCE  MESSAGE
docker.io/library/b:1  NotFound  1m     upstream has no [2Jsuch tag

EXPIRES NEXT           SIZE   IN
docker.io/library/c:1  512 B  1d3h
";
    assert_eq!(shown(&standing), expected);
}

#[test]
fn an_empty_cache_is_told_in_words_and_without_tables() {
    let text = shown(&bare());
    assert!(text.starts_with("IMAGES    none yet"), "{text}");
    assert!(text.contains("REGISTRY  not in this namespace") && text.contains("no proxy runs"), "{text}");
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn a_registry_that_is_stopped_says_what_for() {
    let collecting = Some(CollectionRecord { replicas: 1, who: "gc-1".to_owned(), since: ago(20) });
    let text = shown(&Standing { registry: Some(Registry { collecting, ..Registry::default() }), ..bare() });
    assert!(text.contains("REGISTRY  stopped for a garbage collection (gc-1) since 20s; pulls go upstream"), "{text}");
}

#[test]
fn of_a_bucket_it_is_not_told_how_many_bytes_there_are() {
    let report = r#"{"ended":"2026-11-24T20:00:00Z","seconds":9,"freedBlobs":3}"#;
    let last_collection = CollectionReport::read(report);
    let text = shown(&Standing { registry: Some(Registry { last_collection, ..Registry::default() }), ..bare() });
    assert!(text.contains("ago: 3 blobs freed, the registry was away for 9 s") && !text.contains("stored"), "{text}");
}

#[test]
fn a_long_table_is_cut_and_says_so() {
    let expiring = (0..13).map(|n| Expiring { image: format!("image-{n:02}"), bytes: 1, expires_at: ago(0) });
    let text = shown(&Standing { expiring: expiring.collect(), ..bare() });
    assert!(text.contains("image-09") && !text.contains("image-10"), "{text}");
    assert!(text.ends_with("and 3 more: kubectl get cachedimages\n"), "{text}");
}

#[test]
fn ages_have_two_units_at_most() {
    for (seconds, expected) in [(-5, "0s"), (0, "0s"), (61, "1m1s"), (3_600, "1h"), (266_400, "3d2h")] {
        assert_eq!(age(SignedDuration::from_secs(seconds)), expected);
    }
}
