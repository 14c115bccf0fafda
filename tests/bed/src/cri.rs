//! The image calls of the Container Runtime Interface, as a kubelet makes them.
//!
//! The messages are the few fields that are used of
//! [`runtime.v1`](https://github.com/kubernetes/cri-api/blob/v0.34.0/pkg/apis/runtime/v1/api.proto), written out: the
//! crates that have all of it run `protoc` at build time, which would be one more thing to install.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// A runtime's image service.
#[derive(Debug, Clone)]
pub struct ImageService {
    socket: PathBuf,
    channel: Channel,
}

/// An image that a runtime has.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// The digest of its config.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its names with a tag.
    #[prost(string, repeated, tag = "2")]
    pub repo_tags: Vec<String>,
    /// Its names with the digest that the registry told.
    #[prost(string, repeated, tag = "3")]
    pub repo_digests: Vec<String>,
    /// Bytes that it takes.
    #[prost(uint64, tag = "4")]
    pub size: u64,
}

impl ImageService {
    /// A client that connects when it is used.
    pub(crate) fn new(socket: &Path) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        Ok(Self { socket: socket.to_owned(), channel: endpoint.connect_lazy() })
    }

    /// The socket, for `ctr --address` or `crictl --image-endpoint`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `PullImage`: one attempt. Returns the image's id. A kubelet that gets an error waits and calls it again.
    pub async fn pull(&self, image: &str) -> Result<String, Status> {
        let request = ImageRequest { image: Some(ImageSpec { image: image.to_owned() }) };
        let response: PullImageResponse = self.call("/runtime.v1.ImageService/PullImage", request).await?;
        Ok(response.image_ref)
    }

    /// `ImageStatus`: `None` where the runtime does not have the image.
    pub async fn status(&self, image: &str) -> Result<Option<Image>> {
        let request = ImageRequest { image: Some(ImageSpec { image: image.to_owned() }) };
        let response: ImageStatusResponse = self.call("/runtime.v1.ImageService/ImageStatus", request).await?;
        Ok(response.image)
    }

    /// `RemoveImage`: with all of its names, so that the next pull fetches everything again. Fine where it is not there.
    pub async fn remove(&self, image: &str) -> Result<()> {
        let Some(known) = self.status(image).await? else { return Ok(()) };
        let request = ImageRequest { image: Some(ImageSpec { image: known.id }) };
        let _: Empty = self.call("/runtime.v1.ImageService/RemoveImage", request).await.context("RemoveImage")?;
        Ok(())
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        Ok(client.unary(Request::new(request), PathAndQuery::from_static(method), codec).await?.into_inner())
    }
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

/// `PullImageRequest`, `ImageStatusRequest` and `RemoveImageRequest` begin alike.
#[derive(Clone, PartialEq, Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}
