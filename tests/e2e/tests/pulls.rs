//! What nodes pull, from whom, and what happens when one of them is not there.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_bed::{Bed, IpVersion, Node, Options, image_of, until};
use cache_registry_core::Digest;
use cache_registry_e2e::{Published, blob_file, content_digest, note, publish, publish_large, run, tests};
use cache_registry_upstream::{Fault, Matching, Rule};
use futures::future::try_join_all;
use http::Method;

fn main() -> Result<ExitCode> {
    run(
        Options::default(),
        tests![
            both_containerd_versions_pull_a_cached_image,
            an_image_that_is_not_cached_yet_comes_from_upstream,
            a_cached_image_is_pulled_with_upstream_off_and_its_digest_is_upstreams,
            a_registry_host_with_a_port_is_pulled_with_upstream_off,
            a_digest_reference_is_pulled_with_upstream_off,
            a_tag_and_digest_reference_is_pulled_with_upstream_off,
            pulls_go_on_without_api_server_and_controllers,
            a_killed_registry_means_upstream_within_three_seconds,
            a_registry_that_never_answers_means_upstream_within_three_seconds,
            wrong_layer_bytes_in_the_cache_are_replaced_by_upstreams,
            wrong_bytes_in_a_large_layer_are_replaced_by_upstreams,
            wrong_manifest_bytes_in_the_cache_are_replaced_by_upstreams,
            a_body_that_upstream_cuts_is_resumed,
            the_proxy_listens_on_both_loopbacks,
            nothing_but_get_and_head_is_served,
            a_registry_at_a_private_address_is_refused_unless_it_is_configured,
            fifty_pods_at_once_are_cached_and_pulled,
            a_pull_in_flight_finishes_after_sigterm,
        ],
    )
}

/// Publishes an image, creates a pod that uses it, and waits until it is cached.
async fn cached(bed: &Bed, name: &str) -> Result<Published> {
    let published = publish(bed, name).await?;
    used(bed, name, &published).await?;
    Ok(published)
}

/// Creates a pod that uses an image, and waits until it is cached.
async fn used(bed: &Bed, name: &str, published: &Published) -> Result<()> {
    bed.objects().create_pod(name, &published.source).await?;
    bed.objects().cached(&published.source).await?;
    bed.upstream.reset_traffic().await?;
    Ok(())
}

/// The digest that a node's runtime keeps for an image.
async fn digest_on(node: &Node, image: &str) -> Result<String> {
    let image = node.images.status(image).await?.context("the node has no such image")?;
    let name = image.repo_digests.first().context("it has no digest")?;
    Ok(name.rsplit_once('@').context("no digest in it")?.1.to_owned())
}

async fn both_containerd_versions_pull_a_cached_image(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "both").await?;
    let image = published.on_nodes()?;
    let (a, b) = (bed.a.pull(&image, 1).await?, bed.b.pull(&image, 1).await?);
    assert_eq!(a.id, b.id);
    for node in [&bed.a, &bed.b] {
        assert_eq!(digest_on(node, &image).await?, published.image.digest().to_string());
    }
    let blobs = bed.upstream.traffic().await?.count(&Matching::blobs());
    assert_eq!(blobs, 0, "the layers came from upstream");
    Ok(())
}

async fn an_image_that_is_not_cached_yet_comes_from_upstream(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "cold").await?;
    let image = published.on_nodes()?;
    for node in [&bed.a, &bed.b] {
        node.pull(&image, 1).await?;
        assert_eq!(digest_on(node, &image).await?, published.image.digest().to_string());
    }
    Ok(())
}

async fn a_cached_image_is_pulled_with_upstream_off_and_its_digest_is_upstreams(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "off").await?;
    bed.upstream.off().await?;
    let image = published.on_nodes()?;
    for node in [&bed.a, &bed.b] {
        node.pull(&image, 1).await?;
        assert_eq!(digest_on(node, &image).await?, published.image.digest().to_string());
    }
    Ok(())
}

async fn a_registry_host_with_a_port_is_pulled_with_upstream_off(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "with-port").await?;
    let source = format!("reg.example:5000/{}:1.0", published.repository);
    pulled_with_upstream_off(bed, "with-port", &source, &published).await
}

async fn a_digest_reference_is_pulled_with_upstream_off(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "by-digest").await?;
    pulled_with_upstream_off(bed, "by-digest", &published.by_digest(), &published).await
}

async fn a_tag_and_digest_reference_is_pulled_with_upstream_off(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "tag-and-digest").await?;
    let source = format!("{}@{}", published.source, published.image.digest());
    pulled_with_upstream_off(bed, "tag-and-digest", &source, &published).await
}

/// Creates a pod with this image, and pulls what the API server stored when it is cached and upstream is off.
async fn pulled_with_upstream_off(bed: &Bed, pod: &str, source: &str, published: &Published) -> Result<()> {
    let stored = bed.objects().create_pod(pod, source).await?;
    let image = image_of(&stored, "main")?;
    ensure!(image.starts_with("localhost:7439/"), "{image}");
    bed.objects().cached(source).await?;
    bed.upstream.off().await?;
    for node in [&bed.a, &bed.b] {
        node.pull(image, 1).await?;
        assert_eq!(digest_on(node, image).await?, published.image.digest().to_string());
    }
    Ok(())
}

async fn pulls_go_on_without_api_server_and_controllers(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "no-control-plane").await?;
    bed.upstream.off().await?;
    for part in &mut bed.controllers {
        part.kill().await?;
    }
    bed.webhook.kill().await?;
    bed.control_plane.api_server.kill().await?;
    bed.control_plane.etcd.kill().await?;
    // A proxy that starts now knows nothing but its flags.
    bed.a.proxy.kill().await?;
    bed.a.proxy.start().await?;
    for node in [&bed.a, &bed.b] {
        node.pull(&published.on_nodes()?, 1).await?;
    }
    Ok(())
}

async fn a_killed_registry_means_upstream_within_three_seconds(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "killed").await?;
    bed.cache.part.kill().await?;
    from_upstream_within_three_seconds(bed, &published).await
}

async fn a_registry_that_never_answers_means_upstream_within_three_seconds(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "frozen").await?;
    bed.cache.part.freeze()?;
    from_upstream_within_three_seconds(bed, &published).await
}

async fn from_upstream_within_three_seconds(bed: &Bed, published: &Published) -> Result<()> {
    let blob = published.image.blobs.last().context("no blob")?;
    let answer = bed.a.get(&published.blob_path("docker.io", &blob.digest)).await?;
    assert_eq!((answer.status.as_u16(), answer.header("x-cache-registry-served-by")), (200, "upstream"));
    assert_eq!(answer.body, blob.bytes);
    ensure!(answer.first_byte < Duration::from_secs(3), "the first byte came after {:?}", answer.first_byte);

    let image = published.on_nodes()?;
    for node in [&bed.a, &bed.b] {
        node.pull(&image, 1).await?;
        assert_eq!(digest_on(node, &image).await?, published.image.digest().to_string());
    }
    Ok(())
}

async fn wrong_layer_bytes_in_the_cache_are_replaced_by_upstreams(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "wrong-layer").await?;
    let layers = published.image.blobs.iter().filter(|blob| blob.media_type.contains("layer"));
    let layers: Vec<Digest> = layers.map(|blob| blob.digest.clone()).collect();
    damaged_and_pulled(bed, &published, &layers, every_bit_of_every_other_byte).await
}

/// Too large for the proxy to check before it sends: the connection is cut at the end, and the next try goes upstream.
async fn wrong_bytes_in_a_large_layer_are_replaced_by_upstreams(bed: &mut Bed) -> Result<()> {
    let published = publish_large(bed, "wrong-large", 24 << 20).await?;
    used(bed, "wrong-large", &published).await?;
    let layers = published.image.blobs.iter().filter(|blob| blob.media_type.contains("layer"));
    let layers: Vec<Digest> = layers.map(|blob| blob.digest.clone()).collect();
    damaged_and_pulled(bed, &published, &layers, every_bit_of_every_other_byte).await
}

async fn wrong_manifest_bytes_in_the_cache_are_replaced_by_upstreams(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "wrong-manifest").await?;
    let manifests: Vec<Digest> = published.image.manifests.iter().map(|manifest| manifest.digest.clone()).collect();
    damaged_and_pulled(bed, &published, &manifests, one_character_of_a_digest).await
}

/// Overwrites these contents in the registry, and pulls as a kubelet does: a pull that fails is tried again.
async fn damaged_and_pulled(bed: &Bed, published: &Published, damaged: &[Digest], damage: fn(&mut [u8])) -> Result<()> {
    for digest in damaged {
        let file = blob_file(bed, digest)?;
        let mut bytes = fs::read(&file)?;
        damage(&mut bytes);
        fs::write(&file, bytes)?;
    }
    let image = published.on_nodes()?;
    for (name, node) in [("a", &bed.a), ("b", &bed.b)] {
        let pull = node.pull(&image, 3).await?;
        ensure!(node.traffic().await?.mismatches("cache") > 0, "node {name} met no wrong bytes");
        note!("node {name}: attempt {} pulled it", pull.failures.len() + 1);
        assert_eq!(digest_on(node, &image).await?, published.image.digest().to_string());
    }
    ensure!(bed.upstream.traffic().await?.requests.iter().any(|request| request.bytes > 0), "upstream sent nothing");
    Ok(())
}

fn every_bit_of_every_other_byte(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().step_by(2) {
        *byte ^= 0xff;
    }
}

/// What is no manifest any more the registry would not serve at all.
fn one_character_of_a_digest(bytes: &mut [u8]) {
    let start = bytes.windows(7).position(|window| window == b"sha256:").map_or(0, |start| start + 7);
    for byte in bytes.iter_mut().skip(start).take(1) {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
}

async fn a_body_that_upstream_cuts_is_resumed(bed: &mut Bed) -> Result<()> {
    let published = publish_large(bed, "cut", 4 << 20).await?;
    let blobs = Matching::blobs().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(blobs, Fault::Cut { after: 1 << 20 }).times(2)).await?;
    for node in [&bed.a, &bed.b] {
        node.pull(&published.on_nodes()?, 3).await?;
    }
    Ok(())
}

async fn the_proxy_listens_on_both_loopbacks(bed: &mut Bed) -> Result<()> {
    for version in [IpVersion::V4, IpVersion::V6] {
        let answer = bed.a.request(Method::GET, "/v2/", version, &[]).await?;
        assert_eq!(answer.status.as_u16(), 200, "{version:?}");
    }
    Ok(())
}

async fn nothing_but_get_and_head_is_served(bed: &mut Bed) -> Result<()> {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let path = "/v2/docker.io/library/any/manifests/1.0";
        let answer = bed.a.request(method.clone(), path, IpVersion::V4, &[]).await?;
        assert_eq!(answer.status.as_u16(), 405, "{method}");
    }
    Ok(())
}

async fn a_registry_at_a_private_address_is_refused_unless_it_is_configured(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "private-address").await?;
    bed.upstream.reset_traffic().await?;
    let host = bed.upstream.address().to_string().replace(':', "_");
    for host in [host.as_str(), "127.0.0.1_8080", "169.254.169.254_80", "localhost"] {
        let answer = bed.a.get(&format!("/v2/{host}/{}/manifests/1.0", published.repository)).await?;
        ensure!(answer.status.is_client_error() || answer.status.is_server_error(), "{host}: {}", answer.status);
        ensure!(!answer.body.is_empty(), "{host}: no word of why");
    }
    assert_eq!(bed.upstream.traffic().await?.requests.len(), 0, "it was asked");
    Ok(())
}

async fn fifty_pods_at_once_are_cached_and_pulled(bed: &mut Bed) -> Result<()> {
    let names: Vec<String> = (0..50).map(|number| format!("crowd-{number}")).collect();
    let bed = &*bed;
    let published = try_join_all(names.iter().map(|name| publish(bed, name))).await?;
    let started = Instant::now();
    let objects = bed.objects();
    try_join_all(names.iter().map(async |name| objects.create_pod(name, &format!("{name}:1.0")).await)).await?;
    try_join_all(published.iter().map(|image| objects.cached_within(&image.source, Duration::from_secs(90)))).await?;
    note!("50 pods were created and their images cached in {:.1} s", started.elapsed().as_secs_f32());

    bed.upstream.off().await?;
    let started = Instant::now();
    for node in [&bed.a, &bed.b] {
        try_join_all(published.iter().map(async |image| node.pull(&image.on_nodes()?, 1).await)).await?;
    }
    note!("two nodes pulled all of them, upstream off, in {:.1} s", started.elapsed().as_secs_f32());
    for image in &published {
        assert_eq!(digest_on(&bed.a, &image.on_nodes()?).await?, image.image.digest().to_string());
    }
    Ok(())
}

async fn a_pull_in_flight_finishes_after_sigterm(bed: &mut Bed) -> Result<()> {
    let published = publish_large(bed, "draining", 6 << 20).await?;
    let layer = published.image.blobs.iter().max_by_key(|blob| blob.bytes.len()).context("no layer")?;
    let blobs = Matching::blobs().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(blobs.clone(), Fault::Rate { bytes_per_second: 2 << 20 })).await?;
    let path = published.blob_path("docker.io", &layer.digest);
    let (node, upstream) = (&bed.a, &bed.upstream);
    let told = async {
        until("the body to be on its way", Duration::from_secs(10), async || {
            Ok((upstream.traffic().await?.bytes(&blobs) > 1 << 20).then_some(()))
        })
        .await?;
        node.proxy.terminate()
    };
    let (answer, ()) = tokio::try_join!(node.get(&path), told)?;
    assert_eq!((answer.status.as_u16(), content_digest(&answer.body)), (200, layer.digest.to_string()));
    let status = bed.a.proxy.ended(Duration::from_secs(10)).await?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
