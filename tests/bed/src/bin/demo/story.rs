use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::{IMAGES_ANNOTATION, OPT_OUT_LABEL, OPT_OUT_VALUE, REWRITTEN_LABEL};
use cache_registry_bed::{Bed, Node, image_of, pod};
use cache_registry_upstream::{Image, Matching, pseudo_random};
use kube::ResourceExt;
use serde_json::json;

use crate::telling::Telling;

const SOURCE: &str = "docker.io/library/hello:1.0";
const REPOSITORY: &str = "library/hello";

/// Plays the main job through on a bed that is up, and fails where it is not as promised.
pub(crate) async fn tell(telling: &mut Telling, bed: &Bed) -> Result<()> {
    telling.seen("etcd, kube-apiserver, kube-controller-manager: real ones, in their own processes")?;
    telling.seen(format!("the registry inside the cluster    {}", bed.cache.url()))?;
    telling.seen(format!("upstream, in place of docker.io    http://{}", bed.upstream.address()))?;
    telling.seen("node a: containerd 2.x, node b: containerd 1.6; each has a proxy on localhost:7439")?;
    telling.took()?;

    telling.step(&format!("Upstream has {SOURCE}"))?;
    let image = Image::hello(&pseudo_random(4 << 20, 1))?;
    bed.upstream.add(REPOSITORY, "1.0", &image).await?;
    telling.seen(format!(
        "an index of linux/amd64 and linux/arm64 with attestations: {} manifests, {} blobs, {} bytes",
        image.manifests.len() + 1,
        image.blobs.len(),
        image.size()
    ))?;
    telling.seen(image.digest())?;

    stored(telling, bed).await?;
    pulled(telling, bed, "a", &bed.a, &image).await?;
    cached(telling, bed, &image).await?;

    telling.step("The upstream is stopped")?;
    bed.upstream.off().await?;
    let refused = tokio::net::TcpStream::connect(bed.upstream.address()).await;
    ensure!(refused.is_err(), "upstream still takes connections");
    telling.seen(format!("connections to {} are refused", bed.upstream.address()))?;

    pulled(telling, bed, "b", &bed.b, &image).await?;
    opted_out(telling, bed).await
}

async fn stored(telling: &mut Telling, bed: &Bed) -> Result<()> {
    telling.step(&format!("A pod is created with the image {SOURCE}; the API server stores"))?;
    let stored = bed.objects().create_pod("hello", SOURCE).await?;
    let image = image_of(&stored, "main")?;
    let annotation = stored.annotations().get(IMAGES_ANNOTATION).context("no annotation")?;
    telling.seen(format!("image       {image}"))?;
    let label = stored.labels().get(REWRITTEN_LABEL).context("no label")?;
    telling.seen(format!("label       {REWRITTEN_LABEL}: {label:?}"))?;
    telling.seen(format!("annotation  {IMAGES_ANNOTATION}: {annotation}"))?;
    ensure!(image == format!("localhost:7439/{SOURCE}"), "the image was not rewritten");
    telling.took()
}

async fn pulled(telling: &mut Telling, bed: &Bed, name: &str, node: &Node, image: &Image) -> Result<()> {
    telling.step(&format!("Node {name} pulls it, with the call that its kubelet makes"))?;
    let reference = format!("localhost:7439/{SOURCE}");
    let before = node.traffic().await?;
    bed.upstream.reset_traffic().await?;
    let pull = node.pull(&reference, 1).await?;
    telling.seen(format!("pulled in {:.2} s", pull.took.as_secs_f32()))?;
    telling.seen(format!("its proxy sent {}", node.traffic().await?.since(&before)))?;
    let upstream = bed.upstream.traffic().await?;
    let (requests, bytes) = (upstream.requests.len(), upstream.bytes(&Matching::any()));
    telling.seen(format!(
        "upstream counted {requests} requests and {bytes} bytes (the copy into the cache may be among them)"
    ))?;

    let known = node.images.status(&reference).await?.context("the node has no image after the pull")?;
    let digest = known.repo_digests.first().and_then(|name| name.rsplit_once('@')).context("no digest")?.1;
    telling.seen(format!("digest on the node  {digest}"))?;
    telling.seen(format!("digest of upstream  {}", image.digest()))?;
    ensure!(digest == image.digest().to_string(), "the digests differ");
    telling.seen("they are the same")
}

async fn cached(telling: &mut Telling, bed: &Bed, image: &Image) -> Result<()> {
    telling.step("kubectl get cachedimages")?;
    let cached = bed.objects().cached(SOURCE).await?;
    telling.seen(bed.kubectl(&["get", "cachedimages"]).await?)?;
    let digest = cached.status.and_then(|status| status.digest);
    ensure!(digest == Some(image.digest().to_string()), "its digest is {digest:?}");
    telling.took()
}

async fn opted_out(telling: &mut Telling, bed: &Bed) -> Result<()> {
    let label = format!("{OPT_OUT_LABEL}: {OPT_OUT_VALUE}");
    telling.step(&format!("The same with a pod labelled {label}"))?;
    let mut wanted = pod("opted-out", &json!([{ "name": "main", "image": SOURCE }]));
    wanted["metadata"]["labels"] = json!({ OPT_OUT_LABEL: OPT_OUT_VALUE });
    let stored = bed.objects().create(wanted).await?;
    let image = image_of(&stored, "main")?;
    telling.seen(format!("image       {image}, as it was written"))?;
    ensure!(image == SOURCE, "the image of an opted-out pod was changed");
    ensure!(!stored.labels().contains_key(REWRITTEN_LABEL), "an opted-out pod has our label");
    ensure!(!stored.annotations().contains_key(IMAGES_ANNOTATION), "an opted-out pod has our annotation");
    telling.seen("no label and no annotation of ours")?;
    telling.line("")
}

/// Commands for a person who keeps the demo running.
pub(crate) fn how_to_look_around(bed: &Bed) -> String {
    let folder = bed.folder().display();
    let tools = bed.kubectl_program();
    let tools = tools.parent().unwrap_or(bed.folder()).display();
    let kubeconfig = bed.control_plane.kubeconfig();
    let (kubeconfig, b) = (kubeconfig.display(), bed.b.images.socket().display());
    let (namespace, upstream, cache) = (bed.b.namespace().path(), bed.upstream.control_url(), bed.cache.url());
    format!(
        "
    export KUBECONFIG={kubeconfig} PATH={tools}:$PATH
    kubectl get cachedimages,pods
    kubectl describe cachedimages
    kubectl run again --image={SOURCE}
    kubectl get pod again -o yaml
    kubectl get events

    # What the registry has, what node b has, and node b's proxy:
    curl {cache}/v2/_catalog
    ctr --address {b} --namespace k8s.io images list
    nsenter --net={namespace} curl -i localhost:7439/v2/

    # Upstream is still off; /off stops it again:
    curl -X PUT {upstream}/on
    tail -F {folder}/*.log
"
    )
}
