//! Values that a release may have, for what holds with all of them.

use cache_registry_chart::{lint, render};

/// Each is a name and values.
pub(crate) const MATRIX: [(&str, &str); 23] = [
    ("none", ""),
    ("cert-manager", "controllers: { webhook: { certificate: { mode: cert-manager } } }"),
    ("an issuer of one's own", ISSUER),
    ("a certificate of one's own", PROVIDED),
    ("hostPort", "proxy: { hostNetwork: false, hostPort: 5001 }"),
    ("persistence", "registry: { persistence: { enabled: true, size: 100Gi, storageClass: fast } }"),
    ("the other spelling", "registry: { persistance: { enabled: true, existingClaim: images } }"),
    ("garbage collection", COLLECTING),
    ("no pull secrets", NO_PULL_SECRETS),
    ("garbage collection that keeps what has no tag", KEEPING_UNTAGGED),
    ("a bucket of S3", S3),
    ("a bucket of Google's", GCS),
    ("a container of Azure's", AZURE),
    ("a volume for several", "registry: { replicas: 2, persistence: { enabled: true, accessModes: [ReadWriteMany] } }"),
    ("no authentication", "registry: { authentication: { enabled: false } }"),
    ("registries", REGISTRIES),
    ("a registries file of one's own", "registriesSecret: { name: registries, key: file.yaml }"),
    ("places", PLACES),
    ("platforms", "controllers: { platforms: [linux/amd64, linux/arm/v7], referrers: false }"),
    ("monitoring", MONITORING),
    ("traces", TRACES),
    ("no extras", NO_EXTRAS),
    ("empty keys", EMPTY),
];

pub(crate) const TRACES: &str = "
telemetry: { otlp: { endpoint: 'http://$(HOST_IP):4318', samplingRatio: 0.5 } }
registry: { persistence: { enabled: true }, garbageCollectionSchedule: 0 3 * * 0 }
";

pub(crate) const NO_PULL_SECRETS: &str = "controllers: { pullSecrets: { enabled: false } }";

const ISSUER: &str = "
controllers:
  webhook:
    certificate: { mode: cert-manager }
    createCertificateIssuer: false
    certificateIssuerRef: { kind: ClusterIssuer, name: corporate }
";

pub(crate) const PROVIDED: &str = "
controllers:
  webhook:
    certificate:
      mode: provided
      secretName: webhook-tls
      caBundle: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
";

pub(crate) const COLLECTING: &str = "
registry:
  persistence: { enabled: true }
  maxSize: 50Gi
  garbageCollectionSchedule: 0 3 * * 0
  garbageCollection: { deadlineSeconds: 600 }
";

pub(crate) const KEEPING_UNTAGGED: &str = "
registry:
  persistence: { enabled: true }
  garbageCollectionSchedule: 0 3 * * 0
  garbageCollection: { deleteUntagged: false }
";

pub(crate) const S3: &str = "
registry:
  replicas: 2
  persistence:
    s3: { bucket: images, region: us-east-1, regionendpoint: 'https://s3.example', forcepathstyle: true, chunksize: 33554432 }
    s3ExistingSecret: bucket
    caSecret: corporate-ca
  garbageCollectionSchedule: 0 3 * * 0
";

pub(crate) const GCS: &str = "
registry:
  persistence: { gcs: { bucket: images, rootdirectory: cache }, gcsExistingSecret: bucket }
  garbageCollectionSchedule: 0 3 * * 0
  garbageCollection: { deleteUntagged: false }
";

pub(crate) const AZURE: &str = "
registry:
  replicas: 3
  authentication: { enabled: false }
  serviceAccount: { annotations: { azure.workload.identity/client-id: 0-1 } }
  podLabels: { azure.workload.identity/use: 'true' }
  persistence: { azure: { container: images, accountname: account } }
";

const REGISTRIES: &str = "
registries:
  docker.io:
    mirrors:
      - endpoint: https://harbor.example/dockerhub
  registry.example:5000: { plainHttp: true }
  gitlab.example: {}
";

const PLACES: &str = "
imagePullSecrets: [{ name: ours }]
commonLabels: { team: platform }
networkPolicy: { nodes: [10.0.0.0/16, 'fd00::/64'], metricsFrom: [{ namespaceSelector: { matchLabels: { a: b } } }] }
policies: { time: 1s, memory: 64Mi, pullSecrets: [policies] }
controllers: &role
  affinity: { nodeAffinity: {} }
  tolerations: [{ key: infra, operator: Exists, effect: NoSchedule }]
  topologySpreadConstraints: [{ maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule }]
  priorityClassName: high
  podAnnotations: { a: b }
  podLabels: { c: d }
  env: [{ name: RUST_BACKTRACE, value: '1' }]
  resources: { requests: { cpu: 1 } }
  webhook:
    affinity: { nodeAffinity: {} }
    ignoredNamespaces: [monitoring]
    nodeRegistries: ['*.dkr.ecr.*.amazonaws.com', 'reg.example:5000/team']
    objectSelector: { matchExpressions: [{ key: cache, operator: In, values: [a, b] }] }
proxy:
  registryHost: '[fd00::10]'
  dnsPolicy: ClusterFirstWithHostNet
  nodeSelector: { node: worker }
registry:
  env: [{ name: REGISTRY_LOG_LEVEL, value: debug }]
  podDisruptionBudget: { enabled: true }
";

const MONITORING: &str = "
monitoring: { podMonitor: { enabled: true }, rules: { enabled: true }, dashboard: { enabled: true } }
registry: { metrics: { enabled: true } }
";

const NO_EXTRAS: &str = "
crds: { install: false }
networkPolicy: { enabled: false }
listenAddress: 0.0.0.0
log: { format: text, filter: debug }
controllers: { replicas: 1, podDisruptionBudget: { enabled: false }, webhook: { replicas: 1, nodeRegistries: [], podDisruptionBudget: { enabled: false } } }
";

/// What is left of a key when the lines below it are turned into comments.
const EMPTY: &str = "
imagePullSecrets:
commonLabels:
registries:
networkPolicy: { metricsFrom: , nodes: }
policies: { pullSecrets: }
controllers: { affinity: , tolerations: , env: , podAnnotations: , webhook: { ignoredNamespaces: , nodeRegistries: , annotations: , objectSelector: { matchExpressions: } } }
proxy: { tolerations: , nodeSelector: , affinity: }
registry: { persistance: , env: }
";

#[test]
fn helm_has_nothing_to_say_about_any_values() {
    for (name, values) in MATRIX {
        lint(values).unwrap_or_else(|words| panic!("{name}: {words}"));
        render(values).unwrap_or_else(|words| panic!("{name}: {words}"));
    }
}

#[test]
fn the_same_values_give_the_same_objects() {
    for (name, values) in MATRIX {
        assert_eq!(render(values), render(values), "{name}: an upgrade to the same would change something");
    }
}
