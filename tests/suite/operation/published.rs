//! What is published beside the code names only metrics that there are, and all of them where it should.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use croupier::{RegistryConfig, testing::LocalCluster};
use serde_json::Value;

use super::{client::get, page::Page};
use crate::support::{TestNode, permit, wait_for};

/// Whether generated parts of pages are to be written instead of compared.
const RENEW: &str = "RENEW_GENERATED";
/// Around the generated part of the page.
const BEGIN: &str = "<!-- metrics: generated -->\n";
const END: &str = "<!-- metrics: end -->\n";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a room stands in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that are names of metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("croupier_")).map(str::to_owned).collect()
}

/// Name, kind and help of every family, as the page itself has them.
fn described(address: SocketAddr) -> BTreeMap<String, (String, String)> {
    let body = get(address, "/metrics").body;
    let mut families: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in body.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(what), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let family = families.entry(name.to_owned()).or_default();
        match what {
            "TYPE" => family.0 = rest.to_owned(),
            "HELP" => family.1 = rest.to_owned(),
            _ => {}
        }
    }
    families
}

#[test]
fn dashboard_alerts_and_page_name_only_metrics_that_a_node_has() {
    let _permit = permit(1);
    let servers = LocalCluster::start(1).unwrap();
    let builder = servers.builder().name("n1").registry(RegistryConfig::new("casino").bind("127.0.0.1:0"));
    let node = TestNode::start(builder.admin_listen("127.0.0.1:0"), 1);
    let address = node.handle.admin_addr().expect("an admin server");
    wait_for("the node to be ready", || (get(address, "/readyz").code == 200).then_some(()));
    Page::scrape(address);
    // Series, as a query names them: a counter ends in `_total`, an info in `_info`.
    let body = get(address, "/metrics").body;
    let series: BTreeSet<String> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect();
    assert!(series.len() > 40, "{series:?}");

    let grafana: Value = serde_json::from_str(&read("runtime/dashboards/grafana.json")).unwrap();
    let panels = grafana["panels"].as_array().unwrap();
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in &expressions {
        let unknown: Vec<String> = names(expression).difference(&series).cloned().collect();
        assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    }

    let alerts = read("runtime/dashboards/alerts.yaml");
    let rules: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in &rules {
        let asked = names(rule);
        assert!(!asked.is_empty() && asked.is_subset(&series), "an alert asks for what is not there: {rule}");
    }
    let page = read("docs/operating.md");
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            page.contains(&format!("`{alert}`")),
            "docs/operating.md does not say what to do about {alert}"
        );
    }

    // The table of metrics is what the metrics say of themselves.
    let mut table = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for (name, (kind, help)) in described(address) {
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        table.push_str(&format!("| `{name}{suffix}` | {kind} | {help} |\n"));
    }
    let (before, rest) = page.split_once(BEGIN).expect("the page has a table of metrics");
    let (written, after) = rest.split_once(END).expect("the table ends");
    if std::env::var_os(RENEW).is_some() {
        let renewed = format!("{before}{BEGIN}{table}{END}{after}");
        fs::write(workspace().join("docs/operating.md"), renewed).unwrap();
    } else {
        assert!(
            written == table,
            "the table of docs/operating.md is not what the metrics say of themselves. Renew and commit it:\n    \
             {RENEW}=1 cargo test -p croupier-tests --test suite -- operation::published\n{table}"
        );
    }
    node.end();
}
