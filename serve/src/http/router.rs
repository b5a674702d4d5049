//! The routes and the layers around them.

use std::any::Any;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, AppState, catalogue, categories, docs, duplicates, embeddings,
    error::shortened,
    guard::guard,
    headers::secure,
    images, jobs, models,
    observe::{REQUEST_ID, observe},
    openapi,
    page::ASSETS,
    probes, search, stats,
};

/// The whole server, without a socket.
pub fn app(state: AppState) -> Router {
    let options = state.options();
    let (routes, api) = described();
    let mut routes = routes.merge(docs::routes(api)).route("/v1/images/{*item}", get(images::image));
    for asset in ASSETS {
        routes = routes.route(asset.route, get(move |request: Request| asset.serve(request)));
    }
    let routes = routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(options.body_bytes_max))
        .layer(from_fn_with_state(state.clone(), guard));
    let routes = match cors(&options.cors_origins) {
        // Outside of the guard: a browser asks beforehand without the key.
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(from_fn_with_state(state.clone(), observe)).layer(from_fn(secure)).with_state(state)
}

/// The probes and metrics alone, for a port of their own.
pub fn metrics_app(state: AppState) -> Router {
    Router::new()
        .route("/metrics", get(probes::metrics))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .fallback(nothing_here)
        .layer(from_fn_with_state(state.clone(), observe))
        .layer(from_fn(secure))
        .with_state(state)
}

fn described() -> (Router<AppState>, OpenApi) {
    let (routes, mut api) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(search::search))
        .routes(routes!(search::search_batch))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(
            catalogue::list_items,
            catalogue::put_items,
            catalogue::patch_items,
            catalogue::delete_items
        ))
        .routes(routes!(catalogue::get_item))
        .routes(routes!(
            catalogue::list_products,
            catalogue::put_products,
            catalogue::patch_products,
            catalogue::delete_products
        ))
        .routes(routes!(catalogue::get_product))
        .routes(routes!(categories::categories))
        .routes(routes!(jobs::import))
        .routes(routes!(duplicates::find_duplicates))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job, jobs::cancel_job))
        .routes(routes!(jobs::resume_job))
        .routes(routes!(models::list_models, models::load_model))
        .routes(routes!(models::roll_back))
        .routes(routes!(probes::info))
        .routes(routes!(stats::stats))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .split_for_parts();
    // Its route takes slashes as they are, which the description has no way to say.
    api.merge(<images::ImagesDescription as utoipa::OpenApi>::openapi());
    (routes, openapi::complete(api))
}

/// Lets scripts of these origins use the API; `None` if there are none, and browsers keep all of them out.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let listed: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(listed)
    };
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                HeaderName::from_static("x-api-key"),
                REQUEST_ID,
            ])
            .expose_headers([REQUEST_ID, header::RETRY_AFTER, header::LOCATION])
    })
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
