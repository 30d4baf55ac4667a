//! A panel: what it shows, and how.

use serde_json::{Value, json};

/// The data source that is chosen on top.
pub(crate) const DATASOURCE: &str = "${datasource}";

/// In expressions `#` stands for the brokers that are chosen, `[r]` for the range that fits the scrape.
pub(crate) fn scoped(expression: &str) -> String {
    expression.replace('#', "cluster=~\"$cluster\", instance=~\"$instance\"").replace("[r]", "[$__rate_interval]")
}

/// A panel in the making.
pub(crate) struct Panel {
    kind: &'static str,
    title: &'static str,
    description: String,
    unit: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Expressions and the names of what they give.
    targets: Vec<(String, &'static str)>,
    /// Values from which on the panel changes its colour.
    thresholds: Vec<(Option<u32>, &'static str)>,
    is_stacked: bool,
}

impl Panel {
    fn new(kind: &'static str, title: &'static str, unit: &'static str, description: &str) -> Self {
        let (width, height) = (8, 7);
        let (targets, thresholds) = (Vec::new(), Vec::new());
        let description = description.to_owned();
        Self { kind, title, description, unit, width, height, targets, thresholds, is_stacked: false }
    }

    /// Lines over time.
    pub(crate) fn lines(title: &'static str, unit: &'static str, description: &str) -> Self {
        Self::new("timeseries", title, unit, description)
    }

    /// One number.
    pub(crate) fn number(title: &'static str, unit: &'static str, description: &str) -> Self {
        Self { width: 3, height: 4, ..Self::new("stat", title, unit, description) }
    }

    /// A number that must be zero.
    pub(crate) fn zero(title: &'static str, description: &str) -> Self {
        let thresholds = vec![(None, "green"), (Some(1), "red")];
        Self { thresholds, ..Self::number(title, "short", &format!("{description} Must be 0.")) }
    }

    /// A number that must be one.
    pub(crate) fn one(title: &'static str, description: &str) -> Self {
        let thresholds = vec![(None, "red"), (Some(1), "green"), (Some(2), "red")];
        Self { thresholds, ..Self::number(title, "short", &format!("{description} Must be 1.")) }
    }

    /// A histogram over time, by colour.
    pub(crate) fn heatmap(title: &'static str, unit: &'static str, description: &str) -> Self {
        Self::new("heatmap", title, unit, description)
    }

    /// A band for each series, coloured by its value.
    pub(crate) fn bands(title: &'static str, unit: &'static str, description: &str) -> Self {
        let thresholds = vec![(None, "red"), (Some(1), "green")];
        Self { thresholds, width: 24, ..Self::new("state-timeline", title, unit, description) }
    }

    /// Shows what an expression gives, under this name.
    pub(crate) fn show(mut self, expression: impl AsRef<str>, name: &'static str) -> Self {
        self.targets.push((scoped(expression.as_ref()), name));
        self
    }

    /// Shows quantiles of a histogram, by labels that tell its lines apart; `selector` is its buckets.
    pub(crate) fn quantiles(self, quantiles: &[(&str, &'static str)], by: &str, selector: &str) -> Self {
        let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
        quantiles.iter().fold(self, |panel, (quantile, name)| {
            panel.show(format!("histogram_quantile({quantile}, sum by ({by}) (rate({selector}[r])))"), name)
        })
    }

    /// It may show nothing, and says when. The tests that run its expressions read that.
    pub(crate) fn empty(mut self, when: &str) -> Self {
        self.description.push_str(&format!(" Empty {when}."));
        self
    }

    /// One above the other.
    pub(crate) fn stacked(self) -> Self {
        Self { is_stacked: true, ..self }
    }

    /// Of this many of 24 columns.
    pub(crate) fn wide(self, width: u32) -> Self {
        Self { width, ..self }
    }

    /// The panel without its place.
    pub(crate) fn json(&self) -> Value {
        json!({
            "type": self.kind, "title": self.title, "description": self.description, "datasource": source(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "targets": self.targets(), "options": self.options(),
        })
    }

    fn targets(&self) -> Vec<Value> {
        let target = |((expression, name), letter): (&(String, &str), char)| {
            let format = if self.kind == "heatmap" { "heatmap" } else { "time_series" };
            json!({"refId": letter.to_string(), "datasource": source(), "expr": expression, "legendFormat": name,
                "format": format, "instant": self.kind == "stat", "range": self.kind != "stat"})
        };
        self.targets.iter().zip('A'..).map(target).collect()
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({"unit": self.unit});
        if !self.thresholds.is_empty() {
            let step = |(value, color): &(Option<u32>, &str)| json!({"value": value, "color": color});
            let steps: Vec<Value> = self.thresholds.iter().map(step).collect();
            defaults["thresholds"] = json!({"mode": "absolute", "steps": steps});
            defaults["color"] = json!({"mode": "thresholds"});
        }
        if self.kind == "timeseries" {
            defaults["min"] = json!(0);
            defaults["custom"] = json!({"drawStyle": "line", "lineWidth": 1, "showPoints": "never",
                "fillOpacity": if self.is_stacked { 40 } else { 10 },
                "stacking": {"mode": if self.is_stacked { "normal" } else { "none" }, "group": "A"}});
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            "stat" => json!({"colorMode": "value", "graphMode": "none", "textMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"]}}),
            "heatmap" => json!({"calculate": false, "yAxis": {"unit": self.unit}, "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64}, "legend": {"show": true}}),
            "state-timeline" => json!({"mergeValues": true, "showValue": "never", "rowHeight": 0.8,
                "legend": {"displayMode": "list", "placement": "bottom"}}),
            _ => json!({"legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"}}),
        }
    }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": DATASOURCE})
}
