//! How to reach etcd; refuses options that cannot work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use super::Error;
use crate::model::Node;

/// etcd closes a connection that is pinged more often than every 5 s.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Until the headers of an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach etcd, and as whom.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`, all of one cluster.
    pub endpoints: Vec<String>,
    /// Time to live of the leases, in whole seconds; etcd grants no less than 2.
    pub ttl: Duration,
    /// User to sign in as; needs `password`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Certificates of the authority that signed etcd's, PEM; needed for `https`.
    pub ca_pem: Option<Vec<u8>>,
    /// Certificate to present to etcd, PEM; needs `key_pem`.
    pub cert_pem: Option<Vec<u8>>,
    /// Its private key, PEM.
    pub key_pem: Option<Vec<u8>>,
    /// Directory that remembers the lease for the next process; nothing does when absent.
    pub state_dir: Option<PathBuf>,
    /// The host; by it an agent that starts again tells its own keys from those of others.
    pub node: Option<Arc<Node>>,
}

/// The endpoints in full, or why the options cannot work.
pub(super) fn endpoints(options: &EtcdOptions) -> Result<Vec<String>, Error> {
    let refused = |reason: String, remedy: &str| Error::Refused {
        registry: "etcd".into(),
        what: "connect".into(),
        reason,
        remedy: remedy.into(),
    };
    let tls = options.ca_pem.is_some();
    if options.endpoints.is_empty() {
        return Err(refused(
            "no endpoint is given".into(),
            "set registry.endpoints, for example [\"http://10.0.0.1:2379\"]",
        ));
    }
    if options.cert_pem.is_some() != options.key_pem.is_some() || (options.cert_pem.is_some() && !tls) {
        return Err(refused(
            "a part of the TLS files is missing".into(),
            "set ca-file, cert-file and key-file together",
        ));
    }
    for (name, pem, word) in [
        ("ca-file", &options.ca_pem, "CERTIFICATE-----"),
        ("cert-file", &options.cert_pem, "CERTIFICATE-----"),
        ("key-file", &options.key_pem, "PRIVATE KEY-----"),
    ] {
        let text = pem.as_deref().map(String::from_utf8_lossy);
        if text.is_some_and(|text| !text.contains("-----BEGIN ") || !text.contains(word)) {
            return Err(refused(format!("{name} has no line that ends in {word}"), "give the file in PEM form"));
        }
    }
    if options.username.is_some() != options.password.is_some() {
        return Err(refused("user or password is missing".into(), "set username and password-file together"));
    }
    let endpoints = options.endpoints.iter().map(|endpoint| {
        let endpoint = endpoint.trim().trim_end_matches('/');
        match endpoint.split_once("://") {
            Some(("https", _)) if !tls => Err(refused(
                format!("endpoints has {endpoint}, which needs TLS"),
                "set ca-file to the authority that signed etcd's certificate",
            )),
            Some(("http", _)) if tls => Err(refused(
                format!("endpoints has {endpoint}, which is without TLS"),
                "write https://, or remove ca-file",
            )),
            Some(("http" | "https", host)) if !host.is_empty() => Ok(endpoint.to_owned()),
            None if !endpoint.is_empty() => Ok(format!("{}://{endpoint}", if tls { "https" } else { "http" })),
            _ => Err(refused(format!("{endpoint:?} is no endpoint"), "write http://host:port or https://host:port")),
        }
    });
    endpoints.collect()
}

/// What the client library is to do beyond one call.
pub(super) fn connect_options(options: &EtcdOptions) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .with_keep_alive(PING.0, PING.1)
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(CALL_TIMEOUT)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(ca) = &options.ca_pem {
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((cert, key)) = options.cert_pem.as_ref().zip(options.key_pem.as_ref()) {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        connect = connect.with_tls(tls);
    }
    connect
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: &str) -> EtcdOptions {
        EtcdOptions { endpoints: vec![endpoint.into()], ttl: Duration::from_secs(15), ..EtcdOptions::default() }
    }

    #[test]
    fn endpoints_are_completed() {
        for (given, full) in [
            ("http://10.0.0.1:2379", "http://10.0.0.1:2379"),
            ("10.0.0.1:2379", "http://10.0.0.1:2379"),
            (" http://etcd:2379/ ", "http://etcd:2379"),
        ] {
            assert_eq!(endpoints(&options(given)).unwrap(), [full]);
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused_with_a_remedy() {
        let with_user = EtcdOptions { username: Some("root".into()), ..options("http://etcd:2379") };
        let ca = Some(b"-----BEGIN CERTIFICATE-----".to_vec());
        let with_ca = EtcdOptions { ca_pem: ca, ..options("http://etcd:2379") };
        let with_other = EtcdOptions { ca_pem: Some(b"\x30\x82".to_vec()), ..options("https://etcd:2379") };
        for (given, word) in [
            (EtcdOptions::default(), "registry.endpoints"),
            (options("https://etcd:2379"), "ca-file"),
            (options("ftp://etcd"), "http://host:port"),
            (options(""), "http://host:port"),
            (with_user, "password-file"),
            (with_ca, "https://"),
            (with_other, "PEM"),
        ] {
            let error = endpoints(&given).unwrap_err();
            assert!(error.is_permanent() && error.to_string().contains(word), "{error}");
        }
    }
}
