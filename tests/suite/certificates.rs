//! Certificates made for a test, good and bad, in a folder that goes with it.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// An issuer, and the folder that all it issues stands in.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    issued: u32,
}

/// The files of a certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let name = format!("croupier test authority {:016x}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key), issued: 0 }
    }

    /// The issuer's own certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names and addresses, valid now.
    pub(crate) fn issue(&mut self, names: &[&str]) -> Issued {
        self.issue_until(names, 2090)
    }

    /// A certificate that is valid up to the beginning of a year.
    pub(crate) fn issue_until(&mut self, names: &[&str], year: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "croupier test");
        params.not_before = date_time_ymd(1990, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.issued += 1;
        let file = |kind: &str| self.folder.path().join(format!("{}.{kind}", self.issued));
        let issued = Issued { cert_file: file("pem"), key_file: file("key") };
        fs::write(&issued.cert_file, certificate.pem()).unwrap();
        fs::write(&issued.key_file, key.serialize_pem()).unwrap();
        issued
    }
}

/// The `tls` of a nats-server's configuration; `more` goes into it.
pub(crate) fn server_tls(issued: &Issued, more: &str) -> String {
    format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, timeout: 20, {more} }}\n",
        issued.cert_file, issued.key_file
    )
}
