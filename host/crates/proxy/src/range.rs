use http::HeaderMap;
use http::header::{CONTENT_RANGE, HeaderValue, IF_RANGE, RANGE};

use cache_registry_core::Digest;

/// One range of bytes that a client asks for ([RFC 9110 §14.1.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// `bytes=N-`: how containerd goes on after a cut.
    From(u64),
    /// `bytes=N-M`, M included.
    Between(u64, u64),
    /// `bytes=-N`: the last N bytes.
    Last(u64),
}

impl Range {
    /// The range that a request for a blob asks for. `None` where the whole is the answer: no range, several ranges, a
    /// unit that is not bytes or one that makes no sense, which a server may ignore
    /// ([§14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)), or an `If-Range` that is not this blob.
    pub(crate) fn asked(headers: &HeaderMap, digest: &Digest) -> Option<Self> {
        if headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes() != format!("\"{digest}\"").as_bytes()) {
            return None;
        }
        let mut values = headers.get_all(RANGE).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// True when the client has bytes from the start of the blob already, and wants what comes after them.
    pub(crate) fn resumes(self) -> bool {
        match self {
            Self::From(first) | Self::Between(first, _) => first > 0,
            Self::Last(_) => true,
        }
    }

    /// True when a 206 with this extent is an answer to it.
    pub(crate) fn is_answered_by(self, extent: Extent) -> bool {
        match (self, extent.end) {
            (Self::From(first), _) => extent.first == first && (extent.total.is_none() || extent.end == extent.total),
            // The last byte asked for may be beyond the end of the blob.
            (Self::Between(first, last), Some(end)) => {
                extent.first == first && (end == last.saturating_add(1) || Some(end) == extent.total && end <= last)
            }
            (Self::Last(_), Some(end)) => extent.total.is_none_or(|total| end == total),
            (_, None) => false,
        }
    }

    /// The value of a `Range` header.
    pub(crate) fn header(self) -> HeaderValue {
        let text = match self {
            Self::From(first) => format!("bytes={first}-"),
            Self::Between(first, last) => format!("bytes={first}-{last}"),
            Self::Last(count) => format!("bytes=-{count}"),
        };
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
    }
}

/// What a body is of the whole: `first..end` of `total` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The offset of its first byte.
    pub(crate) first: u64,
    /// The offset after its last byte; unknown for a whole body of unknown length.
    pub(crate) end: Option<u64>,
    /// The length of the whole.
    pub(crate) total: Option<u64>,
}

impl Extent {
    /// The extent of a whole body.
    pub(crate) fn whole(length: Option<u64>) -> Self {
        Self { first: 0, end: length, total: length }
    }

    /// What the `Content-Range` of a 206 says ([§14.4](https://www.rfc-editor.org/rfc/rfc9110#section-14.4)); `None`
    /// when it says nothing sensible.
    pub(crate) fn of_partial(headers: &HeaderMap) -> Option<Self> {
        let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let end = last.checked_add(1)?;
        (first < end && total.is_none_or(|total| end <= total)).then_some(Self { first, end: Some(end), total })
    }

    /// The value of the `Content-Range` of a 206; `None` where the end is not known.
    pub(crate) fn content_range(self) -> Option<HeaderValue> {
        let last = self.end?.checked_sub(1)?;
        let total = self.total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        HeaderValue::try_from(format!("bytes {}-{last}/{total}", self.first)).ok()
    }

    /// True when the digest can be checked on it.
    pub(crate) fn is_whole(self) -> bool {
        self.first == 0 && self.end == self.total
    }

    /// Its length, where it is known.
    pub(crate) fn length(self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.first))
    }
}

/// Digits only: what `parse` takes besides, a plus sign, is none of HTTP's.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_core::Hasher;
    use rstest::rstest;

    #[rstest]
    #[case("bytes=0-", Some(Range::From(0)))]
    #[case("bytes=1000000-", Some(Range::From(1_000_000)))]
    #[case("bytes=5-9", Some(Range::Between(5, 9)))]
    #[case("bytes=-500", Some(Range::Last(500)))]
    #[case("bytes=9-5", None)]
    #[case("bytes=0-1,5-6", None)]
    #[case("bytes=", None)]
    #[case("bytes=-", None)]
    #[case("bytes=+1-", None)]
    #[case("bytes=99999999999999999999-", None)]
    #[case("items=1-2", None)]
    fn one_range_of_bytes_is_understood_and_the_rest_ignored(#[case] text: &str, #[case] expected: Option<Range>) {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(text).unwrap());
        let digest = Hasher::sha256(b"");
        assert_eq!(Range::asked(&headers, &digest), expected);
        if let Some(range) = expected {
            assert_eq!(range.header().to_str().unwrap(), text);
        }
        headers.insert(IF_RANGE, HeaderValue::from_static("\"another\""));
        assert_eq!(Range::asked(&headers, &digest), None);
        headers.insert(IF_RANGE, HeaderValue::from_str(&format!("\"{digest}\"")).unwrap());
        assert_eq!(Range::asked(&headers, &digest), expected);
    }

    #[rstest]
    #[case("bytes 0-9/10", Some((0, 10, Some(10), true)))]
    #[case("bytes 5-9/10", Some((5, 10, Some(10), false)))]
    #[case("bytes 0-8/10", Some((0, 9, Some(10), false)))]
    #[case("bytes 0-8/*", Some((0, 9, None, false)))]
    #[case("bytes 5-10/10", None)]
    #[case("bytes 9-5/10", None)]
    #[case("bytes */10", None)]
    #[case("bytes 0-18446744073709551615/*", None)]
    #[case("5-9/10", None)]
    fn an_extent_is_read_from_content_range(
        #[case] text: &str,
        #[case] expected: Option<(u64, u64, Option<u64>, bool)>,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
        let extent = Extent::of_partial(&headers);
        assert_eq!(extent.map(|e| (e.first, e.end.unwrap_or_default(), e.total, e.is_whole())), expected,);
    }

    #[rstest]
    #[case(Range::From(5), "bytes 5-9/10", true)]
    #[case(Range::From(5), "bytes 5-9/*", true)]
    #[case(Range::From(5), "bytes 5-8/10", false)]
    #[case(Range::From(5), "bytes 4-9/10", false)]
    #[case(Range::Between(5, 7), "bytes 5-7/10", true)]
    #[case(Range::Between(5, 99), "bytes 5-9/10", true)]
    #[case(Range::Between(5, 7), "bytes 5-9/10", false)]
    #[case(Range::Between(5, 7), "bytes 5-6/10", false)]
    #[case(Range::Last(3), "bytes 7-9/10", true)]
    #[case(Range::Last(3), "bytes 0-2/10", false)]
    fn another_range_is_no_answer(#[case] range: Range, #[case] told: &str, #[case] answers: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(told).unwrap());
        let extent = Extent::of_partial(&headers).unwrap();
        assert_eq!(range.is_answered_by(extent), answers);
        assert_eq!(extent.content_range().unwrap(), told);
    }

    #[rstest]
    #[case(Range::From(0), false)]
    #[case(Range::Between(0, 9), false)]
    #[case(Range::From(1), true)]
    #[case(Range::Between(1, 9), true)]
    #[case(Range::Last(1), true)]
    fn a_resume_starts_after_the_first_byte(#[case] range: Range, #[case] resumes: bool) {
        assert_eq!(range.resumes(), resumes);
    }
}
