use std::collections::BTreeSet;

use cache_registry_chart::{Release, at, render, render_as};
use serde_json::Value;

use crate::matrix::COLLECTING;

fn names(release: &Release) -> Vec<&str> {
    release.objects().iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn names_fit_whatever_the_release_is_called() {
    // The longest that helm takes.
    let release = render_as(&"a".repeat(53), COLLECTING).unwrap();
    for name in names(&release) {
        assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
    }
}

#[test]
fn names_begin_with_the_release() {
    let prefixes = |release: Release, prefix: &str| {
        let fixed = ["cachedimages.cache-registry.enix.io", "cache-registry-controllers"];
        names(&release).into_iter().all(|name| name.starts_with(prefix) || fixed.contains(&name))
    };
    assert!(prefixes(render("").unwrap(), "cache-registry"));
    assert!(prefixes(render_as("mine", "").unwrap(), "mine-cache-registry"));
    assert!(prefixes(render_as("mine", "fullnameOverride: images").unwrap(), "images"));
    assert!(prefixes(render_as("mine", "nameOverride: cache").unwrap(), "mine-cache"));
}

#[test]
fn no_two_objects_are_the_same() {
    let release = render("").unwrap();
    let mut seen = BTreeSet::new();
    for object in release.objects() {
        let id =
            ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| object.pointer(path).map(Value::to_string));
        assert!(seen.insert(id.clone()), "{id:?}");
    }
}

#[test]
fn every_selector_selects_one_role() {
    let values = COLLECTING.replace("registry:", "proxy: { hostNetwork: false }\nregistry:");
    let release = render(&values).unwrap();
    let pods = release.pods();
    let mut selectors = 0;
    for object in release.objects() {
        let selector = match object["kind"].as_str().unwrap() {
            "Service" => at(object, "spec.selector"),
            "NetworkPolicy" => at(object, "spec.podSelector.matchLabels"),
            "Deployment" | "DaemonSet" | "StatefulSet" | "PodDisruptionBudget" => {
                at(object, "spec.selector.matchLabels")
            }
            _ => continue,
        };
        let selector = selector.as_object().unwrap();
        let role = &object["metadata"]["labels"]["app.kubernetes.io/component"];
        let selected =
            pods.iter().filter(|pod| selector.iter().all(|(key, value)| &pod.metadata["labels"][key] == value));
        let selected: Vec<_> = selected.map(|pod| pod.role).collect();
        assert_eq!(selected, [role.as_str().unwrap()], "{} {}", object["kind"], object["metadata"]["name"]);
        selectors += 1;
    }
    assert_eq!(selectors, 4 + 6 + 3 + 2, "roles, network policies, Services, budgets");
}

#[test]
fn objects_say_whose_they_are() {
    for object in render("commonLabels: { team: platform }").unwrap().objects() {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "cache-registry", "{object}");
        assert_eq!(labels["team"], "platform", "{object}");
    }
}

/// Ports go by name: a Service, a probe or a policy whose name no port has leads nowhere.
#[test]
fn every_port_that_is_named_is_there() {
    for values in ["", "proxy: { hostNetwork: false }"] {
        let release = render(values).unwrap();
        let ports = |role: &str| -> Vec<String> {
            let containers = release.pod(role).containers().iter();
            let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
            ports.map(|port| port["name"].as_str().unwrap().to_owned()).collect()
        };
        for service in release.of_kind("Service") {
            let role = service["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap();
            for port in service["spec"]["ports"].as_array().unwrap() {
                let target = port["targetPort"].as_str().unwrap();
                assert!(ports(role).iter().any(|port| port == target), "{role}: {target}");
            }
        }
        for policy in release.of_kind("NetworkPolicy") {
            let role = policy["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap();
            for rule in policy["spec"]["ingress"].as_array().unwrap() {
                let target = rule["ports"][0]["port"].as_str().unwrap();
                assert!(ports(role).iter().any(|port| port == target), "{role}: {target}");
            }
        }
        for pod in release.pods().into_iter().filter(|pod| pod.role != "test") {
            for container in pod.containers() {
                for probe in ["livenessProbe", "readinessProbe"] {
                    let own = match &container[probe]["httpGet"]["port"] {
                        // In the node's network ports have no names.
                        Value::Number(port) => pod.argument("--admin-listen").unwrap().ends_with(&format!(":{port}")),
                        target => container["ports"].as_array().unwrap().iter().any(|port| port["name"] == *target),
                    };
                    assert!(own, "{} {}: {probe}", pod.role, container["name"]);
                }
            }
        }
    }
}
