//! A dashboard: its variables, and where its panels stand.

use serde_json::{Value, json};

use crate::panel::{DATASOURCE, Panel, scoped};

/// The columns of a dashboard.
const COLUMNS: u32 = 24;

/// A dashboard.
pub(crate) struct Board {
    /// The file's name, and the end of its uid.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// What else than cluster and broker is chosen on top.
    pub(crate) variables: Vec<Variable>,
    pub(crate) annotations: Vec<Annotation>,
    /// Rows of panels, each under its title.
    pub(crate) rows: Vec<(&'static str, Vec<Panel>)>,
}

/// Something that is chosen on top: the values of a label.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    /// The series whose label it is.
    pub(crate) of: &'static str,
}

/// Moments that are marked in every panel.
pub(crate) struct Annotation {
    pub(crate) name: &'static str,
    pub(crate) expression: &'static str,
    pub(crate) color: &'static str,
}

/// Brokers that do not answer, and elections: what the other panels are looked at beside.
pub(crate) fn faults() -> Vec<Annotation> {
    vec![
        Annotation { name: "No answer", expression: "up{job=\"pubg1\", #} == 0", color: "red" },
        Annotation {
            name: "Elections",
            expression: "sum by (cluster) (increase(pubg1_elections_total{#}[r])) > 0",
            color: "orange",
        },
    ]
}

impl Variable {
    /// The topic.
    pub(crate) const TOPIC: Self = Self { name: "topic", label: "Topic", of: "pubg1_log_size_bytes{#}" };
    /// The consumer group.
    pub(crate) const GROUP: Self = Self { name: "group", label: "Group", of: "pubg1_group_members{#}" };
    /// The stream.
    pub(crate) const STREAM: Self = Self { name: "stream", label: "Stream", of: "pubg1_stream_state{#}" };

    /// `all`: what stands for all values; without one Grafana names them all, which leaves others out.
    fn json(&self, all: Option<&str>) -> Value {
        let query = format!("label_values({}, {})", scoped(self.of), self.name);
        json!({
            "name": self.name, "label": self.label, "type": "query", "datasource": datasource(),
            "query": {"query": query, "refId": self.name}, "definition": query,
            "includeAll": true, "multi": true, "allValue": all,
            "current": {"text": ["All"], "value": ["$__all"]}, "refresh": 2, "sort": 1,
        })
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": DATASOURCE})
}

impl Board {
    fn templating(&self) -> Vec<Value> {
        let source = json!({"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "current": {}, "includeAll": false, "multi": false});
        // Scrapes without the label are a cluster, too.
        let cluster = Variable { name: "cluster", label: "Cluster", of: "pubg1_build_info" };
        let instance = Variable { name: "instance", label: "Broker", of: "pubg1_build_info{cluster=~\"$cluster\"}" };
        let mut variables = vec![source, cluster.json(Some(".*")), instance.json(None)];
        variables.extend(self.variables.iter().map(|variable| variable.json(Some(".*"))));
        variables
    }

    /// The dashboard as Grafana imports it.
    pub(crate) fn json(&self) -> Value {
        let annotation = |annotation: &Annotation| {
            json!({"name": annotation.name, "datasource": datasource(), "enable": true, "iconColor": annotation.color,
                "expr": scoped(annotation.expression), "step": "1s"})
        };
        json!({
            "uid": format!("pubg1-{}", self.name), "title": format!("PubG1: {}", self.title),
            "description": self.description, "tags": ["pubg1"], "schemaVersion": 39, "version": 1, "editable": true,
            "graphTooltip": 1, "refresh": "5s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser",
            "annotations": {"list": self.annotations.iter().map(annotation).collect::<Vec<_>>()},
            "links": [{"type": "dashboards", "title": "PubG1", "tags": ["pubg1"], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link", "url": "",
                "tooltip": ""}],
            "templating": {"list": self.templating()},
            "panels": self.panels(),
        })
    }

    /// The panels from left to right and down.
    fn panels(&self) -> Vec<Value> {
        let (mut panels, mut y) = (Vec::new(), 0);
        for (title, row) in &self.rows {
            panels.push(json!({"id": panels.len() + 1, "type": "row", "title": title, "collapsed": false,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}, "panels": []}));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in row {
                if x + panel.width > COLUMNS {
                    (x, y) = (0, y + height);
                }
                height = panel.height;
                let mut json = panel.json();
                json["id"] = json!(panels.len() + 1);
                json["gridPos"] = json!({"h": panel.height, "w": panel.width, "x": x, "y": y});
                panels.push(json);
                x += panel.width;
            }
            y += height;
        }
        panels
    }
}
