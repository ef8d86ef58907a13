use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use trine_core::{CallContext, Secret};
use uuid::Uuid;

use super::Api;
use crate::error::{Error, NoSession, Result};

/// Whose call it is, in the extensions of a request that was let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(pub(super) Uuid);

/// The digest of the administrator's token. Digests are compared, so how long
/// that takes tells nothing about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminDigest([u8; 32]);

impl AdminDigest {
    pub(super) fn of(token: &Secret) -> Self {
        Self::of_shown(token.expose())
    }

    fn of_shown(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// Lets calls through that show the token of a session, in the name of its
/// account: what it asks of the databases counts towards its share of them, and
/// its idempotency keys are its own.
pub(super) async fn require_session(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let account = api.sessions.authenticate(session_token(request.headers())?).await?;
    request.extensions_mut().insert(Owner(account));
    let context = CallContext::current().with_tenant(account.to_string());
    let context = context
        .map_err(|cause| Error::Internal { what: "naming the tenant", cause: cause.into() })?;
    Ok(context.scope(next.run(request)).await)
}

/// Lets calls through that show the administrator's token.
pub(super) async fn require_admin(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let shown = bearer(request.headers()).ok_or(Error::NoSession(NoSession::Missing))?;
    match api.admin {
        Some(expected) if AdminDigest::of_shown(shown) == expected => Ok(next.run(request).await),
        _ => Err(Error::NotAdmin),
    }
}

/// Returns the session token that a call shows.
pub(super) fn session_token(headers: &HeaderMap) -> Result<&str> {
    bearer(headers).ok_or(Error::NoSession(NoSession::Missing))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
