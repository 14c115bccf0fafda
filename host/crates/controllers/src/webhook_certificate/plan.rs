use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate that can be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The CAs that have not expired, in PEM; its own is among them.
    pub(crate) authorities: String,
    /// When it is to be renewed: two thirds of its life are over.
    renewal: Timestamp,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a certificate, for this reason.
    Issue {
        why: String,
        /// The CAs (PEM) that stay trusted beside the new one: a webhook may serve what one of them signed.
        beside: String,
    },
    /// Let the API server trust these CAs (PEM), and no others.
    Trust(String),
    /// Nothing, until then.
    Rest(Timestamp),
}

/// Decides on what the Secret holds (or why that is of no use), and on what each webhook of the configuration trusts.
pub(crate) fn plan(held: &Result<Held, String>, trusted: &[&[u8]], now: Timestamp) -> Step {
    let issue = |why: &str| Step::Issue { why: why.to_owned(), beside: still_good(trusted, now) };
    match held {
        Err(why) => issue(why),
        Ok(held) if held.renewal <= now => issue("two thirds of the life of the one before are over"),
        Ok(held) if trusted.iter().any(|bundle| *bundle != held.authorities.as_bytes()) => {
            Step::Trust(held.authorities.clone())
        }
        Ok(held) => Step::Rest(held.renewal),
    }
}

/// The CAs of these bundles that have not expired, each once. What is no bundle is not trusted by anybody either.
fn still_good(bundles: &[&[u8]], now: Timestamp) -> String {
    let mut good: Vec<Authority> = Vec::new();
    for authority in bundles.iter().filter_map(|bundle| authorities(bundle, now).ok()).flatten() {
        if !good.contains(&authority) {
            good.push(authority);
        }
    }
    good.into_iter().map(|authority| authority.pem).collect()
}

impl Held {
    /// Reads what the Secret holds, all in PEM; or says why it can't be served under all of these names.
    pub(crate) fn read(
        certificate: &[u8],
        key: &[u8],
        authorities: &[u8],
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(certificate).map_err(|error| format!("tls.crt is no PEM: {error}"))?;
        let (_, leaf) = X509Certificate::from_der(&der).map_err(|error| format!("tls.crt is no X.509: {error}"))?;
        let [begin, end] = [leaf.validity().not_before, leaf.validity().not_after].map(|time| time.timestamp());
        if end <= now.as_second() {
            return Err("the one before has expired".to_owned());
        }
        let served = names_of(&leaf);
        if let Some(name) = names.iter().find(|name| !served.contains(&name.as_str())) {
            return Err(format!("tls.crt is not for {name}"));
        }
        let key = std::str::from_utf8(key).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        if key.is_none_or(|key| key.der_bytes() != &*leaf.public_key().subject_public_key.data) {
            return Err("tls.key is not the key of tls.crt".to_owned());
        }
        let authorities = self::authorities(authorities, now)?;
        if !authorities.iter().any(|authority| authority.subject == leaf.issuer().as_raw()) {
            return Err("ca.crt does not have the CA of tls.crt".to_owned());
        }
        let renewal = begin.saturating_add(end.saturating_sub(begin) / 3 * 2);
        let renewal = Timestamp::from_second(renewal).map_err(|error| format!("tls.crt has odd times: {error}"))?;
        Ok(Self { authorities: authorities.into_iter().map(|authority| authority.pem).collect(), renewal })
    }
}

/// A CA of a bundle.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    pem: String,
    /// Its name, in DER.
    subject: Vec<u8>,
}

/// The CAs of a bundle that have not expired.
fn authorities(bundle: &[u8], now: Timestamp) -> Result<Vec<Authority>, String> {
    let mut found = Vec::new();
    for block in pem::parse_many(bundle).map_err(|error| format!("ca.crt is no PEM: {error}"))? {
        let parsed = X509Certificate::from_der(block.contents());
        let (_, authority) = parsed.map_err(|error| format!("ca.crt is no X.509: {error}"))?;
        if authority.validity().not_after.timestamp() > now.as_second() {
            let pem = pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF));
            found.push(Authority { pem, subject: authority.subject().as_raw().to_vec() });
        }
    }
    Ok(found)
}

/// The DNS names that a certificate is for.
fn names_of<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
