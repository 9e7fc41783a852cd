//! The OpenAPI 3.1 document: what the handlers say of themselves, and by rule what every operation of a kind can answer, so
//! that no handler has to repeat it.

use super::access::{self, Need};
use super::{caller, idempotency};
use lucarne_control::api::Problem;
use std::collections::BTreeMap;
use utoipa::PartialSchema;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, HttpMethod, OpenApi, PathItem, Ref, RefOr, Response};

/// The media type of errors (RFC 9457, section 3).
const PROBLEM: &str = "application/problem+json";

/// The document that is served and committed, of what the routes say.
pub fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            // Handlers are called alike in each file; the tag makes their names unique, such as `pools_list`.
            let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
            failures(&method, path, operation);
            if method == HttpMethod::Post {
                key(operation);
            }
        }
    }
    let components = document.components.get_or_insert_default();
    close("ApplyPools", &mut components.schemas);
    components.schemas.entry("Problem".to_owned()).or_insert_with(Problem::schema);
    let cookie = ApiKey::Cookie(ApiKeyValue::new(caller::COOKIE));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}

/// Says of a schema and of all within it that there is nothing in it but what it names: pools are read so (`pools::read`).
fn close(name: &str, schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(name) else { return };
    if object.properties.is_empty() {
        return;
    }
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    let within: Vec<String> = object.properties.values().flat_map(references).collect();
    for name in within {
        close(&name, schemas);
    }
}

/// The names of the schemas that a field's refers to.
fn references(field: &RefOr<Schema>) -> Vec<String> {
    match field {
        RefOr::Ref(to) => to.ref_location.rsplit('/').next().map(str::to_owned).into_iter().collect(),
        RefOr::T(Schema::OneOf(one)) => one.items.iter().flat_map(references).collect(),
        RefOr::T(Schema::AllOf(all)) => all.items.iter().flat_map(references).collect(),
        RefOr::T(Schema::Array(array)) => match &array.items {
            ArrayItems::RefOrSchema(item) => references(item),
            ArrayItems::False => Vec::new(),
        },
        RefOr::T(_) => Vec::new(),
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let get = item.get.as_mut().map(|o| (HttpMethod::Get, o));
    let put = item.put.as_mut().map(|o| (HttpMethod::Put, o));
    let post = item.post.as_mut().map(|o| (HttpMethod::Post, o));
    let delete = item.delete.as_mut().map(|o| (HttpMethod::Delete, o));
    [get, put, post, delete].into_iter().flatten()
}

/// Adds the failures that come from extractors, from the middleware and from the database, not from what a handler does.
fn failures(method: &HttpMethod, path: &str, operation: &mut Operation) {
    let has_body = operation.request_body.is_some();
    // Even a parameter that is any text can be bad: a percent-encoding that is no UTF-8.
    let has_parameters = operation.parameters.as_ref().is_some_and(|p| !p.is_empty());
    let signed_in = operation.security.as_ref().is_some_and(|s| !s.is_empty());
    let word = match method {
        HttpMethod::Get => "GET",
        HttpMethod::Put => "PUT",
        HttpMethod::Post => "POST",
        _ => "DELETE",
    };
    let permission = matches!(access::need(word, path), Some(Need::OneOf(_) | Need::Within(_)));
    let rules = [
        (400, "invalid_request", has_body || has_parameters),
        (401, "not_signed_in", signed_in),
        (403, "not_permitted", permission),
        (403, "foreign_origin", *method != HttpMethod::Get),
        (408, "body_too_slow", true),
        (413, "body_too_large", true),
        (415, "not_json", has_body),
        (500, "internal_error", true),
        (503, "database_unavailable", true),
    ];
    for (status, code, _) in rules.into_iter().filter(|(_, _, holds)| *holds) {
        add(&mut operation.responses.responses, status, code);
    }
}

/// Tells of the key that a request may carry, where it may, and of what comes of it.
fn key(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    if operation.tags.iter().flatten().any(|tag| tag == idempotency::REFUSED) {
        return add(responses, 400, "idempotency_key_not_accepted");
    }
    for (status, code) in [
        (400, "invalid_request"),
        (409, "idempotency_outcome_unknown"),
        (409, "idempotency_key_in_use"),
        (422, "idempotency_key_reused"),
    ] {
        add(responses, status, code);
    }
    let answered = Schema::from(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"])));
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
        let mut replayed = Header::new(answered.clone());
        replayed.description =
            Some("The request was done before, and this is what was answered then".to_owned());
        if let RefOr::T(response) = response {
            response.headers.insert("Idempotency-Replayed".to_owned(), RefOr::T(replayed));
        }
    }
    let value = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,255}$"));
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(idempotency::DESCRIPTION))
        .schema(Some(value));
    operation.parameters.get_or_insert_default().push(parameter.build().into());
}

/// Puts a problem's code in front of the description of the status that it comes with.
fn add(responses: &mut BTreeMap<String, RefOr<Response>>, status: u16, code: &str) {
    let response = responses.entry(status.to_string()).or_insert_with(|| {
        let schema = Ref::from_schema_name("Problem");
        RefOr::T(Response::builder().content(PROBLEM, Content::new(Some(schema))).build())
    });
    let RefOr::T(response) = response else { return };
    let codes = response.description.split(':').next().unwrap_or_default();
    if !codes.split(", ").any(|known| known == code) {
        let rest = std::mem::take(&mut response.description);
        let comma = if rest.is_empty() { "" } else { ", " };
        response.description = format!("{code}{comma}{rest}");
    }
}
