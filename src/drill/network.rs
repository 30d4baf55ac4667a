//! Brokers in network namespaces of their own, connected by a bridge, so that links between them can
//! be cut. Nothing outside of the namespaces is changed; this process moves into the one of the bridge.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    process::{Command, Output, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::AsyncWriteExt;

use super::plan::Action;
use crate::{cluster_process::Place, error::CommandError};

/// Of every drill: the namespaces keep them apart.
const HTTP_PORT: u16 = 8000;
const RPC_PORT: u16 = 9000;
const TABLE: &str = "bridge pubg1_drill";

/// The namespaces. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    tag: String,
    brokers: u32,
}

impl Network {
    /// Makes a namespace for each broker and moves this thread into the one where clients are: threads that it
    /// starts from now on are there, too.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn make(brokers: u32) -> Result<Self, CommandError> {
        let network = Self { tag: format!("pubg1-drill-{}", std::process::id()), brokers };
        let hub = network.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "bridge0", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", "10.231.0.254/24", "dev", "bridge0"])?;
        ip(&["-n", &hub, "link", "set", "bridge0", "up"])?;
        for broker in 0..brokers {
            let (space, outside) = (network.space(broker), format!("broker{broker}"));
            let address = format!("{}/24", address(broker));
            ip(&["netns", "add", &space])?;
            ip(&["-n", &hub, "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["-n", &hub, "link", "set", &outside, "master", "bridge0", "up"])?;
            ip(&["-n", &space, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        let path = format!("/run/netns/{hub}");
        let entered = File::open(&path)
            .and_then(|file| Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?));
        entered.map_err(|source| CommandError::File { action: "enter", path: path.into(), source })?;
        Ok(network)
    }

    /// Where each broker listens.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let place = |broker| Place {
            before: ["ip", "netns", "exec", &self.space(broker)].map(Into::into).to_vec(),
            http: SocketAddr::from((address(broker), HTTP_PORT)),
            rpc: SocketAddr::from((address(broker), RPC_PORT)),
        };
        (0..self.brokers).map(place).collect()
    }

    /// Cuts a broker's links to others, all at once. What is sent is dropped on the way without a word.
    ///
    /// # Errors
    /// What the system refuses.
    pub async fn cut(&self, action: Action, broker: u32) -> Result<String, CommandError> {
        let mut others: Vec<u32> = (0..self.brokers).filter(|other| *other != broker).collect();
        if action == Action::Bridge {
            // The one that hears both sides.
            others.pop();
        }
        let one = address(broker);
        let many: Vec<String> = others.iter().map(|other| address(*other).to_string()).collect();
        let many = many.join(", ");
        let back =
            if action == Action::OneWay { String::new() } else { format!("ip saddr {{ {many} }} ip daddr {one} drop") };
        let rules = format!(
            "table {TABLE} {{\nchain forward {{\ntype filter hook forward priority 0\n\
             ip saddr {one} ip daddr {{ {many} }} drop\n{back}\n}}\n}}\n"
        );
        nft(&rules).await?;
        let names: Vec<String> = others.iter().map(ToString::to_string).collect();
        Ok(names.join(", "))
    }

    /// Takes every cut back.
    ///
    /// # Errors
    /// What the system refuses.
    pub async fn heal(&self) -> Result<(), CommandError> {
        nft(&format!("table {TABLE}\ndelete table {TABLE}\n")).await
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.tag)
    }

    fn space(&self, broker: u32) -> String {
        format!("{}-{broker}", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was not made cannot be removed, and whoever is in one of them keeps it until the end.
        (0..self.brokers).map(|broker| self.space(broker)).chain([self.hub()]).for_each(|space| {
            drop(ip(&["netns", "delete", &space]));
        });
    }
}

fn address(broker: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 231, 0, 1)) + broker)
}

fn ip(words: &[&str]) -> Result<(), CommandError> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    done(&format!("ip {}", words.join(" ")), output)
}

async fn nft(rules: &str) -> Result<(), CommandError> {
    let (input, output) = (Stdio::piped(), Stdio::piped());
    let mut command = tokio::process::Command::new("nft");
    let spawned =
        command.args(["-f", "-"]).stdin(input).stdout(Stdio::null()).stderr(output).kill_on_drop(true).spawn();
    let running = async {
        let mut child = spawned?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    done("nft", running.await)
}

/// An error for a command that did not succeed.
pub(super) fn done(command: &str, output: std::io::Result<Output>) -> Result<(), CommandError> {
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(CommandError::Failed(format!("`{command}` failed: {}", said.trim())))
        }
        Err(error) => Err(CommandError::Failed(format!("cannot run `{command}`: {error}"))),
    }
}
