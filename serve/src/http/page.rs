//! The web page: a few files inside the executable, served with validators so that a browser fetches them once.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::headers::POLICY_PAGE;

/// One file of the page.
#[derive(Clone, Copy)]
pub(super) struct Asset {
    pub(super) route: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files of the page.
pub(super) const ASSETS: [Asset; 19] = [
    Asset { route: "/", content_type: HTML, body: include_str!("../page/index.html") },
    Asset { route: "/catalogue", content_type: HTML, body: include_str!("../page/catalogue.html") },
    Asset { route: "/status", content_type: HTML, body: include_str!("../page/status.html") },
    Asset {
        route: "/page/style.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../page/style.css"),
    },
    Asset { route: "/page/api.js", content_type: SCRIPT, body: include_str!("../page/api.js") },
    Asset { route: "/page/app.js", content_type: SCRIPT, body: include_str!("../page/app.js") },
    Asset { route: "/page/cards.js", content_type: SCRIPT, body: include_str!("../page/cards.js") },
    Asset { route: "/page/catalogue.js", content_type: SCRIPT, body: include_str!("../page/catalogue.js") },
    Asset { route: "/page/crop.js", content_type: SCRIPT, body: include_str!("../page/crop.js") },
    Asset { route: "/page/dom.js", content_type: SCRIPT, body: include_str!("../page/dom.js") },
    Asset { route: "/page/options.js", content_type: SCRIPT, body: include_str!("../page/options.js") },
    Asset { route: "/page/picture.js", content_type: SCRIPT, body: include_str!("../page/picture.js") },
    Asset { route: "/page/problem.js", content_type: SCRIPT, body: include_str!("../page/problem.js") },
    Asset { route: "/page/server.js", content_type: SCRIPT, body: include_str!("../page/server.js") },
    Asset { route: "/page/status.js", content_type: SCRIPT, body: include_str!("../page/status.js") },
    Asset { route: "/page/take.js", content_type: SCRIPT, body: include_str!("../page/take.js") },
    Asset { route: "/page/timings.js", content_type: SCRIPT, body: include_str!("../page/timings.js") },
    Asset { route: "/page/trail.js", content_type: SCRIPT, body: include_str!("../page/trail.js") },
    Asset { route: "/page/icon.svg", content_type: "image/svg+xml", body: include_str!("../page/icon.svg") },
];

impl Asset {
    /// The file, or 304 if the browser has it already.
    pub(super) async fn serve(self, request: Request) -> Response {
        let tag = format!("\"{}\"", &hex::encode(Sha256::digest(self.body))[..16]);
        let known = request
            .headers()
            .get(header::IF_NONE_MATCH)
            .is_some_and(|value| value.as_bytes() == tag.as_bytes());
        let mut response =
            if known { StatusCode::NOT_MODIFIED.into_response() } else { self.body.into_response() };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY_PAGE);
        // Always ask: a new server brings a new page, and asking costs one 304.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
