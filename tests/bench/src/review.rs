use bytes::Bytes;
use serde_json::{Value, json};

/// The review of a pod with three containers, as an API server sends it for a pod of a Deployment: about 5 KB.
pub(crate) fn review() -> Bytes {
    let labels = json!({
        "app.kubernetes.io/component": "api",
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": "shop",
        "app.kubernetes.io/version": "4.11.2",
        "helm.sh/chart": "shop-4.11.2",
        "pod-template-hash": "6c9f7d5b8d",
    });
    let pod = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "shop-api-6c9f7d5b8d-",
            "namespace": "shop",
            "creationTimestamp": null,
            "labels": labels,
            "annotations": {
                "checksum/config": "7b3e1d9f1c9d7c1a4f9b7b0f6d0e3f2a9c5b8d4e6f7a1b2c3d4e5f60718293a4",
                "prometheus.io/port": "9090",
                "prometheus.io/scrape": "true",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "shop-api-6c9f7d5b8d",
                "uid": "0f5b0d4e-7b0c-4c0f-9d5a-3c1d4a1f8e77",
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "volumes": [
                { "name": "config", "configMap": { "name": "shop-api", "defaultMode": 420 } },
                { "name": "scratch", "emptyDir": { "sizeLimit": "1Gi" } },
                { "name": "kube-api-access-x7k2p", "projected": { "defaultMode": 420, "sources": [
                    { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                    { "downwardAPI": { "items": [
                        { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
                    ] } },
                ] } },
            ],
            "initContainers": [container("migrate", "ghcr.io/example/shop-migrations:4.11.2", 0)],
            "containers": [
                container("api", "ghcr.io/example/shop-api:4.11.2", 8080),
                container("cache", "redis:7.4-alpine", 6379),
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "shop-api",
            "serviceAccount": "shop-api",
            "securityContext": { "runAsNonRoot": true, "fsGroup": 1000, "seccompProfile": { "type": "RuntimeDefault" } },
            "schedulerName": "default-scheduler",
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                  "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                  "tolerationSeconds": 300 },
            ],
            "priority": 0,
            "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    });
    let resource = json!({ "group": "", "version": "v1", "resource": "pods" });
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "4b3c2d1e-9a8b-4c7d-8e6f-5a4b3c2d1e0f",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "5d7a9b61-3f0e-4d43-8d3e-0a4f3a5f5b0c",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    });
    review.to_string().into()
}

/// Says whether an answer allows the pod with a patch: what [`review`] has to get.
pub(crate) fn is_patched(answer: &Bytes) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let response = &answer["response"];
    response["allowed"] == true && response["patch"].is_string() && response["warnings"].is_null()
}

fn container(name: &str, image: &str, port: u16) -> Value {
    let probe = json!({
        "httpGet": { "path": "/healthz", "port": port, "scheme": "HTTP" },
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    let mut container = json!({
        "name": name,
        "image": image,
        "args": ["--config=/etc/shop/config.yaml", "--log-format=json"],
        "env": [
            { "name": "POD_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } },
            { "name": "DATABASE_URL", "valueFrom": { "secretKeyRef": { "name": "shop-database", "key": "url" } } },
            { "name": "CACHE_ADDRESS", "value": "localhost:6379" },
        ],
        "resources": {
            "limits": { "cpu": "1", "memory": "512Mi" },
            "requests": { "cpu": "250m", "memory": "256Mi" },
        },
        "volumeMounts": [
            { "name": "config", "readOnly": true, "mountPath": "/etc/shop" },
            { "name": "scratch", "mountPath": "/tmp" },
            { "name": "kube-api-access-x7k2p", "readOnly": true,
              "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" },
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    if port != 0 {
        container["ports"] = json!([{ "containerPort": port, "protocol": "TCP" }]);
        container["livenessProbe"] = probe.clone();
        container["readinessProbe"] = probe;
    }
    container
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_review_is_of_a_usual_size() {
        assert!((3000..6000).contains(&review().len()), "{} bytes", review().len());
    }

    #[test]
    fn only_a_patch_without_a_warning_is_right() {
        let answer = |response: Value| Bytes::from(json!({ "response": response }).to_string());
        assert!(is_patched(&answer(json!({ "allowed": true, "patch": "W10=" }))));
        assert!(!is_patched(&answer(json!({ "allowed": true }))));
        assert!(!is_patched(&answer(json!({ "allowed": true, "patch": "W10=", "warnings": ["failed"] }))));
        assert!(!is_patched(&Bytes::from_static(b"no JSON")));
    }
}
