//! The API's description (OpenAPI 3.1), generated from the handlers, and its viewer. Both work
//! without a network: the viewer's files are in the binary.

mod bounds;

use std::sync::Arc;

use actix_web::{HttpResponse, http::header};
use utoipa::OpenApi;
use utoipa_swagger_ui::Config;

use crate::{
    admin, batches,
    call::Call,
    cluster, consumers, dto,
    edge::ApiResult,
    error::{ApiError, Cause},
    groups, health, kafka_metrics,
    media_type::JSON,
    produce, producers, records, replicas, simple, streams, topics,
};

/// Every route of the API. A test holds it against the table of routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "PubG1",
        description = "A partitioned log over HTTP. Every error is `{\"error_code\", \"message\"}`; the first three digits of the code are the HTTP status. 429 and 503 carry `Retry-After`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "simple", description = "Publish and consume JSON without ceremony"),
        (name = "topics", description = "Topics and partitions (REST Proxy v2)"),
        (name = "records", description = "Produce and read"),
        (name = "consumers", description = "Consumer instances (REST Proxy v2); any broker serves any instance"),
        (name = "groups", description = "Consume with one call; consumer groups and their lag"),
        (name = "streams", description = "Window queries over the records of a topic"),
        (name = "admin", description = "Create, change and delete topics; move partitions, take brokers out of service"),
        (name = "cluster", description = "Brokers and the cluster"),
        (name = "operations", description = "Probes, metrics, this document"),
    ),
    components(schemas(dto::NewRecordEntry, dto::TopicConfigBody)),
    paths(
        simple::publish, simple::consume, simple::offset, simple::commit_offset, simple::log_length, simple::metadata,
        topics::list, topics::describe, topics::partitions, topics::partition, topics::offsets, replicas::describe,
        produce::to_topic, produce::to_partition, batches::produce, batches::read, records::read, records::delete,
        consumers::create, consumers::delete, consumers::heartbeat, consumers::records::read,
        consumers::subscription::read, consumers::subscription::subscribe, consumers::subscription::unsubscribe,
        consumers::subscription::assignments, consumers::subscription::assign,
        consumers::offsets::committed, consumers::offsets::commit,
        consumers::positions::read, consumers::positions::seek,
        consumers::positions::beginning, consumers::positions::end,
        groups::list, groups::describe::describe, groups::delete, groups::offsets::read, groups::offsets::delete,
        groups::seek::seek, groups::commits::commit, groups::remove_member, groups::records::read,
        streams::create, streams::explain, streams::list, streams::describe, streams::replace, streams::pause,
        streams::resume, streams::delete, streams::windows::read, streams::events::read,
        producers::create, admin::create, admin::delete, admin::alter,
        admin::partitions::move_leader, admin::partitions::move_replicas, admin::partitions::cancel_move,
        admin::brokers::drain, admin::brokers::remove, admin::brokers::rebalance,
        cluster::root, cluster::brokers, cluster::describe, cluster::health,
        health::health_simple, health::health_strimzi, health::health_karapace, health::live,
        health::ready_z, health::ready_strimzi, health::ready_redpanda, health::metrics, kafka_metrics::metrics,
        document, docs, docs_file,
    )
)]
struct Api;

/// The document as JSON.
#[must_use]
pub fn openapi_json() -> String {
    // The document holds nothing that JSON cannot express.
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    bounds::complete(&mut document);
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json")))]
pub(crate) async fn document(call: Call) -> ApiResult {
    let document = call.state.openapi.get_or_init(|| openapi_json().into());
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).body(document.clone()))
}

/// Leads to the viewer.
#[utoipa::path(get, path = "/docs", tag = "operations",
    responses((status = 308, description = "The viewer is at /docs/")))]
pub(crate) async fn docs(_call: Call) -> ApiResult {
    // Relative, so that it holds behind a path prefix, too.
    Ok(HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish())
}

/// A file of the viewer.
#[utoipa::path(get, path = "/docs/{file}", tag = "operations",
    params(("file" = String, Path, description = "The file's name")),
    responses(
        (status = 200, description = "The file", content((String = "text/html"), (String = "text/css"), (String = "text/javascript"), (String = "image/png"))),
        (status = "4XX", description = "Refused", body = dto::ErrorBody),
    ))]
pub(crate) async fn docs_file(call: Call) -> ApiResult {
    let config = Config::new(["../openapi.json"]).validator_url("none");
    let no_file = || ApiError::new(Cause::NoRoute, format!("the viewer has no file {:?}", call.tail()));
    match utoipa_swagger_ui::serve(call.tail(), Arc::new(config)) {
        Ok(Some(file)) => {
            let mut reply = HttpResponse::Ok();
            if file.gzpipped {
                reply.insert_header((header::CONTENT_ENCODING, "gzip"));
            }
            Ok(reply.insert_header((header::CONTENT_TYPE, file.content_type)).body(file.bytes.into_owned()))
        }
        Ok(None) => Err(no_file()),
        Err(error) => Err(ApiError::new(Cause::Internal, format!("the viewer cannot be shown: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document: Value = serde_json::from_str(&openapi_json()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.to_uppercase()))
                    .collect::<Vec<_>>()
            })
            .collect();
        let registered: BTreeSet<_> = crate::routes::operations().collect();
        assert_eq!(documented, registered);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&openapi_json()).unwrap();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
}
