use std::fmt::Write;
#[cfg(unix)]
use std::fs;
use std::fs::DirBuilder;
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use trine::{Environment, Loader};

use crate::cli::{Serve, Sources};
use crate::failure::Failure;
use crate::session_key::SessionKey;

/// The settings of the profile that the program brings with it.
const PROD: &str = include_str!("../config/prod.toml");

/// The profile whose settings are [built in](PROD).
const PROD_NAME: &str = "prod";

/// Shards of the embedded profile.
const SHARDS: u32 = 4;

/// Where the settings come from, and where embedded data go.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) loader: Loader,
    /// The folder of the embedded databases, `None` with database servers.
    pub(crate) data: Option<PathBuf>,
    session_key: Option<SessionKey>,
}

impl Settings {
    /// Combines the command line with the variables of the process.
    ///
    /// # Errors
    ///
    /// Fails with [`Failure::Usage`] for options that do not go together.
    pub(crate) fn new(
        sources: &Sources,
        serve: &Serve,
        environment: Environment,
    ) -> Result<Self, Failure> {
        let is_prod = sources.profile.as_deref() == Some(PROD_NAME);
        let (mut loader, data, session_key) = if is_prod {
            if sources.data.is_some() {
                let text = "--data means nothing with --profile prod: its databases are servers";
                return Err(Failure::Usage(text.to_owned()));
            }
            (Loader::new().with_defaults(PROD), None, None)
        } else {
            let data = sources.data.clone().unwrap_or_else(|| PathBuf::from("trine-data"));
            let key = SessionKey::find(&data)?;
            (Loader::new().with_defaults(embedded(&data, &key)?), Some(data), Some(key))
        };
        match (&sources.config, &sources.profile) {
            (Some(config), Some(profile)) if config.is_dir() => {
                loader = loader.with_folder(config).with_profile(profile);
            }
            (Some(config), None) if config.is_dir() => loader = loader.with_folder(config),
            (Some(config), profile) if is_prod || profile.is_none() => {
                loader = loader.with_file(config);
            }
            (_, Some(profile)) if !is_prod => {
                let text = format!(
                    "--profile {profile} takes --config FOLDER with {profile}.toml in it; \
                     `{PROD_NAME}` is built in"
                );
                return Err(Failure::Usage(text));
            }
            _ => {}
        }
        let filter = environment.get("RUST_LOG").filter(|filter| !filter.is_empty());
        if let Some(filter) = filter {
            loader = loader.with_override("RUST_LOG", "telemetry.filter", filter);
        }
        if let Some(address) = serve.listen {
            loader = loader.with_override("--listen", "starter.listen", address.to_string());
        }
        Ok(Self { loader: loader.with_environment(environment), data, session_key })
    }

    /// Makes the folder of the embedded databases, if there is to be one, for
    /// its owner alone: it holds password hashes and everybody's documents. One
    /// that is there is left as it is, with a warning if others may enter it.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be made.
    pub(crate) fn make_data_folder(&self) -> Result<(), Failure> {
        let Some(path) = &self.data else { return Ok(()) };
        let failed = |cause| Failure::DataFolder { path: path.clone(), cause };
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        #[cfg(unix)]
        folder.mode(0o700);
        folder.create(path).map_err(failed)?;
        #[cfg(unix)]
        warn_of_others(&fs::metadata(path).map_err(failed)?, path);
        Ok(())
    }

    /// Keeps the key of the sessions in the data folder, if there is one and it
    /// is not kept yet.
    ///
    /// # Errors
    ///
    /// Fails if its file cannot be written.
    pub(crate) fn keep_session_key(&self) -> Result<(), Failure> {
        self.session_key.as_ref().map_or(Ok(()), SessionKey::keep)
    }
}

#[cfg(unix)]
fn warn_of_others(folder: &fs::Metadata, path: &Path) {
    let mode = folder.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let mode = format!("{mode:03o}");
        let path = path.display();
        tracing::warn!(%path, mode, "the data folder may be entered by others: chmod 700 it");
    }
}

/// The settings of the embedded profile that do not depend on its folder: no
/// waiting for load balancers that are not there, sessions in memory, of which
/// none is dropped to make room, and locks in memory, because nobody else has
/// the folder.
const EMBEDDED: &str = r#"
[container]
drain_delay = "0s"
[telemetry]
filter = "warn"
[cache]
backend = { kind = "memory", when_full = "refuse" }
[lock]
backend = { kind = "memory" }
wait = "0s"
[scheduler]
backend = { kind = "database" }
[jobs.cleanup]
schedule = "daily 03:40; jitter 20m"
[jobs.statistics]
schedule = "daily 00:10; jitter 10m"
[sessions]
idle = "12h"
absolute = "12h"
"#;

/// Returns the settings of the embedded profile: everything below `data`.
fn embedded(data: &Path, key: &SessionKey) -> Result<String, Failure> {
    // JSON escapes texts the way TOML does.
    let quoted = |path: &Path| match path.to_str() {
        Some(path) => Ok(Value::from(path)),
        None => {
            let text = format!("--data {}: expected a name in UTF-8", data.display());
            Err(Failure::Usage(text))
        }
    };
    let mut toml = String::from(EMBEDDED);
    // Writing to a string does not fail.
    let _ = match key.fresh() {
        Some(fresh) => writeln!(toml, "key = \"{}\"", fresh.expose()),
        None => writeln!(toml, "key_file = {}", quoted(key.file())?),
    };
    let mut add = |name: &str, file: &str| {
        let path = quoted(&data.join(file))?;
        let _ = write!(toml, "[database.{name}]\nkind = \"sqlite\"\npath = {path}\nreaders = 2\n");
        Ok::<(), Failure>(())
    };
    add("global", "global.db")?;
    for id in 0..SHARDS {
        add(&format!("shard_{id}"), &format!("shard-{id}.db"))?;
    }
    for id in 0..SHARDS {
        let _ = write!(toml, "[[db.shards]]\nid = {id}\nconnection = \"shard_{id}\"\n");
    }
    Ok(toml)
}
