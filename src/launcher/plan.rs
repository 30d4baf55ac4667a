//! Which brokers there are to be: their numbers, addresses, directories and command lines.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;

use super::{StartArgs, state_file};
use crate::{
    cli::{Cli, Command},
    config::{self, Config, SETTINGS},
    demo::Launch,
    error::CommandError,
};

/// From a broker's http port to its rpc port.
const RPC_DISTANCE: u16 = 1000;
/// Settings that belong to one broker: they cannot be given to all.
const OF_ONE: [&str; 7] = ["node_id", "http", "rpc", "data_dir", "voters", "advertise_http", "advertise_rpc"];

/// One broker of the cluster.
#[derive(Clone, Debug)]
pub struct BrokerSpec {
    /// Its number.
    pub id: u32,
    /// Where clients reach it.
    pub http: SocketAddr,
    /// Where other brokers reach it.
    pub rpc: SocketAddr,
    /// How it is started.
    pub launch: Launch,
}

/// The whole cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its directory, an absolute path.
    pub directory: PathBuf,
    /// The same as it was given.
    pub shown: String,
    /// The http port of broker 0.
    pub base_port: u16,
    /// The brokers that keep the metadata from the first start on; later ones join.
    pub voters: BTreeSet<u32>,
    /// All brokers, in order.
    pub brokers: Vec<BrokerSpec>,
    /// How long a broker may take for its orderly end.
    pub drain_timeout: Duration,
}

impl Plan {
    /// Makes it, and checks what every broker will be told.
    ///
    /// # Errors
    /// [`CommandError::Usage`] and [`CommandError::Config`].
    pub fn new(
        args: &StartArgs,
        directory: PathBuf,
        program: PathBuf,
        environment: &[(String, String)],
    ) -> Result<Self, CommandError> {
        let last = args.base_port.checked_add(args.brokers - 1);
        if args.brokers > RPC_DISTANCE || last.and_then(|last| last.checked_add(RPC_DISTANCE)).is_none() {
            return Err(CommandError::Usage("the ports do not fit: choose a smaller --base-port".to_owned()));
        }
        let of_one = args.set.iter().map(|(key, _)| *key).chain(set_by(environment)).find(|key| OF_ONE.contains(key));
        if let Some(key) = of_one {
            return Err(CommandError::Usage(format!("{key} cannot be the same for all brokers: it is chosen here")));
        }
        let ids = 0..u32::from(args.brokers);
        let recorded = state_file::recorded(&directory)?;
        if let Some(other) = recorded.as_ref().map(|old| old.base_port).filter(|port| *port != args.base_port) {
            return Err(CommandError::Usage(format!("this cluster has --base-port {other} since its first start")));
        }
        // Brokers that were not there at the first start join those that were.
        let voters = recorded.map_or_else(|| ids.clone().collect(), |old| old.voters);
        let address = |id: u32, distance: u16| {
            let offset = u16::try_from(id).unwrap_or(u16::MAX);
            SocketAddr::from(([127, 0, 0, 1], args.base_port.saturating_add(distance).saturating_add(offset)))
        };
        let list = voters.iter().map(|id| format!("{id}@{}", address(*id, RPC_DISTANCE))).collect::<Vec<_>>().join(",");
        let common = common_arguments(args, environment);
        let of = |id: u32| {
            let data_dir = directory.join(format!("broker-{id}"));
            let rpc = address(id, RPC_DISTANCE);
            let own = [("--node-id", id.to_string()), ("--rpc", rpc.to_string()), ("--voters", list.clone())];
            let own = own.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            let launch = Launch {
                program: vec![program.clone().into()],
                log: data_dir.join("broker.log"),
                data_dir,
                arguments: own.chain(common.iter().cloned()).collect(),
            };
            BrokerSpec { id, http: address(id, 0), rpc, launch }
        };
        let brokers = ids.map(of).collect();
        let shown = args.data_dir.display().to_string();
        let mut plan =
            Self { directory, shown, base_port: args.base_port, voters, brokers, drain_timeout: Duration::ZERO };
        for broker in &plan.brokers {
            let settings = broker.settings(environment)?.settings;
            plan.drain_timeout = Duration::from_millis(settings.drain_timeout_ms);
        }
        Ok(plan)
    }

    /// Where clients reach the brokers.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.brokers.iter().map(BrokerSpec::url).collect()
    }

    /// Where a broker's directory is, as people would write it.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        Path::new(&self.shown).join(state_file::NAME)
    }
}

impl BrokerSpec {
    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The configuration that it will have: it would refuse a wrong one too, but less plainly.
    fn settings(&self, environment: &[(String, String)]) -> Result<Config, CommandError> {
        let words = self.launch.command_line(&self.http.to_string());
        let cli = Cli::try_parse_from(words).map_err(|error| CommandError::Usage(error.to_string()))?;
        let Command::Broker(broker) = cli.command else {
            return Err(CommandError::Usage("what stands after -- is not for a broker".to_owned()));
        };
        let given = &broker.settings;
        Ok(Config::load(given.config.as_deref(), environment.iter().cloned(), given.flags())?)
    }
}

fn set_by(environment: &[(String, String)]) -> impl Iterator<Item = &'static str> {
    environment
        .iter()
        .filter_map(|(name, _)| SETTINGS.iter().find(|setting| setting.variable() == *name).map(|setting| setting.key))
}

/// What all brokers are told. The environment's settings are among it, so that a broker that is
/// started again from elsewhere is the same.
fn common_arguments(args: &StartArgs, environment: &[(String, String)]) -> Vec<String> {
    let mut given = Vec::new();
    for (flag, value) in [("--flush", &args.flush), ("--replication-factor", &args.replication_factor)] {
        given.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    for (key, value) in &args.set {
        given.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    given.extend(args.arguments.iter().cloned());

    let mut words = Vec::new();
    if let Some(file) = config::file_of(environment).filter(|_| !given.iter().any(|word| word == "--config")) {
        words.extend(["--config".to_owned(), file.to_owned()]);
    }
    for setting in &SETTINGS {
        let variable = setting.variable();
        // A broker's own --set would lie over its other flags, and what is said here over the environment.
        if given.iter().any(|word| setting.flag == Some(word)) {
            continue;
        }
        for (_, value) in environment.iter().filter(|(name, _)| *name == variable) {
            words.extend(["--set".to_owned(), format!("{}={value}", setting.key)]);
        }
    }
    words.extend(given);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> StartArgs {
        let cli = Cli::try_parse_from(["pubg1", "cluster"].iter().chain(words)).unwrap();
        let Command::Cluster(cluster) = cli.command else { panic!("not a cluster") };
        cluster.start
    }

    fn plan(words: &[&str], environment: &[(&str, &str)], directory: &Path) -> Result<Plan, CommandError> {
        let environment: Vec<_> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Plan::new(&args(words), directory.to_owned(), "pubg1".into(), &environment)
    }

    fn words(broker: &BrokerSpec) -> Vec<String> {
        let words = broker.launch.command_line(&broker.http.to_string());
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn every_broker_has_its_ports_its_directory_and_the_same_voters() {
        let directory = tempfile::tempdir().unwrap();
        let plan = plan(&["--brokers", "3", "--base-port", "8100"], &[], directory.path()).unwrap();
        assert_eq!(plan.urls(), ["http://127.0.0.1:8100", "http://127.0.0.1:8101", "http://127.0.0.1:8102"]);
        let line = words(&plan.brokers[2]).join(" ");
        let data = directory.path().join("broker-2");
        let expected = format!(
            "pubg1 broker --http 127.0.0.1:8102 --data-dir {} --node-id 2 --rpc 127.0.0.1:9102 \
             --voters 0@127.0.0.1:9100,1@127.0.0.1:9101,2@127.0.0.1:9102",
            data.display()
        );
        assert_eq!(line, expected);
        assert_eq!(plan.drain_timeout, Duration::from_secs(10));
    }

    #[test]
    fn settings_reach_the_brokers_and_the_command_line_holds_over_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let given = ["--flush", "interval=5", "--set", "drain_timeout_ms=700", "--", "--log-format", "json"];
        let environment = [("PUBG1_LOG_FLUSH", "interval=9"), ("PUBG1_TOPIC_PARTITIONS", "7")];
        let plan = plan(&given, &environment, directory.path()).unwrap();
        let config = plan.brokers[1].settings(&[]).unwrap();
        assert_eq!(config.settings.flush.to_string(), "interval=5");
        assert_eq!(config.settings.partitions_default, 7);
        assert_eq!(plan.drain_timeout, Duration::from_millis(700));
        assert_eq!(words(&plan.brokers[1])[words(&plan.brokers[1]).len() - 2..], ["--log-format", "json"]);
    }

    #[test]
    fn what_no_broker_would_take_is_refused_before_any_is_started() {
        let directory = tempfile::tempdir().unwrap();
        for (given, environment, reason) in [
            (&["--set", "http=127.0.0.1:1"][..], &[][..], "cannot be the same"),
            (&[], &[("PUBG1_ADVERTISE_HTTP", "http://x:1")], "advertise_http"),
            (&["--flush", "sometimes"], &[], "interval=MS"),
            (&["--", "--nonsense"], &[], "--nonsense"),
            (&["--base-port", "65000"], &[], "smaller --base-port"),
        ] {
            let error = plan(given, environment, directory.path()).unwrap_err();
            assert!(error.to_string().contains(reason), "{given:?}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn brokers_that_are_added_later_join_the_first_ones() {
        let directory = tempfile::tempdir().unwrap();
        let first = plan(&["--brokers", "3"], &[], directory.path()).unwrap();
        state_file::write(&first, None, &[None; 3]).unwrap();
        let more = plan(&["--brokers", "4"], &[], directory.path()).unwrap();
        assert_eq!(more.voters, BTreeSet::from([0, 1, 2]));
        assert!(words(&more.brokers[3]).iter().all(|word| !word.contains("3@")));
        let moved = plan(&["--base-port", "8100"], &[], directory.path()).unwrap_err();
        assert!(moved.to_string().contains("--base-port 8000"), "{moved}");
    }
}
