use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use trine_axum::ProblemJson;
use trine_core::Secret;

use super::Api;
use super::access::{Owner, session_token};
use crate::accounts::Email;
use crate::error::Result;
use crate::login_limit::Caller;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    email: String,
    password: Secret,
}

#[derive(Serialize)]
pub(super) struct Opened {
    access_token: String,
    expires_in: u64,
}

/// `POST /api/sessions`
pub(super) async fn log_in(
    State(api): State<Api>,
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
    ProblemJson(login): ProblemJson<Login>,
) -> Result<Json<Opened>> {
    let email = Email::parse(&login.email)?;
    let address = client.map(|Extension(ConnectInfo(client))| client.ip());
    let caller = Caller { account: email.as_str(), address };
    let (token, lifetime) = api.sessions.log_in(&email, login.password, caller).await?;
    Ok(Json(Opened { access_token: token.expose().to_owned(), expires_in: lifetime.as_secs() }))
}

/// `DELETE /api/sessions/current`
pub(super) async fn log_out(State(api): State<Api>, headers: HeaderMap) -> Result<StatusCode> {
    api.sessions.log_out(session_token(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/sessions`
pub(super) async fn log_out_everywhere(
    State(api): State<Api>,
    Extension(Owner(account)): Extension<Owner>,
) -> Result<StatusCode> {
    api.sessions.log_out_everywhere(account).await?;
    Ok(StatusCode::NO_CONTENT)
}
