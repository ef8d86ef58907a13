use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use trine_axum::{ProblemPath, ProblemQuery};
use trine_core::{CallContext, Deadline, Rfc3339};
use uuid::Uuid;

use super::Api;
use super::access::Owner;
use super::places::Place;
use super::upload::Upload;
use crate::documents::{Cursor, Document, DocumentName, NewDocument};
use crate::error::{Error, Result};

#[derive(Serialize)]
pub(super) struct Stored {
    document_id: Uuid,
    bytes: u64,
    words: u64,
}

/// `PUT /api/documents/{key}`, where the key is the document's name.
pub(super) async fn store(
    State(api): State<Api>,
    Extension(Owner(account)): Extension<Owner>,
    ProblemPath(key): ProblemPath<String>,
    request: Request,
) -> Result<Json<Stored>> {
    let name = DocumentName::parse(&key)?;
    let document_id = name.document_id(account);
    let Upload { text, words, place } = api.uploads.receive(account, request.into_body()).await?;
    let bytes = text.len().try_into().unwrap_or(u64::MAX);
    api.documents.put(account, [NewDocument { name, text, words }].into(), None).await?;
    drop(place);
    Ok(Json(Stored { document_id, bytes, words }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<String>,
    cursor: Option<String>,
}

impl Page {
    const DEFAULT: u32 = 50;
    const MAX: u32 = 200;

    fn limit(&self) -> Result<u32> {
        let Some(text) = &self.limit else { return Ok(Self::DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=Self::MAX).contains(limit));
        limit.ok_or_else(|| Error::invalid("limit", "a number from 1 to 200"))
    }
}

#[derive(Serialize)]
pub(super) struct Listing {
    documents: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    document_id: Uuid,
    name: String,
    bytes: u64,
    words: u64,
    updated_at: String,
}

impl From<Document> for Listed {
    fn from(document: Document) -> Self {
        let Document { id: document_id, name, bytes, words, updated_at } = document;
        Self {
            document_id,
            name,
            bytes,
            words,
            updated_at: format!("{:.6}", Rfc3339(updated_at.into())),
        }
    }
}

/// `GET /api/documents?limit&cursor`
pub(super) async fn list(
    State(api): State<Api>,
    Extension(Owner(account)): Extension<Owner>,
    ProblemQuery(page): ProblemQuery<Page>,
) -> Result<Json<Listing>> {
    let limit = page.limit()?;
    let after = page.cursor.as_deref().map(Cursor::parse).transpose()?;
    // One more than asked for tells whether there is another page.
    let mut documents = api.documents.list(account, after, limit + 1).await?;
    let is_last = documents.len() <= usize::try_from(limit).unwrap_or(usize::MAX);
    if !is_last {
        documents.pop();
    }
    let next_cursor = documents.last().filter(|_| !is_last).map(|last| Cursor::after(last.id));
    Ok(Json(Listing {
        next_cursor: next_cursor.map(|cursor| cursor.to_string()),
        documents: documents.into_iter().map(Into::into).collect(),
    }))
}

/// `GET /api/documents/{key}`, where the key is the document's id.
pub(super) async fn read(
    State(api): State<Api>,
    Extension(Owner(account)): Extension<Owner>,
    ProblemPath(key): ProblemPath<String>,
) -> Result<([(HeaderName, &'static str); 1], Bytes)> {
    let id = document_id(&key)?;
    let deadline =
        Deadline::after(api.request_timeout).or_earlier(CallContext::current().deadline());
    let place = api.downloads.take(account, deadline).await?;
    let text = api.documents.text(account, id).await?;
    let body = Bytes::from_owner(Sent { text, _place: place });
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body))
}

/// A text that is sent, with its place until the client has all of it.
struct Sent {
    text: String,
    _place: Place,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// `DELETE /api/documents/{key}`, where the key is the document's id.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(Owner(account)): Extension<Owner>,
    ProblemPath(key): ProblemPath<String>,
) -> Result<StatusCode> {
    api.documents.remove(account, document_id(&key)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn document_id(key: &str) -> Result<Uuid> {
    Uuid::try_parse(key).map_err(|_| Error::invalid("key", "the id of a document"))
}
