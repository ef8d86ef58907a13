use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use trine_axum::Problem;
use trine_core::ErrorKind;

use crate::error::Error;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::WrongPassword | Self::NoSession(_) => {
                let mut response = Problem::unauthorized(self.to_string()).into_response();
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                response
            }
            Self::TooManyFailures { wait } | Self::TooManyRegistrations { wait } => {
                Problem::too_many_requests(wait).with_detail(self.to_string()).into_response()
            }
            Self::TooLarge => {
                Problem::too_large("expected at most 8 MiB").with_field("body").into_response()
            }
            Self::CutOff => {
                let detail = "the body could not be read to its end";
                Problem::malformed(detail).with_field("body").into_response()
            }
            // The client is slow, not a backend: 504 would be our failure.
            Self::UploadTimedOut => Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Timeout)
                .with_detail(self.to_string())
                .with_field("body")
                .into_response(),
            Self::NotText => {
                Problem::malformed("expected text in UTF-8").with_field("body").into_response()
            }
            other => Problem::from(other).into_response(),
        }
    }
}
