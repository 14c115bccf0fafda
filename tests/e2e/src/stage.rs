use anyhow::Result;
use cache_registry_bed::cluster::{self, Cluster};
use cache_registry_bed::{Bed, Options};

/// What the tests of one file share: a bed or a whole cluster.
pub trait Stage: Send + Sized + 'static {
    /// What kind of it.
    type Options: Clone + Send + 'static;

    /// Starts all of it.
    fn start(options: Self::Options) -> impl Future<Output = Result<Self>>;

    /// Brings everything back up, between two tests.
    fn heal(&mut self) -> impl Future<Output = Result<()>>;

    /// What a person would look at when a test has failed.
    fn state(&mut self) -> impl Future<Output = String>;
}

impl Stage for Bed {
    type Options = Options;

    async fn start(options: Options) -> Result<Self> {
        Self::start(options).await
    }

    async fn heal(&mut self) -> Result<()> {
        self.heal().await
    }

    async fn state(&mut self) -> String {
        self.state().await
    }
}

impl Stage for Cluster {
    type Options = cluster::Options;

    async fn start(options: cluster::Options) -> Result<Self> {
        Self::start(options).await
    }

    async fn heal(&mut self) -> Result<()> {
        self.heal().await
    }

    async fn state(&mut self) -> String {
        self.state().await
    }
}
