//! Images that nodes pull with credentials of their own: nobody sets anything, and their pods start as without the cache.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::{IMAGES_ANNOTATION, REWRITTEN_LABEL};
use cache_registry_bed::{Bed, ECR_REGISTRY, Options, image_of, pod, until};
use cache_registry_e2e::{PolicyMaps, outcome_of, run, tests};
use cache_registry_guests::{Answer, filter_answering};
use kube::ResourceExt;
use serde_json::{Value, json};

const IMAGE: &str = "team/app:1.27";
const WHY: &str = "nodes pull it with credentials of their own; to have it cached, give its pods a pull secret and take \
                   *.dkr.ecr.*.amazonaws.com out of controllers.webhook.nodeRegistries";

/// How long a `CachedImage` may take to be there.
const LONGEST: Duration = Duration::from_secs(30);

/// What names them to the webhook.
const VARIABLE: &str = "CACHE_REGISTRY_NODE_REGISTRIES";

fn main() -> Result<ExitCode> {
    run(
        Options::default(),
        tests![
            such_an_image_is_left_alone_and_others_of_its_pod_are_cached,
            a_pull_secret_for_another_registry_changes_nothing,
            a_policy_of_ones_own_counts_for_more,
            an_empty_list_has_all_images_cached,
            a_list_of_ones_own_takes_the_place_of_ours,
            a_configmap_says_otherwise_where_it_says_something,
            a_registry_that_is_none_keeps_the_webhook_from_starting_and_is_told,
        ],
    )
}

async fn such_an_image_is_left_alone_and_others_of_its_pod_are_cached(bed: &mut Bed) -> Result<()> {
    let alone = bed.objects().create_pod("alone", &ecr()).await?;
    assert_eq!(image_of(&alone, "main")?, ecr());
    assert_eq!(alone.labels().get(REWRITTEN_LABEL), None);
    let annotation = alone.annotations().get(IMAGES_ANNOTATION).context("the webhook was not asked")?;
    assert_eq!(outcome_of(annotation, &ecr())?, Err(WHY.to_owned()));

    let mut mixed = pod("mixed", &json!([{ "name": "main", "image": "nginx:1.27" }]));
    mixed["spec"]["initContainers"] = json!([{ "name": "first", "image": ecr() }]);
    let mixed = bed.objects().create(mixed).await?;
    assert_eq!(image_of(&mixed, "first")?, ecr());
    assert_eq!(image_of(&mixed, "main")?, "localhost:7439/docker.io/library/nginx:1.27");

    // Of the same pod, so that both would be there by now.
    until("a CachedImage of the other one", LONGEST, async || {
        bed.objects().cached_image("docker.io/library/nginx:1.27").await
    })
    .await?;
    ensure!(
        bed.objects().cached_image(&ecr()).await?.is_none(),
        "there is a CachedImage of what no pod pulls through us"
    );
    Ok(())
}

/// The webhook may read no Secret, and many clusters have one for Docker Hub in every `ServiceAccount`.
async fn a_pull_secret_for_another_registry_changes_nothing(bed: &mut Bed) -> Result<()> {
    let mut wanted = pod("docker-hub", &json!([{ "name": "main", "image": ecr() }]));
    wanted["spec"]["imagePullSecrets"] = json!([{ "name": "docker-hub" }]);
    let stored = bed.objects().create(wanted).await?;
    assert_eq!(image_of(&stored, "main")?, ecr());
    Ok(())
}

async fn a_policy_of_ones_own_counts_for_more(bed: &mut Bed) -> Result<()> {
    let policies = PolicyMaps::of(bed);
    policies.bring("caching", &filter_answering(&Answer::Cache)).await?;
    assert_eq!(decided(bed, "wanted").await?, Ok(rewritten()));
    policies.clear().await?;
    assert_eq!(decided(bed, "unwanted").await?, Err(WHY.to_owned()));
    Ok(())
}

async fn an_empty_list_has_all_images_cached(bed: &mut Bed) -> Result<()> {
    restarted_with(bed, "").await?;
    assert_eq!(decided(bed, "all").await?, Ok(rewritten()));
    Ok(())
}

async fn a_list_of_ones_own_takes_the_place_of_ours(bed: &mut Bed) -> Result<()> {
    restarted_with(bed, "reg.example,*.dkr.ecr.*.amazonaws.com/team/").await?;
    let why = WHY.replace(".amazonaws.com", ".amazonaws.com/team/");
    assert_eq!(decided(bed, "of-the-team").await?, Err(why));
    restarted_with(bed, "reg.example,*.dkr.ecr.*.amazonaws.com/another-team/").await?;
    assert_eq!(decided(bed, "of-another-team").await?, Ok(rewritten()));
    Ok(())
}

async fn a_configmap_says_otherwise_where_it_says_something(bed: &mut Bed) -> Result<()> {
    restarted_with(bed, "*.dkr.ecr.*.amazonaws.com").await?;
    let policies = PolicyMaps::of(bed);
    let filter = |settings: Value| json!({ "builtIn": "default-filter", "settings": settings.to_string() });
    policies.apply("filter", &filter(json!({ "registries": ["reg.example"] }))).await?;
    policies.in_force("filter").await?;
    assert_eq!(decided(bed, "of-the-release").await?, Err(WHY.to_owned()));

    // Away in between, so that what is in force after it is the second one.
    policies.clear().await?;
    policies.apply("filter", &filter(json!({ "nodeRegistries": [] }))).await?;
    policies.in_force("filter").await?;
    assert_eq!(decided(bed, "of-the-configmap").await?, Ok(rewritten()));
    policies.clear().await
}

async fn a_registry_that_is_none_keeps_the_webhook_from_starting_and_is_told(bed: &mut Bed) -> Result<()> {
    let error = restarted_with(bed, "https://gcr.io").await.err().context("it started")?;
    let told = format!("{error:#}");
    ensure!(told.contains("\"https://gcr.io\" is not a registry as a kubelet's matchImages has them"), "{told}");
    restarted_with(bed, "gcr.io").await
}

fn ecr() -> String {
    format!("{ECR_REGISTRY}/{IMAGE}")
}

fn rewritten() -> String {
    format!("localhost:7439/{}", ecr())
}

async fn restarted_with(bed: &mut Bed, registries: &str) -> Result<()> {
    bed.webhook.kill().await?;
    bed.webhook.set(VARIABLE, registries);
    bed.webhook.start().await
}

/// What the API server stores of a new pod: its image where that was rewritten, and else why it was not.
async fn decided(bed: &Bed, name: &str) -> Result<Result<String, String>> {
    let stored = bed.objects().create_pod(name, &ecr()).await?;
    let annotation = stored.annotations().get(IMAGES_ANNOTATION).context("the webhook was not asked")?;
    outcome_of(annotation, image_of(&stored, "main")?)
}
