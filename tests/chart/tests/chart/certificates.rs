use cache_registry_chart::{Release, at, render, render_where};
use rstest::rstest;
use serde_json::{Value, json};

use crate::matrix::PROVIDED;

const CERT_MANAGER: &str = "controllers: { webhook: { certificate: { mode: cert-manager } } }";

fn configuration(release: &Release) -> &Value {
    release.object("MutatingWebhookConfiguration", "cache-registry")
}

/// The Secret that the webhook serves.
fn mounted(release: &Release) -> &Value {
    at(release.pod("webhook").spec, "volumes").get(0).map(|volume| at(volume, "secret.secretName")).unwrap()
}

#[rstest]
#[case(&[], "self-managed")]
#[case(&["cert-manager.io/v1/Certificate"], "cert-manager")]
fn auto_is_cert_manager_where_there_is_one(#[case] kinds: &[&str], #[case] mode: &str) {
    let values = format!("controllers: {{ webhook: {{ certificate: {{ mode: {mode} }} }} }}");
    assert_eq!(render_where(kinds, ""), render(&values));
}

#[test]
fn cert_manager_makes_the_certificate_and_fills_in_its_ca() {
    let release = render(CERT_MANAGER).unwrap();
    let certificate = release.object("Certificate", "cache-registry-webhook");
    assert_eq!(at(certificate, "spec.secretName"), mounted(&release));
    let service = at(&configuration(&release)["webhooks"][0], "clientConfig.service");
    let host = format!("{}.{}.svc", service["name"].as_str().unwrap(), service["namespace"].as_str().unwrap());
    assert_eq!(certificate["spec"]["dnsNames"][0], host.as_str());
    assert_eq!(certificate["spec"]["privateKey"]["rotationPolicy"], "Always");
    let injected = &configuration(&release)["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    assert_eq!(injected, "cache-registry-system/cache-registry-webhook");
}

#[test]
fn the_ca_outlives_the_certificate() {
    let release = render(CERT_MANAGER).unwrap();
    let leaf = at(release.object("Certificate", "cache-registry-webhook"), "spec.issuerRef");
    let issuer = release.object("Issuer", leaf["name"].as_str().unwrap());
    let ca = release.object("Certificate", "cache-registry-webhook-ca");
    assert_eq!(at(issuer, "spec.ca.secretName"), at(ca, "spec.secretName"));
    assert_eq!(at(ca, "spec.isCA"), true);
    assert_eq!(at(ca, "spec.duration"), "87600h");
    let root = release.object("Issuer", at(ca, "spec.issuerRef.name").as_str().unwrap());
    assert_eq!(at(root, "spec.selfSigned"), &json!({}));
}

#[test]
fn an_issuer_of_others_is_used_and_none_is_made() {
    let values = "
controllers:
  webhook:
    certificate: { mode: cert-manager }
    createCertificateIssuer: false
    certificateIssuerRef: { kind: ClusterIssuer, name: corporate }
";
    let release = render(values).unwrap();
    let issuer = at(release.object("Certificate", "cache-registry-webhook"), "spec.issuerRef");
    assert_eq!(issuer, &json!({ "kind": "ClusterIssuer", "name": "corporate", "group": "cert-manager.io" }));
    assert_eq!(release.of_kind("Issuer").count(), 0);
    assert_eq!(release.of_kind("Certificate").count(), 1);
}

#[test]
fn the_issuer_that_is_made_may_be_named() {
    let values =
        "controllers: { webhook: { certificate: { mode: cert-manager }, certificateIssuerRef: { name: ours } } }";
    let release = render(values).unwrap();
    assert_eq!(at(release.object("Certificate", "cache-registry-webhook"), "spec.issuerRef.name"), "ours");
    release.object("Issuer", "ours");
}

#[test]
fn a_provided_certificate_is_served_and_its_ca_trusted() {
    let release = render(PROVIDED).unwrap();
    assert_eq!(mounted(&release), "webhook-tls");
    let bundle = &configuration(&release)["webhooks"][0]["clientConfig"]["caBundle"];
    // -----BEGIN CERTIFICATE-----
    assert!(bundle.as_str().unwrap().starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"), "{bundle}");
    assert_eq!(release.of_kind("Certificate").count(), 0);
    assert!(
        release.of_kind("Secret").all(|secret| secret["metadata"]["name"] == "cache-registry-registry-credentials")
    );
}

#[test]
fn the_controllers_manage_a_secret_that_goes_with_the_release() {
    let release = render("").unwrap();
    let controllers = release.pod("controllers");
    let secret = controllers.argument("--webhook-certificate-secret").unwrap();
    assert_eq!(mounted(&release), secret);
    // What is not in the chart is left as it is by an upgrade.
    assert!(release.object("Secret", secret).get("data").is_none());
    assert_eq!(controllers.argument("--webhook-configuration"), configuration(&release)["metadata"]["name"].as_str());
    let service = at(&configuration(&release)["webhooks"][0], "clientConfig.service.name");
    assert_eq!(controllers.argument("--webhook-service"), service.as_str());
    assert!(configuration(&release)["webhooks"][0]["clientConfig"].get("caBundle").is_none());
}

#[test]
fn others_manage_no_certificate() {
    for values in [CERT_MANAGER, PROVIDED] {
        let release = render(values).unwrap();
        let arguments = release.pod("controllers").arguments().join(" ");
        assert!(!arguments.contains("--webhook"), "{arguments}");
    }
}
