use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Who is at which repository of the registry: any number who write to it, or one who removes manifests from it. What is
/// about to get a tag must not be found without one.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<RwLock<()>>>>);

impl Turns {
    /// To write to a repository. Whoever removes something from it is waited for.
    pub(crate) async fn write(&self, repository: &str) -> OwnedRwLockReadGuard<()> {
        self.of(repository).read_owned().await
    }

    /// To remove something from a repository; `None` while somebody writes to it.
    pub(crate) fn alone(&self, repository: &str) -> Option<OwnedRwLockWriteGuard<()>> {
        self.of(repository).try_write_owned().ok()
    }

    fn of(&self, repository: &str) -> Arc<RwLock<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(repository).and_then(Weak::upgrade) {
            return turn;
        }
        // Those at which nobody is.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(repository.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_write_or_one_removes_and_repositories_have_nothing_to_do_with_each_other() {
        let turns = Turns::default();
        let writing = (turns.write("a").await, turns.write("a").await);
        assert!(turns.alone("a").is_none());
        let alone = turns.alone("b").unwrap();
        assert!(turns.alone("b").is_none());
        drop(writing);
        assert!(turns.alone("a").is_some());
        let next = turns.write("b");
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        drop(alone);
        next.await;
    }

    #[tokio::test]
    async fn those_at_which_nobody_is_are_forgotten() {
        let turns = Turns::default();
        for number in 0..1_000 {
            drop(turns.write(&number.to_string()).await);
        }
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
