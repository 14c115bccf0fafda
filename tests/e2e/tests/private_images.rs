//! Images that only who has their pull secret may have: copied with it, pulled with tokens before that, and nothing of it
//! told to anybody.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_registry_api::CachedImageStatus;
use cache_registry_bed::{Bed, CacheKind, ECR_REGISTRY, Options, image_of, until};
use cache_registry_e2e::{Published, publish, run, tests};
use cache_registry_upstream::{Access, Matching};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

/// Who may read upstream.
const USER: &str = "somebody-known";
const PASSWORD: &str = "hush-hush-and-hush";
/// What somebody else believes to be right.
const WRONG: &str = "once-upon-a-time";

/// A kubelet tries again 10 s after the first failure, and later each time.
const LONGEST_RECOVERY: Duration = Duration::from_mins(1);

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::Guarded, controllers: 2, ..Options::default() },
        tests![
            a_node_pulls_it_before_the_cache_has_it_and_without_upstream_after,
            what_everybody_may_pull_needs_no_controllers,
            controllers_that_come_later_are_in_time,
            a_wrong_secret_is_told_and_works_when_it_is_put_right,
            who_names_no_secret_is_told_what_to_do,
            of_the_pods_of_two_namespaces_one_secret_is_enough,
            the_pull_secret_of_a_service_account_counts,
            a_registry_that_takes_passwords_alone_is_pulled_from_when_the_copy_is_made,
            passwords_of_ecr_that_are_renewed_keep_its_images_cached,
            nothing_of_a_secret_is_told_to_anybody,
        ],
    )
}

async fn a_node_pulls_it_before_the_cache_has_it_and_without_upstream_after(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "first", &tokens()).await?;
    secret(bed, "default", "first", PASSWORD).await?;
    cache_is(bed, false).await?;
    pod(bed, "default", "first", Some("first")).await?;
    let pulled = bed.a.pull(&published.on_nodes()?, 1).await?;
    ensure!(pulled.failures.is_empty(), "{:?}", pulled.failures);
    let traffic = bed.upstream.traffic().await?;
    let names = |matching: Matching| {
        let all = traffic.of(&matching).filter_map(|request| request.authorization.clone());
        all.collect::<Vec<_>>()
    };
    let of_image = Matching::any().repository(&published.repository);
    ensure!(names(of_image.clone()).contains(&"Bearer".to_owned()), "no token was shown: {traffic:?}");
    ensure!(!names(of_image).contains(&"Basic".to_owned()), "the registry was shown the password: {traffic:?}");
    ensure!(names(Matching::tokens()).contains(&"Basic".to_owned()), "nobody has asked for a token");

    cache_is(bed, true).await?;
    bed.objects().cached_within(&published.source, LONGEST_RECOVERY).await?;
    bed.upstream.off().await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn what_everybody_may_pull_needs_no_controllers(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "public").await?;
    for part in &mut bed.controllers {
        part.kill().await?;
    }
    bed.a.pull(&published.on_nodes()?, 1).await?;
    bed.upstream.set_access(&Access::Tokens { valid_for: 60 }).await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn controllers_that_come_later_are_in_time(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "later", &tokens()).await?;
    secret(bed, "default", "later", PASSWORD).await?;
    for part in &mut bed.controllers {
        part.kill().await?;
    }
    pod(bed, "default", "later", Some("later")).await?;
    let refusal = refused_pull(bed, &published).await?;
    ensure!(refusal.contains("the controllers do not answer"), "{refusal}");

    // Without a cache, so that it is the token that counts.
    cache_is(bed, false).await?;
    let image = published.on_nodes()?;
    let Bed { controllers, a, .. } = bed;
    let coming = async {
        for part in controllers {
            part.start().await?;
        }
        Ok(())
    };
    tokio::try_join!(coming, a.pull(&image, 10))?;
    Ok(())
}

async fn a_wrong_secret_is_told_and_works_when_it_is_put_right(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "wrong", &tokens()).await?;
    secret(bed, "default", "wrong", WRONG).await?;
    pod(bed, "default", "wrong", Some("wrong")).await?;
    let message = refusal(bed, &published).await?;
    ensure!(
        message.contains("Tried with the pull secrets of those who use it, default/wrong, and without"),
        "{message}"
    );
    let told = refused_pull(bed, &published).await?;
    ensure!(told.contains("refuses the pull secrets of the pods that use it"), "{told}");
    let story = bed.kubectl(&["describe", "cachedimages"]).await?;
    ensure!(story.contains("Unauthorized") && story.contains("default/wrong"), "{story}");

    secret(bed, "default", "wrong", PASSWORD).await?;
    bed.a.pull(&published.on_nodes()?, 10).await?;
    bed.objects().cached_within(&published.source, LONGEST_RECOVERY).await?;
    Ok(())
}

/// Of a registry that nobody said nodes have credentials for.
async fn who_names_no_secret_is_told_what_to_do(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "unknown", &tokens()).await?;
    pod(bed, "default", "unknown", None).await?;
    let todo = "controllers.webhook.nodeRegistries";
    // What the kubelet puts into the pod's Events.
    let told = refused_pull(bed, &published).await?;
    ensure!(told.contains("no pod that uses it names a pull secret"), "{told}");
    ensure!(told.contains("Give its pods a pull secret") && told.contains(todo), "{told}");

    let image = bed.objects().not_cached(&published.source, "Unauthorized").await?;
    let message = &image.status.as_ref().and_then(CachedImageStatus::ready).context("no condition")?.message;
    ensure!(message.contains("Give its pods a pull secret") && message.contains(todo), "{message}");
    // Its Event says the same.
    until("an Event of it", LONGEST_RECOVERY, async || {
        let described = bed.kubectl(&["describe", "cachedimage", &image.name_any()]).await?;
        let events = described.split_once("Events:").map(|(_, events)| events).unwrap_or_default();
        Ok(events.contains(todo).then_some(()))
    })
    .await
}

async fn of_the_pods_of_two_namespaces_one_secret_is_enough(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "shared", &tokens()).await?;
    for namespace in ["team-a", "team-b"] {
        bed.kubectl(&["create", "namespace", namespace]).await?;
        bed.control_plane.takes_pods(namespace).await?;
    }
    // One is wrong, one is not there, and one is in another namespace than its name says.
    secret(bed, "team-a", "regcred", WRONG).await?;
    pod(bed, "team-a", "shared", Some("regcred")).await?;
    pod(bed, "default", "shared", Some("never-made")).await?;
    let message = refusal(bed, &published).await?;
    ensure!(message.contains("team-a/regcred"), "{message}");

    secret(bed, "team-b", "regcred", PASSWORD).await?;
    pod(bed, "team-b", "shared", Some("regcred")).await?;
    // Soon, whenever the others would have been tried again.
    bed.objects().cached_within(&published.source, Duration::from_secs(20)).await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn the_pull_secret_of_a_service_account_counts(bed: &mut Bed) -> Result<()> {
    let published = private(bed, "account", &tokens()).await?;
    secret(bed, "default", "of-account", PASSWORD).await?;
    bed.kubectl(&["create", "serviceaccount", "puller"]).await?;
    let patch = r#"{"imagePullSecrets":[{"name":"of-account"}]}"#;
    bed.kubectl(&["patch", "serviceaccount", "puller", "--patch", patch]).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "account" },
        "spec": { "serviceAccountName": "puller", "containers": [{ "name": "main", "image": "account:1.0" }] },
    });
    bed.objects().create(pod).await?;
    bed.objects().cached(&published.source).await?;
    Ok(())
}

async fn a_registry_that_takes_passwords_alone_is_pulled_from_when_the_copy_is_made(bed: &mut Bed) -> Result<()> {
    let access = Access::Password { username: USER.to_owned(), password: PASSWORD.to_owned() };
    let published = private(bed, "basic", &access).await?;
    secret(bed, "default", "basic", PASSWORD).await?;
    cache_is(bed, false).await?;
    pod(bed, "default", "basic", Some("basic")).await?;
    let told = refused_pull(bed, &published).await?;
    ensure!(told.contains("takes passwords alone"), "{told}");

    cache_is(bed, true).await?;
    bed.a.pull(&published.on_nodes()?, 15).await?;
    bed.objects().cached(&published.source).await?;
    bed.upstream.off().await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

/// In a cluster whose list of registries of nodes is empty. A password runs out, and something writes a new one.
async fn passwords_of_ecr_that_are_renewed_keep_its_images_cached(bed: &mut Bed) -> Result<()> {
    bed.webhook.kill().await?;
    bed.webhook.set("CACHE_REGISTRY_NODE_REGISTRIES", "");
    bed.webhook.start().await?;
    let access = Access::Password { username: USER.to_owned(), password: PASSWORD.to_owned() };
    let published = private(bed, "ecr", &access).await?;
    let published = Published { source: format!("{ECR_REGISTRY}/{}:1.0", published.repository), ..published };
    secret_for(bed, ECR_REGISTRY, "default", "ecr", WRONG).await?;
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "ecr" },
        "spec": {
            "imagePullSecrets": [{ "name": "ecr" }],
            "containers": [{ "name": "main", "image": published.source }],
        },
    });
    let stored = bed.objects().create(wanted).await?;
    assert_eq!(image_of(&stored, "main")?, published.on_nodes()?);
    let message = refusal(bed, &published).await?;
    ensure!(message.contains("default/ecr"), "{message}");

    secret_for(bed, ECR_REGISTRY, "default", "ecr", PASSWORD).await?;
    bed.objects().cached_within(&published.source, LONGEST_RECOVERY).await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    // It has run out again, and another node pulls for the first time.
    secret_for(bed, ECR_REGISTRY, "default", "ecr", WRONG).await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

/// Last, when all the others have said what they had to say.
async fn nothing_of_a_secret_is_told_to_anybody(bed: &mut Bed) -> Result<()> {
    let proxies = bed.mount_registry_credentials().await?;
    let own = proxies["proxy"].split_once(':').context("no password")?.1;
    let told = bed.kubectl(&["get", "cachedimages,events,pods", "--all-namespaces", "--output", "yaml"]).await?;
    let mut texts = vec![("the API server".to_owned(), told)];
    for entry in fs::read_dir(bed.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            texts.push((path.display().to_string(), String::from_utf8_lossy(&fs::read(&path)?).into_owned()));
        }
    }
    ensure!(texts.len() > 5, "{} texts", texts.len());
    let encoded = |password| base64(&format!("{USER}:{password}"));
    for secret in [PASSWORD, WRONG, USER, own, &encoded(PASSWORD), &encoded(WRONG), "Bearer token-"] {
        for (place, text) in &texts {
            ensure!(!text.contains(secret), "{secret:?} is in {place}");
        }
    }
    // The tokens of this upstream are numbered.
    let numbered = |text: &str| {
        text.match_indices("token-").any(|(at, _)| text[at + 6..].starts_with(|c: char| c.is_ascii_digit()))
    };
    for (place, text) in &texts {
        ensure!(!numbered(text), "a token is in {place}");
    }
    Ok(())
}

fn tokens() -> Access {
    Access::Credentials { username: USER.to_owned(), password: PASSWORD.to_owned() }
}

/// An image of Docker Hub's, and this for who may read there.
async fn private(bed: &Bed, name: &str, access: &Access) -> Result<Published> {
    let published = publish(bed, name).await?;
    bed.upstream.set_access(access).await?;
    Ok(published)
}

/// A pull secret for Docker Hub, made or changed.
async fn secret(bed: &Bed, namespace: &str, name: &str, password: &str) -> Result<()> {
    secret_for(bed, "https://index.docker.io/v1/", namespace, name, password).await
}

async fn secret_for(bed: &Bed, registry: &str, namespace: &str, name: &str, password: &str) -> Result<()> {
    let config = json!({ "auths": { registry: { "username": USER, "password": password } } });
    bed.kubectl(&["delete", "secret", name, "--namespace", namespace, "--ignore-not-found"]).await?;
    let literal = format!("--from-literal=.dockerconfigjson={config}");
    let of_type = "--type=kubernetes.io/dockerconfigjson";
    bed.kubectl(&["create", "secret", "generic", name, "--namespace", namespace, of_type, &literal]).await?;
    Ok(())
}

/// A pod of an image that is called as it is.
async fn pod(bed: &Bed, namespace: &str, name: &str, secret: Option<&str>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(bed.control_plane.client(), namespace);
    let secrets: Vec<_> = secret.iter().map(|name| json!({ "name": name })).collect();
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "imagePullSecrets": secrets,
            "containers": [{ "name": "main", "image": format!("{name}:1.0") }],
        },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

/// Stops the registry inside the cluster, or starts it.
async fn cache_is(bed: &mut Bed, up: bool) -> Result<()> {
    for part in [Some(&mut bed.cache.part), bed.cache.reader.as_mut()].into_iter().flatten() {
        if up { part.start().await? } else { part.kill().await? }
    }
    Ok(())
}

/// The words with which a node's pull ends that fails.
async fn refused_pull(bed: &Bed, published: &Published) -> Result<String> {
    match bed.a.pull(&published.on_nodes()?, 1).await {
        Ok(pull) => bail!("it was pulled: {pull:?}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// What the status says of an image that nobody was let in for.
async fn refusal(bed: &Bed, published: &Published) -> Result<String> {
    until(format!("{} to be refused in the name of a Secret", published.source), LONGEST_RECOVERY, async || {
        let image = bed.objects().not_cached(&published.source, "Unauthorized").await?;
        let ready = image.status.as_ref().and_then(CachedImageStatus::ready).context("no condition")?;
        Ok(ready.message.contains("pull secrets of those who use it").then(|| ready.message.clone()))
    })
    .await
}

fn base64(text: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    BASE64_STANDARD.encode(text)
}
