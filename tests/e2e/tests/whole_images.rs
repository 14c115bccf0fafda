//! Of an image, what the nodes need and what proves where it is from; and what of an upstream is no image at all.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::{CachedImage, CachedImageStatus};
use cache_registry_bed::{Bed, Options, until};
use cache_registry_core::{cosign_tags, referrers_tag};
use cache_registry_e2e::{Published, expects_gone, publish, pulls_whole, run, tests};
use cache_registry_upstream::{Content, Fault, Image, Matching, Rule};
use serde_json::{Value, json};

fn main() -> Result<ExitCode> {
    run(
        Options { expiry_delay: "0s", ..Options::default() },
        tests![
            of_an_index_the_nodes_part_is_copied_and_the_rest_when_a_node_for_it_comes,
            signatures_come_along_are_found_through_the_proxy_and_go_with_the_image,
            that_signatures_cannot_be_had_is_told_and_nothing_else,
            schema_1_is_refused_in_words_and_pulled_as_if_nobody_were_there,
            what_upstream_says_of_its_limit_is_shown,
        ],
    )
}

const SERVED_BY: &str = "x-cache-registry-served-by";

fn platforms(image: &CachedImage) -> Vec<&str> {
    image.status.iter().flat_map(|status| &status.platforms).map(String::as_str).collect()
}

fn manifest(published: &Published, reference: impl std::fmt::Display) -> String {
    format!("/v2/docker.io/{}/manifests/{reference}", published.repository)
}

async fn of_an_index_the_nodes_part_is_copied_and_the_rest_when_a_node_for_it_comes(bed: &mut Bed) -> Result<()> {
    bed.objects().create_node("first", "amd64").await?;
    // Nothing is copied by a new leader before it knows the nodes.
    bed.controllers[0].kill().await?;
    bed.controllers[0].start().await?;
    let published = publish(bed, "sparse").await?;
    bed.objects().create_pod("sparse", "sparse:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    assert_eq!(platforms(&cached), ["linux/amd64"]);
    let index = bed.cache.get(&manifest(&published, "1.0")).await?;
    assert_eq!(index.body, published.image.root.bytes);
    let arm64 = &published.image.manifests[2];
    assert_eq!(bed.cache.get(&manifest(&published, &arm64.digest)).await?.status.as_u16(), 404);

    // What is not in the cache is upstream's, and no fault of the cache.
    let answer = bed.a.get(&manifest(&published, &arm64.digest)).await?;
    assert_eq!((answer.status.as_u16(), answer.header(SERVED_BY)), (200, "upstream"));
    assert_eq!(answer.body, arm64.bytes);
    let traffic = bed.a.traffic().await?;
    assert_eq!(traffic.mismatches("cache"), 0);

    bed.upstream.off().await?;
    for node in [&bed.a, &bed.b] {
        node.pull(&published.on_nodes()?, 1).await?;
    }
    let answer = bed.a.get(&manifest(&published, published.image.digest())).await?;
    assert_eq!(answer.header(SERVED_BY), "cache", "the cache is asked on");
    bed.upstream.on().await?;

    bed.objects().create_node("second", "arm64").await?;
    let whole = until("the image to be completed", Duration::from_secs(30), async || {
        let cached = bed.objects().cached(&published.source).await?;
        Ok((platforms(&cached) == ["linux/amd64", "linux/arm64/v8"]).then_some(cached))
    })
    .await?;
    let since = |image: &CachedImage| image.status.as_ref()?.ready().map(|ready| ready.last_transition_time.clone());
    assert_eq!(since(&whole), since(&cached), "it was Ready all the time");
    bed.upstream.off().await?;
    pulls_whole(bed, &published, "1.0").await
}

async fn signatures_come_along_are_found_through_the_proxy_and_go_with_the_image(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "signed").await?;
    let image = &published.image;
    let signature = Image::about(&image.root, "application/vnd.dev.sigstore.bundle.v0.3+json", "the index is ours");
    let sbom = Image::about(&image.manifests[0], "application/spdx+json", "all that is in it");
    let cosign = cosign_tags(image.digest()).next().context("no tag")?;
    bed.upstream.add(&published.repository, "signature", &signature).await?;
    bed.upstream.add(&published.repository, "sbom", &sbom).await?;
    let simple = Image::about(&image.root, "x/y", "simple signing");
    bed.upstream.add(&published.repository, &cosign, &simple).await?;
    bed.objects().create_pod("signed", "signed:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    assert_eq!(cached.status.context("no status")?.notes, Vec::<String>::new());

    bed.upstream.off().await?;
    let name = format!("localhost:7439/docker.io/{}", published.repository);
    // Of what is about a signature nothing is known here, and upstream can't be asked.
    let discover = ["discover", "--plain-http", "--format=json", "--depth=1"];
    for (subject, about) in [(image.digest(), &signature), (&image.manifests[0].digest, &sbom)] {
        let subject = format!("{name}@{subject}");
        let arguments: Vec<&str> = discover.into_iter().chain([subject.as_str()]).collect();
        let found = bed.a.output(&bed.oras_program(), &arguments).await?;
        ensure!(found.contains(&about.digest().to_string()), "{found}");
        let about = format!("{name}@{}", about.digest());
        bed.a.output(&bed.oras_program(), &["manifest", "fetch", "--plain-http", &about]).await?;
    }
    for node in [&bed.a, &bed.b] {
        let answer = node.get(&manifest(&published, &cosign)).await?;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &simple.root.bytes));
        for blob in &signature.blobs {
            let blob = node.get(&published.blob_path("docker.io", &blob.digest)).await?;
            assert_eq!(blob.status.as_u16(), 200);
        }
    }

    bed.objects().delete_pod("signed").await?;
    expects_gone(bed, &published.source).await?;
    let tags = bed.cache.get(&format!("/v2/docker.io/{}/tags/list", published.repository)).await?;
    let tags: Value = serde_json::from_slice(&tags.body)?;
    ensure!(tags["tags"].as_array().is_none_or(Vec::is_empty), "{tags}");
    Ok(())
}

async fn that_signatures_cannot_be_had_is_told_and_nothing_else(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "half-signed").await?;
    let lists = Matching::referrers().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(lists, Fault::TooManyRequests { retry_after: None })).await?;
    bed.objects().create_pod("half-signed", "half-signed:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    let notes = cached.status.context("no status")?.notes;
    ensure!(notes.len() == 1 && notes[0].contains("SBOMs of the image are left out"), "{notes:?}");
    let list = bed.cache.get(&manifest(&published, referrers_tag(published.image.digest()))).await?;
    assert_eq!(list.status.as_u16(), 404);
    bed.upstream.off().await?;
    bed.a.pull(&published.on_nodes()?, 1).await?;
    Ok(())
}

async fn schema_1_is_refused_in_words_and_pulled_as_if_nobody_were_there(bed: &mut Bed) -> Result<()> {
    const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let document = json!({ "schemaVersion": 1, "name": "library/ancient", "tag": "1.0", "fsLayers": [] });
    let root = Content::new(SCHEMA_1, document.to_string());
    let image = Image { root, manifests: Vec::new(), blobs: Vec::new() };
    bed.upstream.add("library/ancient", "1.0", &image).await?;
    bed.objects().create_pod("ancient", "ancient:1.0").await?;
    let cached = bed.objects().not_cached("docker.io/library/ancient:1.0", "Unsupported").await?;
    let message = &cached.status.as_ref().and_then(CachedImageStatus::ready).context("no condition")?.message;
    ensure!(message.contains("schema 1") && message.contains("push the image again"), "{message}");
    let answer = bed.a.get("/v2/docker.io/library/ancient/manifests/1.0").await?;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, SCHEMA_1));
    assert_eq!(answer.body, image.root.bytes);
    Ok(())
}

async fn what_upstream_says_of_its_limit_is_shown(bed: &mut Bed) -> Result<()> {
    bed.upstream.misbehave(Rule::all(Fault::Quota { limit: 100, remaining: 76, window: 21_600 })).await?;
    let published = publish(bed, "counted").await?;
    bed.objects().create_pod("counted", "counted:1.0").await?;
    bed.objects().cached(&published.source).await?;
    let metrics = bed.controllers_metrics(0).await?;
    for line in [
        r#"cache_registry_upstream_pull_limit{registry="docker.io"} 100"#,
        r#"cache_registry_upstream_pulls_left{registry="docker.io"} 76"#,
    ] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    Ok(())
}
