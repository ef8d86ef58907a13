use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use trine::{Builder, ConfigError, Environment, Error, Loader, Settings};
use trine_core::{Durability, Secret, Span};

#[allow(dead_code)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    #[serde(default = "two")]
    pub(crate) workers: NonZeroU32,
    #[serde(default)]
    pub(crate) verbose: bool,
    #[serde(default)]
    pub(crate) timeout: Option<Span>,
    #[serde(default)]
    pub(crate) durability: Durability,
    #[serde(default)]
    pub(crate) level: Option<Level>,
    #[serde(default)]
    pub(crate) stores: BTreeMap<String, Store>,
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
    #[serde(default)]
    pub(crate) open: Open,
    #[serde(default)]
    pub(crate) ratio: f64,
}

fn two() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Quiet,
    Verbose,
}

#[allow(dead_code)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Store {
    Memory {},
    File {
        path: String,
        #[serde(default)]
        readers: Option<u16>,
    },
    Server(Server),
}

#[allow(dead_code)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) url: Secret,
    #[serde(default)]
    pub(crate) token: Option<Secret>,
    #[serde(default)]
    pub(crate) keys: Vec<Secret>,
}

#[allow(dead_code)]
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) port: u16,
}

/// A type whose author forgot to refuse unknown fields.
#[allow(dead_code)]
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Open {
    pub(crate) colour: String,
}

impl Settings for App {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.name == "root" {
            problems.push("name: must not be `root`".to_owned());
        }
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.port == 0 {
                problems.push(format!("peers[{index}].port: must not be 0"));
            }
        }
        problems
    }
}

pub(crate) fn loaded(loader: &Loader) -> Result<std::sync::Arc<App>, ConfigError> {
    let mut builder = Builder::new();
    let app = builder.section::<App>("app");
    match builder.configure(loader) {
        Ok(configured) => Ok(configured.section(&app).unwrap()),
        Err(Error::Config(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn said(loader: &Loader) -> Vec<String> {
    loaded(loader).unwrap_err().problems().iter().map(ToString::to_string).collect()
}

fn of(toml: &str) -> Vec<String> {
    said(&Loader::new().with_defaults(toml))
}

const FROM: &str = "(defaults of the program)";

#[test]
fn everything_wrong_is_listed_at_once_with_its_path_and_origin() {
    let folder = tempfile::tempdir().unwrap();
    let default = "
        [app]
        nam = 'x'
        workers = 0
        verbose = 'yes'
        timeout = 5
        level = 'verbos'
        durability = 'synce'
        [app.stores.a]
        kind = 'fil'
        [app.stores.b]
        path = 'x'
        [app.stores.c]
        kind = 'file'
        pth = 'x'
        readers = 70000
        [[app.peers]]
        port = 'http'
        [contaner]
        drain_delay = '1s'
    ";
    std::fs::write(folder.path().join("default.toml"), default).unwrap();
    std::fs::write(folder.path().join("prod.toml"), "[app.open]\ncolor = 'red'").unwrap();
    let environment = [
        ("TRINE__APP__DURABILITY__ASYNC__WINDW", "1s"),
        ("TRINE__CONTAINER__HEALTH_TIMEOUT", "0s"),
    ];
    let loader = Loader::new()
        .with_folder(folder.path())
        .with_profile("prod")
        .with_environment(environment.into_iter().collect())
        .with_override("--ratio", "app.ratio", "half");
    let folder = folder.path().display().to_string();
    let said: Vec<_> = said(&loader).into_iter().map(|line| line.replace(&folder, "F")).collect();
    let windw = "variable TRINE__APP__DURABILITY__ASYNC__WINDW";
    assert_eq!(
        said,
        [
            "app.durability.async.window: missing".to_owned(),
            format!("app.durability.async.windw: unknown key; did you mean `window`? ({windw})"),
            "app.level: expected one of `quiet`, `verbose`; did you mean `verbose`? (F/default.toml)".to_owned(),
            "app.nam: unknown key; did you mean `name`? (F/default.toml)".to_owned(),
            "app.name: missing".to_owned(),
            "app.open.color: unknown key; did you mean `colour`? (F/prod.toml)".to_owned(),
            "app.peers[0].host: missing".to_owned(),
            "app.peers[0].port: expected a whole number, found text (F/default.toml)".to_owned(),
            "app.ratio: expected a number, found text (--ratio)".to_owned(),
            "app.stores.a.kind: expected one of `file`, `memory`, `server`; did you mean `file`? (F/default.toml)".to_owned(),
            "app.stores.b.kind: missing; expected one of `file`, `memory`, `server`".to_owned(),
            "app.stores.c.path: missing".to_owned(),
            "app.stores.c.pth: unknown key; did you mean `path`? (F/default.toml)".to_owned(),
            "app.stores.c.readers: must be at most 65535, found 70000 (F/default.toml)".to_owned(),
            "app.timeout: expected text, found a number (F/default.toml)".to_owned(),
            "app.verbose: expected true or false, found text (F/default.toml)".to_owned(),
            "app.workers: must be at least 1, found 0 (F/default.toml)".to_owned(),
            "container.health_timeout: must be longer than 0 (variable TRINE__CONTAINER__HEALTH_TIMEOUT)".to_owned(),
            "contaner: unknown key; did you mean `container`? (F/default.toml)".to_owned(),
        ]
    );
}

#[test]
fn a_word_where_a_table_may_stand_gets_its_own_hint() {
    let found = of("[app]\nname = 'x'\ndurability = 'synce'");
    let expected = "expected one of `memory`, `synced`, a table; did you mean `synced`?";
    assert_eq!(found, [format!("app.durability: {expected} {FROM}")]);
    let found = of("[app]\nname = 'x'\ndurability = 3");
    let expected = "expected one of `memory`, `synced`, a table, found a number";
    assert_eq!(found, [format!("app.durability: {expected} {FROM}")]);
}

#[test]
fn a_unit_that_is_missing_is_explained() {
    let found = of("[app]\nname = 'x'\ntimeout = '5 lightyears'");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("app.timeout: must match"), "{found:?}");
    assert!(!found[0].contains("lightyears"));
}

#[test]
fn failed_rules_are_listed_beside_unknown_keys() {
    let found = of(
        "[app]\nname = 'root'\nverbos = true\npeers = [{ host = 'a', port = 1 }, { host = 'b' }]",
    );
    assert_eq!(
        found,
        [
            format!("app.name: must not be `root` {FROM}"),
            format!("app.peers[1].port: must not be 0 {FROM}"),
            format!("app.verbos: unknown key; did you mean `verbose`? {FROM}"),
        ]
    );
}

#[test]
fn a_key_that_resembles_nothing_gets_the_list() {
    let found = of("[app]\nname = 'x'\n[app.stores.a]\nkind = 'memory'\nzzzzzzzz = 1");
    assert_eq!(found, [format!("app.stores.a.zzzzzzzz: unknown key; expected `kind` {FROM}")]);
}

#[test]
fn files_that_cannot_be_read_are_all_named_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("default.toml"), "[app]\nnam = 'x'\npassword = hunter2")
        .unwrap();
    let loader = Loader::new()
        .with_folder(folder.path())
        .with_profile("prdo")
        .with_file(folder.path().join("none.toml"));
    let folder = folder.path().display().to_string();
    let said: Vec<_> = said(&loader).into_iter().map(|line| line.replace(&folder, "F")).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].starts_with("not valid TOML: ") && said[0].ends_with("(F/default.toml:3)"),
        "{said:?}"
    );
    assert!(said.iter().any(|line| line.ends_with("(F/prdo.toml)")), "{said:?}");
    assert!(said.iter().any(|line| line.ends_with("(F/none.toml)")), "{said:?}");
    assert!(!said.concat().contains("hunter2"));
}

#[test]
fn a_broken_section_of_another_kind_is_no_table() {
    let found = of("app = 3\ncontainer = 'x'");
    assert_eq!(
        found,
        [
            format!("app: expected a table, found a number {FROM}"),
            format!("container: expected a table, found text {FROM}"),
        ]
    );
}

#[test]
fn a_variable_that_is_not_utf_8_is_named_and_not_shown() {
    #[cfg(unix)]
    {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;

        let value = OsString::from_vec(b"hunter\xff".to_vec());
        let environment: Environment = [("TRINE__APP__NAME", value)].into_iter().collect();
        let loader = Loader::new().with_environment(environment);
        let said = said(&loader);
        assert!(
            said.contains(&"app.name: not valid UTF-8 (variable TRINE__APP__NAME)".to_owned()),
            "{said:?}"
        );
        assert!(!said.concat().contains("hunter"));
    }
}

#[test]
fn the_error_prints_one_problem_a_line() {
    let error = loaded(&Loader::new().with_defaults("[app]\nnam = 'x'")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the configuration has 2 problems:\n  app.nam: unknown key; did you mean `name`? {FROM}\n  app.name: missing"
        )
    );
    assert_eq!(error.problems()[0].path(), "app.nam");
    assert_eq!(error.problems()[0].origin(), Some("defaults of the program"));
}
