use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cache_registry_registry::{Connections, Credentials};
use tokio::time::MissedTickBehavior;

/// In whose name the cache is asked: what a file says, one line, `user:password`.
///
/// The file may come later than the proxy, which is on its node before whoever makes it: until then the cache is asked
/// in nobody's name, and what it refuses comes from upstream. Its content is compared and not its time, and no
/// notification is waited for: a mounted Secret is changed by exchanging a symbolic link, which a watch on the file
/// itself never sees.
pub struct CacheCredentials {
    path: PathBuf,
    connections: Connections,
    seen: Option<Seen>,
}

/// What the file held when it was last looked at.
#[derive(PartialEq, Eq)]
enum Seen {
    Absent,
    Credentials(Credentials),
    /// Why it is of no use.
    Unusable(String),
}

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

impl CacheCredentials {
    /// Reads the file for the first time.
    pub async fn open(path: PathBuf, connections: Connections) -> Self {
        let mut credentials = Self { path, connections, seen: None };
        credentials.look().await;
        credentials
    }

    /// Looks at the file again and again, and asks the cache in the name that it says. A file that is of no use (half
    /// written, say) is logged once, and the credentials before it stay.
    pub async fn follow(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let seen = Seen::of(tokio::fs::read(&self.path).await);
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        let path = self.path.display();
        match &seen {
            Seen::Credentials(credentials) => {
                self.connections.set_cache_credentials(Some(credentials.clone()));
                tracing::info!(%path, "the cache is asked with the credentials of this file");
            }
            Seen::Absent => {
                self.connections.set_cache_credentials(None);
                tracing::info!(%path, "the cache is asked without credentials: this file is not there (yet)");
            }
            Seen::Unusable(error) => {
                tracing::error!(%path, error, "this file holds no credentials for the cache; those before it stay");
            }
        }
        self.seen = Some(seen);
    }
}

impl Seen {
    fn of(read: io::Result<Vec<u8>>) -> Self {
        match read {
            Ok(text) => {
                Credentials::of_line(&text).map_or_else(|error| Self::Unusable(error.to_string()), Self::Credentials)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Unusable(error.to_string()),
        }
    }
}
