//! HTTP clients for tests, on the one TLS provider that the server uses, too.

/// A client with the usual settings.
pub fn client() -> reqwest::Client {
    builder().build().expect("a client")
}

/// A client to be set up.
pub fn builder() -> reqwest::ClientBuilder {
    install();
    // What runs on this machine is never behind a proxy.
    reqwest::Client::builder().no_proxy()
}

/// A GET.
pub async fn fetch(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    client().get(url).send().await
}

/// Chooses the provider for clients that are made elsewhere.
pub fn install() {
    // That another test of this process has chosen it already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
