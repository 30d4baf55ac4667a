//! `pubg1 cluster info`.

use serde_json::{Value, json};

use crate::{client::Client, error::CommandError, terminal::Terminal};

/// Prints the cluster and whether the broker is ready.
///
/// # Errors
/// [`CommandError::Unhealthy`] when it is not ready, after printing.
pub async fn info(client: &Client, terminal: Terminal) -> Result<(), CommandError> {
    let ready = client.ready().await?;
    // A broker that still recovers may not know its cluster yet; that it recovers is the answer then.
    let cluster = match client.cluster().await {
        Ok(cluster) => Some(cluster),
        Err(error) if !ready.ready && error.is_retriable() => None,
        Err(error) => return Err(error.into()),
    };
    let document = json!({ "ready": ready.ready, "readiness": ready.body, "cluster": cluster });
    terminal.print(&document, |document| {
        let mut rows = vec![vec!["broker".to_owned(), client.base().to_owned()]];
        rows.push(vec!["ready".to_owned(), if ready.ready { "yes".to_owned() } else { "no".to_owned() }]);
        rows.extend(fields(&document["cluster"]));
        rows.extend(failed_checks(&ready.body).map(|(name, reason)| vec![format!("not ok: {name}"), reason]));
        terminal.table(&["", ""], rows, &[])
    })?;
    if ready.ready {
        return Ok(());
    }
    let reasons: Vec<String> = failed_checks(&ready.body).map(|(name, reason)| format!("{name}: {reason}")).collect();
    Err(CommandError::Unhealthy(format!("the broker is not ready: {}", reasons.join("; "))))
}

fn fields(cluster: &Value) -> Vec<Vec<String>> {
    let members = cluster.as_object().into_iter().flatten();
    members
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(brokers) => brokers.iter().map(broker).collect::<Vec<_>>().join(", "),
                other => other.to_string(),
            };
            vec![name.replace('_', " "), text]
        })
        .collect()
}

fn broker(value: &Value) -> String {
    match (value.get("broker_id"), value.get("http_url").and_then(Value::as_str)) {
        (Some(id), Some(url)) => format!("{id} at {url}"),
        _ => value.to_string(),
    }
}

fn failed_checks(readiness: &Value) -> impl Iterator<Item = (String, String)> {
    let checks = readiness.get("checks").and_then(Value::as_array).into_iter().flatten();
    let text = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    checks
        .filter(|check| check.get("ok") != Some(&Value::Bool(true)))
        .map(move |check| (text(check, "name"), text(check, "reason")))
}
