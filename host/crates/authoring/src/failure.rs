use std::fmt::Display;
use std::io;
use std::path::Path;

/// Why a command did not do what it was asked for, in words for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line, or a file that it names, is not what it should be.
    #[error("{0}")]
    BadInput(String),
    /// The host would not have the policy, or a registry would not.
    #[error("{0}")]
    Refused(String),
    /// What was asked for cannot be done here.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// What the process ends with.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::BadInput(_) => 2,
            Self::Refused(_) | Self::Other(_) => 1,
        }
    }

    pub(crate) fn bad_input(words: impl Display) -> Self {
        Self::BadInput(words.to_string())
    }

    pub(crate) fn refused(words: impl Display) -> Self {
        Self::Refused(words.to_string())
    }

    /// A file of the user's that cannot be read.
    pub(crate) fn unread(path: &Path, error: &io::Error) -> Self {
        Self::bad_input(format_args!("cannot read {}: {error}", path.display()))
    }
}

impl From<io::Error> for Failure {
    /// Standard output is gone.
    fn from(error: io::Error) -> Self {
        Self::Other(anyhow::Error::new(error).context("writing the answer"))
    }
}
