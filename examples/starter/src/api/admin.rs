use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trine_axum::{ProblemJson, ProblemPath};
use trine_core::ErrorKind;
use trine_db_shard::{ShardId, ShardStatus};

use super::Api;
use crate::error::{Error, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStatus {
    status: String,
}

#[derive(Serialize)]
pub(super) struct Changed {
    shard_id: ShardId,
    status: ShardStatus,
}

/// `POST /api/admin/shards/{id}/status`
pub(super) async fn set_shard_status(
    State(api): State<Api>,
    ProblemPath(id): ProblemPath<String>,
    ProblemJson(new): ProblemJson<NewStatus>,
) -> Result<Json<Changed>> {
    let id: u32 = id.parse().map_err(|_| Error::invalid("id", "a shard number"))?;
    let status: ShardStatus = new.status.parse().map_err(|_| {
        Error::invalid("status", ShardStatus::ALL.map(ShardStatus::as_str).join(", "))
    })?;
    match api.db.set_shard_status(id, status).await {
        Ok(()) => Ok(Json(Changed { shard_id: ShardId::new(id), status })),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NoShard { id }),
        Err(error) => Err(error.into()),
    }
}
