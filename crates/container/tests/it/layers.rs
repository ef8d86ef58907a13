use trine::{Environment, Loader};
use trine_core::{Durability, Span};

use crate::problems::{Level, Store, loaded};

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (*name, *value)).collect()
}

#[test]
fn later_layers_replace_earlier_ones_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("default.toml", "[app]\nname = 'default'\nverbose = true\nworkers = 3\nratio = 0.5");
    write("prod.toml", "[app]\nname = 'prod'\nratio = 2");
    write("extra.toml", "[app]\nname = 'extra'\nworkers = 4");
    let base = Loader::new().with_defaults("[app]\nname = 'program'\ntimeout = '9s'");
    let app = loaded(&base).unwrap();
    assert_eq!((&*app.name, app.workers.get(), app.verbose), ("program", 2, false));

    let base = base.with_folder(folder.path());
    let app = loaded(&base).unwrap();
    assert_eq!((&*app.name, app.workers.get(), app.verbose), ("default", 3, true));

    let base = base.with_profile("prod");
    let app = loaded(&base).unwrap();
    assert_eq!((&*app.name, app.workers.get(), app.ratio), ("prod", 3, 2.0));
    assert_eq!(app.timeout, Some(Span::secs(9)));

    let base = base.with_file(folder.path().join("extra.toml"));
    let app = loaded(&base).unwrap();
    assert_eq!((&*app.name, app.workers.get()), ("extra", 4));

    let base = base.with_environment(environment(&[("TRINE__APP__NAME", "env")]));
    assert_eq!(loaded(&base).unwrap().name, "env");

    let base = base.with_override("--name", "app.name", "option");
    assert_eq!(loaded(&base).unwrap().name, "option");
}

#[test]
fn variables_are_read_as_what_the_setting_is() {
    let variables = environment(&[
        ("TRINE__APP__NAME", "12345"),
        ("TRINE__APP__WORKERS", "7"),
        ("TRINE__APP__VERBOSE", "true"),
        ("TRINE__APP__TIMEOUT", "250ms"),
        ("TRINE__APP__RATIO", "1.5"),
        ("TRINE__APP__LEVEL", "quiet"),
        ("TRINE__APP__DURABILITY", "{ async = { window = '2s' } }"),
        ("TRINE__APP__PEERS", "[{ host = 'a', port = 1 }, { host = 'b', port = 2 }]"),
        ("TRINE__APP__STORES__MAIN__KIND", "file"),
        ("TRINE__APP__STORES__MAIN__PATH", "7"),
        ("TRINE_OTHER", "x"),
        ("PATH", "x"),
    ]);
    let app = loaded(&Loader::new().with_environment(variables)).unwrap();
    assert_eq!((&*app.name, app.workers.get(), app.verbose), ("12345", 7, true));
    assert_eq!(
        (app.timeout, app.ratio, app.level),
        (Some(Span::millis(250)), 1.5, Some(Level::Quiet))
    );
    assert_eq!(app.durability, Durability::Async { window: Span::secs(2) });
    assert_eq!((app.peers.len(), app.peers[1].port), (2, 2));
    assert!(matches!(&app.stores["main"], Store::File { path, .. } if path == "7"));
}

#[test]
fn a_variable_finds_the_spelling_that_is_there() {
    let loader = Loader::new()
        .with_defaults("[app]\nname = 'x'\n[app.stores.Shard-0]\nkind = 'file'\npath = 'a'")
        .with_environment(environment(&[("TRINE__APP__STORES__SHARD_0__PATH", "b")]));
    let app = loaded(&loader).unwrap();
    assert_eq!(app.stores.len(), 1);
    assert!(matches!(&app.stores["Shard-0"], Store::File { path, .. } if path == "b"));
}

#[test]
fn a_table_of_another_kind_replaces_the_former_as_a_whole() {
    let loader = Loader::new()
        .with_defaults(
            "[app]\nname = 'x'\n[app.stores.main]\nkind = 'file'\npath = 'a'\nreaders = 3",
        )
        .with_override("test", "app.stores.main.kind", "memory");
    assert!(matches!(loaded(&loader).unwrap().stores["main"], Store::Memory {}));
    let same = Loader::new()
        .with_defaults(
            "[app]\nname = 'x'\n[app.stores.main]\nkind = 'file'\npath = 'a'\nreaders = 3",
        )
        .with_override("test", "app.stores.main.path", "b");
    assert!(
        matches!(&loaded(&same).unwrap().stores["main"], Store::File { path, readers: Some(3) } if path == "b")
    );
}

#[test]
fn what_comes_with_another_kind_in_one_layer_is_kept() {
    let base = Loader::new()
        .with_defaults("[app]\nname = 'x'\n[app.stores.main]\nkind = 'file'\npath = 'old'");
    // `KEYS` and `URL` stand on both sides of `KIND` in their order.
    let variables = [
        ("TRINE__APP__STORES__MAIN__KEYS", "['k']"),
        ("TRINE__APP__STORES__MAIN__KIND", "server"),
        ("TRINE__APP__STORES__MAIN__URL", "u"),
    ];
    let options = base
        .clone()
        .with_override("--key", "app.stores.main.keys", serde_json::json!(["k"]))
        .with_override("--url", "app.stores.main.url", "u")
        .with_override("--kind", "app.stores.main.kind", "server");
    for loader in [base.clone().with_environment(environment(&variables)), options] {
        let Store::Server(server) = &loaded(&loader).unwrap().stores["main"] else { panic!() };
        assert_eq!((server.url.expose(), server.keys.len()), ("u", 1));
    }
    let beside = [variables[0], ("TRINE__APP__STORES__MAIN__KIND", "memory")];
    let error = loaded(&base.with_environment(environment(&beside))).unwrap_err().to_string();
    assert!(error.contains("app.stores.main.keys: unknown key"), "{error}");
}

#[test]
fn the_prefix_of_variables_is_taken_off_once() {
    let loader = Loader::new()
        .with_defaults("[app]\nname = 'x'")
        .with_environment(environment(&[("TRINE__TRINE__APP__NAME", "y")]));
    let error = loaded(&loader).unwrap_err().to_string();
    assert!(error.contains("trine: unknown key"), "{error}");
    assert!(error.contains("(variable TRINE__TRINE__APP__NAME)"), "{error}");
}

#[test]
fn a_folder_without_files_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let loader = Loader::new().with_folder(folder.path()).with_override("test", "app.name", "x");
    assert_eq!(loaded(&loader).unwrap().name, "x");
}

#[test]
fn a_list_is_replaced_and_not_appended_to() {
    let loader = Loader::new()
        .with_defaults(
            "[app]\nname = 'x'\npeers = [{ host = 'a', port = 1 }, { host = 'b', port = 1 }]",
        )
        .with_override("test", "app.peers", serde_json::json!([{ "host": "c", "port": 2 }]));
    let app = loaded(&loader).unwrap();
    assert_eq!((app.peers.len(), &*app.peers[0].host), (1, "c"));
}
