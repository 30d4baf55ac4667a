//! The table of routes: which handler answers which method of which path, and under which name it
//! is counted.
//!
//! The table is matched here and not by actix-web, whose router tries one regular expression after
//! the other: that took a tenth of the time of a small produce request.

use std::{pin::Pin, sync::Arc};

use actix_web::{
    HttpRequest,
    http::Method,
    web::{self, ServiceConfig},
};
use pubg1_metrics::Api;

use crate::{
    admin, batches,
    call::Call,
    cluster, consumers,
    edge::{self, ApiResult},
    error::{ApiError, Cause},
    groups, health, kafka_metrics, openapi, produce, producers, records, replicas, simple,
    state::AppState,
    streams, topics,
};

/// A handler's answer on its way.
type Answer = Pin<Box<dyn Future<Output = ApiResult>>>;

/// A path and what can be done with it.
pub(crate) struct Route {
    /// Segments in braces take any text, `{file}` takes the rest of the path.
    pub(crate) path: &'static str,
    methods: &'static [Operation],
    /// The methods as the header `Allow` names them.
    allow: &'static str,
}

/// One method of a route.
struct Operation {
    method: Method,
    api: Api,
    handler: fn(Call) -> Answer,
}

macro_rules! routes {
    ($( $path:literal => { $( $method:ident $($name:ident)::+ as $api:ident; )+ } )+) => {
        static ROUTES: &[Route] = &[ $( Route {
            path: $path,
            methods: &[ $( Operation {
                method: Method::$method,
                api: Api::$api,
                handler: |call| Box::pin($($name)::+(call)),
            } ),+ ],
            allow: concat!($( stringify!($method), ", " ),+),
        } ),+ ];
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
    "/topics/{topic}/partitions/{partition}/replicas" => { GET replicas::describe as Topics; }
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
    "/consumers/{group}" => { POST consumers::create as Consumers; }
    "/consumers/{group}/instances/{instance}" => { DELETE consumers::delete as Consumers; }
    "/consumers/{group}/instances/{instance}/heartbeat" => { POST consumers::heartbeat as Consumers; }
    "/consumers/{group}/instances/{instance}/subscription" => {
        GET consumers::subscription::read as Consumers;
        POST consumers::subscription::subscribe as Consumers;
        DELETE consumers::subscription::unsubscribe as Consumers;
    }
    "/consumers/{group}/instances/{instance}/assignments" => {
        GET consumers::subscription::assignments as Consumers;
        POST consumers::subscription::assign as Consumers;
    }
    "/consumers/{group}/instances/{instance}/records" => { GET consumers::records::read as Poll; }
    "/consumers/{group}/instances/{instance}/offsets" => {
        GET consumers::offsets::committed as Consumers;
        POST consumers::offsets::commit as Consumers;
    }
    "/consumers/{group}/instances/{instance}/positions" => {
        GET consumers::positions::read as Consumers;
        POST consumers::positions::seek as Consumers;
    }
    "/consumers/{group}/instances/{instance}/positions/beginning" => {
        POST consumers::positions::beginning as Consumers;
    }
    "/consumers/{group}/instances/{instance}/positions/end" => { POST consumers::positions::end as Consumers; }

    "/groups" => { GET groups::list as Groups; }
    "/groups/{group}" => {
        GET groups::describe::describe as Groups;
        DELETE groups::delete as Groups;
    }
    "/groups/{group}/offsets" => {
        GET groups::offsets::read as Groups;
        DELETE groups::offsets::delete as Groups;
    }
    "/groups/{group}/seek" => { POST groups::seek::seek as Groups; }
    "/groups/{group}/commits" => { POST groups::commits::commit as Consumers; }
    "/groups/{group}/members/{member}" => { DELETE groups::remove_member as Groups; }
    "/groups/{group}/topics/{topic}/records" => { GET groups::records::read as Poll; }

    "/streams" => {
        GET streams::list as Streams;
        POST streams::create as Streams;
    }
    "/streams/explain" => { POST streams::explain as Streams; }
    "/streams/{stream}" => {
        GET streams::describe as Streams;
        PUT streams::replace as Streams;
        DELETE streams::delete as Streams;
    }
    "/streams/{stream}/pause" => { POST streams::pause as Streams; }
    "/streams/{stream}/resume" => { POST streams::resume as Streams; }
    "/streams/{stream}/windows" => { GET streams::windows::read as Streams; }
    "/streams/{stream}/events" => { GET streams::events::read as Streams; }

    "/producers" => { POST producers::create as Producers; }

    "/admin/topics" => { POST admin::create as Admin; }
    "/admin/topics/{topic}" => { DELETE admin::delete as Admin; }
    "/admin/topics/{topic}/configs" => { PUT admin::alter as Admin; }
    "/admin/topics/{topic}/partitions/{partition}/leader" => { POST admin::partitions::move_leader as Admin; }
    "/admin/topics/{topic}/partitions/{partition}/replicas" => {
        POST admin::partitions::move_replicas as Admin;
        DELETE admin::partitions::cancel_move as Admin;
    }
    "/admin/brokers/{broker}/drain" => { POST admin::brokers::drain as Admin; }
    "/admin/brokers/{broker}" => { DELETE admin::brokers::remove as Admin; }
    "/admin/rebalance" => { POST admin::brokers::rebalance as Admin; }

    "/" => { GET cluster::root as Cluster; }
    "/brokers" => { GET cluster::brokers as Cluster; }
    "/cluster" => { GET cluster::describe as Cluster; }
    "/cluster/health" => { GET cluster::health as Cluster; }

    "/health" => { GET health::health_simple as Health; }
    "/healthy" => { GET health::health_strimzi as Health; }
    "/_health" => { GET health::health_karapace as Health; }
    "/livez" => { GET health::live as Health; }
    "/readyz" => { GET health::ready_z as Health; }
    "/ready" => { GET health::ready_strimzi as Health; }
    "/status/ready" => { GET health::ready_redpanda as Health; }
    "/metrics" => { GET health::metrics as Metrics; }
    "/metrics/kafka" => { GET kafka_metrics::metrics as Metrics; }
    "/openapi.json" => { GET openapi::document as Docs; }
    "/docs/{file}" => { GET openapi::docs_file as Docs; }
    "/docs" => { GET openapi::docs as Docs; }
}

impl Route {
    /// The methods as the header `Allow` names them.
    fn allow(&self) -> &'static str {
        self.allow.trim_end_matches(", ")
    }

    /// Whether the route takes this path. A slash at the end is tolerated. A segment may be empty,
    /// so that an empty name is refused as a name and not as a route.
    fn takes(&self, path: &str) -> bool {
        let mut segments = path.split('/').skip(1);
        for pattern in self.path.split('/').skip(1) {
            match segments.next() {
                Some(_) if pattern == "{file}" => return true,
                Some(segment) if pattern == segment || pattern.starts_with('{') => {}
                _ => return false,
            }
        }
        match segments.next() {
            None => true,
            Some(rest) => rest.is_empty() && self.path != "/" && segments.next().is_none(),
        }
    }

    /// The part of `path` that stands where the route has `{name}`.
    pub(crate) fn segment<'p>(&self, path: &'p str, name: &str) -> &'p str {
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        for pattern in self.path.split('/').skip(1) {
            let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
            match pattern.strip_prefix('{').and_then(|pattern| pattern.strip_suffix('}')) {
                Some("file") if name == "file" => return rest,
                Some(pattern) if pattern == name => return segment,
                _ => rest = after,
            }
        }
        ""
    }
}

/// The path with its percent-encoding undone, except for `%2F`, which never separates segments.
pub(crate) fn path_of(req: &HttpRequest) -> &str {
    req.match_info().as_str()
}

/// The route that takes a path.
fn find(path: &str) -> Option<&'static Route> {
    let found = ROUTES.iter().find(|route| route.takes(path));
    // Clients that put a slash at the end of what they add to `positions/` double it.
    found.or_else(|| path.contains("/positions//").then(|| find(&path.replacen("/positions//", "/positions/", 1)))?)
}

/// Answers every request.
async fn answer(state: Arc<AppState>, req: HttpRequest, payload: web::Payload) -> actix_web::HttpResponse {
    let Some(route) = find(path_of(&req)) else {
        return edge::serve(state, Api::Other, None, req, payload, no_route).await;
    };
    // A HEAD is a GET whose body is not sent.
    let method = if req.method() == Method::HEAD { &Method::GET } else { req.method() };
    match route.methods.iter().find(|operation| operation.method == *method) {
        Some(operation) => edge::serve(state, operation.api, Some(route), req, payload, operation.handler).await,
        None => edge::serve(state, Api::Other, Some(route), req, payload, no_method).await,
    }
}

async fn no_route(call: Call) -> ApiResult {
    let message = format!("there is no route {} {}; see /openapi.json", call.req.method(), call.req.path());
    Err(ApiError::new(Cause::NoRoute, message))
}

async fn no_method(call: Call) -> ApiResult {
    let allow = call.route.map_or("", Route::allow);
    Err(ApiError::method_not_allowed(call.req.method().as_str(), allow))
}

/// Hands every request to the table.
pub(crate) fn configure(state: &Arc<AppState>, config: &mut ServiceConfig) {
    let state = Arc::clone(state);
    config.default_service(web::to(move |req, payload| answer(Arc::clone(&state), req, payload)));
}

#[cfg(test)]
pub(crate) fn operations() -> impl Iterator<Item = (String, String)> {
    ROUTES
        .iter()
        .flat_map(|route| route.methods.iter().map(|operation| (route.path.to_owned(), operation.method.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_routes_and_their_segments() {
        for (path, route, topic, partition) in [
            ("/", "/", "", ""),
            ("/publish", "/publish", "", ""),
            ("/publish/", "/publish", "", ""),
            ("/topics", "/topics", "", ""),
            ("/topics/", "/topics", "", ""),
            ("/topics/a", "/topics/{topic}", "a", ""),
            ("/topics/a/", "/topics/{topic}", "a", ""),
            ("/topics//partitions/0/records", "/topics/{topic}/partitions/{partition}/records", "", "0"),
            ("/topics/a/partitions/7", "/topics/{topic}/partitions/{partition}", "a", "7"),
            ("/topics/a/partitions/7/batches/", "/topics/{topic}/partitions/{partition}/batches", "a", "7"),
            ("/docs", "/docs", "", ""),
            ("/docs/", "/docs/{file}", "", ""),
        ] {
            let found = find(path).unwrap_or_else(|| panic!("{path} has no route"));
            assert_eq!(
                (found.path, found.segment(path, "topic"), found.segment(path, "partition")),
                (route, topic, partition)
            );
        }
        let doubled = "/consumers/g/instances/i/positions//end/";
        let end = find(doubled).unwrap();
        assert!(end.path.ends_with("/positions/end"), "{}", end.path);
        assert_eq!((end.segment(doubled, "group"), end.segment(doubled, "instance")), ("g", "i"));
        let file = "/docs/a/b.js";
        assert_eq!(find(file).map(|route| route.segment(file, "file")), Some("a/b.js"));
        for path in
            ["", "//", "/nothing", "/topics/a/b", "/topics/a//", "/publish//", "/topics/a/partitions/0/records/x"]
        {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn no_route_hides_another() {
        for (index, route) in ROUTES.iter().enumerate() {
            let path = route.path.replace("{topic}", "t").replace("{partition}", "0").replace("{file}", "f");
            let path = path.replace("{broker}", "0").replace("{group}", "g").replace("{instance}", "i");
            let path = path.replace("{member}", "m").replace("{stream}", "s");
            assert!(ROUTES.iter().position(|other| other.takes(&path)) == Some(index), "{path}");
        }
    }
}
