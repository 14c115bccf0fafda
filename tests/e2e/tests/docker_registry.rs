//! The same with Debian's docker-registry 2.8 as the cache: any registry can stand there.

use std::process::ExitCode;

use anyhow::{Context, Result};
use cache_registry_bed::{Bed, CacheKind, Options};
use cache_registry_e2e::{publish, run, tests};

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::DockerRegistry, ..Options::default() },
        tests![an_image_is_copied_into_docker_registry_and_pulled_with_upstream_off],
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
