//! `pubg1 stream create|list|pause|resume|delete`.

use std::io::{IsTerminal, Write};

use clap::Args;
use pubg1_model::StreamName;
use serde_json::json;

use super::QueryArgs;
use crate::{
    client::{
        Client, ClientError,
        stream_reply::{StreamLine, StreamReply},
    },
    error::CommandError,
    terminal::Terminal,
};

/// The error of a name that is taken.
const STREAM_EXISTS: i64 = 40912;

/// `pubg1 stream create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// What is computed.
    #[command(flatten)]
    pub query: QueryArgs,
    /// What the stream of a SELECT is called; a view and a document say it themselves
    #[arg(long, value_name = "NAME")]
    pub name: Option<StreamName>,
    /// No error when there is a stream of this name; it stays as it is
    #[arg(long)]
    pub if_not_exists: bool,
    /// Replace the stream of this name
    #[arg(long, conflicts_with_all = ["if_not_exists", "append"])]
    pub replace: bool,
    /// Write to the output and late topics although there are records in them
    #[arg(long)]
    pub append: bool,
}

pub(super) async fn create(client: &Client, terminal: Terminal, args: &CreateArgs) -> Result<(), CommandError> {
    let document = args.query.named_document(args.name.as_ref())?;
    if args.replace {
        let stream = client.replace_stream(&document).await?;
        return terminal.print(&stream, replaced);
    }
    let (stream, existed) = match client.create_stream(&document, args.append).await {
        Ok(stream) => (stream, false),
        Err(ClientError::Refused { error_code: STREAM_EXISTS, .. }) if args.if_not_exists => {
            (client.stream(&document.name).await?, true)
        }
        Err(error) => return Err(error.into()),
    };
    terminal.print(&stream, |stream| created(stream, existed))
}

fn created(stream: &StreamReply, existed: bool) -> String {
    let (name, topics) = (&stream.stream, &stream.topics);
    let what = if existed { "exists already" } else { "is created" };
    let (input, output, late) = (&topics.input, &topics.output, &topics.late);
    format!("stream {name} {what}: it reads {input}; rows go to {output}, what is in no window to {late}")
}

fn replaced(stream: &StreamReply) -> String {
    let name = &stream.stream;
    match &stream.next {
        Some(next) => format!(
            "generation {} of stream {name} is computed beside generation {}, and takes its place when it has caught up",
            next.generation, stream.generation
        ),
        None => format!("stream {name} is declared so already; nothing was changed"),
    }
}

pub(super) async fn list(client: &Client, terminal: Terminal) -> Result<(), CommandError> {
    let streams = client.streams().await?;
    terminal.print(&streams, |streams| table(terminal, streams))
}

fn table(terminal: Terminal, streams: &[StreamLine]) -> String {
    let rows = streams.iter().map(|stream| {
        let generation = match stream.next_generation {
            Some(next) => format!("{} ({next} on the way)", stream.generation),
            None => stream.generation.to_string(),
        };
        vec![
            stream.stream.clone(),
            stream.state.clone(),
            generation,
            stream.input.to_string(),
            stream.output.to_string(),
            stream.reason.clone().unwrap_or_default(),
        ]
    });
    terminal.table(&["stream", "state", "generation", "reads", "writes", "reason"], rows, &[])
}

pub(super) async fn pause(client: &Client, terminal: Terminal, name: &StreamName) -> Result<(), CommandError> {
    let stream = client.pause_stream(name).await?;
    terminal.print(&stream, |stream| format!("stream {} is {}", stream.stream, stream.state))
}

pub(super) async fn resume(client: &Client, terminal: Terminal, name: &StreamName) -> Result<(), CommandError> {
    let stream = client.resume_stream(name).await?;
    terminal.print(&stream, |stream| format!("stream {} is {}", stream.stream, stream.state))
}

pub(super) async fn delete(
    client: &Client,
    terminal: Terminal,
    name: &StreamName,
    yes: bool,
) -> Result<(), CommandError> {
    if !yes && std::io::stdin().is_terminal() && !confirmed(name)? {
        return Err(CommandError::Failed("nothing is deleted".to_owned()));
    }
    client.delete_stream(name).await?;
    terminal.print(&json!({ "deleted": name }), |_| format!("stream {name} is deleted; its rows stay in their topic"))
}

fn confirmed(name: &StreamName) -> Result<bool, CommandError> {
    let failed = |error: std::io::Error| CommandError::Failed(format!("cannot ask: {error}"));
    write!(std::io::stderr(), "Delete stream {name} and all that it knows? Type its name: ").map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim() == name.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::terminal::OutputFormat;

    fn stream(more: &Value) -> StreamReply {
        let mut body = json!({ "stream": "busy", "generation": 1, "state": "running", "document": {},
            "topics": { "input": "clicks", "output": "busy", "late": "busy.late" } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // As it comes: a raw value is read from text only.
        serde_json::from_str(&body.to_string()).unwrap()
    }

    #[test]
    fn what_was_done_is_told() {
        let text = created(&stream(&json!({})), false);
        assert_eq!(text, "stream busy is created: it reads clicks; rows go to busy, what is in no window to busy.late");
        assert!(created(&stream(&json!({})), true).contains("exists already"));
        assert!(replaced(&stream(&json!({}))).contains("nothing was changed"));
        let next = json!({ "stream": "busy", "generation": 2, "state": "running", "document": {},
            "topics": { "input": "clicks", "output": "busy.2", "late": "busy.late" } });
        let text = replaced(&stream(&json!({ "next": next })));
        assert!(text.starts_with("generation 2 of stream busy is computed beside generation 1"), "{text}");
    }

    #[test]
    fn a_list_says_why_a_stream_is_paused() {
        let line: StreamLine = serde_json::from_value(json!({ "stream": "busy", "generation": 1, "state": "paused",
            "reason": "asked for", "input": "clicks", "output": "rows", "next_generation": 2 }))
        .unwrap();
        let table = table(Terminal { format: OutputFormat::Table, color: false }, &[line]);
        let row = table.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row, "busy paused 1 (2 on the way) clicks rows asked for");
    }
}
