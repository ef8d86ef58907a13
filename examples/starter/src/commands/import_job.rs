use std::net::SocketAddr;
use std::path::PathBuf;

use trine_core::Secret;

use crate::error::Error;
use crate::failure::Failure;
use crate::import::{DemoAccount, Import, Progress};
use crate::terminal::say;
use crate::wiring::App;

/// The import that the command line asks for.
#[derive(Debug)]
pub(super) struct ImportJob {
    pub(super) folder: PathBuf,
    /// The data folder, which is left out.
    pub(super) data: Option<PathBuf>,
}

impl ImportJob {
    /// Waits for the services, imports the folder, and tells what happened and,
    /// with the address of a server, what to try next.
    ///
    /// # Errors
    ///
    /// Fails if the services do not start, if another import of the account is
    /// under way or comes between, or with the errors of the databases.
    pub(super) async fn run(&self, app: &App, address: Option<SocketAddr>) -> Result<(), Failure> {
        app.container.start().await?;
        // What the rest may do without is not waited for there.
        app.locks.start().await.map_err(Error::from)?;
        let email = DemoAccount::EMAIL;
        let demo = DemoAccount::find_or_make(&app.accounts, |password| {
            say(format_args!("making the account {email}; its password is shown only now"));
            say(format_args!("  password: {}", password.expose()));
        });
        let demo = demo.await?;
        if demo.password.is_none() {
            say(format_args!("the account {email} is kept, with the password it has"));
        }
        let import = Import {
            folder: self.folder.clone(),
            data: self.data.clone(),
            account: demo.id,
            shard: demo.shard,
        };
        let progress = Progress::on_terminal();
        let imported =
            import.run(&app.documents, &app.locks, app.container.tasks(), &progress).await;
        progress.finish();
        say(format_args!("{}", imported?).to_string().trim_end());
        if let Some(address) = address {
            tell_what_to_try(address, demo.password.as_ref());
        }
        Ok(())
    }
}

fn tell_what_to_try(address: SocketAddr, password: Option<&Secret>) {
    let email = DemoAccount::EMAIL;
    let password = password.map_or("PASSWORD", |password| password.expose());
    let url = format!("http://{address}");
    say("try:");
    say(format_args!(
        "  TOKEN=$(curl -s {url}/api/sessions -H 'content-type: application/json' \
         -d '{{\"email\":\"{email}\",\"password\":\"{password}\"}}' | \
         sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
    ));
    say(format_args!("  curl -s {url}/api/me -H \"authorization: Bearer $TOKEN\""));
    say(format_args!(
        "  curl -s '{url}/api/documents?limit=5' -H \"authorization: Bearer $TOKEN\""
    ));
    say(format_args!("  curl -s {url}/health/ready"));
}
