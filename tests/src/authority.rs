//! An authority of a test's own: certificates of nodes and of operators.
//!
//! In: names. Out: certificates and keys as PEM. Elsewhere: who is to accept them (`tests/certificates.rs`, `cluster`).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use std::ops::Range;
use std::path::Path;

/// Certificates are good in these years, unless a test wants it otherwise.
pub const VALID: Range<i32> = 2020..2999;

/// Signs certificates.
pub struct Authority {
    /// Its own.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One of this name.
    ///
    /// # Panics
    /// When the library fails.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for a host, with a common name, valid in these years.
    ///
    /// # Panics
    /// When the library fails.
    pub fn issue(&self, host: &str, name: &str, years: Range<i32>) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// Writes both to files of this name.
///
/// # Panics
/// When they cannot be written.
pub fn write(folder: &Path, name: &str, (cert, key): &(String, String)) {
    std::fs::write(folder.join(format!("{name}.pem")), cert).expect("a file can be written");
    std::fs::write(folder.join(format!("{name}.key")), key).expect("a file can be written");
}
