//! The description of the API, made from the handlers themselves.

use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, PathItem},
        schema::{AdditionalProperties, Schema},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    Problem,
    guard::{Needs, needs},
};

/// What the description says beside the routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "dfml",
        description = "Visual product search: find products by pictures.\n\nErrors are problem documents (RFC 9457) with a stable \
                       `code`. Where the server has API keys, send one as `authorization: Bearer …` or `x-api-key: …`; each operation \
                       names the scope that it needs. A refused request (429) says in `retry-after` when to come back.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "search", description = "From pictures to products, and to embeddings."),
        (name = "catalogue", description = "Reading and changing what is found."),
        (name = "jobs", description = "Long work: importing, looking for duplicates."),
        (name = "models", description = "Exchanging the model while the server answers."),
        (name = "server", description = "What the server is and how it is doing."),
    ),
    components(schemas(Problem, dfml_index::Scalar)),
    modifiers(&Keys),
)]
pub(super) struct Description;

/// The two ways to send a key.
struct Keys;

const BEARER: &str = "bearer";
const HEADER: &str = "api_key";

impl Modify for Keys {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        let bearer =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::with_description("x-api-key", "An API key."));
        components.add_security_scheme(HEADER, SecurityScheme::ApiKey(header));
    }
}

/// The base of the description, to which the routes are added.
pub(super) fn base() -> OpenApi {
    Description::openapi()
}

/// Adds what is the same everywhere: problems, and the scope that each operation needs.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    let schemas = api.components.get_or_insert_default().schemas.get_mut("Filter");
    if let Some(filter) = schemas {
        close(filter);
    }
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            for range in ["4XX", "5XX"] {
                operation.responses.responses.entry(range.to_owned()).or_insert_with(|| RefOr::T(problem()));
            }
            let route = if path == "/v1/images/{item}" { "/v1/images/{*item}" } else { path.as_str() };
            if let Needs::Scope(scope) = needs(&method, route) {
                let known = operation.description.take().unwrap_or_default();
                let blank = if known.is_empty() { "" } else { "\n\n" };
                operation.description = Some(format!("{known}{blank}Needs the scope `{scope}`."));
                operation.security = Some(vec![
                    SecurityRequirement::new(BEARER, Vec::<String>::new()),
                    SecurityRequirement::new(HEADER, Vec::<String>::new()),
                    // Where the server has no keys.
                    SecurityRequirement::default(),
                ]);
            }
        }
    }
    api
}

/// Says of the variants of an enum, and of their fields, that they have no others: `deny_unknown_fields` does, and utoipa
/// passes it on for structs alone.
fn close(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::OneOf(variants)) => variants.items.iter_mut().for_each(close),
        RefOr::T(Schema::Object(object)) if !object.properties.is_empty() => {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            object.properties.values_mut().for_each(close);
        }
        _ => {}
    }
}

fn problem() -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new()
        .description("What went wrong.")
        .content("application/problem+json", content)
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (axum::http::Method, &mut Operation)> {
    use axum::http::Method;
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
