//! PubG1's client API over HTTP, on actix-web.
//!
//! Three surfaces over the same handles: the [simple one](simple), the REST Proxy v2 one with
//! stateless reads ([`topics`], [`produce`], [`records`]) and [`consumers`], and the fast path
//! ([`batches`], [`ndjson`]); beside them consumer [`groups`], [`streams`], [`admin`], [`cluster`] and [`health`]. Every request
//! enters and leaves through [`edge`], the routes are one table in [`routes`], and everything that can go wrong is
//! one table in [`error`].
//!
//! A handler parses, calls a handle, and maps the result. No handler holds state; what is shared is
//! in [`AppState`], built once.

mod admin;
mod batches;
mod body;
mod call;
mod cluster;
mod consumers;
mod dto;
mod edge;
mod encoding;
mod error;
mod farewell;
mod groups;
mod health;
mod json_text;
mod kafka_metrics;
mod limits;
mod line_splitter;
mod media_type;
mod ndjson;
mod openapi;
mod produce;
mod producers;
mod records;
mod replicas;
mod reply;
mod routes;
mod simple;
mod state;
mod streams;
mod time_text;
mod topics;

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{App, HttpServer, dev::Server};

pub use error::{ApiError, Cause, Row};
pub use farewell::turn_away;
pub use limits::Limits;
pub use openapi::openapi_json;
pub use state::AppState;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Serves the client API on `listeners` until the server is stopped. The server handles no
/// signals; stop it through [`Server::handle`]. It must be awaited inside an actix system.
///
/// # Errors
/// When a listener cannot be used.
pub fn serve(listeners: Vec<TcpListener>, state: Arc<AppState>) -> io::Result<Server> {
    let limits = state.limits.clone();
    let factory = move || {
        let state = Arc::clone(&state);
        App::new().configure(move |config| routes::configure(&state, config))
    };
    let mut server = HttpServer::new(factory)
        .workers(limits.workers)
        .max_connections(limits.connections_per_worker_max)
        .backlog(BACKLOG)
        .client_request_timeout(limits.head_timeout)
        .keep_alive(limits.keep_alive)
        // Who closed the connection waits no more: a long poll ends with it.
        .h1_allow_half_closed(false)
        .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}
