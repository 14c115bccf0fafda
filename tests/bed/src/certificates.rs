use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority that exists for one bed, and its certificates as PEM files in the bed's folder.
pub struct Authority {
    folder: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A key pair, PEM.
pub(crate) struct SigningKeys {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "cache-registry test bed");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &pem)?;
        Ok(Self { folder: folder.to_owned(), pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file that holds it.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A server's certificate, written over the one of the same name.
    pub fn server(&self, name: &str, address: SocketAddr) -> Result<CertificateFiles> {
        self.server_of(name, &[&address.ip().to_string()])
    }

    /// The same, of a server that is known by several names and addresses.
    pub(crate) fn server_of(&self, name: &str, known_as: &[&str]) -> Result<CertificateFiles> {
        let mut params = CertificateParams::new(known_as.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(name, &params)
    }

    /// A client's certificate: to the API server its common name is the user and its organization a group.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<CertificateFiles> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.issue(user, &params)
    }

    /// The key with which service account tokens are signed, and the one with which they are checked.
    pub(crate) fn signing_keys(&self) -> Result<SigningKeys> {
        let key = KeyPair::generate()?;
        let private = self.folder.join("service-accounts.key");
        let public = self.folder.join("service-accounts.pub");
        fs::write(&private, key.serialize_pem())?;
        fs::write(&public, key.public_key_pem())?;
        Ok(SigningKeys { private, public })
    }

    fn issue(&self, name: &str, params: &CertificateParams) -> Result<CertificateFiles> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = CertificateFiles {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}
