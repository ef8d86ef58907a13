use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use http::Request;
use serde::Deserialize;
use trine_axum::{ProblemJson, ProblemPath, ProblemQuery, ProblemText};

use crate::{Answer, ask};

#[allow(dead_code)]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    email: String,
    age: u8,
    #[serde(default)]
    address: Option<Address>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[allow(dead_code)]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    city: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tag {
    Red,
    Blue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: u32,
}

fn router() -> Router {
    Router::new()
        .route("/json", post(async |ProblemJson(account): ProblemJson<Account>| account.email))
        .route("/text", post(async |ProblemText(text): ProblemText| text))
        .route("/query", get(async |ProblemQuery(page): ProblemQuery<Page>| page.limit.to_string()))
        .route("/path/{id}", get(async |ProblemPath(id): ProblemPath<u32>| id.to_string()))
        .route("/name/{name}", get(async |ProblemPath(name): ProblemPath<String>| name))
        .layer(DefaultBodyLimit::max(1_000))
}

async fn send(path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).header("content-type", content_type);
    ask(&router(), request.body(body.into()).unwrap()).await
}

async fn json(body: &str) -> (u16, String, String) {
    let answer = send("/json", "application/json", body.to_owned()).await;
    if answer.status == 200 {
        return (200, String::new(), answer.text());
    }
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("field"), text("detail"))
}

#[tokio::test]
async fn a_good_body_is_read() {
    let body =
        r#"{ "email": "a@b", "age": 7, "address": { "city": "x" }, "tags": ["red", "blue"] }"#;
    assert_eq!(json(body).await, (200, String::new(), "a@b".to_owned()));
    let answer =
        send("/json", "application/merge-patch+json; charset=utf-8", r#"{"email":"e","age":1}"#)
            .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_field() {
    for (body, status, field, detail) in [
        ("{", 400, "body", "the JSON ends too early, at line 1 column 1"),
        ("", 400, "body", "the JSON ends too early, at line 1 column 0"),
        ("{]", 400, "body", "not JSON at line 1 column 2"),
        (r#"{"email":"e","age":1} x"#, 400, "body", "not JSON at line 1 column 23"),
        ("[]", 422, "body", "expected struct Account with 4 elements"),
        ("3", 422, "body", "expected struct Account"),
        (r#"{"age":1}"#, 422, "email", "missing"),
        (r#"{"email":"e","age":1,"nam":2}"#, 422, "nam", "unknown field"),
        (r#"{"email":"e","age":1,"age":1}"#, 422, "age", "given twice"),
        (r#"{"email":"e","age":300}"#, 422, "age", "expected u8"),
        (r#"{"email":"e","age":"hunter2"}"#, 422, "age", "expected u8"),
        (r#"{"email":"e","age":1,"address":{}}"#, 422, "address.city", "missing"),
        (
            r#"{"email":"e","age":1,"address":{"town":"hunter2"}}"#,
            422,
            "address.town",
            "unknown field",
        ),
        (
            r#"{"email":"e","age":1,"tags":["red","hunter2"]}"#,
            422,
            "tags[1]",
            "expected `red` or `blue`",
        ),
    ] {
        let answer = json(body).await;
        assert_eq!(answer, (status, field.to_owned(), detail.to_owned()), "{body}");
        assert!(!answer.2.contains("hunter2"), "what was sent is not repeated");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_no_text_or_too_large_is_refused() {
    let seen = |answer: Answer| (answer.status, answer.json()["field"].clone());
    let bytes = vec![b'"', 0xff, b'"'];
    assert_eq!(seen(send("/json", "application/json", bytes.clone()).await), (400, "body".into()));
    assert_eq!(seen(send("/text", "text/plain", bytes).await), (400, "body".into()));
    assert_eq!(seen(send("/text", "text/plain", vec![b'x'; 1_001]).await), (413, "body".into()));
    assert_eq!(send("/text", "text/plain", vec![b'x'; 1_000]).await.status, 200);
    let large = format!("\"{}\"", "x".repeat(1_000));
    assert_eq!(seen(send("/json", "application/json", large).await), (413, "body".into()));
    for content_type in ["text/plain", "", "application/jsonx", "json"] {
        assert_eq!(send("/json", content_type, "{}").await.status, 415, "{content_type}");
    }
    let deep = "[".repeat(900);
    assert_eq!(send("/json", "application/json", deep).await.status, 422);
}

#[tokio::test]
async fn a_query_names_its_field() {
    for (query, status, field, detail) in [
        ("?limit=3", 200, "", ""),
        ("", 422, "limit", "missing"),
        ("?limit=3&cursr=x", 422, "cursr", "unknown field"),
        ("?limit=hunter2", 422, "limit", "not an acceptable value"),
    ] {
        let answer = crate::get(&router(), &format!("/query{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        if status != 200 {
            let problem = answer.json();
            assert_eq!(
                (&problem["field"], &problem["detail"]),
                (&field.into(), &detail.into()),
                "{query}"
            );
        }
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_read_is_a_problem() {
    assert_eq!(crate::get(&router(), "/path/7").await.text(), "7");
    for path in ["/path/x", "/path/-1", "/name/%ff"] {
        let answer = crate::get(&router(), path).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &"path".into()), "{path}");
    }
    assert_eq!(crate::get(&router(), "/name/a%2Fb%20%C3%A9").await.text(), "a/b é");
}
