use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use trine_axum::ProblemJson;
use trine_core::{Rfc3339, Secret};
use trine_db_shard::ShardId;
use uuid::Uuid;

use super::Api;
use super::access::Owner;
use crate::accounts::{Account, Email, Name, Password, Registration};
use crate::error::Result;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    email: String,
    password: Secret,
    name: String,
}

#[derive(Serialize)]
pub(super) struct Registered {
    account_id: Uuid,
    shard_id: ShardId,
}

/// `POST /api/accounts`
pub(super) async fn register(
    State(api): State<Api>,
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
    ProblemJson(new): ProblemJson<NewAccount>,
) -> Result<(StatusCode, Json<Registered>)> {
    let registration = Registration {
        email: Email::parse(&new.email)?,
        name: Name::parse(&new.name)?,
        password: Password::parse(new.password)?,
    };
    if let Some(Extension(ConnectInfo(client))) = client {
        api.registrations.count(client.ip())?;
    }
    let (account_id, shard_id) = api.accounts.register(registration).await?;
    Ok((StatusCode::CREATED, Json(Registered { account_id, shard_id })))
}

#[derive(Serialize)]
pub(super) struct Me {
    account_id: Uuid,
    shard_id: ShardId,
    email: String,
    name: String,
    created_at: String,
}

/// `GET /api/me`
pub(super) async fn me(
    State(api): State<Api>,
    Extension(Owner(account_id)): Extension<Owner>,
) -> Result<Json<Me>> {
    shown(&api, api.accounts.get(account_id).await?).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    name: String,
}

/// `PATCH /api/me`
pub(super) async fn rename(
    State(api): State<Api>,
    Extension(Owner(account_id)): Extension<Owner>,
    ProblemJson(changes): ProblemJson<Changes>,
) -> Result<Json<Me>> {
    let name = Name::parse(&changes.name)?;
    shown(&api, api.accounts.rename(account_id, name).await?).await
}

async fn shown(api: &Api, account: Account) -> Result<Json<Me>> {
    let Account { id, email, name, created_at } = account;
    let shard_id = api.accounts.assign_shard(id).await?;
    Ok(Json(Me {
        account_id: id,
        shard_id,
        email,
        name,
        created_at: format!("{:.6}", Rfc3339(created_at.into())),
    }))
}
