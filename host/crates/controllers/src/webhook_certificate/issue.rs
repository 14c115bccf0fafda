use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

/// A certificate with its CA, in PEM. The CA's key was forgotten when it had signed this one certificate.
pub(crate) struct Issued {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The longest time that a certificate is valid before it was made, for API servers whose clock is slow.
const EARLIEST: Duration = Duration::from_mins(5);

/// Makes a certificate for these names and its CA, both valid from about now and for `life`.
pub(crate) fn issue(names: &[String], life: Duration, now: Timestamp) -> Result<Issued, Error> {
    // A CA is known by its name: two of one name would not be told apart in a bundle.
    let authority = format!("cache-registry webhook CA {:016x}", fastrand::u64(..));
    let mut of_authority = parameters(Vec::new(), &authority, life, now)?;
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    of_authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;

    let mut of_certificate = parameters(names.to_vec(), "cache-registry webhook", life, now)?;
    of_certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    of_certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    of_certificate.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = of_certificate.signed_by(&key, &authority)?;
    Ok(Issued { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

fn parameters(
    names: Vec<String>,
    common_name: &str,
    life: Duration,
    now: Timestamp,
) -> Result<CertificateParams, Error> {
    let now = SystemTime::from(now);
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = (now - (life / 10).min(EARLIEST)).into();
    parameters.not_after = (now + life).into();
    Ok(parameters)
}
