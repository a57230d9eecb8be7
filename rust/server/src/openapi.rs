//! What the OpenAPI document holds beside the routes: title, credentials, error replies.

use backend_protocol::problem;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

#[derive(OpenApi)]
#[openapi(
    info(title = "backend_client", description = "Backend for Godot dedicated servers and their clients."),
    modifiers(&Credentials)
)]
struct Api;

struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        for (name, format) in [("access_token", "JWT"), ("server_key", "gsk_…"), ("admin_key", "gak_…")] {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// The document without routes.
pub fn base() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The document with the error replies of every route, pretty-printed, ending in a newline.
pub fn to_json(mut api: utoipa::openapi::OpenApi) -> anyhow::Result<String> {
    add_error_replies(&mut api);
    Ok(format!("{}\n", api.to_pretty_json()?))
}

/// Adds the error replies that every route may send, and their media type.
fn add_error_replies(api: &mut utoipa::openapi::OpenApi) {
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            for (status, description) in [("4XX", "Rejected"), ("503", "Unavailable; try again")] {
                responses.entry(status.to_owned()).or_insert_with(|| error_reply(description));
            }
            for (status, response) in responses.iter_mut() {
                if let RefOr::T(response) = response
                    && status.starts_with(['4', '5'])
                    && let Some(content) = response.content.shift_remove("application/json")
                {
                    response.content.insert(problem::MEDIA_TYPE.to_owned(), content);
                }
            }
        }
    }
}

fn error_reply(description: &str) -> RefOr<Response> {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    RefOr::T(ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, content).build())
}
