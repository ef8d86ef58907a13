use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use trine_axum::ContextLayer;
use trine_core::Tasks;
use trine_db_shard::DbService;
use trine_scheduler::SchedulerService;

use crate::accounts::Accounts;
use crate::config::StarterConfig;
use crate::documents::Documents;
use crate::registration_limit::RegistrationLimit;
use crate::sessions::Sessions;
use crate::statistics::Statistics;

use access::AdminDigest;
use places::Places;
use upload::Uploads;

mod access;
mod accounts;
mod admin;
mod answer;
mod documents;
mod jobs;
mod places;
mod sessions;
mod upload;

/// Longest JSON body in bytes.
const LONGEST_JSON: usize = 64 * 1024;

/// Most documents that are received at the same time, and most that are sent:
/// each may be 8 MiB of memory.
const DOCUMENTS: usize = 16;

/// Most of these of one account.
const DOCUMENTS_OF_ONE: usize = 4;

/// What the handlers work with. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) accounts: Accounts,
    pub(crate) sessions: Sessions,
    pub(crate) documents: Documents,
    pub(crate) db: DbService,
    pub(crate) scheduler: SchedulerService,
    pub(crate) statistics: Statistics,
    registrations: RegistrationLimit,
    admin: Option<AdminDigest>,
    request_timeout: Duration,
    uploads: Uploads,
    /// Places for documents that are sent.
    downloads: Places,
}

impl Api {
    pub(crate) fn new(
        accounts: Accounts,
        sessions: Sessions,
        documents: Documents,
        db: DbService,
        (scheduler, statistics): (SchedulerService, Statistics),
        config: &StarterConfig,
        tasks: &Tasks,
    ) -> Self {
        let request_timeout = config.request_timeout.get();
        let places = || Places::new(DOCUMENTS, DOCUMENTS_OF_ONE);
        Self {
            accounts,
            sessions,
            documents,
            db,
            scheduler,
            statistics,
            registrations: RegistrationLimit::new(&config.registration),
            admin: config.admin_token.as_ref().map(AdminDigest::of),
            request_timeout,
            uploads: Uploads::new(places(), request_timeout, tasks.clone()),
            downloads: places(),
        }
    }

    /// Returns `routes` for those who show the administrator's token.
    pub(crate) fn for_admin<S: Clone + Send + Sync + 'static>(
        &self,
        routes: Router<S>,
    ) -> Router<S> {
        routes.route_layer(from_fn_with_state(self.clone(), access::require_admin))
    }

    /// Returns the routes below `/api`.
    pub(crate) fn routes(self) -> Router {
        let owned = Router::new()
            .route("/api/sessions", delete(sessions::log_out_everywhere))
            .route("/api/sessions/current", delete(sessions::log_out))
            .route("/api/me", get(accounts::me).patch(accounts::rename))
            .route("/api/documents", get(documents::list))
            .route(
                "/api/documents/{key}",
                put(documents::store).get(documents::read).delete(documents::remove),
            )
            .route_layer(from_fn_with_state(self.clone(), access::require_session));
        let admin = self.for_admin(
            Router::new()
                .route("/api/admin/shards/{id}/status", post(admin::set_shard_status))
                .route("/api/admin/statistics", get(jobs::statistics))
                .route("/api/admin/jobs", get(jobs::list))
                .route("/api/admin/jobs/{id}/pause", post(jobs::pause))
                .route("/api/admin/jobs/{id}/resume", post(jobs::resume))
                .route("/api/admin/jobs/{id}/trigger", post(jobs::trigger)),
        );
        Router::new()
            .route("/api/accounts", post(accounts::register))
            .route("/api/sessions", post(sessions::log_in))
            .merge(owned)
            .merge(admin)
            .layer(DefaultBodyLimit::max(LONGEST_JSON))
            .layer(ContextLayer::new(self.request_timeout))
            .with_state(self)
    }
}
