use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use trine::{Builder, Component, Connections, Deps, Handle, Loader, Need, Result, Settings};
use trine_core::{BoxFault, Secret, Service};

use crate::fake::{Fake, Log, lines, soon};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolConfig {
    pub(crate) size: u32,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    #[allow(dead_code)]
    pub(crate) secret: Option<Secret>,
    #[serde(default)]
    pub(crate) servers: std::collections::BTreeMap<String, ServerConfig>,
    /// The instances that must be up first.
    #[serde(default)]
    pub(crate) after: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) most: u32,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) port: u16,
}

impl Settings for PoolConfig {
    fn problems(&self) -> Vec<String> {
        let zero = self.servers.iter().filter(|(_, server)| server.port == 0);
        zero.map(|(name, _)| format!("servers.{name}.port: must not be 0")).collect()
    }
}

/// A component whose service is a fake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(pub(crate) Log);

impl Component for Pool {
    const NAME: &'static str = "pool";
    const CONNECTIONS: Option<Connections> =
        Some(Connections { section: "server", field: "servers" });
    type Config = PoolConfig;
    type Service = Wrapped;

    fn needs(&self, config: &PoolConfig) -> Vec<Need> {
        config.after.iter().map(|name| Need::instance::<Self>(name)).collect()
    }

    fn build(self, config: PoolConfig, deps: &Deps<'_>) -> Result<Wrapped, BoxFault> {
        for name in &config.after {
            deps.instance::<Self>(name)?;
        }
        Ok(Wrapped { fake: Fake::new(deps.name(), &self.0), config })
    }
}

/// A fake with the configuration that it was built from.
#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) fake: Arc<Fake>,
    pub(crate) config: PoolConfig,
}

#[async_trait::async_trait]
impl Service for Wrapped {
    fn name(&self) -> &str {
        self.fake.name()
    }
    fn state(&self) -> trine_core::State {
        self.fake.state()
    }
    async fn start(&self) -> Result<(), BoxFault> {
        self.fake.start().await
    }
    async fn shutdown(&self, deadline: trine_core::Deadline) -> Result<(), BoxFault> {
        self.fake.shutdown(deadline).await
    }
    async fn health(&self) -> trine_core::Health {
        self.fake.health().await
    }
    fn metrics(&self) -> trine_core::Snapshot {
        self.fake.metrics()
    }
    fn reset_metrics(&self) {
        self.fake.reset_metrics();
    }
}

fn two() -> (Builder, Handle<Pool>, Handle<Pool>) {
    let mut builder = Builder::new();
    let main = builder.add(Pool::default());
    let reports = builder.add_as("reports", Pool::default());
    (builder, main, reports)
}

fn said(toml: &str) -> Vec<String> {
    let error = two().0.configure(&Loader::new().with_defaults(toml)).unwrap_err().to_string();
    let cut = |line: &str| line.trim().replace(" (defaults of the program)", "");
    error.lines().skip(1).map(cut).collect()
}

#[test]
fn each_instance_has_its_own_table_and_all_share_the_connections() {
    let (builder, main, reports) = two();
    let loader = Loader::new().with_defaults(
        "[server.a]\nport = 1\n[server.b]\nport = 2\n\
         [pool]\nsize = 3\nlimits.most = 7\n[pool.reports]\nsize = 4\nrequired = false",
    );
    let configured = builder.configure(&loader).unwrap();
    assert_eq!(configured.config(&main).unwrap().size, 3);
    let container = configured.build().unwrap();
    let (main, reports) = (container.get(&main).unwrap(), container.get(&reports).unwrap());
    assert_eq!((main.name(), main.config.size, main.config.limits.most), ("pool.default", 3, 7));
    assert_eq!(
        (reports.name(), reports.config.size, reports.config.limits.most),
        ("pool.reports", 4, 0)
    );
    assert_eq!((main.config.servers.len(), reports.config.servers["b"].port), (2, 2));
    let required: Vec<_> =
        container.status().services.iter().map(|service| service.is_required).collect();
    assert_eq!(required, [true, false]);
}

#[test]
fn typos_are_found_at_every_level_of_every_instance() {
    assert_eq!(
        said(
            "[pool]\nsize = 1\nrequird = true\n[pool.limits]\nmst = 1\n[pool.report]\nsize = 2\n[pool.reports]\nsze = 1\n[server.a]\nprt = 1"
        ),
        [
            "pool.limits.mst: unknown key; did you mean `most`?",
            "pool.report: unknown key; did you mean `reports`?",
            "pool.reports.size: missing",
            "pool.reports.sze: unknown key; did you mean `size`?",
            "pool.requird: unknown key; did you mean `required`?",
            "server.a.port: missing",
            "server.a.prt: unknown key; did you mean `port`?",
        ]
    );
}

#[test]
fn a_section_that_is_not_there_at_all_is_missing_its_keys() {
    assert_eq!(said(""), ["pool.reports.size: missing", "pool.size: missing"]);
}

#[test]
fn connections_belong_in_their_own_section() {
    assert_eq!(
        said("[pool]\nsize = 1\nservers = { a = { port = 1 } }\n[pool.reports]\nsize = 1"),
        ["pool.servers: unknown key; expected one of `after`, `limits`, `reports`, `required`, \
          `secret`, `secret_file`, `shutdown_timeout`, `size`"]
    );
}

#[test]
fn a_rule_about_a_connection_is_told_once_and_by_its_own_path() {
    assert_eq!(
        said("[pool]\nsize = 1\n[pool.reports]\nsize = 1\n[server.a]\nport = 0"),
        ["server.a.port: must not be 0"]
    );
}

#[test]
fn a_variable_reaches_a_named_instance() {
    let (builder, main, reports) = two();
    let variables = [("TRINE__POOL__SIZE", "5"), ("TRINE__POOL__REPORTS__SIZE", "6")];
    let loader = Loader::new().with_environment(variables.into_iter().collect());
    let configured = builder.configure(&loader).unwrap();
    assert_eq!(configured.config(&main).unwrap().size, 5);
    assert_eq!(configured.config(&reports).unwrap().size, 6);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_may_say_who_needs_whom() {
    let log = Log::default();
    let mut builder = Builder::new();
    builder.add(Pool(Arc::clone(&log)));
    builder.add_as("reports", Pool(Arc::clone(&log)));
    let loader = Loader::new()
        .with_defaults("[pool]\nsize = 1\nafter = ['reports']\n[pool.reports]\nsize = 1");
    let container = builder.configure(&loader).unwrap().build().unwrap();
    container.start().await.unwrap();
    container.shutdown(soon()).await.unwrap();
    assert_eq!(
        lines(&log),
        ["start pool.reports", "start pool.default", "stop pool.default", "stop pool.reports"]
    );
}

#[test]
fn the_schema_for_editors_accepts_what_the_loader_does() {
    let schema = two().0.schema().unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let accepts = |value: serde_json::Value| validator.is_valid(&value);
    assert!(accepts(json!({ "pool": { "size": 1, "required": false, "shutdown_timeout": "3s" } })));
    assert!(accepts(
        json!({ "pool": { "size": 1, "reports": { "size": 2, "secret_file": "/x" } } })
    ));
    assert!(accepts(json!({ "server": { "a": { "port": 1 } }, "container": {} })));
    assert!(!accepts(json!({ "pool": { "size": 1, "other": { "size": 2 } } })));
    assert!(!accepts(json!({ "pool": { "size": 1, "servers": {} } })));
    assert!(!accepts(json!({ "other": {} })));
}

#[test]
fn what_the_container_reads_of_a_section_is_checked_too() {
    let mut builder = Builder::new();
    builder.add(Pool::default());
    builder.add_as("reports", Pool::default());
    let loader = Loader::new().with_defaults(
        "[pool]\nsize = 1\nshutdown_timeout = '999999999999d'\n[server.a]\nport = 0\n\
         [pool.reports]\nsize = 1\nrequired = false\nshutdown_timeout = '0s'",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "pool.shutdown_timeout: ",
        "server.a.port: must not be 0",
        "pool.reports.shutdown_timeout: must be longer than 0",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn a_process_cannot_be_asked_to_live_faster_than_its_pulse() {
    let configure = |timeout: &str| {
        let settings = format!("[container]\nlive_timeout = '{timeout}'");
        Builder::new().configure(&Loader::new().with_defaults(settings))
    };
    let error = configure("999ms").unwrap_err().to_string();
    assert!(error.contains("container.live_timeout: must be at least 1s"), "{error}");
    configure("1s").unwrap();
}
