use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Accounts, sessions and documents over the Trine services.
///
/// Without a profile everything is embedded: one global and four shard
/// databases below the data folder. With `--profile prod` the databases are
/// MariaDB or MySQL servers. Exit code 0 after an orderly stop, 2 if the
/// command line or the configuration is wrong, 1 for everything else.
#[derive(Debug, Parser)]
#[command(name = "trine-starter", version, args_conflicts_with_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(flatten)]
    pub(crate) serve: Serve,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Where data and configuration are.
#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// Folder of the embedded databases [default: ./trine-data].
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// `prod`, or the name of a file PROFILE.toml in the folder of --config.
    #[arg(long, value_name = "PROFILE", global = true)]
    pub(crate) profile: Option<String>,
    /// Folder with default.toml and profiles, or one file with settings.
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) config: Option<PathBuf>,
}

/// How to serve.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Stores every text file below this folder for a demo account, then
    /// serves.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) import: Option<PathBuf>,
    /// Ends after the import instead of serving.
    #[arg(long, requires = "import")]
    pub(crate) exit_after_import: bool,
}

impl Serve {
    /// Returns the name of an option that was given, if there is one.
    pub(crate) fn any(&self) -> Option<&'static str> {
        let Self { listen, import, exit_after_import } = self;
        let given = [
            ("--listen", listen.is_some()),
            ("--import", import.is_some()),
            ("--exit-after-import", *exit_after_import),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Applies pending migrations to the configured databases.
    Migrate {
        /// Prints what would run instead of running it.
        #[arg(long)]
        print: bool,
    },
    /// Tells about the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

/// What to tell about the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the JSON schema of all settings, for editors.
    Schema,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_and_after_a_command() {
        for line in [["x", "--profile", "prod", "migrate"], ["x", "migrate", "--profile", "prod"]] {
            assert_eq!(Cli::parse_from(line).sources.profile.as_deref(), Some("prod"));
        }
    }

    #[test]
    fn an_exit_after_no_import_is_refused() {
        assert!(Cli::try_parse_from(["x", "--exit-after-import"]).is_err());
    }
}
