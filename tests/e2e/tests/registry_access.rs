//! A registry that takes writes from the controllers and is read by the proxies, with the credentials that the
//! controllers make.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_bed::{Bed, CacheKind, NAMESPACE, Options, REGISTRY_CREDENTIALS, until};
use cache_registry_e2e::{publish, run, tests};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

/// A proxy looks at its file every 2 s.
const LONGEST_LOOK: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::Guarded, controllers: 2, ..Options::default() },
        tests![
            an_image_is_copied_through_one_listener_and_pulled_through_the_other,
            nobody_else_reads_or_writes,
            a_password_that_is_taken_out_is_made_anew_and_pulls_go_upstream_until_it_is_there,
            a_secret_that_is_missing_is_told_and_its_credentials_go_on,
            no_password_is_in_a_log,
        ],
    )
}

async fn an_image_is_copied_through_one_listener_and_pulled_through_the_other(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "guarded").await?;
    bed.objects().create_pod("guarded", "guarded:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    assert_eq!(cached.status.context("no status")?.digest, Some(published.image.digest().to_string()));
    bed.upstream.off().await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn nobody_else_reads_or_writes(bed: &mut Bed) -> Result<()> {
    let lines = bed.mount_registry_credentials().await?;
    let (controllers, proxy) = (lines["controllers"].as_str(), lines["proxy"].as_str());
    let (writer, reader) = (bed.cache.address(), bed.cache.reader_address());
    let uploads = "/v2/docker.io/library/x/blobs/uploads/";
    for (listener, method, path, line, expected) in [
        (writer, Method::GET, "/v2/", None, 401),
        (writer, Method::GET, "/v2/", Some(proxy), 401),
        (writer, Method::GET, "/v2/", Some(controllers), 200),
        (writer, Method::POST, uploads, None, 401),
        (writer, Method::POST, uploads, Some(proxy), 401),
        (writer, Method::POST, uploads, Some(controllers), 202),
        (reader, Method::GET, "/v2/", None, 401),
        (reader, Method::GET, "/v2/", Some(controllers), 401),
        (reader, Method::GET, "/v2/", Some(proxy), 200),
        (reader, Method::POST, uploads, None, 401),
        (reader, Method::POST, uploads, Some(proxy), 405),
    ] {
        let answer = bed.cache.ask(listener, method.clone(), path, line).await?;
        ensure!(answer.status.as_u16() == expected, "{listener} {method} {path} {line:?}: {}", answer.status);
    }
    Ok(())
}

async fn a_password_that_is_taken_out_is_made_anew_and_pulls_go_upstream_until_it_is_there(
    bed: &mut Bed,
) -> Result<()> {
    let published = publish(bed, "renewed").await?;
    bed.objects().create_pod("renewed", "renewed:1.0").await?;
    bed.objects().cached(&published.source).await?;
    let before = bed.mount_registry_credentials().await?;

    remove(bed, "proxy").await?;
    let after = until("another password", LONGEST_LOOK, async || {
        let held = held(bed).await?;
        Ok(held.get("proxy").is_some_and(|line| *line != before["proxy"]).then_some(held))
    })
    .await?;
    assert_eq!(after["controllers"], before["controllers"]);
    assert_eq!(after["htpasswd.controllers"], before["htpasswd.controllers"]);

    // The registry has it first, and refuses the proxies.
    let file = bed.folder().join("credentials/htpasswd.proxy");
    fs::write(&file, &after["htpasswd.proxy"])?;
    let manifest = format!("/v2/docker.io/{}/manifests/1.0", published.repository);
    served_by(bed, &manifest, "upstream").await?;
    bed.mount_registry_credentials().await?;
    served_by(bed, &manifest, "cache").await?;

    bed.upstream.off().await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn a_secret_that_is_missing_is_told_and_its_credentials_go_on(bed: &mut Bed) -> Result<()> {
    bed.kubectl(&["delete", "secret", REGISTRY_CREDENTIALS, "--namespace", NAMESPACE]).await?;
    until("the controllers to tell it", LONGEST_LOOK, async || {
        let told = bed
            .controllers
            .iter()
            .any(|part| part.log_tail(200).contains("of the registry's credentials, does not exist"));
        Ok(told.then_some(()))
    })
    .await?;
    let published = publish(bed, "secretless").await?;
    bed.objects().create_pod("secretless", "secretless:1.0").await?;
    bed.objects().cached(&published.source).await?;

    bed.kubectl(&["create", "secret", "generic", REGISTRY_CREDENTIALS, "--namespace", NAMESPACE]).await?;
    let made = bed.mount_registry_credentials().await?;
    let published = publish(bed, "secret-again").await?;
    bed.objects().create_pod("secret-again", "secret-again:1.0").await?;
    bed.objects().cached(&published.source).await?;
    ensure!(made.len() == 5, "{:?}", made.keys());
    Ok(())
}

async fn no_password_is_in_a_log(bed: &mut Bed) -> Result<()> {
    let lines = bed.mount_registry_credentials().await?;
    let passwords: Vec<_> = ["controllers", "proxy"].iter().filter_map(|role| lines[*role].split_once(':')).collect();
    assert_eq!(passwords.len(), 2);
    let mut logs = 0;
    for entry in fs::read_dir(bed.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            for (user, password) in &passwords {
                ensure!(!text.contains(password), "the password of {user} is in {}", path.display());
            }
            logs += 1;
        }
    }
    ensure!(logs > 5, "{logs} logs");
    Ok(())
}

async fn served_by(bed: &Bed, path: &str, leg: &str) -> Result<()> {
    for node in [&bed.a, &bed.b] {
        until(format!("{path} by {leg}"), LONGEST_LOOK, async || {
            let answer = node.get(path).await?;
            ensure!(answer.status.as_u16() == 200, "{path}: {}", answer.status);
            Ok((answer.header("x-cache-registry-served-by") == leg).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn remove(bed: &Bed, key: &str) -> Result<()> {
    let patch = format!(r#"[{{"op":"remove","path":"/data/{key}"}}]"#);
    let patch = format!("--patch={patch}");
    bed.kubectl(&["patch", "secret", REGISTRY_CREDENTIALS, "--namespace", NAMESPACE, "--type=json", &patch]).await?;
    Ok(())
}

/// What the Secret holds.
async fn held(bed: &Bed) -> Result<BTreeMap<String, String>> {
    let secrets: Api<Secret> = Api::namespaced(bed.control_plane.client(), NAMESPACE);
    let data = secrets.get(REGISTRY_CREDENTIALS).await?.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
}
