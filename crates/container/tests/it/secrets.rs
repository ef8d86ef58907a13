use trine::{Environment, Loader};

use crate::problems::{Server, Store, loaded};

const SECRET: &str = "hunter2";

fn server(toml: &str, variables: &[(&str, &str)]) -> Result<Server, String> {
    let environment: Environment = variables.iter().map(|(name, value)| (*name, *value)).collect();
    let toml = format!("[app]\nname = 'x'\n[app.stores.main]\nkind = 'server'\n{toml}");
    let loader = Loader::new().with_defaults(toml).with_environment(environment);
    let app = loaded(&loader).map_err(|error| error.to_string())?;
    let app = std::sync::Arc::into_inner(app).unwrap();
    match app.stores.into_values().next() {
        Some(Store::Server(server)) => Ok(server),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    for (content, expected) in [
        ("my://u:p@h/db\n", "my://u:p@h/db"),
        ("my://u:p@h/db\r\n", "my://u:p@h/db"),
        ("a${B}c", "a${B}c"),
        ("two\n\n", "two\n"),
        ("", ""),
    ] {
        std::fs::write(&file, content).unwrap();
        let server = server(&format!("url_file = {file:?}"), &[]).unwrap();
        assert_eq!(server.url.expose(), expected);
    }
    let server = server(&format!("url = 'x'\ntoken_file = {file:?}"), &[]).unwrap();
    assert_eq!(server.token.unwrap().expose(), "");
}

#[test]
fn a_variable_may_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, SECRET).unwrap();
    let variables = [("TRINE__APP__STORES__MAIN__URL_FILE", file.to_str().unwrap())];
    assert_eq!(server("", &variables).unwrap().url.expose(), SECRET);
}

#[test]
fn variables_are_expanded_in_secrets_and_nowhere_else() {
    let variables = [("USER_1", "me"), ("PASS", "p$s{}${X}")];
    let expanded = |text: &str| {
        let server =
            server(&format!("url = '{text}'\nkeys = ['${{USER_1}}']"), &variables).unwrap();
        assert_eq!(server.keys[0].expose(), "me");
        server.url.expose().to_owned()
    };
    assert_eq!(expanded("my://${USER_1}:${PASS}@h"), "my://me:p$s{}${X}@h");
    assert_eq!(expanded("a$b$$c"), "a$b$$c");
    assert_eq!(expanded("$${PASS}"), "${PASS}");
    assert_eq!(expanded("${not a name}"), "${not a name}");
    assert_eq!(expanded("${"), "${");

    let loader = Loader::new()
        .with_defaults("[app]\nname = '${PASS}'")
        .with_environment([("PASS", "x")].into_iter().collect());
    assert_eq!(loaded(&loader).unwrap().name, "${PASS}");
}

#[test]
fn what_is_missing_is_named_with_its_path() {
    let error = server("url_file = '/does/not/exist'\ntoken = '${NOT_SET}'", &[]).unwrap_err();
    assert!(error.contains("2 problems"), "{error}");
    assert!(error.contains("app.stores.main.url_file: the file cannot be read: "), "{error}");
    assert!(error.contains("app.stores.main.token: the variable NOT_SET is not set"), "{error}");
    let error = server("", &[]).unwrap_err();
    assert!(error.contains("app.stores.main.url: missing, itself or as a file"), "{error}");
    let error = server("url_fil = 'x'\nurl = 'y'", &[]).unwrap_err();
    assert!(
        error.contains("app.stores.main.url_fil: unknown key; did you mean `url_file`?"),
        "{error}"
    );
}

#[test]
fn a_secret_and_its_file_are_one_too_many() {
    let error = server("url = 'hunter2'\nurl_file = 'x'", &[]).unwrap_err();
    assert!(error.contains("url_file: `url` is given as well; expected one of the two"), "{error}");
    assert!(!error.contains(SECRET));
}

#[test]
fn a_later_layer_gives_a_secret_in_the_other_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "of the file").unwrap();
    let variable = [("TRINE__APP__STORES__MAIN__URL", "of the variable")];
    let found = server(&format!("url_file = {file:?}"), &variable).unwrap();
    assert_eq!(found.url.expose(), "of the variable");
    let variable = [("TRINE__APP__STORES__MAIN__URL_FILE", file.to_str().unwrap())];
    assert_eq!(server("url = 'hunter2'", &variable).unwrap().url.expose(), "of the file");
}

#[test]
fn no_error_ever_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let variables = [("PASS", SECRET), ("TRINE__APP__STORES__MAIN__KEYS", "['hunter2', 3]")];
    for toml in [
        "url = ['hunter2']".to_owned(),
        "url = { hunter2 = 1 }".to_owned(),
        "url = 'hunter2'\nurll = 'hunter2'".to_owned(),
        "url = 'hunter2'\nkeys = 'hunter2'".to_owned(),
        "url = 'hunter2'\ntoken = ['hunter2']".to_owned(),
        "url = '${PASS}'\ntoken = 5".to_owned(),
        "url = 'hunter2'\n[app.peers]\nhost = 'hunter2'".to_owned(),
        "url = 'hunter2'\n[[app.peers]]\nhost = 'hunter2'\nport = 'hunter2'".to_owned(),
        format!("url_file = {file:?}\nurl = 7"),
        "url = \"hunter2\ntoken = 'x'".to_owned(),
        "url = hunter2".to_owned(),
        "url = 'hunter2'\nurl = 'hunter2'".to_owned(),
    ] {
        let error = server(&toml, &variables).unwrap_err();
        let debug = format!("{error:?}");
        assert!(!debug.contains(SECRET), "{toml} gave {error}");
    }
}

#[test]
fn a_rule_that_repeats_a_secret_is_masked() {
    use schemars::JsonSchema;
    use serde::Deserialize;
    use trine::{Builder, Settings};
    use trine_core::Secret;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Careless {
        key: Secret,
    }

    impl Settings for Careless {
        fn problems(&self) -> Vec<String> {
            vec![format!("key: {} is too short", self.key.expose())]
        }
    }

    let mut builder = Builder::new();
    builder.section::<Careless>("careless");
    let loader = Loader::new().with_defaults("[careless]\nkey = 'hunter2'");
    let error = builder.configure(&loader).unwrap_err().to_string();
    assert!(error.contains("careless.key: *** is too short"), "{error}");
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret() {
    let environment: Environment = [("PASS", SECRET)].into_iter().collect();
    let loader = Loader::new()
        .with_defaults("a = 'x'")
        .with_environment(environment)
        .with_override("--url", "app.url", SECRET);
    assert!(!format!("{loader:?}").contains(SECRET));
}
