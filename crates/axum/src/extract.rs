use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

mod json;

/// A JSON body; anything else is a [`Problem`] that names the field.
///
/// Unknown fields are refused where the type says `deny_unknown_fields`. The
/// size is bounded by axum's `DefaultBodyLimit`, 2 MB unless set. What the
/// client sent is not repeated in the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemJson<T>(pub T);

/// A body of UTF-8 text; anything else is a [`Problem`]. The size is bounded by
/// axum's `DefaultBodyLimit`, 2 MB unless set.
#[derive(Clone, Debug, Default)]
pub struct ProblemText(pub String);

/// Parameters of the query; what cannot be read is a [`Problem`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemQuery<T>(pub T);

/// Parameters of the path; what cannot be read is a [`Problem`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemPath<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ProblemJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(&request) {
            return Err(Problem::unsupported_media_type("expected Content-Type: application/json"));
        }
        let text = body_text(request, state).await?;
        json::parse(&text).map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for ProblemText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        body_text(request, state).await.map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ProblemQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::try_from_uri(&parts.uri).map_err(|rejection| {
            // The source is serde's: the field, where it knows one, and what is wrong.
            let error = std::error::Error::source(&rejection).map(ToString::to_string);
            let error = error.unwrap_or_default();
            let named = error.split_once(": ").filter(|(field, _)| !field.contains([' ', '`']));
            let (field, message) = named.unwrap_or(("", &error));
            json::refused(field, message)
        })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ProblemPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(value) = path.map_err(|rejection| {
            if rejection.status().is_server_error() {
                return Problem::new(rejection.status(), trine_core::ErrorKind::Internal);
            }
            Problem::malformed("a part of the path cannot be read").with_field("path")
        })?;
        Ok(Self(value))
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let subtype =
        essence.split_once('/').filter(|(kind, _)| kind.eq_ignore_ascii_case("application"));
    let subtype = subtype.map(|(_, subtype)| subtype.to_ascii_lowercase()).unwrap_or_default();
    subtype == "json" || subtype.ends_with("+json")
}

async fn body_text<S: Send + Sync>(request: Request, state: &S) -> Result<String, Problem> {
    let bytes = Bytes::from_request(request, state).await.map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes.into()).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Problem::malformed(format!("the body is not UTF-8, from byte {offset} on"))
            .with_field("body")
    })
}

fn unreadable(error: &BytesRejection) -> Problem {
    let problem = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large("the body is larger than allowed"),
        _ => Problem::malformed("the body could not be read to its end"),
    };
    problem.with_field("body")
}
