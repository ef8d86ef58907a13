use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use trine::{
    Adopted, Builder, Component, Deps, Error, Handle, Loader, Need, Settings, WiringProblem,
};
use trine_core::{BoxFault, ErrorKind, Fault, Report};

use crate::fake::{Fake, Log};
use crate::instances::{Pool, Wrapped};

fn problems(error: Error) -> Vec<String> {
    match error {
        Error::Wiring { problems } => problems.iter().map(ToString::to_string).collect(),
        error => panic!("{error}"),
    }
}

fn pools(toml: &str) -> Error {
    let mut builder = Builder::new();
    builder.add(Pool::default());
    builder.add_as("reports", Pool::default());
    let loader = Loader::new().with_defaults(toml);
    builder.configure(&loader).unwrap().build().unwrap_err()
}

#[test]
fn an_unknown_need_is_named_with_what_was_meant() {
    let error = pools("[pool]\nsize = 1\nafter = ['report', 'xyz']\n[pool.reports]\nsize = 1");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        problems(error),
        [
            "pool.default needs `pool.report`, which was not added; did you mean `pool.reports`?",
            "pool.default needs `pool.xyz`, which was not added",
        ]
    );
}

#[test]
fn a_circle_is_named_in_its_order() {
    let error = pools(
        "[pool]\nsize = 1\nafter = ['reports']\n[pool.reports]\nsize = 1\nafter = ['default']",
    );
    assert_eq!(problems(error), ["pool.default → pool.reports → pool.default need each other"]);
    let error = pools("[pool]\nsize = 1\nafter = ['default']\n[pool.reports]\nsize = 1");
    assert_eq!(problems(error), ["pool.default → pool.default need each other"]);
}

#[test]
fn names_that_clash_are_listed() {
    let mut builder = Builder::new();
    builder.add(Pool::default());
    builder.add(Pool::default());
    builder.add_as("size", Pool::default());
    builder.add_as("required", Pool::default());
    builder.add_as("a.b", Pool::default());
    builder.section::<Empty>("server");
    builder.section::<Empty>("container");
    builder.adopt(Fake::new("pool.size", &Log::default()));
    let found = problems(builder.configure(&Loader::new()).unwrap_err());
    for expected in [
        "`container` was added twice",
        "`server` was added twice",
        "`pool.default` was added twice",
        "`pool.size` was added twice",
        "`pool.size` cannot be a name: the section has a field of that name",
        "`pool.required` cannot be a name: the section has a field of that name",
        "`pool.a.b` cannot be a name: expected letters, digits, `_` and `-`",
    ] {
        assert!(found.iter().any(|problem| problem == expected), "{expected} is not in {found:#?}");
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl Settings for Empty {}

/// Needs a pool by its handle, and declares it only if told to.
struct User {
    pool: Handle<Pool>,
    declares: bool,
}

impl Component for User {
    const NAME: &'static str = "user";
    type Config = Empty;
    type Service = Wrapped;

    fn needs(&self, _: &Empty) -> Vec<Need> {
        if self.declares { vec![(&self.pool).into()] } else { Vec::new() }
    }

    fn build(self, _: Empty, deps: &Deps<'_>) -> Result<Wrapped, BoxFault> {
        let pool = deps.get(&self.pool)?;
        Ok(Wrapped { fake: Arc::clone(&pool.fake), config: pool.config.clone() })
    }
}

fn user(declares: bool) -> Result<(), Error> {
    let mut builder = Builder::new();
    // The order of adding is against what is tested: it decides nothing.
    let pool = || Builder::new().add(Pool::default());
    let (user, added) = if declares {
        let user = builder.add(User { pool: pool(), declares });
        (user, builder.add(Pool::default()))
    } else {
        let added = builder.add(Pool::default());
        (builder.add(User { pool: pool(), declares }), added)
    };
    let loader = Loader::new().with_defaults("[pool]\nsize = 9");
    let container = builder.configure(&loader)?.build()?;
    assert_eq!(container.get(&user)?.config.size, container.get(&added)?.config.size);
    Ok(())
}

#[test]
fn a_component_gets_what_it_declared_and_nothing_else() {
    user(true).unwrap();
    let error = user(false).unwrap_err();
    assert!(
        Report(&error).to_string().starts_with("user.default build: no service `pool.default`")
    );
}

#[test]
fn a_service_that_was_not_added_is_named_by_its_key() {
    let mut other = Builder::new();
    let handle = other.add_as("reports", Pool::default());
    let section = other.section::<Empty>("limits");
    let configured = Builder::new().configure(&Loader::new()).unwrap();
    let missing = |error: Error| match error {
        Error::Missing { key } => key,
        error => panic!("{error}"),
    };
    assert_eq!(missing(configured.config(&handle).unwrap_err()), "pool.reports");
    assert_eq!(missing(configured.section(&section).unwrap_err()), "limits");
    let container = configured.build().unwrap();
    assert_eq!(missing(container.get(&handle).unwrap_err()), "pool.reports");
    assert_eq!(missing(container.section(&section).unwrap_err()), "limits");
}

#[test]
fn an_adopted_service_may_need_what_is_not_there() {
    let mut builder = Builder::new();
    let fake = Adopted::from(Fake::new("fake", &Log::default()));
    builder.adopt(fake.needing(Need::instance::<Pool>("default")));
    let error = builder.configure(&Loader::new()).unwrap().build().unwrap_err();
    let Error::Wiring { problems } = error else { panic!() };
    assert!(
        matches!(&problems[..], [WiringProblem::UnknownNeed { service, .. }] if service == "fake")
    );
}

#[test]
fn handles_and_containers_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<trine::Container>();
    shared::<Handle<Pool>>();
    shared::<trine::Section<Empty>>();
}
