//! The description of the API: `/openapi.json`, and `/docs` for reading and trying it in a browser.

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderValue, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Swagger UI sets styles on its elements, and has its icons in data URIs; it runs no script but its own files.
const POLICY_DOCS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; \
     font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const ADDRESS: &str = "/openapi.json";

/// The routes.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(api: OpenApi) -> Router<S> {
    let config =
        Config::from(ADDRESS).try_it_out_enabled(true).display_request_duration(true).use_base_layout();
    let ui = Router::<S>::from(SwaggerUi::new("/docs").config(config)).layer(from_fn(with_policy));
    // Written once: an answer of its own for everybody who asks would be memory for nothing.
    let text = serde_json::to_vec(&api).map(Bytes::from).expect("a description has only names as keys");
    let described = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    Router::new().route(ADDRESS, get(described)).merge(ui)
}

async fn with_policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY_DOCS);
    response
}
