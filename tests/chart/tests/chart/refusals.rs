use cache_registry_chart::render;
use rstest::rstest;

const GARBAGE: &str =
    "registry.garbageCollectionSchedule: without registry.persistence a garbage collection would empty the cache";

/// The words name the key.
#[rstest]
#[case("controllers: { replicsa: 3 }", "at '/controllers': additional properties 'replicsa' not allowed")]
#[case(
    "controllers: { webhook: { mode: auto } }",
    "at '/controllers/webhook': additional properties 'mode' not allowed"
)]
#[case("proxy: { hostPort: '7439' }", "at '/proxy/hostPort': got string, want integer")]
#[case("proxy: { hostPort: 80 }", "at '/proxy/hostPort': minimum")]
#[case("proxy: { hostPort: 7440 }", "proxy.adminPort: it is the same as proxy.hostPort")]
#[case(
    "proxy: { hostNetwork: false, updateStrategy: { rollingUpdate: { maxSurge: 1 } } }",
    "proxy.updateStrategy.rollingUpdate.maxSurge: without proxy.hostNetwork"
)]
#[case("controllers: { webhook: { certificate: { life: 90 } } }", "/controllers/webhook/certificate/life': got number")]
#[case(
    "controllers: { webhook: { certificate: { life: 30m } } }",
    "controllers.webhook.certificate.life: \"30m\" is not a whole number and a unit, h or d"
)]
#[case("proxy: { registryHost: 'fd00::10' }", "proxy.registryHost: \"fd00::10\" is not a host name")]
#[case("image: { tag: 1 }", "at '/image/tag': got number, want string")]
#[case("image: { digest: 'sha256:12' }", "image.digest: \"sha256:12\" is not a digest")]
#[case("cachedImagesExpiryDelay: 30d", "at '/cachedImagesExpiryDelay': got string, want integer")]
#[case(
    "controllers: { updateInterval: hourly }",
    "controllers.updateInterval: \"hourly\" is not a whole number and a unit, s, m, h or d: 1h"
)]
#[case("controllers: { platforms: amd64 }", "at '/controllers/platforms'")]
#[case("controllers: { platforms: [amd64] }", "at '/controllers/platforms/0'")]
#[case("controllers: { platforms: [] }", "at '/controllers/platforms'")]
#[case("controllers: { referrers: 'yes' }", "at '/controllers/referrers': got string, want boolean")]
#[case("cachedImagesExpiryDelay: -1", "at '/cachedImagesExpiryDelay': minimum")]
#[case("policies: { time: '50' }", "policies.time: \"50\" is not a whole number and a unit")]
#[case("policies: { memory: 32MB }", "policies.memory: \"32MB\" is not a number of bytes")]
#[case("networkPolicy: { nodes: [10.0.0.1] }", "networkPolicy.nodes: \"10.0.0.1\" is not a CIDR")]
#[case(
    "controllers: { webhook: { nodeRegistries: [gcr.io, 'https://gcr.io'] } }",
    "controllers.webhook.nodeRegistries: \"https://gcr.io\" is not a registry as a kubelet's matchImages has them"
)]
#[case("controllers: { webhook: { nodeRegistries: ['gcr.io/*'] } }", "nodeRegistries: \"gcr.io/*\" is not a registry")]
#[case(
    "controllers: { webhook: { nodeRegistries: ['a.example,b.example'] } }",
    "\"a.example,b.example\" is not a registry"
)]
#[case("controllers: { webhook: { nodeRegistries: gcr.io } }", "at '/controllers/webhook/nodeRegistries': got string")]
#[case("registries: { docker.io: { endpoint: mirror } }", "registries.docker.io: \"mirror\" is not a URL")]
#[case("registries: { docker.io: { insecure: true } }", "at '/registries/docker.io': additional properties 'insecure'")]
#[case("registries: { 'https://docker.io': {} }", "is not the host of a registry")]
#[case(
    "{ registries: { docker.io: {} }, registriesSecret: { name: mine } }",
    "registries and registriesSecret.name: give one"
)]
#[case("registry: { garbageCollectionSchedule: '0 0 * * 0' }", GARBAGE)]
#[case(
    "registry: { garbageCollection: { untaggedAfter: '24' } }",
    "registry.garbageCollection.untaggedAfter: \"24\" is not"
)]
#[case(
    "registry: { maxSize: 50GB }",
    "registry.maxSize: \"50GB\" is not a number of bytes, or one with Ki, Mi, Gi or Ti"
)]
#[case("registry: { garbageCollection: { deadlineSeconds: 1h } }", "at '/registry/garbageCollection/deadlineSeconds'")]
#[case("registry: { persistance: { enabled: 'yes' } }", "at '/registry/persistance/enabled': got string, want boolean")]
#[case(
    "controllers: { webhook: { certificate: { mode: self } } }",
    "at '/controllers/webhook/certificate/mode': value must be one of"
)]
#[case(
    "controllers: { webhook: { certificate: { mode: provided } } }",
    "controllers.webhook.certificate.secretName: with mode provided"
)]
#[case(
    "controllers: { webhook: { certificate: { mode: provided, secretName: tls } } }",
    "controllers.webhook.certificate.caBundle: with mode provided"
)]
#[case(
    "controllers: { webhook: { certificate: { mode: self-managed, secretName: tls } } }",
    "controllers.webhook.certificate.secretName: it is for mode provided, and the mode is self-managed"
)]
#[case(
    "controllers: { webhook: { certificate: { mode: cert-manager }, createCertificateIssuer: false } }",
    "controllers.webhook.certificateIssuerRef.name: with createCertificateIssuer false"
)]
#[case(
    "controllers: { webhook: { certificate: { mode: cert-manager }, certificateIssuerRef: { kind: ClusterIssuer } } }",
    "controllers.webhook.certificateIssuerRef.kind: the chart makes an Issuer"
)]
#[case(
    "controllers: { webhook: { objectSelector: { matchExpressions: [{ key: a, operator: Is }] } } }",
    "'/controllers/webhook/objectSelector/matchExpressions/0/operator'"
)]
#[case(
    "registry: { persistence: { enabled: true, s3: { bucket: b, region: r }, gcs: { bucket: b } } }",
    "registry.persistence: images are kept in one place, and these are set: volume, s3, gcs"
)]
#[case("registry: { persistence: { s3: { region: r } } }", "registry.persistence.s3.bucket: name where the images")]
#[case("registry: { persistence: { gcs: { rootdirectory: r } } }", "registry.persistence.gcs.bucket: name where")]
#[case("registry: { persistence: { azure: { accountname: a } } }", "registry.persistence.azure.container: name where")]
#[case("registry: { persistence: { azure: { container: c } } }", "registry.persistence.azure.accountname: name the")]
#[case("registry: { persistence: { s3: { bucket: b } } }", "registry.persistence.s3.region: give the region")]
#[case(
    "registry: { persistence: { s3: { bucket: b, regionendpoint: 'https://s3.example' } } }",
    "registry.persistence.s3.region: requests are signed for a region"
)]
#[case(
    "registry: { persistence: { s3: { bucket: b, region: r, regionendpoint: s3.example } } }",
    "registry.persistence.s3.regionendpoint: \"s3.example\" is not a URL"
)]
#[case(
    "registry: { persistence: { s3: { bucket: b, region: r, secretkey: s } } }",
    "registry.persistence.s3.secretkey: credentials do not belong into values; put accessKey and secretKey into a Secret"
)]
#[case("registry: { persistence: { gcs: { bucket: b, keyfile: /f } } }", "persistence.gcs.keyfile: credentials do not")]
#[case(
    "registry: { persistence: { azure: { container: c, accountkey: k } } }",
    "persistence.azure.accountkey: credentials do not belong"
)]
#[case(
    "registry: { persistence: { s3: { bucket: b, region: r, redirectendpoint: 'https://cdn' } } }",
    "registry.persistence.s3.redirectendpoint: nobody is redirected"
)]
#[case(
    "registry: { persistence: { s3: { buket: b } } }",
    "at '/registry/persistence/s3': additional properties 'buket' not allowed"
)]
#[case(
    "registry: { persistence: { gcsExistingSecret: s } }",
    "registry.persistence.gcsExistingSecret: it is for registry.persistence.gcs, which is empty"
)]
#[case("registry: { replicas: 2 }", "registry.replicas: several replicas take storage that all of them reach")]
#[case(
    "registry: { replicas: 2, persistence: { enabled: true } }",
    "registry.replicas: several replicas cannot mount one volume of ReadWriteOnce"
)]
#[case("registry: { replicas: 0 }", "at '/registry/replicas': minimum")]
#[case("networkPolicy: { bucketEgress: [{ to: [] }] }", "networkPolicy.bucketEgress: there is no bucket")]
#[case("registry: { persistence: { accessModes: [] } }", "at '/registry/persistence/accessModes': minItems")]
fn what_cannot_be_meant_is_refused(#[case] values: &str, #[case] words: &str) {
    let refusal = render(values).expect_err("it was not refused");
    assert!(refusal.contains(words), "{refusal}");
}
