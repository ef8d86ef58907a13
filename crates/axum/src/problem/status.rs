use http::StatusCode;
use trine_core::ErrorKind;

/// Returns the HTTP status of a kind of failure.
///
/// | kind | status | why |
/// |---|---|---|
/// | `Invalid` | 422 | read, understood and refused |
/// | `NotFound` | 404 | |
/// | `Conflict` | 409 | |
/// | `Denied` | 403 | |
/// | `Timeout` | 504 | the backend did not answer in time |
/// | `Unavailable` | 503 | |
/// | `Exhausted` | 503 | our limit, not the caller's: that is 429 |
/// | `Closed` | 503 | this process stops; another one will answer |
/// | `Fenced` | 409 | somebody newer holds the key |
/// | `Unsupported` | 501 | |
/// | `Interrupted` | 503 | stopped on our request, not the caller's |
/// | `OutcomeUnknown` | 500 | not 504: proxies repeat those, and the write may have happened |
/// | `Codec` | 500 | |
/// | `Internal` | 500 | and every kind that is yet to come |
#[must_use]
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::Fenced => StatusCode::CONFLICT,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unavailable
        | ErrorKind::Exhausted
        | ErrorKind::Closed
        | ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        // OutcomeUnknown, Codec, Internal, and what a later version adds.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        let expected = [422, 404, 409, 403, 504, 503, 503, 503, 409, 501, 503, 500, 500, 500];
        let found = ErrorKind::ALL.map(|kind| status_of(kind).as_u16());
        assert_eq!(found, expected);
    }
}
