//! The routes and the layers around them.

use std::any::Any;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    ApiError, AppState, categories::categories, error::shortened, headers::secure, images::image,
    observe::observe, page::ASSETS, probes, search::search,
};

/// The whole server, without a socket.
pub fn app(state: AppState) -> Router {
    let body_bytes_max = state.options().body_bytes_max;
    let mut routes = Router::new()
        .route("/v1/search", post(search))
        .route("/v1/categories", get(categories))
        .route("/v1/info", get(probes::info))
        .route("/v1/images/{*item}", get(image))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics));
    for asset in ASSETS {
        routes = routes.route(asset.route, get(move |request: Request| asset.serve(request)));
    }
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn_with_state(state.clone(), observe))
        .layer(from_fn(secure))
        .with_state(state)
}

async fn nothing_here(request: Request) -> ApiError {
    ApiError::NotFound { path: shortened(request.uri().path()) }
}

async fn not_this_method(request: Request) -> ApiError {
    ApiError::Method { method: shortened(request.method().as_str()), path: shortened(request.uri().path()) }
}

/// A bug in a handler must cost one request, not the server.
fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let said = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::Internal(format!("panic: {said}")).into_response()
}
