//! The table of routes: which handler answers which method of which path, and under which name it
//! is counted.

use std::sync::Arc;

use actix_web::{
    Route,
    guard::{self, Guard},
    http::Method,
    web::{self, ServiceConfig},
};
use pubg1_metrics::Api;

use crate::{
    admin, batches, cluster, edge, error::ApiError, health, openapi, produce, producers, records, simple,
    state::AppState, topics,
};

macro_rules! routes {
    ($( $path:literal => { $( $method:ident $($name:ident)::+ as $api:ident; )+ } )+) => {
        /// Each path with its methods. `GET` routes also answer `HEAD`.
        #[cfg(test)]
        pub(crate) const ROUTES: &[(&str, &[&str])] = &[ $( ($path, &[$( stringify!($method) ),+]) ),+ ];

        fn register(state: &Arc<AppState>, config: &mut ServiceConfig) {
            $({
                let mut resource = web::resource(patterns($path));
                $(
                    let shared = Arc::clone(state);
                    resource = resource.route(route(&Method::$method).to(move |req, payload| {
                        edge::serve(Arc::clone(&shared), Api::$api, req, payload, $($name)::+)
                    }));
                )+
                const ALLOW: &str = concat!($( stringify!($method), ", " ),+);
                let shared = Arc::clone(state);
                resource = resource.default_service(web::to(move |req, payload| {
                    edge::serve(Arc::clone(&shared), Api::Other, req, payload, |call| async move {
                        Err(ApiError::method_not_allowed(call.req.method().as_str(), ALLOW.trim_end_matches(", ")))
                    })
                }));
                config.service(resource);
            })+
        }
    };
}

routes! {
    "/publish" => { POST simple::publish as Publish; }
    "/consume" => { GET simple::consume as Consume; }
    "/metadata" => { GET simple::metadata as SimpleMetadata; }
    "/offset" => { GET simple::offset as Offset; }
    "/commit_offset" => { POST simple::commit_offset as CommitOffset; }
    "/loglen" => { GET simple::log_length as LogLength; }

    "/topics/{topic}/partitions/{partition}/batches" => {
        POST batches::produce as ProduceBatches;
        GET batches::read as FetchBatches;
    }
    "/topics/{topic}/partitions/{partition}/records" => {
        GET records::read as Fetch;
        DELETE records::delete as Admin;
    }
    "/topics/{topic}/partitions/{partition}/offsets" => { GET topics::offsets as Topics; }
    "/topics/{topic}/partitions/{partition}" => {
        GET topics::partition as Topics;
        POST produce::to_partition as Produce;
    }
    "/topics/{topic}/partitions" => { GET topics::partitions as Topics; }
    "/topics" => { GET topics::list as Topics; }
    "/topics/{topic}" => {
        GET topics::describe as Topics;
        POST produce::to_topic as Produce;
    }
    "/producers" => { POST producers::create as Producers; }

    "/admin/topics" => { POST admin::create as Admin; }
    "/admin/topics/{topic}" => { DELETE admin::delete as Admin; }
    "/admin/topics/{topic}/configs" => { PUT admin::alter as Admin; }

    "/" => { GET cluster::root as Cluster; }
    "/brokers" => { GET cluster::brokers as Cluster; }
    "/cluster" => { GET cluster::describe as Cluster; }

    "/health" => { GET health::health_simple as Health; }
    "/healthy" => { GET health::health_strimzi as Health; }
    "/_health" => { GET health::health_karapace as Health; }
    "/livez" => { GET health::live as Health; }
    "/readyz" => { GET health::ready_z as Health; }
    "/ready" => { GET health::ready_strimzi as Health; }
    "/status/ready" => { GET health::ready_redpanda as Health; }
    "/metrics" => { GET health::metrics as Metrics; }
    "/openapi.json" => { GET openapi::document as Docs; }
    "/docs" => { GET openapi::docs as Docs; }
    "/docs/{file}" => { GET openapi::docs_file as Docs; }
}

/// The router's patterns for a path: with and without a slash at the end. A segment may be empty,
/// so that an empty name is refused as a name and not as a route.
fn patterns(path: &str) -> Vec<String> {
    let pattern = path
        .replace("{topic}", "{topic:[^/]*}")
        .replace("{partition}", "{partition:[^/]*}")
        .replace("{file}", "{file:.*}");
    match path {
        "/" | "/docs" | "/docs/{file}" => vec![pattern],
        _ => vec![format!("{pattern}/"), pattern],
    }
}

fn route(method: &Method) -> Route {
    if *method == Method::GET {
        // A HEAD is a GET whose body is not sent.
        return web::route()
            .guard(guard::fn_guard(|context| guard::Get().check(context) || guard::Head().check(context)));
    }
    web::method(method.clone())
}

/// Registers every route, and what answers where there is none.
pub(crate) fn configure(state: &Arc<AppState>, config: &mut ServiceConfig) {
    register(state, config);
    let shared = Arc::clone(state);
    config.default_service(web::to(move |req, payload| {
        edge::serve(Arc::clone(&shared), Api::Other, req, payload, edge::no_route)
    }));
}
