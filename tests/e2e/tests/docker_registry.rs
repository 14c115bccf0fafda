//! The same with Debian's docker-registry 2.8 as the cache: any registry can stand there.

use std::process::ExitCode;

use anyhow::{Context, Result};
use cache_registry_bed::{Bed, CacheKind, Options};
use cache_registry_e2e::{expects_gone, publish, pulls_whole, run, tests};

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::DockerRegistry, expiry_delay: "0s", ..Options::default() },
        tests![
            an_image_is_copied_into_docker_registry_and_pulled_with_upstream_off,
            whatever_the_nodes_are_it_gets_all_of_an_index,
            a_tag_goes_and_its_sibling_stays_whole,
        ],
    )
}

async fn an_image_is_copied_into_docker_registry_and_pulled_with_upstream_off(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "old-registry").await?;
    bed.objects().create_pod("old-registry", "old-registry:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    assert_eq!(cached.status.context("no status")?.digest, Some(published.image.digest().to_string()));
    let index = bed.cache.get(&format!("/v2/docker.io/{}/manifests/1.0", published.repository)).await?;
    assert_eq!(index.body, published.image.root.bytes);

    bed.upstream.off().await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    bed.b.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

/// This registry takes no index of which images are missing.
async fn whatever_the_nodes_are_it_gets_all_of_an_index(bed: &mut Bed) -> Result<()> {
    bed.objects().create_node("only", "amd64").await?;
    // Nothing is copied by a new leader before it knows the nodes.
    bed.controllers[0].kill().await?;
    bed.controllers[0].start().await?;
    let published = publish(bed, "all-of-it").await?;
    bed.objects().create_pod("all-of-it", "all-of-it:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    assert_eq!(cached.status.context("no status")?.platforms, ["linux/amd64", "linux/arm64/v8"]);
    bed.upstream.off().await?;
    pulls_whole(bed, &published, "1.0").await
}

/// This registry deletes digests alone, and with one all its tags.
async fn a_tag_goes_and_its_sibling_stays_whole(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "siblings").await?;
    bed.upstream.add(&published.repository, "1.1", &published.image).await?;
    for (pod, image) in [("siblings-0", "siblings:1.0"), ("siblings-1", "siblings:1.1")] {
        bed.objects().create_pod(pod, image).await?;
        bed.objects().cached(&format!("docker.io/library/{image}")).await?;
    }
    bed.objects().delete_pod("siblings-0").await?;
    expects_gone(bed, &published.source).await?;
    bed.upstream.off().await?;
    pulls_whole(bed, &published, "1.1").await
}
