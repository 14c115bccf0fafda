use sha2::{Digest as _, Sha256};

use crate::digest::hexadecimal;
use crate::reference::Reference;

/// A slug this long, a dash and ten characters of hash stay below the 253 characters of an object's name.
const LONGEST_SLUG: usize = 200;

/// The name of the `CachedImage` for a source: a slug that a person can read and a hash that makes it unique, such as
/// `docker.io-library-nginx-1.27-6e1a5b7a0c`
/// ([DNS subdomain](https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names)).
pub fn object_name(source: &Reference) -> String {
    let text = source.to_string();
    let hash = hexadecimal(&Sha256::digest(text.as_bytes()));
    // A digest in full would hide the rest of the name; twelve characters tell it apart for a reader.
    let readable = match text.split_once('@') {
        Some((name, digest)) => {
            let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
            format!("{name}-{}", &hex[..12])
        }
        None => text,
    };
    let mut slug = String::with_capacity(readable.len());
    for c in readable.chars().take(LONGEST_SLUG).map(|c| c.to_ascii_lowercase()) {
        let after_separator = slug.is_empty() || slug.ends_with(['-', '.']);
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            '.' if !after_separator => slug.push('.'),
            _ if !after_separator => slug.push('-'),
            _ => {}
        }
    }
    format!("{}-{}", slug.trim_end_matches(['-', '.']), &hash[..10])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        object_name(&text.parse().unwrap())
    }

    #[test]
    fn is_a_slug_and_a_hash() {
        let name = name("nginx:1.27");
        assert!(name.starts_with("docker.io-library-nginx-1.27-"), "{name}");
        assert_eq!(name.len(), "docker.io-library-nginx-1.27-".len() + 10);
    }

    #[test]
    fn spellings_that_slug_alike_differ() {
        assert_ne!(name("a/b-c:1"), name("a/b/c:1"));
        assert_ne!(name("nginx:V1"), name("nginx:v1"));
    }

    proptest::proptest! {
        #[test]
        fn every_reference_gives_a_dns_subdomain(
            text in "([a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{2,4})?/)?[a-z0-9]{1,60}(/[a-z0-9]{1,60}){0,3}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
        ) {
            let name = name(&text);
            proptest::prop_assert!(name.len() <= 253);
            for label in name.split('.') {
                proptest::prop_assert!(!label.is_empty() && !label.starts_with('-') && !label.ends_with('-'), "{}", name);
                proptest::prop_assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }
    }
}
