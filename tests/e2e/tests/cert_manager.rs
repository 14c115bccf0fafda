//! The webhook's certificate where cert-manager makes it: its own controllers, and a cluster with its definitions.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_bed::cluster::{Cluster, Options};
use cache_registry_bed::until;
use cache_registry_e2e::release::{NAMESPACE, RELEASE, install};
use cache_registry_e2e::{admissions, note, rewritten, run_within, served_until, tests};

const LONGEST_TEST: Duration = Duration::from_mins(5);
const LONGEST_START: Duration = Duration::from_mins(1);

const CERTIFICATE: &str = "cache-registry-webhook";
const SECRET: &str = "cache-registry-webhook-certificate";

fn main() -> Result<ExitCode> {
    let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
    run_within(
        LONGEST_TEST,
        options,
        tests![
            cert_manager_makes_the_certificate_and_renews_it_and_no_admission_fails,
            an_uninstallation_leaves_what_is_said
        ],
    )
}

async fn cert_manager_makes_the_certificate_and_renews_it_and_no_admission_fails(cluster: &mut Cluster) -> Result<()> {
    let mut cert_manager = cluster.cert_manager().await?;
    cert_manager.start().await?;
    let made = within(cluster).await;
    made.with_context(|| cert_manager.log_tail(20))?;
    cert_manager.kill().await
}

/// The default values: that cert-manager is there is found out.
async fn within(cluster: &Cluster) -> Result<()> {
    install(cluster).await?;
    let ready =
        ["wait", "--for=condition=Ready", "certificate", CERTIFICATE, "--namespace", NAMESPACE, "--timeout=20s"];
    cluster.kubectl(&ready).await?;
    until("pods to be rewritten", LONGEST_START, async || rewritten(cluster).await.map(Some)).await?;
    let owner = ["get", "deployments", "--namespace", NAMESPACE, "-o", "yaml"];
    ensure!(
        !cluster.kubectl(&owner).await?.contains("--webhook-certificate-secret"),
        "the controllers make one as well"
    );

    // Two certificates made within one second would be valid until the same one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = served_until(cluster).await?;
    let renewed = AtomicBool::new(false);
    let renewal = async {
        cluster.kubectl(&["delete", "secret", "--namespace", NAMESPACE, SECRET]).await?;
        until("every webhook to serve the new certificate", LONGEST_START * 2, async || {
            let now = served_until(cluster).await?;
            Ok((now.len() == before.len() && now.iter().all(|end| !before.contains(end))).then_some(()))
        })
        .await?;
        rewritten(cluster).await?;
        renewed.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let ((), admitted) = tokio::try_join!(renewal, admissions(cluster, &renewed))?;
    note!("{admitted} pods were rewritten while cert-manager replaced the certificate");
    Ok(())
}

/// cert-manager keeps the Secrets of certificates that are gone; the chart's README says so.
async fn an_uninstallation_leaves_what_is_said(cluster: &mut Cluster) -> Result<()> {
    let mut cert_manager = cluster.cert_manager().await?;
    cert_manager.start().await?;
    install(cluster).await?;
    cluster.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).await?;
    let mine = format!("app.kubernetes.io/instance={RELEASE}");
    let kinds = "certificates,issuers,certificaterequests,leases,mutatingwebhookconfigurations";
    until("nothing of the release to be left", LONGEST_START, async || {
        let left = cluster.kubectl(&["get", kinds, "--all-namespaces", "-l", &mine, "-o", "name"]).await?;
        Ok(left.trim().is_empty().then_some(()))
    })
    .await?;
    let left = cluster.kubectl(&["get", "secrets", "--namespace", NAMESPACE, "-o", "name"]).await?;
    let left: Vec<&str> = left.lines().collect();
    ensure!(left == ["secret/cache-registry-webhook-ca", &format!("secret/{SECRET}")], "{left:?}");
    cert_manager.kill().await
}
