use std::fs;
use std::path::Path;

use cache_registry_core::{Owner, PodFacts};
use rstest::rstest;

use crate::components::EXAMPLES;
use crate::{cached_from, decide, engine, ignored, load, pod};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BUILT_IN: [&str; 2] = ["default-filter", "default-rewrite"];
const NGINX: &str = "docker.io/library/nginx:1.27";

fn labelled(key: &str, value: &str) -> PodFacts {
    PodFacts { labels: [(key.to_owned(), value.to_owned())].into(), ..pod("shop") }
}

fn owned_by(api_version: &str, kind: &str) -> PodFacts {
    let owner = Owner { api_version: api_version.to_owned(), kind: kind.to_owned(), name: "db".to_owned() };
    PodFacts { owner: Some(owner), ..pod("shop") }
}

#[rstest]
#[case::namespace(pod("dev"), Some("pods in the namespace dev are skipped"))]
#[case::label(labelled("team", "x"), Some("pods labelled team=x are skipped"))]
#[case::another_label(labelled("team", "y"), None)]
#[tokio::test]
async fn skip_leaves_pods_alone_by_namespace_or_label(#[case] pod: PodFacts, #[case] reason: Option<&str>) {
    let verdict = decide("skip", r#"{"namespaces":["dev"],"labels":{"team":"x"}}"#, pod, "nginx:1.27").await;
    assert_eq!(verdict, reason.map_or_else(|| cached_from(NGINX, BUILT_IN), |reason| ignored("skip", reason)));
}

#[tokio::test]
async fn only_registries_leaves_images_of_others_alone() {
    let settings = r#"{"registries":["docker.io"]}"#;
    let named = decide("only-registries", settings, pod("shop"), "nginx:1.27").await;
    assert_eq!(named, cached_from(NGINX, BUILT_IN));
    let other = decide("only-registries", settings, pod("shop"), "ghcr.io/acme/app:1").await;
    assert_eq!(other, ignored("only-registries", "images of ghcr.io are not cached"));
}

#[tokio::test]
async fn mirror_fills_the_cache_from_the_mirror() {
    let settings = r#"{"mirrors":{"docker.io":"mirror.example:5000/dockerhub"}}"#;
    let [filter, rewrite] = BUILT_IN;
    let mirrored = decide("mirror", settings, pod("shop"), "nginx:1.27").await;
    assert_eq!(mirrored, cached_from("mirror.example:5000/dockerhub/library/nginx:1.27", [filter, "mirror"]));
    let pinned = decide("mirror", settings, pod("shop"), &format!("acme/app@{DIGEST}")).await;
    let source = format!("mirror.example:5000/dockerhub/acme/app@{DIGEST}");
    assert_eq!(pinned, cached_from(&source, [filter, "mirror"]));
    let other = decide("mirror", settings, pod("shop"), "ghcr.io/acme/app:1").await;
    assert_eq!(other, cached_from("ghcr.io/acme/app:1", [filter, rewrite]));
}

#[tokio::test]
async fn require_digest_leaves_tags_alone() {
    let settings = r#"{"except":["reg.example"]}"#;
    let reason = "it has no digest, and only images with one are cached: write it like nginx@sha256:…";
    let tagged = decide("require-digest", settings, pod("shop"), "nginx:1.27").await;
    assert_eq!(tagged, ignored("require-digest", reason));
    for trusted in [format!("docker.io/library/nginx:1.27@{DIGEST}"), "reg.example/app:1".to_owned()] {
        let verdict = decide("require-digest", settings, pod("shop"), &trusted).await;
        assert_eq!(verdict, cached_from(&trusted, BUILT_IN));
    }
}

#[rstest]
#[case::by_default("", owned_by("postgresql.cnpg.io/v1", "Cluster"), Some("Cluster"))]
#[case::named(r#"{"owners":[{"group":"kafka.example"}]}"#, owned_by("kafka.example/v1", "Broker"), Some("Broker"))]
#[case::another_kind("", owned_by("apps/v1", "ReplicaSet"), None)]
#[case::nobody("", pod("shop"), None)]
#[tokio::test]
async fn ignore_owner_leaves_the_operators_pods_alone(
    #[case] settings: &str,
    #[case] pod: PodFacts,
    #[case] kind: Option<&str>,
) {
    let verdict = decide("ignore-owner", settings, pod, "nginx:1.27").await;
    let expected = match kind {
        None => cached_from(NGINX, BUILT_IN),
        Some(kind) => ignored("ignore-owner", &format!("it belongs to {kind} db, whose operator minds renamed images")),
    };
    assert_eq!(verdict, expected);
}

#[rstest]
#[case("ignore-owner", r#"{"owners":[{"group":"apps"}]}"#, "\"apps\" is not the API group of an operator")]
#[case("ignore-owner", r#"{"owners":[{"kind":"Cluster"}]}"#, "missing field `group`")]
#[case("mirror", r#"{"mirrors":{"docker.io":"mirror/hub"}}"#, "\"mirror/hub\" is not a mirror of docker.io")]
#[case("mirror", r#"{"mirrors":{"docker.io":"mirror.example/Hub"}}"#, "\"mirror.example/Hub\" is not a mirror")]
#[case("only-registries", "", "name registries, or nothing is cached")]
#[case("require-digest", r#"{"except":"reg.example"}"#, "invalid type: string \"reg.example\", expected a sequence")]
#[case("skip", r#"{"namespace":["dev"]}"#, "unknown field `namespace`, expected `namespaces` or `labels`")]
fn wrong_settings_are_refused_in_words(#[case] example: &str, #[case] settings: &str, #[case] words: &str) {
    let error = load(&engine(), example, settings).unwrap_err();
    assert_eq!(error.reason(), "settings");
    assert!(error.to_string().starts_with(&format!("the policy refuses its settings: {words}")), "{error}");
}

#[test]
fn the_settings_on_its_page_are_right() {
    for example in EXAMPLES {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/policies").join(example);
        let page = fs::read_to_string(page.with_extension("md")).unwrap();
        let (_, yaml) = page.split_once("```yaml\n").unwrap();
        let (yaml, _) = yaml.split_once("```").unwrap();
        let settings: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        load(&engine(), example, &settings.to_string()).unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}

#[test]
fn an_example_is_small_and_has_what_it_needs_and_no_more() {
    for example in EXAMPLES {
        let component = engine().compile(&crate::components::wasm(example)).unwrap();
        assert!(component.size() < 128 << 10, "{example}: {} bytes", component.size());
        assert!(component.checks(), "{example}");
        assert_eq!((component.filters(), component.rewrites()), (example != "mirror", example == "mirror"));
        let imports = component.imports();
        assert!(imports.iter().all(|import| import.starts_with("cache-registry:policy/")), "{example}: {imports:?}");
    }
}
