use cache_registry_api::CollectionRecord;
use cache_registry_core::Reason;
use tokio::sync::watch;

use crate::plan::Failure;
use crate::settled::settled;

/// Whether the registry may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The `StatefulSet` was not read yet.
    Unknown,
    Open,
    /// A garbage collection has stopped the registry.
    Collecting(CollectionRecord),
}

/// The standing, for whoever writes to the registry.
#[derive(Debug, Clone)]
pub(crate) struct Gate(watch::Receiver<Standing>);

impl Gate {
    pub(crate) fn new(standing: watch::Receiver<Standing>) -> Self {
        Self(standing)
    }

    /// Returns when the registry may be written to; or why it may not. It is waited for while that is being read.
    pub(crate) async fn granted(&self) -> Result<(), Failure> {
        match settled(&self.0, &Standing::Unknown).await {
            Some(Standing::Open) => Ok(()),
            Some(Standing::Collecting(record)) => Err(collecting(&record)),
            _ => Err(failure(
                "Whether the registry is collecting garbage was not read yet: is the API server up?".to_owned(),
            )),
        }
    }

    /// Returns when the registry may be written to no more: what is being written must stop.
    pub(crate) async fn closed(&self) -> Failure {
        let mut standing = self.0.clone();
        while standing.wait_for(|standing| matches!(standing, Standing::Collecting(_))).await.is_ok() {
            if let Standing::Collecting(record) = &*standing.borrow_and_update() {
                return collecting(record);
            }
        }
        // Whoever tells is gone, and with it all work of this replica.
        std::future::pending().await
    }
}

fn collecting(record: &CollectionRecord) -> Failure {
    let since = record.since;
    failure(format!("The registry is collecting garbage since {since}; it is written to when that is done."))
}

fn failure(message: String) -> Failure {
    Failure { reason: Reason::RegistryUnreachable, message, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> CollectionRecord {
        CollectionRecord { replicas: 1, who: "gc".to_owned(), since: "2026-11-24T20:00:00Z".parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_before_it_is_known_and_while_garbage_is_collected() {
        let (sender, receiver) = watch::channel(Standing::Unknown);
        let gate = Gate::new(receiver);
        assert!(gate.granted().await.unwrap_err().message.contains("not read yet"));
        sender.send_replace(Standing::Open);
        gate.granted().await.unwrap();
        sender.send_replace(Standing::Collecting(record()));
        let failure = gate.granted().await.unwrap_err();
        assert_eq!(failure.reason, Reason::RegistryUnreachable);
        assert!(failure.message.starts_with("The registry is collecting garbage since 2026-11-24T20:00:00Z; "));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_written_is_told_to_stop() {
        let (sender, receiver) = watch::channel(Standing::Open);
        let gate = Gate::new(receiver);
        let closed = tokio::spawn(async move { gate.closed().await });
        tokio::task::yield_now().await;
        assert!(!closed.is_finished());
        sender.send_replace(Standing::Collecting(record()));
        assert!(closed.await.unwrap().message.contains("collecting garbage"));
    }
}
