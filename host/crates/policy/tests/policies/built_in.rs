//! The decision functions natively and as components: one table, the same answers.

use std::sync::Arc;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Verdict};
use cache_registry_policy::{Engine, HostFacts, Member, PolicySet, built_in};
use rstest::rstest;

use crate::{LIMITS, cached, container, decide, engine, ignored, load, nobody};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn set() -> PolicySet {
    let facts = HostFacts { own_registries: own_registries(), ..HostFacts::default() };
    PolicySet::built_in(Engine::new(&LIMITS, facts).unwrap(), nobody()).unwrap()
}

fn own_registries() -> Vec<String> {
    vec!["Cache.example".to_owned(), "registry.svc:5000".to_owned()]
}

/// The built-in policies as plain functions.
fn natively(container: &ContainerFacts) -> Verdict {
    let node = NodeAddress::default();
    let rules = default_filter::Rules::new(
        node.authority().to_owned(),
        own_registries().iter().map(|host| host.to_ascii_lowercase()).collect(),
    );
    let image = &container.image;
    let image = default_filter::Image {
        registry: image.registry().to_owned(),
        repository: image.repository().to_owned(),
        tag: image.tag().map(ToOwned::to_owned),
        digest: image.digest().map(ToString::to_string),
    };
    let asked = default_filter::Container {
        name: container.name.clone(),
        kind: default_filter::ContainerKind::Regular,
        pull_policy: match container.pull_policy {
            PullPolicy::Always => default_filter::PullPolicy::Always,
            PullPolicy::IfNotPresent => default_filter::PullPolicy::IfNotPresent,
            PullPolicy::Never => default_filter::PullPolicy::Never,
        },
    };
    match rules.verdict(&asked, &image) {
        default_filter::Verdict::Pass => panic!("it is the last"),
        default_filter::Verdict::Ignore(reason) => ignored("default-filter", &reason),
        default_filter::Verdict::Cache => {
            let rewritten =
                default_rewrite::rewritten(&image, |source| Ok(node.of(&source.parse().unwrap()).to_string())).unwrap();
            let (image, source) = (rewritten.image.parse().unwrap(), rewritten.source.parse().unwrap());
            let decision = Decision::Rewritten { image, source };
            let [cached_by, policy] = built_in::NAMES.map(|name| Some(name.to_owned()));
            Verdict { decision, policy, cached_by, warnings: Vec::new() }
        }
    }
}

#[rstest]
#[case::short("nginx", PullPolicy::Always, None)]
#[case::tag("reg.example/a/b/c:1.27", PullPolicy::IfNotPresent, None)]
#[case::port("reg.example:5000/app:1", PullPolicy::IfNotPresent, None)]
#[case::digest(&format!("reg.example/app@sha256:{HEX}"), PullPolicy::Always, None)]
#[case::tag_and_digest(&format!("nginx:1.27@sha256:{HEX}"), PullPolicy::Always, None)]
#[case::never("nginx", PullPolicy::Never, Some("imagePullPolicy is Never"))]
#[case::node_address(
    "localhost:7439/docker.io/library/nginx:1",
    PullPolicy::Always,
    Some("it is pulled through the cache already")
)]
#[case::own("cache.example/a:1", PullPolicy::Always, Some("cache.example is the cache's own registry"))]
#[case::own_with_port(
    "registry.svc:5000/a:1",
    PullPolicy::Always,
    Some("registry.svc:5000 is the cache's own registry")
)]
#[case::port_of_another("registry.svc:5001/a:1", PullPolicy::Always, None)]
#[tokio::test]
async fn components_decide_as_the_native_functions_do(
    #[case] image: &str,
    #[case] pull_policy: PullPolicy,
    #[case] ignored_for: Option<&str>,
) {
    let set = set();
    let container = ContainerFacts { pull_policy, ..container(image) };
    let expected = ignored_for.map_or_else(|| cached(image), |reason| ignored("default-filter", reason));
    assert_eq!(natively(&container), expected);
    assert_eq!(set.decide(Arc::new(PodFacts::default()), vec![container]).await, [expected]);
}

#[rstest]
#[case(ContainerKind::Init)]
#[case(ContainerKind::Regular)]
#[case(ContainerKind::Ephemeral)]
#[tokio::test]
async fn containers_of_every_kind_are_cached(#[case] kind: ContainerKind) {
    let set = set();
    let container = ContainerFacts { kind, ..container("a:1") };
    assert_eq!(set.decide(Arc::new(PodFacts::default()), vec![container]).await, [cached("a:1")]);
}

#[tokio::test]
async fn each_container_has_its_verdict_in_its_place() {
    let set = set();
    let own = ignored("default-filter", "cache.example is the cache's own registry");
    assert_eq!(decide(&set, &["a:1", "cache.example/b:1", "c:1"]).await, [cached("a:1"), own, cached("c:1")]);
    assert_eq!(decide(&set, &[]).await, []);
}

#[tokio::test]
async fn registries_in_the_settings_are_left_alone() {
    let engine = engine();
    let [_, rewrite] = built_in::load(&engine).unwrap();
    let settings = r#"{"registries":["Reg.internal:5000"]}"#;
    let filter = Arc::new(load(&engine, "default-filter", built_in::DEFAULT_FILTER, settings).unwrap());
    let members = [filter, rewrite].map(Member::from);
    let set = PolicySet::new(engine, members.into(), nobody()).unwrap();
    let named = ignored("default-filter", "images in reg.internal:5000 are left alone");
    assert_eq!(decide(&set, &["reg.internal:5000/a:1", "reg.internal/a:1"]).await, [named, cached("reg.internal/a:1")]);
}

#[rstest]
#[case("default-filter", r#"{"registries":["http://reg.internal"]}"#, "\"http://reg.internal\" is not a registry host")]
#[case("default-filter", r#"{"registry":["reg.internal"]}"#, "the one setting is a list of registry hosts")]
#[case("default-rewrite", r#"{"mirror":"reg.internal"}"#, "this policy has no settings")]
fn wrong_settings_are_refused_in_words(#[case] name: &str, #[case] settings: &str, #[case] words: &str) {
    let error = load(&engine(), name, built_in::wasm(name).unwrap(), settings).unwrap_err();
    assert_eq!(error.reason(), "settings");
    assert!(error.to_string().starts_with(&format!("the policy refuses its settings: {words}")), "{error}");
}

#[test]
fn a_wrong_registry_host_is_refused_at_the_start() {
    let facts = HostFacts { own_registries: vec!["http://registry.svc".to_owned()], ..HostFacts::default() };
    let error = Engine::new(&LIMITS, facts).unwrap_err().to_string();
    assert!(error.contains("\"http://registry.svc\" is not a registry host"), "{error}");
}

#[test]
fn the_components_are_small_and_import_nothing_of_wasi() {
    for component in [built_in::DEFAULT_FILTER, built_in::DEFAULT_REWRITE] {
        assert!(component.len() < 48 << 10, "{} bytes", component.len());
        assert!(!component.windows(5).any(|window| window == b"wasi:"));
    }
}
