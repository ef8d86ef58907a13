use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::{Error, Result};
use crate::redis::conf::quoted_path;
use crate::scratch::Scratch;
use crate::user::User;

/// The certificates of a [`Redis`](crate::Redis) that speaks TLS, made for it
/// and those that it is one of several with. The files go with them.
#[derive(Clone, Debug)]
pub struct RedisTls {
    folder: PathBuf,
    _scratch: Arc<Scratch>,
}

impl RedisTls {
    /// Writes an authority of its own and what it has signed into a new folder.
    pub(super) fn make(scratch: &Arc<Scratch>, user: Option<User>) -> Result<Self> {
        let folder = scratch.path().join("tls");
        fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        let tls = Self { folder, _scratch: Arc::clone(scratch) };
        let invalid = |error: rcgen::Error| Error::Invalid(format!("make a certificate: {error}"));
        let authority = authority().map_err(invalid)?;
        write(&tls.ca_file(), &authority.pem(), None)?;
        for (party, owner) in [(Party::Server, user), (Party::Client, None)] {
            let (certificate, key) = party.certificate(&authority).map_err(invalid)?;
            write(&tls.path(party, "pem"), &certificate, owner)?;
            write(&tls.path(party, "key"), &key, owner)?;
        }
        Ok(tls)
    }

    /// Returns the file of the authority that signed the server's certificate,
    /// in PEM. The certificate is for `127.0.0.1` and `localhost`.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Returns the file of a certificate that the server accepts from clients.
    /// It asks for none unless started with `option("tls-auth-clients", "yes")`.
    #[must_use]
    pub fn client_certificate_file(&self) -> PathBuf {
        self.path(Party::Client, "pem")
    }

    /// Returns the file of the key that belongs to the client's certificate.
    #[must_use]
    pub fn client_key_file(&self) -> PathBuf {
        self.path(Party::Client, "key")
    }

    /// Returns what the server is told.
    pub(super) fn lines(&self) -> [String; 4] {
        [
            format!("tls-cert-file {}", quoted_path(&self.path(Party::Server, "pem"))),
            format!("tls-key-file {}", quoted_path(&self.path(Party::Server, "key"))),
            format!("tls-ca-cert-file {}", quoted_path(&self.ca_file())),
            "tls-auth-clients no".to_owned(),
        ]
    }

    fn path(&self, party: Party, extension: &str) -> PathBuf {
        let name = match party {
            Party::Server => "server",
            Party::Client => "client",
        };
        self.folder.join(name).with_extension(extension)
    }
}

/// Whom a certificate is for.
#[derive(Clone, Copy)]
enum Party {
    Server,
    Client,
}

impl Party {
    /// Returns a certificate and its key.
    fn certificate(
        self,
        authority: &CertifiedIssuer<'_, KeyPair>,
    ) -> Result<(String, String), rcgen::Error> {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let (names, usages) = match self {
            // Servers of several are clients of each other.
            Self::Server => {
                (vec!["127.0.0.1", "localhost"], vec![ExtendedKeyUsagePurpose::ServerAuth, client])
            }
            Self::Client => (Vec::new(), vec![client]),
        };
        let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = usages;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "trine-testkit");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn write(path: &Path, text: &str, owner: Option<User>) -> Result<()> {
    let write = || {
        let mut options = File::options();
        options.write(true).create_new(true).mode(if is_key(path) { 0o600 } else { 0o644 });
        options.open(path)?.write_all(text.as_bytes())
    };
    write().map_err(Error::io(format!("write {}", path.display())))?;
    owner.map_or(Ok(()), |user| user.own(path))
}

fn is_key(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "key")
}
