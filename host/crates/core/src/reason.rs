/// Where an image stands, in one word: the reason of a `CachedImage`'s condition, of an Event and of a metric.
///
/// The set is closed, so that it can be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The registry has it.
    Cached,
    /// It is being copied.
    Copying,
    /// Upstream has no such image.
    NotFound,
    /// What was asked for is no image reference.
    InvalidReference,
    /// What upstream has is nothing that can be copied: a manifest of schema 1, of an unknown type, beyond all bounds.
    Unsupported,
    /// Upstream wants credentials, or other ones.
    Unauthorized,
    /// Upstream asks to come back later (429).
    RateLimited,
    /// Upstream does not answer, answers with an error of its own, or with bytes that are not what it promised.
    UpstreamUnreachable,
    /// The registry inside the cluster does not answer or refuses what it is given.
    RegistryUnreachable,
}

impl Reason {
    /// The word, in the form that Kubernetes asks of a condition's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cached => "Cached",
            Self::Copying => "Copying",
            Self::NotFound => "NotFound",
            Self::InvalidReference => "InvalidReference",
            Self::Unsupported => "Unsupported",
            Self::Unauthorized => "Unauthorized",
            Self::RateLimited => "RateLimited",
            Self::UpstreamUnreachable => "UpstreamUnreachable",
            Self::RegistryUnreachable => "RegistryUnreachable",
        }
    }

    /// The reason that has this word; `None` for a word of someone else's.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Cached,
        Self::Copying,
        Self::NotFound,
        Self::InvalidReference,
        Self::Unsupported,
        Self::Unauthorized,
        Self::RateLimited,
        Self::UpstreamUnreachable,
        Self::RegistryUnreachable,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::from_word("Evicted"), None);
    }
}
