use trine::Environment;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::failure::Failure;
use crate::schema;
use crate::sources::Settings;
use crate::terminal::say;
use crate::wiring::Wiring;

mod import_job;
mod serve;

/// Does what the command line asks for.
///
/// # Errors
///
/// Fails with what keeps it from being done.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    if let (Some(_), Some(option)) = (&cli.command, cli.serve.any()) {
        let text = format!("{option} is about serving and means nothing beside a command");
        return Err(Failure::Usage(text));
    }
    let wiring = Wiring::new();
    if let Some(Command::Config { what: ConfigCommand::Schema }) = cli.command {
        say(format_args!("{:#}", wiring.builder.schema()?));
        return Ok(());
    }
    let settings = Settings::new(&cli.sources, &cli.serve, Environment::of_process())?;
    let plan = wiring.configure(&settings.loader)?;
    trine::install_log(&plan.telemetry)?;
    match cli.command {
        Some(Command::Migrate { print: true }) => {
            say(trine_db_shard::print_migrations(plan.databases()?, &schema::migrations())?);
            Ok(())
        }
        Some(Command::Migrate { print: false }) => {
            settings.make_data_folder()?;
            let report = trine_db_shard::migrate(plan.databases()?, &schema::migrations()).await?;
            say(report.into_result()?);
            Ok(())
        }
        Some(Command::Config { .. }) | None => serve::run(cli.serve, settings, plan).await,
    }
}
