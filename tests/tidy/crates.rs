//! Which crate may use which. Arrows: `pubg1 → web → actors → {storage, transport} → model`; `metrics` is a leaf,
//! `sql` compiles to `model`, for `pubg1` and `web`; `bench` knows a broker by its HTTP interface alone; `nexmark`
//! writes events for checks and uses nothing of ours.

use std::process::Command;

use serde_json::Value;

use super::{assert_none, deny_toml, root};

/// Our crates and the crates of ours that each may depend on. A crate that is missing here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("pubg1", &["pubg1-actors", "pubg1-bench", "pubg1-metrics", "pubg1-model", "pubg1-sql", "pubg1-web"]),
    ("pubg1-web", &["pubg1-actors", "pubg1-metrics", "pubg1-model", "pubg1-sql"]),
    ("pubg1-actors", &["pubg1-metrics", "pubg1-model", "pubg1-storage", "pubg1-transport"]),
    ("pubg1-bench", &["pubg1-model"]),
    ("pubg1-storage", &["pubg1-model"]),
    ("pubg1-transport", &["pubg1-model"]),
    ("pubg1-sql", &["pubg1-model"]),
    ("pubg1-model", &[]),
    ("pubg1-metrics", &[]),
    ("pubg1-nexmark", &[]),
];

/// Dependencies that one crate keeps to itself, so that the others cannot grow into them.
const CONFINED: &[(&str, &[&str])] = &[
    ("actix", &["pubg1-actors"]),
    ("openraft", &["pubg1-actors"]),
    ("memmap2", &["pubg1-storage"]),
    ("prometheus", &["pubg1-metrics"]),
    ("promql-parser", &["pubg1-metrics"]),
    ("utoipa", &["pubg1-web"]),
    ("clap", &["pubg1"]),
    ("nexmark", &["pubg1-nexmark"]),
    ("sqlparser", &["pubg1-sql"]),
];

/// Crates that decide and compute: no actor, no runtime, no network.
const WITHOUT_RUNTIME: &[&str] = &["pubg1-model", "pubg1-sql", "pubg1-storage", "pubg1-metrics"];
const RUNTIMES: &[&str] = &["actix", "actix-rt", "actix-web", "async-std", "futures-util", "hyper", "reqwest", "tokio"];

#[test]
fn arrows_between_crates_point_down() {
    let metadata = Metadata::read();
    let problems = metadata.members().flat_map(|package| {
        let allowed = ARROWS.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| *allowed);
        let unknown = allowed.is_none().then(|| format!("{} has no place in the arrows of tests/tidy", package.name));
        let wrong = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.ours && !allowed.unwrap_or_default().contains(&dependency.name.as_str()))
            .map(|dependency| format!("{} may not depend on {}", package.name, dependency.name))
            .collect::<Vec<_>>();
        unknown.into_iter().chain(wrong).collect::<Vec<_>>()
    });
    assert_none(problems.collect());
}

#[test]
fn confined_dependencies_stay_where_they_belong() {
    let metadata = Metadata::read();
    let mut problems = Vec::new();
    for package in metadata.members() {
        for dependency in &package.dependencies {
            let owners = CONFINED.iter().find(|(name, _)| *name == dependency.name).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&package.name.as_str())) {
                problems.push(format!("{} may not use {}", package.name, dependency.name));
            }
            let pure = WITHOUT_RUNTIME.contains(&package.name.as_str());
            if pure && !dependency.development && RUNTIMES.contains(&dependency.name.as_str()) {
                problems.push(format!("{} decides and computes; it may not use {}", package.name, dependency.name));
            }
        }
    }
    assert_none(problems);
}

/// Not even through another crate, except those that are named beside it.
#[test]
fn banned_crates_are_absent() {
    let listed = deny_toml();
    let banned = listed["bans"]["deny"].as_array().expect("deny.toml lists banned crates");
    let metadata = Metadata::read();
    let problems = metadata.packages.iter().filter_map(|package| {
        let ban = banned.iter().find(|ban| ban["crate"].as_str() == Some(&package.name))?;
        let may =
            |user: &str| ban["wrappers"].as_array().is_some_and(|may| may.iter().any(|it| it.as_str() == Some(user)));
        metadata.users(&package.name).find(|user| !may(user))?;
        Some(format!("{} {}: {}", package.name, package.version, ban["reason"]))
    });
    assert_none(problems.collect());
}

#[test]
fn every_dependency_comes_from_the_registry_and_every_crate_obeys_the_lints() {
    let metadata = Metadata::read();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        match package.source.as_deref() {
            None if package.name == "pubg1" || package.name.starts_with("pubg1-") => {
                let manifest = std::fs::read_to_string(&package.manifest).expect("a member has a manifest");
                if !manifest.contains("[lints]\nworkspace = true") {
                    problems.push(format!("{}: the workspace's lints are not switched on", package.name));
                }
            }
            Some(source) if source.starts_with("registry+") => {}
            other => problems.push(format!("{} {} comes from {other:?}", package.name, package.version)),
        }
    }
    assert_none(problems);
}

/// What `cargo metadata` says about the packages that are built for this machine.
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    /// Who uses whom, by name.
    uses: Vec<(String, String)>,
}

pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: Option<String>,
    source: Option<String>,
    manifest: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    development: bool,
    ours: bool,
}

impl Metadata {
    /// Reads the resolved graph with every feature: what is off by default has licences, too. What only those need may
    /// have to be fetched the first time.
    pub(super) fn read() -> Metadata {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform", &host()])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata answers JSON");
        // `packages` also lists what other platforms need; the resolved graph does not.
        let resolved: Vec<&str> = list(&json["resolve"], "nodes").iter().filter_map(|n| n["id"].as_str()).collect();
        let packages: Vec<Package> = list(&json, "packages")
            .iter()
            .filter(|package| package["id"].as_str().is_some_and(|id| resolved.contains(&id)))
            .map(Package::from_json)
            .collect();
        assert!(packages.len() > 50, "only {} packages: the graph was not read", packages.len());
        let name = |id: &Value| {
            let package = list(&json, "packages").iter().find(|package| package["id"] == *id);
            package.map(|package| text(package, "name")).unwrap_or_default()
        };
        let nodes = list(&json["resolve"], "nodes").iter();
        let uses = nodes
            .flat_map(|node| list(node, "dependencies").iter().map(|used| (name(&node["id"]), name(used))))
            .collect();
        Metadata { packages, uses }
    }

    /// The crates that use one, each directly.
    fn users(&self, used: &str) -> impl Iterator<Item = &str> {
        self.uses.iter().filter(move |(_, it)| it == used).map(|(user, _)| user.as_str())
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }
}

impl Package {
    fn from_json(json: &Value) -> Package {
        let dependencies = list(json, "dependencies").iter().map(|dependency| Dependency {
            name: text(dependency, "name"),
            development: dependency["kind"] == "dev",
            ours: dependency["source"].is_null(),
        });
        Package {
            name: text(json, "name"),
            version: text(json, "version"),
            licence: json["license"].as_str().map(str::to_owned),
            source: json["source"].as_str().map(str::to_owned),
            manifest: text(json, "manifest_path"),
            dependencies: dependencies.collect(),
        }
    }
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Value, key: &str) -> String {
    json[key].as_str().unwrap_or_default().to_owned()
}

/// The platform that this test was compiled for, as cargo names it.
fn host() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().expect("cargo runs");
    let version = String::from_utf8(output.stdout).expect("cargo's version is UTF-8");
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host").to_owned()
}
