//! A registry that has what a test puts there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::Refusal;
use crate::declaration::Image;
use crate::follower::{NotFetched, PolicyRegistry};

#[derive(Debug)]
pub(crate) struct MockRegistry(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The digest and the component; without it, how long it asks to be left alone where it does, and nothing where it
    /// is away.
    content: Result<(String, Bytes), Option<Duration>>,
    hangs: bool,
    looks: u32,
    pulls: u32,
}

impl MockRegistry {
    pub(crate) fn with(digest: &str, component: &'static [u8]) -> Self {
        let registry = Self::away();
        registry.has(digest, component);
        registry
    }

    pub(crate) fn away() -> Self {
        Self(Mutex::new(State { content: Err(None), hangs: false, looks: 0, pulls: 0 }))
    }

    pub(crate) fn limited(retry_after: Duration) -> Self {
        let registry = Self::away();
        registry.state().content = Err(Some(retry_after));
        registry
    }

    /// One that takes requests and never answers.
    pub(crate) fn hanging() -> Self {
        let registry = Self::away();
        registry.state().hangs = true;
        registry
    }

    pub(crate) fn has(&self, digest: &str, component: &'static [u8]) {
        self.state().content = Ok((digest.to_owned(), Bytes::from_static(component)));
    }

    pub(crate) fn goes(&self) {
        self.state().content = Err(None);
    }

    /// How often it was asked what the tag names, and for what it names.
    pub(crate) fn asked(&self) -> (u32, u32) {
        let state = self.state();
        (state.looks, state.pulls)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn content(&self) -> Result<(String, Bytes), NotFetched> {
        self.content.clone().map_err(|retry_after| {
            let reason = if retry_after.is_some() { "image-rate-limited" } else { "image-unreachable" };
            NotFetched { refusal: Refusal::new(reason, reason), retry_after }
        })
    }
}

impl PolicyRegistry for MockRegistry {
    async fn digest(&self, _: &Image) -> Result<String, NotFetched> {
        let mut state = self.state();
        state.looks += 1;
        Ok(state.content()?.0)
    }

    async fn pull(&self, _: &Image) -> Result<(String, Bytes), NotFetched> {
        let (hangs, content) = {
            let mut state = self.state();
            state.pulls += 1;
            (state.hangs, state.content())
        };
        if hangs { std::future::pending().await } else { content }
    }
}
