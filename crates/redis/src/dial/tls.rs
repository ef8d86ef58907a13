use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use trine_core::Outage;

use super::Reason;
use crate::TlsConfig;

/// Speaks TLS with a crypto provider of our own choice, so that the process
/// needs no default one.
pub(super) struct Tls {
    config: TlsConfig,
    made: Mutex<Option<Made>>,
}

/// What was made of the files, and what they were like then.
struct Made {
    connector: TlsConnector,
    stamps: Vec<Stamp>,
    /// Of what the files are now.
    outage: Outage,
}

/// What changes when a file is written or another one is put in its place:
/// seconds and nanoseconds of its last change, its number and its length.
type Stamp = (i64, i64, u64, u64);

impl Tls {
    /// Reads no file yet.
    pub(super) fn new(config: &TlsConfig) -> Self {
        Self { config: config.clone(), made: Mutex::default() }
    }

    /// Reads the files at the first call, and whenever they have changed since.
    /// While they are not in order, such as between two of them that are
    /// renewed, what was made of them before is still good.
    pub(super) fn connector(&self) -> Result<TlsConnector, Reason> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.stamps();
        if let (Some(made), Ok(stamps)) = (&*made, &stamps)
            && made.stamps == *stamps
        {
            return Ok(made.connector.clone());
        }
        let client = self.client().and_then(|client| {
            let stamps = stamps.map_err(|error| Reason::Invalid(format!("tls: {error}").into()))?;
            Ok((client, stamps))
        });
        match (client, &mut *made) {
            (Ok((client, stamps)), made) => {
                let connector = TlsConnector::from(Arc::new(client));
                let outage = Outage::new();
                *made = Some(Made { connector: connector.clone(), stamps, outage });
                Ok(connector)
            }
            (Err(reason), Some(made)) => {
                if let Some(failures) = made.outage.failed() {
                    let error = reason.to_string();
                    tracing::warn!(failures, error, "the former certificates stay in use");
                }
                Ok(made.connector.clone())
            }
            (Err(reason), None) => Err(reason),
        }
    }

    /// Taken before the files are read: what changes meanwhile is read again.
    fn stamps(&self) -> io::Result<Vec<Stamp>> {
        let TlsConfig { ca_file, cert_file, key_file, .. } = &self.config;
        let files = [ca_file, cert_file, key_file].into_iter().flatten();
        let stamp = |file| {
            let it = std::fs::metadata(file)?;
            Ok((it.mtime(), it.mtime_nsec(), it.ino(), it.size()))
        };
        files.map(stamp).collect()
    }

    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, Reason> {
        let name = self.config.server_name.as_deref().unwrap_or(host).to_owned();
        let shown = name.clone();
        ServerName::try_from(name)
            .map_err(|_| Reason::Invalid(format!("tls: `{shown}` is no name of a server").into()))
    }

    fn client(&self) -> Result<ClientConfig, Reason> {
        let internal = |error: rustls::Error| Reason::Invalid(format!("tls: {error}").into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(internal)?
            .with_root_certificates(self.roots()?);
        let (Some(cert), Some(key)) = (&self.config.cert_file, &self.config.key_file) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("tls.cert_file", cert)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unreadable("tls.key_file", key, &error))?;
        builder.with_client_auth_cert(chain, key).map_err(internal)
    }

    fn roots(&self) -> Result<RootCertStore, Reason> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.config.ca_file else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(roots);
        };
        for certificate in certificates("tls.ca_file", file)? {
            let added = roots.add(certificate);
            added.map_err(|error| Reason::Invalid(format!("tls.ca_file: {error}").into()))?;
        }
        Ok(roots)
    }
}

fn certificates(
    setting: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| unreadable(setting, file, &error))?;
    if found.is_empty() {
        let problem = format!("{setting}: no certificate in {}", file.display());
        return Err(Reason::Invalid(problem.into()));
    }
    Ok(found)
}

fn unreadable(setting: &str, file: &Path, error: &rustls::pki_types::pem::Error) -> Reason {
    Reason::Invalid(format!("{setting}: {}: {error}", file.display()).into())
}
