//! Consumer groups from the command line: members share a topic, go on where the group is, and take over from one that
//! dies; what a group has committed is shown, moved and deleted.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use crate::{
    harness::{DEADLINE, TestBroker, command, run, wait_until},
    lost_answer::Proxy,
};

async fn describe(broker: &TestBroker, group: &str) -> Value {
    let text = broker.pubg1_ok(&["group", "describe", group, "-o", "json"], b"").await;
    serde_json::from_str(&text).expect("JSON")
}

fn numbers(text: &str) -> BTreeSet<u32> {
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

#[tokio::test]
async fn a_group_goes_on_where_it_was() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "t", "--partitions", "1"], b"").await;
    broker.pubg1_ok(&["produce", "t"], b"a\nb\nc\nd\n").await;
    let consume = ["consume", "-g", "mail", "t"];
    assert_eq!(broker.pubg1_ok(&[&consume[..], &["-n", "3"]].concat(), b"").await, "a\nb\nc\n");
    assert_eq!(broker.pubg1_ok(&[&consume[..], &["-e"]].concat(), b"").await, "d\n");
    assert_eq!(broker.pubg1_ok(&[&consume[..], &["-e"]].concat(), b"").await, "");

    let described = describe(&broker, "mail").await;
    assert_eq!((&described["state"], &described["members"]), (&json!("Empty"), &json!([])), "{described}");
    let partition = &described["partitions"][0];
    assert_eq!((&partition["committed"], &partition["end"], &partition["lag"]), (&json!(4), &json!(4), &json!(0)));
    let list = broker.pubg1_ok(&["group", "list"], b"").await;
    assert!(list.lines().any(|line| line.split_whitespace().take(3).eq(["mail", "Empty", "0"])), "{list}");

    // A preview changes nothing.
    let seek = ["group", "seek", "mail", "--topic", "t", "--to", "1"];
    let preview = broker.pubg1_ok(&[&seek[..], &["--dry-run"]].concat(), b"").await;
    assert!(preview.contains("nothing was changed"), "{preview}");
    assert_eq!(describe(&broker, "mail").await["partitions"][0]["committed"], 4);
    broker.pubg1_ok(&seek, b"").await;
    assert_eq!(broker.pubg1_ok(&[&consume[..], &["-e"]].concat(), b"").await, "b\nc\nd\n");

    broker.pubg1_ok(&["group", "delete", "mail", "--yes"], b"").await;
    let gone = broker.pubg1(&["group", "describe", "mail"], b"").await;
    assert_eq!(gone.status.code(), Some(1), "{}", String::from_utf8_lossy(&gone.stderr));
    assert_eq!(broker.pubg1_ok(&[&consume[..], &["-e"]].concat(), b"").await, "a\nb\nc\nd\n");
}

/// The command knows the broker by two addresses, so that there is another one to be asked.
#[tokio::test]
async fn an_answer_that_was_lost_comes_again() {
    let broker = TestBroker::start(&[]).await;
    broker.pubg1_ok(&["topic", "create", "t", "--partitions", "1"], b"").await;
    broker.pubg1_ok(&["produce", "t"], b"a\nb\nc\n").await;
    let proxy = Proxy::start(broker.address()).await;
    let url = proxy.url.clone();
    let consume = move || run(&["consume", "-g", "mail", "-e", "t"], &[("PUBG1_BROKER", &url)], b"");
    let output = tokio::task::spawn_blocking(consume).await.expect("the command runs");
    assert!(output.status.success() && proxy.has_lost_one(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\nb\nc\n");
    assert_eq!(describe(&broker, "mail").await["partitions"][0]["committed"], 3);
}

/// A member that prints what it reads.
struct Reader {
    process: Child,
    lines: Receiver<String>,
}

impl Reader {
    fn start(broker: &TestBroker) -> Self {
        let arguments = ["consume", "--group", "shared", "--session-timeout", "1s", "a", "b"];
        let mut process = command(&arguments, &[("PUBG1_BROKER", broker.client.base())])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pubg1 starts");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn members_share_two_topics_and_one_takes_over_from_a_dead_one() {
    let broker = TestBroker::start(&[]).await;
    for topic in ["a", "b"] {
        broker.pubg1_ok(&["topic", "create", topic, "--partitions", "2"], b"").await;
    }
    let readers = [Reader::start(&broker), Reader::start(&broker)];
    let shares = || async {
        let text = broker.pubg1(&["group", "describe", "shared", "-o", "json"], b"").await.stdout;
        let described: Value = serde_json::from_slice(&text).ok()?;
        let members = described["members"].as_array()?;
        let shares: Vec<usize> =
            members.iter().map(|member| member["assignment"].as_array().map_or(0, Vec::len)).collect();
        (described["state"] == "Stable" && !shares.is_empty()).then_some(shares)
    };
    wait_until("both have half of the partitions", || async {
        shares().await.filter(|shares| shares.iter().eq(&[2, 2]))
    })
    .await;
    let text: String = (0..40).map(|number| format!("{number}\n")).collect();
    for topic in ["a", "b"] {
        broker.pubg1_ok(&["produce", topic], text.as_bytes()).await;
    }
    let mut read = String::new();
    for reader in &readers {
        let own: Vec<String> = (0..40).map(|_| reader.lines.recv_timeout(DEADLINE).expect("a line")).collect();
        read.push_str(&own.join("\n"));
        read.push('\n');
    }
    assert_eq!((numbers(&read).len(), read.lines().count()), (40, 80), "each record of both topics once");

    let [first, mut second] = readers;
    second.process.kill().expect("it is killed");
    wait_until("the other one has all of them", || async { shares().await.filter(|shares| shares.iter().eq(&[4])) })
        .await;
    broker.pubg1_ok(&["produce", "a"], b"100\n101\n102\n103\n").await;
    let mut seen = BTreeSet::new();
    while !(100..104).all(|number| seen.contains(&number)) {
        let line = first.lines.recv_timeout(DEADLINE).expect("a line");
        seen.insert(line.parse::<u32>().expect("a number"));
    }
}
