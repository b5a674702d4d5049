//! Pictures by address, where that is switched on. A server that fetches what it is told to can be turned against the network it
//! stands in (SSRF), so: only listed hosts, on the usual ports unless the list names another; every address that a name resolves
//! to is checked, and the connection goes to the checked address and no other; each redirect is checked like a new request; size
//! and time are limited; no cookies, no credentials, no proxies out of the environment.

mod address;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{body::Bytes, http::header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

pub use address::Network;

use self::address::is_allowed;
use super::{ApiError, admission::BodyMemory, error::shortened};

/// What may be fetched.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// `cdn.example.com`, `*.example.com` or `images.example.com:8443`. Empty switches fetching off.
    pub hosts: Vec<String>,
    /// Address blocks that are allowed although they are not public.
    pub networks: Vec<Network>,
    /// Longest time for a picture, redirects included.
    pub timeout: Duration,
    /// Most redirects that are followed.
    pub redirects_max: usize,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { hosts: Vec::new(), networks: Vec::new(), timeout: Duration::from_secs(5), redirects_max: 3 }
    }
}

/// Looks names up.
type Lookup = Arc<dyn Fn(String) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Fetches pictures from the allowed hosts.
pub(super) struct Fetcher {
    client: reqwest::Client,
    options: FetchOptions,
    memory: BodyMemory,
}

impl Fetcher {
    /// `None` if no host is allowed.
    pub(super) fn new(options: &FetchOptions, memory: BodyMemory) -> Result<Option<Self>, reqwest::Error> {
        Self::with_lookup(options, memory, Arc::new(system_lookup))
    }

    fn with_lookup(
        options: &FetchOptions,
        memory: BodyMemory,
        lookup: Lookup,
    ) -> Result<Option<Self>, reqwest::Error> {
        if options.hosts.is_empty() {
            return Ok(None);
        }
        let networks: Arc<[Network]> = options.networks.clone().into();
        // One provider for the process; that another part of it has set one already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(CheckedResolver { lookup, networks }))
            .user_agent(concat!("dfml/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Some(Self { client, options: options.clone(), memory }))
    }

    /// The body of the address, at most `bytes_max` long.
    pub(super) async fn fetch(&self, address: &str, bytes_max: usize) -> Result<Bytes, ApiError> {
        let limit = self.options.timeout;
        match tokio::time::timeout(limit, self.follow(address, bytes_max)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(failed(address, format!("nothing came within {} s", limit.as_secs_f64()))),
        }
    }

    async fn follow(&self, address: &str, bytes_max: usize) -> Result<Bytes, ApiError> {
        let mut url = Url::parse(address).map_err(|error| refused(address, error.to_string()))?;
        for _ in 0..=self.options.redirects_max {
            self.check(&url)?;
            let response =
                self.client.get(url.clone()).send().await.map_err(|error| unreachable(&url, &error))?;
            if response.status().is_redirection() {
                let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                let target =
                    target.ok_or_else(|| failed(url.as_str(), "a redirect to nowhere".to_owned()))?;
                url = url.join(target).map_err(|error| refused(target, error.to_string()))?;
                continue;
            }
            if !response.status().is_success() {
                return Err(failed(url.as_str(), format!("it answered {}", response.status().as_u16())));
            }
            return self.collect(response, &url, bytes_max).await;
        }
        Err(failed(address, format!("more than {} redirects", self.options.redirects_max)))
    }

    /// The body, counted with those of the requests as it arrives.
    async fn collect(
        &self,
        mut response: reqwest::Response,
        url: &Url,
        bytes_max: usize,
    ) -> Result<Bytes, ApiError> {
        let too_large = || failed(url.as_str(), format!("it is larger than {bytes_max} bytes"));
        if response.content_length().is_some_and(|length| length > bytes_max as u64) {
            return Err(too_large());
        }
        let (mut body, mut held) = (Vec::new(), self.memory.hold());
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            if !held.grow(chunk.len()) {
                return Err(ApiError::BodiesFull);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(held.keep(body))
    }

    /// Scheme, host and port; the addresses behind a name are checked when it is resolved.
    fn check(&self, url: &Url) -> Result<(), ApiError> {
        let refuse = |reason: &str| Err(refused(url.as_str(), reason.to_owned()));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("only http and https addresses are fetched");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address must not carry credentials");
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return refuse("it names no host");
        };
        let (name, literal) = match host {
            Host::Domain(name) => (name.trim_end_matches('.').to_ascii_lowercase(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (format!("[{address}]"), Some(IpAddr::V6(address))),
        };
        if !self.options.hosts.iter().any(|rule| matches(rule, &name, port)) {
            return refuse("its host is not on the server's list");
        }
        // A literal address is connected to without a resolver.
        if literal.is_some_and(|address| !is_allowed(address, &self.options.networks)) {
            return refuse("its address is not public");
        }
        Ok(())
    }
}

/// Whether a rule lets a host and port through.
fn matches(rule: &str, name: &str, port: u16) -> bool {
    let rule = rule.to_ascii_lowercase();
    let (host, wanted) =
        match rule.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
            Some((host, wanted)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
                (host, Some(wanted))
            }
            _ => (rule.as_str(), None),
        };
    let fits = match host.strip_prefix("*.") {
        Some(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == name,
    };
    fits && wanted.map_or(port == 80 || port == 443, |wanted| wanted == port)
}

/// Resolves a name and hands out only checked addresses: what is connected to is what was checked.
struct CheckedResolver {
    lookup: Lookup,
    networks: Arc<[Network]>,
}

/// Marks an error as ours on its way through reqwest.
#[derive(Debug, thiserror::Error)]
#[error("its address is not public")]
struct NotPublic;

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, networks, name) =
            (Arc::clone(&self.lookup), Arc::clone(&self.networks), name.as_str().to_owned());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || lookup(name)).await??;
            // One bad address among good ones is a bad sign: none of them is used.
            if found.is_empty() || !found.iter().all(|address| is_allowed(*address, &networks)) {
                return Err(NotPublic.into());
            }
            let addresses: Vec<SocketAddr> =
                found.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    use std::net::ToSocketAddrs;
    Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

fn refused(url: &str, reason: String) -> ApiError {
    ApiError::UrlRefused { url: shortened(url), reason }
}

fn failed(url: &str, reason: String) -> ApiError {
    ApiError::UrlFailed { url: shortened(url), reason }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(not_public) = inner.downcast_ref::<NotPublic>() {
            return refused(url.as_str(), not_public.to_string());
        }
        cause = inner.source();
    }
    // What exactly went wrong inside our network is not the client's business.
    tracing::debug!(%url, %error, "an address could not be fetched");
    failed(url.as_str(), "it cannot be reached".to_owned())
}

#[cfg(test)]
mod tests;
