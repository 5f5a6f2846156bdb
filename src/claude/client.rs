//! The HTTP client and its protections.
//!
//! Invariant: the key goes to `base_url` and nowhere else: no redirect is followed, no proxy is
//! taken from the environment, and plain `http` is for this machine alone.
//! Invariant: HTTP/1.1 only, so that one lost connection loses one call.

use super::call;
use super::request::with_stream;
use super::sight::Sight;
use crate::clock::Clock;
use crate::domain::attempt::Reply;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Proxy, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An idle connection is given up before the other side does so: a call that goes out on a
/// connection just being closed has an unknown fate.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
/// Dead connections are found after about three minutes of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_RETRIES: u32 = 4;
/// Sent data may stay unacknowledged for so long; the default of 30 s would lose paid calls to
/// a short break of the network.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(180);

/// How the key is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// `x-api-key: KEY`.
    #[default]
    XApiKey,
    /// `authorization: Bearer KEY`.
    Bearer,
}

/// Where and how to call; the keys of `[provider]`.
#[derive(Clone)]
pub struct ClientConfig {
    /// Scheme, host and, for gateways, a path; `/v1/messages` is added.
    pub base_url: String,
    /// How the key is shown.
    pub auth: Auth,
    /// The `anthropic-version` header.
    pub anthropic_version: String,
    /// The `anthropic-beta` header's words.
    pub anthropic_beta: Vec<String>,
    /// An HTTP proxy's URL; `None`: none, whatever the environment says.
    pub proxy: Option<String>,
    /// A PEM file of further roots to trust.
    pub ca_file: Option<PathBuf>,
    /// The largest answer taken, after decompression.
    pub max_response_bytes: u64,
    /// For a call as a whole; for a stream, the longest silence, the wait for its head included.
    pub request_timeout: Duration,
    /// For a stream as a whole.
    pub stream_timeout: Duration,
    /// DNS, TCP and TLS together; never more than half of `request_timeout`.
    pub connect_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            base_url: "https://api.anthropic.com".to_owned(),
            auth: Auth::default(),
            anthropic_version: "2023-06-01".to_owned(),
            anthropic_beta: Vec::new(),
            proxy: None,
            ca_file: None,
            max_response_bytes: 32 * 1024 * 1024,
            request_timeout: Duration::from_secs(600),
            stream_timeout: Duration::from_secs(4 * 3_600),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

// A proxy's URL may hold a password.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("base_url", &self.base_url)
            .field("auth", &self.auth)
            .field("anthropic_version", &self.anthropic_version)
            .field("anthropic_beta", &self.anthropic_beta)
            .field("proxy", &self.proxy.as_ref().map(|_| "[set]"))
            .field("ca_file", &self.ca_file)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("request_timeout", &self.request_timeout)
            .field("stream_timeout", &self.stream_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// Why no client can be made; each names the key of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No URL, or one with parts that cannot be.
    #[error("provider.base_url is not usable: {0}")]
    BaseUrl(String),
    /// The key would travel unencrypted.
    #[error(
        "provider.base_url is http:// to {0}: the key would travel unencrypted; use https:// (plain http is for this machine alone)"
    )]
    Unencrypted(String),
    /// No URL of a proxy.
    #[error("provider.proxy is not the URL of an http:// or https:// proxy")]
    Proxy,
    /// A plain call through a proxy shows it the key.
    #[error("provider.proxy cannot be used with an http:// provider.base_url")]
    UnencryptedProxy,
    /// The file cannot be read.
    #[error("failed to read provider.ca_file {}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It has no certificates, or damaged ones.
    #[error("provider.ca_file {} has no usable PEM certificates", .0.display())]
    NoCertificates(PathBuf),
    /// Control characters, for example, or nothing at all.
    #[error("{0} cannot be sent in a header: it is empty or has a control character")]
    Header(&'static str),
    /// The TLS or HTTP library refuses.
    #[error("failed to set up the HTTP client")]
    Build(#[source] reqwest::Error),
}

/// Calls the Messages API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// What a call needs.
pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: Url,
    pub(crate) headers: HeaderMap,
    /// The host as people know it.
    pub(crate) host: String,
    pub(crate) key: SecretString,
    pub(crate) clock: Clock,
    pub(crate) max_response_bytes: u64,
    pub(crate) request_timeout: Duration,
    pub(crate) stream_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.0.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; nothing is sent yet.
    pub fn new(config: ClientConfig, key: SecretString, clock: Clock) -> Result<Self, ClientError> {
        let endpoint = endpoint(&config.base_url)?;
        let http = build(&config, &endpoint)?;
        Ok(Client(Arc::new(Inner {
            http,
            headers: headers(&config, &key)?,
            host: host_label(&endpoint),
            endpoint,
            key,
            clock,
            max_response_bytes: config.max_response_bytes,
            request_timeout: config.request_timeout,
            stream_timeout: config.stream_timeout.max(config.request_timeout),
        })))
    }

    /// The API's host, with its port when it is not the usual one.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Sends one body, once, and tells what became of it. `stream` asks for a streamed answer
    /// (the body itself must not say so); the reply is the same in kind.
    ///
    /// Dropping the future breaks the call off; whether it was billed is then unknown.
    pub async fn send(&self, body: Bytes, stream: bool) -> Reply {
        self.send_in_sight(body, stream, &Sight::default()).await
    }

    /// The same, and shows how far a streamed answer is while it comes.
    pub async fn send_in_sight(&self, body: Bytes, stream: bool, sight: &Sight) -> Reply {
        let body = if stream { with_stream(&body) } else { body };
        call::send(&self.0, body, stream, sight).await
    }
}

fn endpoint(base_url: &str) -> Result<Url, ClientError> {
    let refused = |why: &str| ClientError::BaseUrl(why.to_owned());
    let mut url = Url::parse(base_url.trim()).map_err(|err| refused(&err.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("it must begin with https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it must not hold a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must not have a query or fragment"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(ClientError::Unencrypted(host_label(&url)));
    }
    // People write the version into it; the SDKs' base URLs have none.
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path);
    let path = format!("{path}/v1/messages");
    url.set_path(&path);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host_label(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn headers(config: &ClientConfig, key: &SecretString) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert("content-type", json.clone());
    // The official clients say so for streams as well.
    headers.insert("accept", json);
    headers.insert(
        "anthropic-version",
        words(&config.anthropic_version, "provider.anthropic_version")?,
    );
    if !config.anthropic_beta.is_empty() {
        let beta = words(&config.anthropic_beta.join(","), "provider.anthropic_beta")?;
        headers.insert("anthropic-beta", beta);
    }
    let key = key.expose_secret();
    let (name, value) = match config.auth {
        Auth::XApiKey => (HeaderName::from_static("x-api-key"), key.to_owned()),
        Auth::Bearer => (reqwest::header::AUTHORIZATION, format!("Bearer {key}")),
    };
    let mut value = plain(&value, "the API key")?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(headers)
}

/// Words with commas between them. An empty one would be refused with every call, and end every
/// job.
fn words(value: &str, what: &'static str) -> Result<HeaderValue, ClientError> {
    if value.split(',').any(|word| word.trim().is_empty()) {
        return Err(ClientError::Header(what));
    }
    plain(value, what)
}

fn plain(value: &str, what: &'static str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(value).map_err(|_| ClientError::Header(what))
}

fn build(config: &ClientConfig, endpoint: &Url) -> Result<reqwest::Client, ClientError> {
    // Fails when somebody installed one already; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connect_timeout = config.connect_timeout.min(config.request_timeout / 2);
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("claudeq/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .https_only(endpoint.scheme() == "https")
        .http1_only()
        .gzip(true)
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(4_096)
        .pool_idle_timeout(IDLE_CONNECTION)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEP_ALIVE)
        .tcp_keepalive_interval(KEEP_ALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEP_ALIVE_RETRIES);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    }
    if let Some(proxy) = &config.proxy {
        if endpoint.scheme() == "http" {
            return Err(ClientError::UnencryptedProxy);
        }
        builder = builder.proxy(read_proxy(proxy)?);
    }
    if endpoint.scheme() == "https" {
        builder = trust(builder, config)?;
    } else {
        // No call is encrypted, yet the library wants roots at hand.
        builder = builder.tls_certs_only(bundled_roots());
    }
    builder.build().map_err(ClientError::Build)
}

fn read_proxy(proxy: &str) -> Result<Proxy, ClientError> {
    // The library's own error would quote the URL, password and all.
    let url = Url::parse(proxy.trim()).map_err(|_| ClientError::Proxy)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::Proxy);
    }
    Proxy::all(url).map_err(|_| ClientError::Proxy)
}

/// Mozilla's roots and the file's beside the system's, so that a machine without a CA store
/// verifies too.
fn trust(builder: ClientBuilder, config: &ClientConfig) -> Result<ClientBuilder, ClientError> {
    let mut roots = bundled_roots();
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path)
            .map_err(|source| ClientError::CaFile { path: path.clone(), source })?;
        let ours = read_certificates(&pem);
        roots.extend(ours.ok_or_else(|| ClientError::NoCertificates(path.clone()))?);
    }
    Ok(builder.tls_certs_merge(roots))
}

/// `None` when there are none, or one is damaged: it would be missed only much later.
fn read_certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    let mut checked = RootCertStore::empty();
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.ok()?;
        certificates.push(Certificate::from_der(&der).ok()?);
        checked.add(der).ok()?;
    }
    (!certificates.is_empty()).then_some(certificates)
}

fn bundled_roots() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|root| Certificate::from_der(root).ok())
        .collect()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "client_tls_tests.rs"]
mod tls_tests;
