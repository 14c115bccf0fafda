//! The example that skips pods, in languages whose toolchains bring a runtime of several megabytes: tested natively and
//! built as its readers would, from npm and `PyPI`, then asked through the real engine.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, PodFacts, PullPolicy, Verdict};
use cache_registry_policy::{Engine, HostFacts, Limits, Member, Metrics, PolicySet, built_in};
use prometheus_client::registry::Registry;
use rstest::rstest;

/// The memory is what policies have by default. The time is not, as a machine that runs tests may be busy.
const LIMITS: Limits =
    Limits { time: Duration::from_secs(5), memory: 32 << 20, concurrency: 1, wait: Duration::from_secs(20) };

const SETTINGS: &str = r#"{"namespaces":["dev"],"labels":{"team":"x"}}"#;

#[rstest]
#[case::javascript("skip-js", &["node", "--test"])]
#[case::python("skip-python", &["python3", "-m", "unittest"])]
fn the_decision_passes_its_native_test(#[case] example: &str, #[case] test: &[&str]) {
    succeed(Command::new(test[0]).args(&test[1..]).current_dir(folder(example)).env("PYTHONDONTWRITEBYTECODE", "1"));
}

#[rstest]
#[case::javascript("skip-js")]
#[case::python("skip-python")]
#[tokio::test]
async fn the_example_skips_as_its_settings_say(#[case] example: &str) {
    let engine = Engine::new(&LIMITS, HostFacts::default()).unwrap();
    let component = engine.compile(&build(example)).unwrap_or_else(|error| panic!("{example}: {error}"));

    let refused = engine.load(example, &component, r#"{"namespace":["dev"]}"#).unwrap_err();
    let words = r#"the policy refuses its settings: "namespace" is not a setting; there are "namespaces" and "labels""#;
    assert_eq!(refused.to_string(), words);

    let policy = Arc::new(engine.load(example, &component, SETTINGS).unwrap_or_else(|error| panic!("{error}")));
    let members = [policy].into_iter().chain(built_in::load(&engine).unwrap()).map(Member::from).collect();
    let set = PolicySet::new(engine, members, Metrics::register(&mut Registry::default()).into()).unwrap();
    assert_eq!(
        skipped(&set, "dev", &[]).await,
        (example.to_owned(), "pods in the namespace dev are skipped".to_owned())
    );
    assert_eq!(
        skipped(&set, "shop", &[("app", "web"), ("team", "x")]).await,
        (example.to_owned(), "pods labelled team=x are skipped".to_owned())
    );
    let Verdict { decision, policy, warnings, .. } = decide(&set, "shop", &[("team", "y")]).await;
    assert!(matches!(decision, Decision::Rewritten { .. }), "{decision:?}");
    assert_eq!((policy.as_deref(), warnings), (Some(built_in::NAMES[1]), vec![]));
}

/// Who leaves the pod's image alone, and why.
async fn skipped(set: &PolicySet, namespace: &str, labels: &[(&str, &str)]) -> (String, String) {
    match decide(set, namespace, labels).await {
        Verdict { decision: Decision::LeftAlone { reason }, policy: Some(policy), warnings, .. }
            if warnings.is_empty() =>
        {
            (policy, reason)
        }
        other => panic!("{other:?}"),
    }
}

async fn decide(set: &PolicySet, namespace: &str, labels: &[(&str, &str)]) -> Verdict {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let pod = PodFacts { namespace: namespace.to_owned(), labels, ..PodFacts::default() };
    let container = ContainerFacts {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        pull_policy: PullPolicy::IfNotPresent,
        image: "nginx:1.27".parse().unwrap(),
    };
    set.decide(Arc::new(pod), vec![container]).await.remove(0)
}

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies/examples").join(example)
}

fn build(example: &str) -> Vec<u8> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(example).with_extension("wasm");
    succeed(Command::new(folder(example).join("build.sh")).arg(&out));
    fs::read(out).unwrap()
}

/// Fails with all that the command said: what is missing on this machine, and how to get it, is among that.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; on Debian: apt-get install --no-install-recommends nodejs npm python3 python3-pip",
            command.get_program().display()
        )
    });
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said));
}
