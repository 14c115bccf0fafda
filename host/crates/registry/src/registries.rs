use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache_registry_core::Reference;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use url::Url;

/// Where registries are reached: the registries file, one schema for every role (`docs/registries.md`).
///
/// A host that it does not name is reached at `https://<host>`, `docker.io` at `https://registry-1.docker.io`, and
/// only at an address that everybody can reach.
#[derive(Debug, Clone, Default)]
pub struct Registries(BTreeMap<String, Vec<Place>>);

/// Why a registries file cannot be used, with the line and the column where there is one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RegistriesError(String);

/// One address of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `http` or `https`, no query; the path goes before the repository, after `/v2/`.
    pub(crate) url: Url,
    /// Trusted there beside the public roots.
    pub(crate) ca: Option<Arc<[CertificateDer<'static>]>>,
}

impl Registries {
    /// Reads the file. A CA's path is relative to the file's folder.
    pub fn read(path: &Path) -> Result<Self, RegistriesError> {
        let named = |error: &dyn Display| RegistriesError(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        Self::parse_in(&text, path.parent().unwrap_or(Path::new(""))).map_err(|error| named(&error))
    }

    /// Reads a file's text. A CA's path is relative to the working directory.
    pub fn parse(text: &str) -> Result<Self, RegistriesError> {
        Self::parse_in(text, Path::new(""))
    }

    /// The same with one registry more, as if the file named it: for who is told by hand which registry is meant. Where
    /// the file names it, that holds, and plain HTTP must not contradict it.
    pub fn naming(mut self, host: &str, plain_http: bool) -> Result<Self, RegistriesError> {
        let host = Host::try_from(host.to_owned()).map_err(RegistriesError)?.0;
        match self.0.get(&host).and_then(|places| places.last()) {
            Some(named) if plain_http && named.url.scheme() != "http" => {
                let url = &named.url;
                let problem = "which plain HTTP contradicts: leave it out, or set `plainHttp: true` there";
                Err(RegistriesError(format!("by the registries file, {host} is reached at {url}, {problem}")))
            }
            Some(_) => Ok(self),
            None => {
                let place = place(Endpoint::Default { host: &host, plain_http }, None, Path::new(""))?;
                self.0.insert(host, vec![place]);
                Ok(self)
            }
        }
    }

    /// True where the file names this registry host, as it stands in references.
    pub fn names(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    /// Where a registry is reached, in the order in which it is tried. An error for a host that is in no URL.
    pub(crate) fn places(&self, host: &str) -> Result<Vec<Place>, url::ParseError> {
        match self.0.get(host) {
            Some(places) => Ok(places.clone()),
            None => Ok(vec![Place { url: default_endpoint(host, "https")?, ca: None }]),
        }
    }

    /// Every address that the file names.
    pub(crate) fn all_places(&self) -> impl Iterator<Item = &Place> {
        self.0.values().flatten()
    }

    fn parse_in(text: &str, folder: &Path) -> Result<Self, RegistriesError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // The default rendering shows a part of the file, which is more than one line of a log.
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let (place, text) =
                (error.location().map_or_else(String::new, |location| at(&location)), error.to_string());
            let said_twice = format!(" at {}", place.trim_end_matches(": "));
            RegistriesError(format!("{place}{}", text.strip_suffix(&said_twice).unwrap_or(&text)))
        })?;
        let mut registries = BTreeMap::new();
        for (host, entry) in file.registries.unwrap_or_default() {
            let mut places = Vec::with_capacity(entry.mirrors.len() + 1);
            for mirror in entry.mirrors {
                let endpoint = Endpoint::Written { url: mirror.endpoint, plain_http: mirror.plain_http };
                places.push(place(endpoint, mirror.ca, folder)?);
            }
            let endpoint = match entry.endpoint {
                Some(url) => Endpoint::Written { url, plain_http: entry.plain_http },
                None => Endpoint::Default { host: &host.0, plain_http: entry.plain_http },
            };
            places.push(place(endpoint, entry.ca, folder)?);
            registries.insert(host.0, places);
        }
        Ok(Self(registries))
    }
}

fn default_endpoint(host: &str, scheme: &str) -> Result<Url, url::ParseError> {
    // The one registry whose API is not at the host in its references
    // (https://github.com/distribution/reference/blob/main/normalize.go).
    let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
    Url::parse(&format!("{scheme}://{host}"))
}

fn at(location: &Location) -> String {
    format!("line {}, column {}: ", location.line(), location.column())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// A key without a value is an empty map.
    registries: Option<BTreeMap<Host, Entry>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Entry {
    endpoint: Option<Spanned<String>>,
    plain_http: bool,
    ca: Option<Spanned<String>>,
    mirrors: Vec<Mirror>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mirror {
    endpoint: Spanned<String>,
    #[serde(default)]
    plain_http: bool,
    ca: Option<Spanned<String>>,
}

/// A registry's host as it stands in normalised references.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Host(String);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = "expected the host of image references, such as docker.io or reg.example:5000";
        if text.contains("://") || text.contains('/') {
            return Err(format!("{text:?} is no registry host: {expected}; a URL or a path goes to `endpoint`"));
        }
        let probe = format!("{text}/probe").parse::<Reference>();
        match probe {
            Ok(probe) if probe.registry() == text => Ok(Self(text)),
            Ok(probe) if probe.repository() == "probe" || probe.repository() == "library/probe" => {
                Err(format!("{text:?} is written {:?} in references: write it so", probe.registry()))
            }
            _ => Err(format!("{text:?} is no registry host: {expected}")),
        }
    }
}

enum Endpoint<'a> {
    Written { url: Spanned<String>, plain_http: bool },
    Default { host: &'a str, plain_http: bool },
}

fn place(endpoint: Endpoint<'_>, ca: Option<Spanned<String>>, folder: &Path) -> Result<Place, RegistriesError> {
    let url = match endpoint {
        Endpoint::Written { url, plain_http } => {
            let wrong = |problem: String| {
                // What stands before an @ may be a password, which no log may hold.
                let shown = url.value.rsplit_once('@').map_or(url.value.as_str(), |(_, host)| host);
                RegistriesError(format!("{}endpoint {shown:?}: {problem}", at(&url.referenced)))
            };
            endpoint_url(&url.value, plain_http).map_err(wrong)?
        }
        Endpoint::Default { host, plain_http } => {
            let scheme = if plain_http { "http" } else { "https" };
            default_endpoint(host, scheme).map_err(|error| RegistriesError(format!("{host:?}: {error}")))?
        }
    };
    let ca = match ca {
        None => None,
        Some(ca) => {
            let wrong = |problem: String| RegistriesError(format!("{}ca: {problem}", at(&ca.referenced)));
            if url.scheme() == "http" {
                return Err(wrong("plain HTTP has no certificate to check: leave out ca, or use https".to_owned()));
            }
            Some(certificates(&ca.value, folder).map_err(wrong)?)
        }
    };
    Ok(Place { url, ca })
}

fn endpoint_url(text: &str, plain_http: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; expected a URL such as https://reg.example:5000"))?;
    match url.scheme() {
        "https" if plain_http => return Err("plainHttp contradicts https: leave one of them out".to_owned()),
        "http" | "https" => {}
        scheme => return Err(format!("a registry is reached by http or https, not by {scheme}")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user name or password may stand in it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("no ? or # may stand in it".to_owned());
    }
    let mut path = url.path().trim_matches('/').split('/');
    if path.next() == Some("v2") {
        return Err("leave out /v2: it is put there by itself, and the rest of the path goes after it".to_owned());
    }
    Ok(url)
}

fn certificates(ca: &str, folder: &Path) -> Result<Arc<[CertificateDer<'static>]>, String> {
    let is_inline = ca.trim_start().starts_with("-----BEGIN");
    let (what, pem) = if is_inline {
        ("the text".to_owned(), ca.as_bytes().to_vec())
    } else {
        let path: PathBuf = folder.join(ca);
        let pem = std::fs::read(&path).map_err(|error| {
            format!("cannot read {}: {error}; expected the path of a PEM file, or its text", path.display())
        })?;
        (path.display().to_string(), pem)
    };
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| format!("{what} is not PEM: {error}"))?;
    // That they are certificates is asked here, where the line is known, and not when a connection needs them.
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| format!("{what} holds no usable certificate: {error}"))?;
    }
    if certificates.is_empty() {
        return Err(format!("{what} holds no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn urls(registries: &Registries, host: &str) -> Vec<String> {
        registries.places(host).unwrap().iter().map(|place| place.url.to_string()).collect()
    }

    #[test]
    fn without_a_file_a_host_is_its_own_endpoint() {
        let none = Registries::default();
        assert_eq!(urls(&none, "ghcr.io"), ["https://ghcr.io/"]);
        assert_eq!(urls(&none, "docker.io"), ["https://registry-1.docker.io/"]);
        assert!(!none.names("ghcr.io"));
    }

    #[test]
    fn mirrors_come_before_the_endpoint() {
        let registries = Registries::parse(
            "registries:
  docker.io:
    mirrors:
      - endpoint: https://harbor.example/dockerhub
      - endpoint: http://10.0.0.7:5000
        plainHttp: true
  reg.example:5000:
    plainHttp: true
  quay.io:
    endpoint: http://quay.test
  ghcr.io: {}
",
        )
        .unwrap();
        assert_eq!(
            urls(&registries, "docker.io"),
            ["https://harbor.example/dockerhub", "http://10.0.0.7:5000/", "https://registry-1.docker.io/"]
        );
        assert_eq!(urls(&registries, "reg.example:5000"), ["http://reg.example:5000/"]);
        assert_eq!(urls(&registries, "quay.io"), ["http://quay.test/"]);
        assert_eq!(urls(&registries, "ghcr.io"), ["https://ghcr.io/"]);
        assert!(registries.names("ghcr.io"));
    }

    #[test]
    fn a_registry_is_named_by_hand() {
        let named = |file: &str, host: &str, plain_http| Registries::parse(file).unwrap().naming(host, plain_http);
        let file = "registries:\n  a.example:\n    endpoint: https://b.example\n  c.example:\n    plainHttp: true\n";

        let plain = named(file, "localhost:5000", true).unwrap();
        assert!(plain.names("localhost:5000") && plain.names("a.example"));
        assert_eq!(urls(&plain, "localhost:5000"), ["http://localhost:5000/"]);
        assert_eq!(urls(&named("", "docker.io", false).unwrap(), "docker.io"), ["https://registry-1.docker.io/"]);

        for (host, plain_http, url) in
            [("a.example", false, "https://b.example/"), ("c.example", true, "http://c.example/")]
        {
            assert_eq!(urls(&named(file, host, plain_http).unwrap(), host), [url]);
        }
        let error = named(file, "a.example", true).unwrap_err().to_string();
        assert!(error.contains("a.example is reached at https://b.example/, which plain HTTP contradicts"), "{error}");
        let error = named(file, "https://x.example/app", false).unwrap_err().to_string();
        assert!(error.contains("is no registry host"), "{error}");
    }

    #[rstest]
    #[case("")]
    #[case("# nothing yet\n")]
    #[case("registries: {}\n")]
    #[case("registries:\n")]
    fn an_empty_file_names_nothing(#[case] text: &str) {
        assert_eq!(Registries::parse(text).unwrap().all_places().count(), 0);
    }

    #[rstest]
    #[case("registrys: {}\n", "line 1, column 1", "registrys")]
    #[case("registries:\n  ghcr.io:\n    plainHTTP: true\n", "line 3, column 5", "plainHTTP")]
    #[case("registries:\n  ghcr.io:\n    plainHttp: often\n", "line 3, column 16", "bool")]
    #[case("registries:\n  ghcr.io:\n    endpoint: ghcr.io\n", "line 3, column 15", "expected a URL")]
    #[case("registries:\n  ghcr.io:\n    endpoint: ftp://x\n", "line 3, column 15", "not by ftp")]
    #[case("registries:\n  ghcr.io:\n    endpoint: https://u:p@x\n", "line 3, column 15", "password")]
    #[case("registries:\n  ghcr.io:\n    endpoint: https://x/?a=b\n", "line 3, column 15", "no ? or #")]
    #[case("registries:\n  ghcr.io:\n    endpoint: https://x/v2/\n", "line 3, column 15", "leave out /v2")]
    #[case("registries:\n  x.io:\n    endpoint: https://x\n    plainHttp: true\n", "line 3, column 15", "contradicts")]
    #[case("registries:\n  https://ghcr.io:\n    plainHttp: true\n", "line 2, column 3", "no registry host")]
    #[case("registries:\n  ghcr.io/library: {}\n", "line 2, column 3", "no registry host")]
    #[case("registries:\n  nginx: {}\n", "line 2, column 3", "no registry host")]
    #[case("registries:\n  GHCR.io: {}\n", "line 2, column 3", "\"ghcr.io\"")]
    #[case("registries:\n  index.docker.io: {}\n", "line 2, column 3", "\"docker.io\"")]
    #[case("registries:\n  ghcr.io: {}\n  ghcr.io: {}\n", "line 3, column 3", "ghcr.io")]
    #[case("registries:\n  ghcr.io:\n    ca: /nowhere/ca.pem\n", "line 3, column 9", "/nowhere/ca.pem")]
    #[case("registries:\n  ghcr.io:\n    ca: Cargo.toml\n", "line 3, column 9", "holds no certificate")]
    #[case("registries:\n  x.io:\n    plainHttp: true\n    ca: ca.pem\n", "line 4, column 9", "plain HTTP")]
    #[case("registries:\n  x.io:\n    mirrors:\n      - plainHttp: true\n", "line 4", "endpoint")]
    #[case("registries: [\n", "line", "")]
    fn a_mistake_is_told_with_its_place(#[case] text: &str, #[case] place: &str, #[case] problem: &str) {
        let error = Registries::parse(text).unwrap_err().to_string();
        assert!(error.contains(place), "{place:?} is not in {error:?}");
        assert!(error.contains(problem), "{problem:?} is not in {error:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }

    #[test]
    fn a_password_is_not_repeated() {
        for endpoint in ["https://user:hush@x", "user:hush@x"] {
            let file = format!("registries:\n  ghcr.io:\n    endpoint: {endpoint}\n");
            let error = Registries::parse(&file).unwrap_err().to_string();
            assert!(error.contains("endpoint \"x\": ") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Registries::read(Path::new("/nowhere/registries.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/registries.yaml: "), "{error}");
    }
}
