//! Pod Security's level `restricted` (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>), for every
//! pod but the proxy's, and for that in all but its port.

use cache_registry_chart::{Pod, render};
use serde_json::{Value, json};

use crate::matrix::{COLLECTING, MATRIX};

/// What is wrong with a pod, but for the host's network.
fn faults(pod: &Pod<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{}: {what}", pod.role));
        }
    };
    let security = &pod.spec["securityContext"];
    expect(security["runAsNonRoot"] == true, "may run as root");
    expect(security["runAsUser"].as_u64().is_some_and(|user| user != 0), "runs as no user or as root");
    expect(security["seccompProfile"]["type"] == "RuntimeDefault", "no seccomp profile");
    for key in ["hostPID", "hostIPC", "shareProcessNamespace", "ephemeralContainers"] {
        expect(pod.spec[key].is_null(), key);
    }
    for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
        let allowed = ["configMap", "emptyDir", "secret", "persistentVolumeClaim"];
        expect(allowed.iter().any(|kind| volume[*kind].is_object()), "a volume of a kind that restricted forbids");
    }
    let containers = match pod.role {
        "registry" => (0, 2),
        "collection" if pod.containers().iter().any(|container| container["name"] == "collect") => (0, 1),
        "collection" => (3, 1),
        _ => (0, 1),
    };
    let found = (pod.init_containers().len(), pod.containers().len());
    expect(found == containers, "another number of containers");
    for container in pod.init_containers().iter().chain(pod.containers()) {
        let security = &container["securityContext"];
        expect(security["allowPrivilegeEscalation"] == false, "may escalate privileges");
        expect(security["readOnlyRootFilesystem"] == true, "may write to its file system");
        expect(security["capabilities"] == json!({ "drop": ["ALL"] }), "has capabilities");
        expect(security["privileged"].is_null(), "is privileged");
    }
    faults
}

fn host_ports(pod: &Pod<'_>) -> Vec<Value> {
    let ports = pod.containers().iter().flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.filter(|port| !port["hostPort"].is_null()).cloned().collect()
}

#[test]
fn every_pod_is_restricted_but_for_the_port_of_the_proxy() {
    for (name, values) in MATRIX {
        let release = render(values).unwrap();
        for pod in release.pods() {
            assert_eq!(faults(&pod), Vec::<String>::new(), "{name}");
            if pod.role != "proxy" {
                assert!(pod.spec["hostNetwork"].is_null() && host_ports(&pod).is_empty(), "{name}: {}", pod.role);
            }
        }
    }
}

#[test]
fn the_proxy_has_the_hosts_network_or_one_port_of_its_loopback() {
    let release = render("").unwrap();
    let proxy = release.pod("proxy");
    assert_eq!(proxy.spec["hostNetwork"], true);
    assert_eq!(proxy.argument("--listen"), Some("127.0.0.1:7439,[::1]:7439"));

    let release = render("proxy: { hostNetwork: false }").unwrap();
    let proxy = release.pod("proxy");
    assert_eq!(proxy.spec["hostNetwork"], false);
    let port = json!({ "name": "pulls", "containerPort": 7439, "hostPort": 7439, "hostIP": "127.0.0.1" });
    assert_eq!(host_ports(&proxy), [port]);
}

#[test]
fn only_roles_that_speak_to_the_api_server_have_a_token() {
    for (name, values) in MATRIX {
        let release = render(values).unwrap();
        for pod in release.pods() {
            let expected = ["webhook", "controllers", "gc"].contains(&pod.role);
            assert_eq!(pod.spec["automountServiceAccountToken"], expected, "{name}: {}", pod.role);
        }
        for account in release.of_kind("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        }
    }
}

#[test]
fn every_role_has_bounds() {
    let release = render(COLLECTING).unwrap();
    for pod in release.pods().into_iter().filter(|pod| pod.role != "test") {
        for container in pod.init_containers().iter().chain(pod.containers()) {
            for bound in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(container["resources"].pointer(bound).is_some(), "{}: {bound}", pod.role);
            }
        }
    }
}
