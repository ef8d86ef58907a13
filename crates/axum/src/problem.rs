use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use trine_core::{CallContext, ErrorKind, Fault, Report};

pub(crate) mod status;

use self::status::status_of;

/// An error response as RFC 9457 describes it, `application/problem+json`.
///
/// Any [`Fault`] becomes one with `?`: its kind decides the [status](status_of),
/// and of its text only what it declares public is sent. What is not sent of a
/// failure of ours goes to the log, beside the trace that the answer names.
///
/// # Example
///
/// ```
/// use trine_axum::Problem;
///
/// let problem = Problem::invalid_field("email", "must have an @");
/// assert_eq!(problem.status().as_u16(), 422);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problem {
    /// Behind a pointer, because every handler returns a result of it.
    members: Box<Members>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Members {
    r#type: String,
    title: String,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    retry_after: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FieldProblem {
    /// The field, such as `address.city`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// Returns the problem of `status` without any detail.
    #[must_use]
    pub fn new(status: StatusCode, kind: ErrorKind) -> Self {
        let members = Members {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status,
            kind: kind.as_str(),
            detail: None,
            instance: None,
            field: None,
            errors: Vec::new(),
            retry_after: None,
        };
        Self { members: Box::new(members) }
    }

    /// Returns the problem of a kind, with its [status](status_of).
    #[must_use]
    pub fn of_kind(kind: ErrorKind) -> Self {
        Self::new(status_of(kind), kind)
    }

    /// Returns what a stranger may read about a failure.
    #[must_use]
    pub fn of_fault(fault: &dyn Fault) -> Self {
        let mut problem = Self::of_kind(fault.kind());
        problem.members.detail = fault.public_detail().map(Into::into);
        problem.members.field = fault.field().map(Into::into);
        problem.members.retry_after = fault.retry_after();
        let error = Report(fault).to_string();
        match problem.members.status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(kind = problem.members.kind, error, "request failed");
            }
            status if status.is_server_error() => {
                tracing::warn!(kind = problem.members.kind, error, "request failed");
            }
            _ => tracing::debug!(kind = problem.members.kind, error, "request refused"),
        }
        problem
    }

    /// Returns that the request cannot be read, 400.
    #[must_use]
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid).with_detail(detail)
    }

    /// Returns that one field breaks a rule, 422.
    #[must_use]
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Invalid).with_field(field).with_detail(detail)
    }

    /// Returns that the request must come with valid credentials, 401.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::Denied).with_detail(detail)
    }

    /// Returns that the caller may not do this, 403.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Denied).with_detail(detail)
    }

    /// Returns that there is no such thing, 404.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::NotFound).with_detail(detail)
    }

    /// Returns that the path has no such method, 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unsupported)
    }

    /// Returns that the request contradicts the present state, 409.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Conflict).with_detail(detail)
    }

    /// Returns that the body is larger than allowed, 413.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::Invalid).with_detail(detail)
    }

    /// Returns that the body has a media type nobody reads here, 415.
    #[must_use]
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorKind::Invalid).with_detail(detail)
    }

    /// Returns that the caller asks too often, 429.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::Exhausted).with_retry_after(retry_after)
    }

    /// Sets what went wrong this time, for strangers.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.members.detail = Some(detail.into());
        self
    }

    /// Sets the field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.members.field = Some(field.into());
        self
    }

    /// Adds a field at fault, where there are several.
    #[must_use]
    pub fn with_error(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.members.errors.push(FieldProblem { field: field.into(), detail: detail.into() });
        self
    }

    /// Sets the URI of the kind of problem, and its title.
    #[must_use]
    pub fn with_type(mut self, uri: impl Into<String>, title: impl Into<String>) -> Self {
        (self.members.r#type, self.members.title) = (uri.into(), title.into());
        self
    }

    /// Sets the URI of this very occurrence.
    #[must_use]
    pub fn with_instance(mut self, uri: impl Into<String>) -> Self {
        self.members.instance = Some(uri.into());
        self
    }

    /// Sets how long to wait before trying again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.members.retry_after = Some(wait);
        self
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.members.status
    }

    /// Returns the stable name of the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.members.kind
    }

    /// Returns what went wrong this time.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.members.detail.as_deref()
    }

    /// Returns the field at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.members.field.as_deref()
    }
}

impl<E: Fault> From<E> for Problem {
    fn from(fault: E) -> Self {
        Self::of_fault(&fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        /// The problem, with the trace under which the log has the rest.
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            problem: &'a Problem,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace_id: Option<String>,
        }

        let trace = CallContext::current().trace();
        let trace_id = trace.map(|trace| format!("{:032x}", trace.trace_id()));
        let body = serde_json::to_vec(&Body { problem: &self, trace_id }).unwrap_or_default();
        let mut response = (self.members.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.members.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        response
    }
}

/// Returns whole seconds, rounded up: who comes earlier is refused again.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

fn as_seconds<S: Serializer>(wait: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    wait.map(seconds).serialize(serializer)
}
