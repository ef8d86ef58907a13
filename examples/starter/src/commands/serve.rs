use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trine_core::{Deadline, ErrorKind, Fault};

use super::import_job::ImportJob;
use crate::cli::Serve;
use crate::failure::Failure;
use crate::sources::Settings;
use crate::terminal::say;
use crate::wiring::{App, Plan};

/// Imports and serves, as asked, until a signal or the end of the import.
pub(super) async fn run(serve: Serve, settings: Settings, plan: Plan) -> Result<(), Failure> {
    let signal = trine::signals()
        .map_err(|cause| Failure::System { what: "take over signals", cause: cause.into() })?;
    if let Some(folder) = serve.import.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::Usage(format!("--import {}: no such folder", folder.display())));
    }
    settings.make_data_folder()?;
    settings.keep_session_key()?;
    let address = plan.starter.listen;
    let app = plan.build()?;
    let job = serve.import.map(|folder| ImportJob { folder, data: settings.data.clone() });
    match job {
        Some(job) if serve.exit_after_import => import_only(&app, &job, signal).await,
        job => {
            let listener = match listen(address).await {
                Ok(listener) => listener,
                Err(failure) => return Err(explain(failure, &app, &settings).await),
            };
            app.register_jobs().await?;
            serve_until(&app, listener, job, signal).await
        }
    }
}

async fn import_only(
    app: &App,
    job: &ImportJob,
    signal: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut result = Ok(());
    let work = async {
        tokio::select! {
            imported = job.run(app, None) => result = imported,
            () = signal => {}
        }
    };
    let stopped = app.container.run(work).await;
    result.and(stopped.map_err(Into::into))
}

/// Serves from the beginning, so that the process is seen to live while its
/// services start and files are imported. An import that fails ends it.
async fn serve_until(
    app: &App,
    (listener, address): (TcpListener, SocketAddr),
    job: Option<ImportJob>,
    signal: impl Future<Output = ()>,
) -> Result<(), Failure> {
    say(format_args!("listening on http://{address}"));
    let mut result = Ok(());
    let until = async {
        let import = async {
            if let Some(job) = job {
                job.run(app, Some(address)).await?;
            }
            std::future::pending::<Result<(), Failure>>().await
        };
        tokio::select! {
            failed = import => result = failed,
            () = signal => {}
        }
    };
    let operations = Arc::new(app.container.clone());
    let details = app.api.for_admin(trine_axum::details(operations.clone()));
    let routes = trine_axum::probes(operations).merge(details).merge(app.api.clone().routes());
    let routes = trine_axum::with_problem_fallbacks(routes);
    let drain = app.container.config().drain_timeout.get();
    let server = |stop: CancellationToken| {
        trine_axum::serve(listener, routes, stop.cancelled_owned(), drain)
    };
    let stopped = app.container.serve(until, server).await;
    result.and(stopped.map_err(Into::into))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |cause| Failure::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Returns what the reader should hear of first. A second process usually finds
/// both the address and the data folder taken, and the folder tells by whom.
async fn explain(failure: Failure, app: &App, settings: &Settings) -> Failure {
    if settings.data.is_none() {
        return failure;
    }
    let started = app.container.start().await;
    let at_once = Deadline::after(Duration::ZERO);
    // What matters is said below; nothing was done that could be lost.
    let _ = app.container.shutdown(at_once).await;
    match started {
        Err(error) if error.kind() == ErrorKind::Conflict => error.into(),
        _ => failure,
    }
}
