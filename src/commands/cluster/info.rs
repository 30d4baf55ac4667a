//! `pubg1 cluster info` and `pubg1 cluster health`.

use serde_json::{Value, json};

use crate::{
    client::{
        Client,
        reply::{BrokerReply, ClusterReply, HealthReply},
    },
    error::CommandError,
    terminal::Terminal,
    view::{View, broker_list},
};

/// Prints the cluster and whether the broker is ready.
///
/// # Errors
/// [`CommandError::Unhealthy`] when it is not ready, after printing.
pub async fn info(client: &Client, terminal: Terminal) -> Result<(), CommandError> {
    let ready = client.ready().await?;
    // A broker that still recovers may not know its cluster yet; that it recovers is the answer then.
    let view = match View::look(client).await {
        Ok(view) => Some(view),
        Err(error) if !ready.ready && error.is_retriable() => None,
        Err(error) => return Err(error.into()),
    };
    let document = json!({
        "ready": ready.ready,
        "readiness": ready.body,
        "cluster": view.as_ref().map(|view| &view.cluster),
        "health": view.as_ref().and_then(|view| view.health.as_ref()),
    });
    terminal.print(&document, |_| {
        let mut rows = vec![vec!["broker".to_owned(), client.base().to_owned()]];
        rows.push(vec!["ready".to_owned(), if ready.ready { "yes".to_owned() } else { "no".to_owned() }]);
        rows.extend(failed_checks(&ready.body).map(|(name, reason)| vec![format!("not ok: {name}"), reason]));
        let Some(view) = &view else { return terminal.table(&["", ""], rows, &[]) };
        rows.extend(cluster_rows(&view.cluster));
        rows.extend(view.health.iter().flat_map(health_rows));
        format!("{}\n\n{}", terminal.table(&["", ""], rows, &[]), brokers_table(terminal, view))
    })?;
    if ready.ready {
        return Ok(());
    }
    let reasons: Vec<String> = failed_checks(&ready.body).map(|(name, reason)| format!("{name}: {reason}")).collect();
    Err(CommandError::Unhealthy(format!("the broker is not ready: {}", reasons.join("; "))))
}

/// Prints how the cluster is.
///
/// # Errors
/// [`CommandError::Unhealthy`] when something is wrong, after printing.
pub async fn health(client: &Client, terminal: Terminal) -> Result<(), CommandError> {
    let health = client.health().await?;
    terminal.print(&health, |health| terminal.table(&["", ""], health_rows(health), &[]))?;
    unless_ok(&health)
}

/// What a command ends with that has printed this.
///
/// # Errors
/// [`CommandError::Unhealthy`] when something is wrong.
pub fn unless_ok(health: &HealthReply) -> Result<(), CommandError> {
    if health.is_ok() {
        return Ok(());
    }
    Err(CommandError::Unhealthy(format!("the cluster is {}: {}", health.status, health.problems.join("; "))))
}

fn cluster_rows(cluster: &ClusterReply) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("cluster", cluster.cluster_id.clone()),
        row("controller", cluster.controller.map_or_else(|| "none".to_owned(), |controller| controller.to_string())),
    ];
    if let Some(metadata) = &cluster.metadata {
        let voters = broker_list(&metadata.voters);
        rows.push(row("metadata", format!("term {}, kept by {voters}", metadata.term)));
    }
    rows.extend(cluster.rest.iter().filter(|(_, value)| !value.is_object() && !value.is_array()).map(
        |(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![name.replace('_', " "), text]
        },
    ));
    rows
}

/// How a cluster is, as rows of a table with two columns.
#[must_use]
pub fn health_rows(health: &HealthReply) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("health", health.status.clone()),
        row("brokers", format!("{} of {} alive", health.brokers_alive, health.brokers)),
        row(
            "partitions",
            format!(
                "{}, {} offline, {} under-replicated",
                health.partitions, health.offline_partitions, health.under_replicated_partitions
            ),
        ),
    ];
    rows.extend(health.problems.iter().map(|problem| row("problem", problem.clone())));
    rows
}

/// One row for each broker.
#[must_use]
pub fn brokers_table(terminal: Terminal, view: &View) -> String {
    let loads = view.loads();
    let rows = view.cluster.brokers.iter().map(|broker| {
        let load = loads.get(&broker.broker_id).copied().unwrap_or_default();
        let role = if view.cluster.controller == Some(broker.broker_id) { ", controller" } else { "" };
        vec![
            broker.broker_id.to_string(),
            format!("{}{role}", state_of(broker)),
            broker.http_url.clone(),
            or_dash(&broker.rpc_address),
            or_dash(broker.rack.as_deref().unwrap_or_default()),
            load.leads.to_string(),
            load.follows.to_string(),
            load.lags.to_string(),
        ]
    });
    let columns = ["broker", "state", "http", "rpc", "rack", "leads", "follows", "lags"];
    terminal.table(&columns, rows, &["broker", "leads", "follows", "lags"])
}

fn state_of(broker: &BrokerReply) -> &'static str {
    match (broker.alive, broker.draining) {
        (Some(false), _) => "dead",
        (_, true) => "draining",
        (Some(true), false) => "alive",
        (None, false) => "unknown",
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn failed_checks(readiness: &Value) -> impl Iterator<Item = (String, String)> {
    let checks = readiness.get("checks").and_then(Value::as_array).into_iter().flatten();
    let text = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    checks
        .filter(|check| check.get("ok") != Some(&Value::Bool(true)))
        .map(move |check| (text(check, "name"), text(check, "reason")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{terminal::OutputFormat, view::tests::a_view};

    const PLAIN: Terminal = Terminal { format: OutputFormat::Table, color: false };

    #[test]
    fn a_cluster_is_shown_broker_by_broker() {
        let table = brokers_table(PLAIN, &a_view());
        let row = |broker: usize| {
            table.lines().nth(broker + 1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row(0), "0 alive http://127.0.0.1:8000 127.0.0.1:9000 - 1 0 0", "{table}");
        assert_eq!(row(1), "1 draining, controller http://127.0.0.1:8001 127.0.0.1:9001 - 0 1 0", "{table}");
        assert_eq!(row(2), "2 dead http://127.0.0.1:8002 127.0.0.1:9002 - 0 0 2", "{table}");
    }

    #[test]
    fn what_is_wrong_is_the_reason_of_the_exit_code() {
        let health = a_view().health.unwrap();
        let error = unless_ok(&health).unwrap_err();
        assert_eq!(error.exit_code(), 10);
        assert!(error.to_string().contains("unavailable") && error.to_string().contains("flights/1"), "{error}");
        let rows = health_rows(&health);
        assert!(rows.contains(&vec!["partitions".to_owned(), "2, 1 offline, 2 under-replicated".to_owned()]));
        let rows = cluster_rows(&a_view().cluster);
        assert!(rows.contains(&vec!["metadata".to_owned(), "term 4, kept by 0,1,2".to_owned()]), "{rows:?}");
        assert!(rows.contains(&vec!["version".to_owned(), "9".to_owned()]), "{rows:?}");
    }
}
