//! What each account may do. A row more here is a right more for everybody who takes over a pod.

use std::collections::BTreeSet;

use cache_registry_chart::{Release, render};
use serde_json::Value;

use crate::matrix::{COLLECTING, NO_PULL_SECRETS};

const EVERYWHERE: &str = "everywhere";
const HERE: &str = "cache-registry-system";

/// One line for each rule: account, where, what, verbs.
fn rights(release: &Release) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    let bindings = release.of_kind("ClusterRoleBinding").chain(release.of_kind("RoleBinding"));
    for binding in bindings {
        let role = &binding["roleRef"];
        let namespace = &binding["metadata"]["namespace"];
        let mut roles = release.of_kind(role["kind"].as_str().unwrap());
        let bound = roles
            .find(|object| object["metadata"]["name"] == role["name"] && &object["metadata"]["namespace"] == namespace)
            .unwrap_or_else(|| panic!("nothing is bound by {binding}"));
        let place = if role["kind"] == "ClusterRole" { EVERYWHERE } else { namespace.as_str().unwrap() };
        for subject in binding["subjects"].as_array().unwrap() {
            assert_eq!((&subject["kind"], &subject["namespace"]), (&Value::from("ServiceAccount"), &Value::from(HERE)));
            let account = subject["name"].as_str().unwrap();
            release.object("ServiceAccount", account);
            for rule in bound["rules"].as_array().unwrap() {
                let group = list(&rule["apiGroups"]);
                let names = Some(list(&rule["resourceNames"])).filter(|names| !names.is_empty());
                let names = names.map(|names| format!(" named {names}")).unwrap_or_default();
                let (resources, verbs) = (list(&rule["resources"]), list(&rule["verbs"]));
                rights.insert(format!("{account} | {place} | {group}/{resources}{names} | {verbs}"));
            }
        }
    }
    rights
}

fn list(value: &Value) -> String {
    let items: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    items.join(",")
}

/// The rights that a release has whatever its values are.
const ALWAYS: [&str; 13] = [
    "cache-registry-controllers | cache-registry-system | apps/statefulsets named cache-registry-registry | get,patch",
    "cache-registry-controllers | cache-registry-system | batch/jobs named cache-registry-registry-gc | get,delete",
    "cache-registry-controllers | cache-registry-system | coordination.k8s.io/leases named cache-registry-registry-gc | get,update,patch",
    "cache-registry-controllers | cache-registry-system | events.k8s.io/events | create,patch",
    "cache-registry-controllers | cache-registry-system | coordination.k8s.io/leases named cache-registry-controllers | get,update,patch",
    "cache-registry-controllers | default | events.k8s.io/events | create,patch",
    "cache-registry-controllers | everywhere | /pods | list,watch",
    "cache-registry-controllers | everywhere | apps/daemonsets,deployments,replicasets,statefulsets | list,watch",
    "cache-registry-controllers | everywhere | batch/cronjobs,jobs | list,watch",
    "cache-registry-controllers | everywhere | cache-registry.enix.io/cachedimages | list,watch,create,delete",
    "cache-registry-controllers | everywhere | cache-registry.enix.io/cachedimages/status | patch",
    "cache-registry-webhook | cache-registry-system | /configmaps | get,list,watch",
    "cache-registry-webhook | cache-registry-system | events.k8s.io/events | create,patch",
];

/// The one that comes with credentials of the registry.
const AUTHENTICATION: &str = "cache-registry-controllers | cache-registry-system | /secrets named cache-registry-registry-credentials | get,list,watch,patch";

/// The one that comes with platforms that are the nodes'.
const NODES: &str = "cache-registry-controllers | everywhere | /nodes | list,watch";

/// The one that comes with images that need a pull secret: any Secret that it has the name of.
const PULL_SECRETS: &str = "cache-registry-controllers | everywhere | /secrets | get";

/// Those that come with a certificate that the controllers manage.
const SELF_MANAGED: [&str; 2] = [
    "cache-registry-controllers | cache-registry-system | /secrets named cache-registry-webhook-certificate | get,list,watch,patch",
    "cache-registry-controllers | everywhere | admissionregistration.k8s.io/mutatingwebhookconfigurations named cache-registry | get,list,watch,patch",
];

/// Those of the runs of a garbage collection.
const COLLECTION: [&str; 6] = [
    "cache-registry-gc | cache-registry-system | /pods | list",
    "cache-registry-gc | cache-registry-system | apps/statefulsets named cache-registry-registry | get,patch",
    "cache-registry-gc | cache-registry-system | batch/jobs named cache-registry-registry-gc | get,patch,delete",
    "cache-registry-gc | cache-registry-system | batch/jobs | create",
    "cache-registry-gc | cache-registry-system | coordination.k8s.io/leases named cache-registry-registry-gc | get,update,patch",
    "cache-registry-gc | cache-registry-system | events.k8s.io/events | create,patch",
];

fn expected(more: &[&'static str]) -> BTreeSet<String> {
    ALWAYS.iter().chain([&AUTHENTICATION, &NODES, &PULL_SECRETS]).chain(more).map(ToString::to_string).collect()
}

#[test]
fn nobody_may_do_more_than_the_table_says() {
    assert_eq!(rights(&render("").unwrap()), expected(&SELF_MANAGED));
}

#[test]
fn a_run_of_a_garbage_collection_may_stop_the_registry_and_have_one_job() {
    let more: Vec<&str> = SELF_MANAGED.into_iter().chain(COLLECTION).collect();
    assert_eq!(rights(&render(COLLECTING).unwrap()), expected(&more));
}

#[test]
fn with_a_certificate_of_others_the_controllers_do_not_see_it() {
    let values = "controllers: { webhook: { certificate: { mode: cert-manager } } }";
    assert_eq!(rights(&render(values).unwrap()), expected(&[]));
}

#[test]
fn without_authentication_the_controllers_see_no_credentials() {
    let mut without = expected(&SELF_MANAGED);
    without.remove(AUTHENTICATION);
    assert_eq!(rights(&render("registry: { authentication: { enabled: false } }").unwrap()), without);
}

#[test]
fn with_platforms_that_are_settled_the_controllers_see_no_nodes() {
    let mut without = expected(&SELF_MANAGED);
    without.remove(NODES);
    for platforms in ["all", "[linux/amd64]"] {
        assert_eq!(rights(&render(&format!("controllers: {{ platforms: {platforms} }}")).unwrap()), without);
    }
}

#[test]
fn where_pull_secrets_are_not_wanted_none_is_read_and_pods_that_have_some_are_left_alone() {
    let mut without = expected(&SELF_MANAGED);
    without.remove(PULL_SECRETS);
    let release = render(NO_PULL_SECRETS).unwrap();
    assert_eq!(rights(&release), without);
    let has = |release: &Release, role, flag| release.pod(role).arguments().contains(&flag);
    assert!(has(&release, "webhook", "--leave-alone-pull-secrets") && !has(&release, "controllers", "--pull-secrets"));
    let release = render("").unwrap();
    assert!(!has(&release, "webhook", "--leave-alone-pull-secrets") && has(&release, "controllers", "--pull-secrets"));
}

#[test]
fn the_webhook_reads_the_pull_secrets_that_are_named_and_no_others() {
    let release = render("policies: { pullSecrets: [one, two] }").unwrap();
    let secrets = "cache-registry-webhook | cache-registry-system | /secrets named one,two | get";
    let more: Vec<&str> = SELF_MANAGED.into_iter().chain([secrets]).collect();
    assert_eq!(rights(&release), expected(&more));
}

#[test]
fn each_role_has_an_account_of_its_own() {
    let release = render("").unwrap();
    let accounts: BTreeSet<_> = release
        .pods()
        .into_iter()
        .filter(|pod| pod.role != "test")
        .map(|pod| pod.spec["serviceAccountName"].as_str().unwrap().to_owned())
        .collect();
    let made: BTreeSet<_> = release
        .of_kind("ServiceAccount")
        .map(|account| account["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(accounts, made);
    assert_eq!(accounts.len(), 4);
}
