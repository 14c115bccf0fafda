use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// That the registry is stopped for a garbage collection, and what it takes to put it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// How many replicas the registry had, and is to have again.
    pub replicas: i32,
    /// The run that has stopped it.
    pub who: String,
    /// When.
    pub since: Timestamp,
}

/// What a garbage collection has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionReport {
    /// When the registry was put back.
    pub ended: Timestamp,
    /// For how many seconds it was away.
    pub seconds: u64,
    /// How many blobs were removed.
    pub freed_blobs: u64,
    /// How many bytes the volume has less in its files; `None` for a bucket, of which nobody tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<u64>,
    /// How many blobs there are now, on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_blobs: Option<u64>,
    /// How many bytes there are now, on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
}

impl CollectionRecord {
    /// Reads the annotation's value. One that can't be read says at least that the registry is to be put back, which has
    /// one replica where nobody says otherwise.
    pub fn read(text: &str) -> Self {
        let unreadable = || Self { replicas: 1, who: "unknown".to_owned(), since: Timestamp::UNIX_EPOCH };
        json(text).unwrap_or_else(unreadable)
    }
}

impl CollectionReport {
    /// Reads the annotation's value; `None` for what is none.
    pub fn read(text: &str) -> Option<Self> {
        json(text)
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let text = r#"{"replicas":2,"who":"gc-1","since":"2026-11-24T20:00:00Z"}"#;
        let record =
            CollectionRecord { replicas: 2, who: "gc-1".to_owned(), since: "2026-11-24T20:00:00Z".parse().unwrap() };
        assert_eq!(CollectionRecord::read(text), record);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn a_damaged_record_brings_the_registry_back_all_the_same() {
        for text in ["", "true", "{}", r#"{"replicas":"two"}"#] {
            assert_eq!(CollectionRecord::read(text).replicas, 1, "{text}");
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_or_not_at_all() {
        let report = CollectionReport {
            ended: "2026-11-24T20:00:00Z".parse().unwrap(),
            seconds: 9,
            freed_blobs: 3,
            freed_bytes: Some(4096),
            kept_blobs: Some(1),
            kept_bytes: Some(10),
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""freedBytes":4096"#), "{text}");
        assert_eq!(CollectionReport::read(&text), Some(report.clone()));
        assert_eq!(CollectionReport::read("{}"), None);
        let of_a_bucket = CollectionReport { freed_bytes: None, kept_blobs: None, kept_bytes: None, ..report };
        let text = serde_json::to_string(&of_a_bucket).unwrap();
        assert_eq!(text, r#"{"ended":"2026-11-24T20:00:00Z","seconds":9,"freedBlobs":3}"#);
        assert_eq!(CollectionReport::read(&text), Some(of_a_bucket));
    }
}
