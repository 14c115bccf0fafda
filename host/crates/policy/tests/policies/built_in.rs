//! The decision functions natively and as components: one table, the same answers.

use std::sync::Arc;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Verdict};
use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{Engine, HostFacts, Member, PolicySet};
use rstest::rstest;

use crate::{LIMITS, cached, container, decide, engine, ignored, load, nobody};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn set() -> PolicySet {
    let facts = HostFacts { own_registries: own_registries(), ..HostFacts::default() };
    PolicySet::built_in(Engine::new(&LIMITS, facts).unwrap(), &ReleaseSettings::default(), nobody()).unwrap()
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
    let settings = ReleaseSettings::default().with("default-filter", "");
    let rules = rules.with_settings(&settings).unwrap();
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
#[case::of_nodes(
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:1",
    PullPolicy::Always,
    Some(
        "nodes pull it with credentials of their own; to have it cached, give its pods a pull secret and take \
         *.dkr.ecr.*.amazonaws.com out of controllers.webhook.nodeRegistries"
    )
)]
#[case::like_one_of_nodes("mine.azurecr.io.example/a:1", PullPolicy::Always, None)]
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

/// One image of each: by account, region and project, as its cloud names them.
#[rstest]
#[case("123456789012.dkr.ecr.eu-west-1.amazonaws.com")]
#[case("123456789012.dkr-ecr.eu-west-1.on.aws")]
#[case("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn")]
#[case("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn")]
#[case("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com")]
#[case("123456789012.dkr-ecr-fips.us-east-1.on.aws")]
#[case("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov")]
#[case("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov")]
#[case("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk")]
#[case("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov")]
#[case("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu")]
#[case("gcr.io")]
#[case("eu.gcr.io")]
#[case("europe-west1-docker.pkg.dev")]
#[case("container.cloud.google.com")]
#[case("mine.azurecr.io")]
#[case("mine.azurecr.cn")]
#[case("mine.azurecr.de")]
#[case("mine.azurecr.us")]
#[tokio::test]
async fn what_kubelets_of_clouds_have_credentials_for_is_left_alone(#[case] registry: &str) {
    let verdicts = decide(&set(), &[&format!("{registry}/project/app:1")]).await;
    let Decision::LeftAlone { reason } = &verdicts[0].decision else { panic!("{verdicts:?}") };
    assert!(reason.starts_with("nodes pull it with credentials of their own"), "{reason}");
}

#[rstest]
#[case("docker.io/library/nginx:1")]
#[case("ghcr.io/a/b:1")]
#[case("quay.io/a/b:1")]
#[case("registry.k8s.io/pause:3")]
#[case("public.ecr.aws/a/b:1")]
#[case("mcr.microsoft.com/a:1")]
#[tokio::test]
async fn what_everybody_may_pull_is_cached(#[case] image: &str) {
    assert_eq!(decide(&set(), &[image]).await, [cached(image)]);
}

#[tokio::test]
async fn a_release_says_from_where_nodes_pull_by_themselves() {
    let engine = engine();
    let release = ReleaseSettings { node_registries: vec!["reg.example/private".to_owned()] };
    let members = built_in::load_for(&engine, &release).unwrap().map(Member::from);
    let set = PolicySet::new(engine, members.into(), nobody()).unwrap();
    let verdicts = decide(&set, &["reg.example/private/a:1", "reg.example/public/a:1", "mine.azurecr.io/a:1"]).await;
    assert!(matches!(verdicts[0].decision, Decision::LeftAlone { .. }), "{verdicts:?}");
    assert_eq!(verdicts[1..], ["reg.example/public/a:1", "mine.azurecr.io/a:1"].map(cached));
}

#[test]
fn a_release_that_names_none_is_refused_in_words() {
    let release = ReleaseSettings { node_registries: vec!["https://gcr.io".to_owned()] };
    let error = built_in::load_for(&engine(), &release).unwrap_err().to_string();
    assert!(error.contains("\"https://gcr.io\" is not a registry as a kubelet's matchImages"), "{error}");
}

#[rstest]
#[case("default-filter", r#"{"registries":["http://reg.internal"]}"#, "\"http://reg.internal\" is not a registry host")]
#[case("default-filter", r#"{"registry":["reg.internal"]}"#, "the settings are lists of registries")]
#[case(
    "default-filter",
    r#"{"nodeRegistries":["*.azurecr.io/*"]}"#,
    "\"*.azurecr.io/*\" is not a registry as a kubelet's"
)]
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
