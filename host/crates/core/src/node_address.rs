use crate::reference::{InvalidReference, Reference};

/// Where nodes pull from: the proxy on their own loopback, by default `localhost:7439`.
///
/// An image there is `localhost:7439/<host>[_<port>]/<path>[:tag][@digest]`. A host name never has a `_`
/// ([RFC 1123 §2.1](https://www.rfc-editor.org/rfc/rfc1123#section-2.1)), and a repository path may not have a `:`,
/// so the form can be read back where nothing else tells the source: see [`source_of`](Self::source_of).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress(String);

impl Default for NodeAddress {
    fn default() -> Self {
        Self("localhost:7439".to_owned())
    }
}

impl NodeAddress {
    /// Takes an authority, `host:port`, as the registry part of a reference.
    pub fn new(authority: &str) -> Result<Self, InvalidReference> {
        let probe: Reference = format!("{authority}/probe").parse()?;
        if probe.registry() != authority {
            return Err(InvalidReference::new(authority, "expected a host and a port, in lower case: localhost:7439"));
        }
        Ok(Self(authority.to_owned()))
    }

    /// The authority, as it stands in references.
    pub fn authority(&self) -> &str {
        &self.0
    }

    /// True for a reference that nodes pull through the proxy already.
    pub fn serves(&self, reference: &Reference) -> bool {
        reference.registry() == self.0
    }

    /// The reference under which nodes pull what is kept for `source`.
    pub fn of(&self, source: &Reference) -> Reference {
        let repository = format!("{}/{}", host_component(source.registry()), source.repository());
        source.name_replaced(self.0.clone(), repository)
    }

    /// What a reference at this address was made from; `None` for one that is not of its form. For pods whose record of
    /// the source is missing: one that was written with the node address, or an ephemeral container.
    pub fn source_of(&self, reference: &Reference) -> Option<Reference> {
        if !self.serves(reference) {
            return None;
        }
        let (registry, repository) = split_host_component(reference.repository())?;
        Some(reference.name_replaced(registry, repository))
    }
}

/// The host as a path component: `reg.example:5000` is `reg.example_5000`.
pub(crate) fn host_component(registry: &str) -> String {
    registry.replacen(':', "_", 1)
}

/// `reg.example_5000/app` is `app` at `reg.example:5000`. `None` where the first component is no registry host:
/// it has neither a dot nor a port nor is `localhost`, by the rule that tells a host from a path in a reference.
pub(crate) fn split_host_component(path: &str) -> Option<(String, String)> {
    let (component, repository) = path.split_once('/')?;
    let registry = match component.rsplit_once('_') {
        Some((host, port)) if port.parse::<u16>().is_ok() => format!("{host}:{port}"),
        Some(_) => return None,
        None => component.to_owned(),
    };
    let is_host = registry.contains(['.', ':']) || registry == "localhost";
    (is_host && !repository.is_empty()).then(|| (registry, repository.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("nginx:1.27", "localhost:7439/docker.io/library/nginx:1.27")]
    #[case("reg.example:5000/app:1", "localhost:7439/reg.example_5000/app:1")]
    #[case("localhost/app:1", "localhost:7439/localhost/app:1")]
    #[case(
        &format!("reg.example:5000/a/b:1@sha256:{HEX}"),
        &format!("localhost:7439/reg.example_5000/a/b:1@sha256:{HEX}")
    )]
    fn is_made_from_a_source_and_read_back(#[case] source: &str, #[case] expected: &str) {
        let node = NodeAddress::default();
        let source: Reference = source.parse().unwrap();
        let image = node.of(&source);
        assert_eq!(image.to_string(), expected);
        assert!(node.serves(&image) && !node.serves(&source));
        assert_eq!(node.source_of(&image), Some(source));
    }

    #[rstest]
    #[case("localhost:7439/nginx:1")]
    #[case("localhost:7439/library/nginx:1")]
    #[case("localhost:7439/reg.example_x/app:1")]
    #[case("docker.io/library/nginx:1")]
    fn what_is_not_of_its_form_has_no_source(#[case] image: &str) {
        assert_eq!(NodeAddress::default().source_of(&image.parse().unwrap()), None);
    }

    #[rstest]
    #[case("localhost:7439", true)]
    #[case("127.0.0.1:80", true)]
    #[case("Localhost:7439", false)]
    #[case("nginx", false)]
    #[case("a/b", false)]
    #[case("", false)]
    fn only_a_host_and_port_is_an_address(#[case] authority: &str, #[case] good: bool) {
        assert_eq!(NodeAddress::new(authority).is_ok(), good);
    }
}
