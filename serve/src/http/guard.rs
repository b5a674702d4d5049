//! Who may ask: host names, keys and their scopes, and how often.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{Method, header, uri::Authority},
    middleware::Next,
    response::Response,
};

use super::{ApiError, AppState, error::shortened};
use crate::access::{KeyName, Scope};

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: the page, the probes, the description of the API.
    Nothing,
    /// A key, unless the operator has opened it.
    Metrics,
    /// A key of this scope.
    Scope(Scope),
}

/// What a route needs. Whatever is not listed needs the highest scope, so that a forgotten route is locked rather than open.
pub(super) fn needs(method: &Method, route: &str) -> Needs {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match route {
        "/" | "/catalogue" | "/status" | "/livez" | "/readyz" | "/openapi.json" => Needs::Nothing,
        _ if route.starts_with("/page/") || route == "/docs" || route.starts_with("/docs/") => Needs::Nothing,
        "/metrics" => Needs::Metrics,
        "/v1/search" | "/v1/search/batch" | "/v1/embeddings" => Needs::Scope(Scope::Read),
        "/v1/items"
        | "/v1/items/{id}"
        | "/v1/products"
        | "/v1/products/{id}"
        | "/v1/jobs"
        | "/v1/jobs/{id}"
        | "/v1/jobs/{id}/resume"
        | "/v1/import"
        | "/v1/duplicates" => Needs::Scope(if changes { Scope::Write } else { Scope::Read }),
        "/v1/categories" | "/v1/info" | "/v1/stats" | "/v1/images/{*item}" if !changes => {
            Needs::Scope(Scope::Read)
        }
        _ => Needs::Scope(Scope::Admin),
    }
}

/// The middleware: lets a request through or refuses it before anything of its body is read.
pub(super) async fn guard(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if state.options().local_names_only {
        check_host(&request)?;
        check_origin(&request, &state.options().cors_origins)?;
    }
    // What no route matches is answered 404 to everybody.
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Ok(next.run(request).await) };
    let needed = match needs(request.method(), route.as_str()) {
        Needs::Nothing => return Ok(next.run(request).await),
        Needs::Metrics if state.options().metrics_open => return Ok(next.run(request).await),
        Needs::Metrics => Scope::Read,
        Needs::Scope(scope) => scope,
    };
    let caller = if state.options().keys.required() {
        let (name, scope) = key(&state, &request)?;
        if scope < needed {
            return Err(ApiError::Forbidden { key: name.to_string(), has: scope, needs: needed });
        }
        name
    } else {
        address(&request)
    };
    if let Some(rates) = state.rates() {
        rates.take(&caller).map_err(|wait| ApiError::RateLimited {
            caller: caller.to_string(),
            wait_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
        })?;
    }
    tracing::Span::current().record("caller", &*caller);
    Ok(next.run(request).await)
}

fn key(state: &AppState, request: &Request) -> Result<(KeyName, Scope), ApiError> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    let secret = bearer.or_else(|| text("x-api-key"));
    let missing = "send an API key: `authorization: Bearer dfml_…` or `x-api-key: dfml_…`";
    let secret = secret.ok_or(ApiError::Unauthorized { reason: missing })?;
    state
        .options()
        .keys
        .current()
        .find(secret)
        .ok_or(ApiError::Unauthorized { reason: "the API key is not valid" })
}

/// The client's address, for its rate limit; tests without a socket have none.
fn address(request: &Request) -> KeyName {
    match request.extensions().get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => caller(address.ip()),
        None => "local".into(),
    }
}

/// Who is behind an address. The second half of an IPv6 address is its owner's to choose, so it tells nobody apart (RFC 4291, 2.5.4).
fn caller(address: IpAddr) -> KeyName {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string().into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from(network)).into()
        }
    }
}

/// Where a request comes from, as authority (`host:port`).
fn authority(request: &Request) -> Option<&str> {
    let named = request.uri().authority().map(Authority::as_str);
    named.or_else(|| request.headers().get(header::HOST).and_then(|value| value.to_str().ok()))
}

/// A browser lets a page of another site send simple requests, and does not ask before: the page cannot read the answer, and has had
/// its effect all the same. It says where the page is from, which a program does not.
fn check_origin(request: &Request, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").map(|(_, authority)| authority);
    let is_own = own.is_some() && own == authority(request);
    if is_own || allowed.iter().any(|listed| listed == origin || listed == "*") {
        return Ok(());
    }
    Err(ApiError::Origin { origin: shortened(origin) })
}

/// A server without keys on this machine is open to every page in a browser on this machine, unless it insists on its own names:
/// a page of another site that has its name resolve to 127.0.0.1 still sends that name.
fn check_host(request: &Request) -> Result<(), ApiError> {
    let host = request
        .uri()
        .host()
        .or_else(|| request.headers().get(header::HOST).and_then(|value| value.to_str().ok()))
        .unwrap_or("localhost");
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(host, |(name, _)| name),
    };
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if is_local { Ok(()) } else { Err(ApiError::Host { host: shortened(host) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_writing_and_administering_are_apart_and_the_unknown_is_locked() {
        let scope = |method: Method, route: &str| needs(&method, route);
        assert_eq!(scope(Method::POST, "/v1/search"), Needs::Scope(Scope::Read));
        assert_eq!(scope(Method::GET, "/v1/items/{id}"), Needs::Scope(Scope::Read));
        assert_eq!(scope(Method::PUT, "/v1/items"), Needs::Scope(Scope::Write));
        assert_eq!(scope(Method::DELETE, "/v1/jobs/{id}"), Needs::Scope(Scope::Write));
        assert_eq!(scope(Method::GET, "/v1/models"), Needs::Scope(Scope::Admin));
        assert_eq!(scope(Method::GET, "/v1/whatever/comes"), Needs::Scope(Scope::Admin));
        assert_eq!(scope(Method::POST, "/v1/info"), Needs::Scope(Scope::Admin));
        assert_eq!(scope(Method::GET, "/page/app.js"), Needs::Nothing);
        assert_eq!(scope(Method::GET, "/metrics"), Needs::Metrics);
    }

    #[test]
    fn an_ipv6_network_is_one_caller() {
        let caller = |address: &str| caller(address.parse().expect("an address")).to_string();
        assert_eq!(caller("2001:db8:1:2:3:4:5:6"), caller("2001:db8:1:2::9"));
        assert_ne!(caller("2001:db8:1:2::9"), caller("2001:db8:1:3::9"));
        assert_eq!(caller("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn another_sites_script_changes_nothing() {
        let sent = |method: &str, origin: &str| {
            let request = Request::builder().method(method).uri("/v1/models/rollback");
            let request = request.header(header::HOST, "localhost:8080").header(header::ORIGIN, origin);
            let request = request.body(axum::body::Body::empty()).expect("a request");
            check_origin(&request, &["https://shop.example".to_owned()]).is_ok()
        };
        assert!(sent("POST", "http://localhost:8080") && sent("POST", "https://shop.example"));
        for other in ["http://localhost:3000", "https://evil.example", "null", ""] {
            assert!(!sent("POST", other), "{other}");
            assert!(sent("GET", other), "{other} may read if the browser lets it");
        }
    }

    #[test]
    fn only_local_names_are_answered_to() {
        let host = |host: &str| {
            let request = Request::builder().header(header::HOST, host).body(axum::body::Body::empty());
            check_host(&request.expect("a request")).is_ok()
        };
        for local in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "127.0.0.2",
            "[::1]:8080",
            "[::1]",
            "shop.localhost:1",
        ] {
            assert!(host(local), "{local}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[fe80::1]:80",
            "",
        ] {
            assert!(!host(other), "{other}");
        }
    }
}
