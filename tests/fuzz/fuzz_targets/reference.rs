//! A reference that parses is written so that it parses to itself, has a node address, and a place in the cache.
#![no_main]

use cache_registry_core::{Location, NodeAddress, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
    let node = NodeAddress::default();
    assert_eq!(node.source_of(&node.of(&reference)), Some(reference.clone()));
    let location = Location::of(&reference);
    let upstream = Location::upstream_of(location.repository());
    assert_eq!(upstream, Some((reference.registry().to_owned(), reference.repository().to_owned())));
});
