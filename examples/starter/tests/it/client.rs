//! Speaks to a starter over HTTP.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub(crate) const PASSWORD: &str = "correct horse battery";

#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// An answer: its status, and its body as JSON where it is JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { http, url: url.to_owned(), token: None }
    }

    pub(crate) fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, json })
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    /// `name` is escaped already.
    pub(crate) async fn put(&self, name: &str, text: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(Method::PUT, &format!("/api/documents/{name}")).body(text)).await
    }

    pub(crate) async fn register(&self, email: &str) -> Answer {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ann" });
        self.post("/api/accounts", body).await.expect(StatusCode::CREATED)
    }

    pub(crate) async fn log_in(&self, email: &str) -> Self {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.post("/api/sessions", body).await.expect(StatusCode::OK);
        self.with_token(answer.json["access_token"].as_str().unwrap())
    }

    /// Waits until the starter says that it is ready, and returns how long
    /// that took.
    pub(crate) async fn until_ready(&self, bound: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let ready = self.try_send(self.request(Method::GET, "/health/ready")).await;
            if ready.as_ref().is_ok_and(|answer| answer.status == 200) {
                return start.elapsed();
            }
            assert!(start.elapsed() < bound, "not ready in {bound:?}: {ready:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all services are up, and returns what is told of them. A
    /// machine that holds up the process for a moment makes its scheduler
    /// degraded for as long.
    pub(crate) async fn until_up(&self, bound: Duration) -> Value {
        let start = Instant::now();
        loop {
            let health = self.get("/health").await.expect(StatusCode::OK).json;
            if health["status"] == "up" {
                return health;
            }
            assert!(start.elapsed() < bound, "not up in {bound:?}: {health}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns every document of the account.
    pub(crate) async fn documents(&self, limit: u32) -> Vec<Value> {
        let (mut documents, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/documents?limit={limit}{cursor}");
            let page = self.get(&path).await.expect(StatusCode::OK).json;
            let listed = page["documents"].as_array().unwrap();
            assert!(listed.len() <= limit as usize, "{page}");
            documents.extend(listed.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return documents,
            }
        }
    }
}

impl Answer {
    /// Returns the answer if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status.as_u16(), "{}", self.text);
        self
    }

    /// Checks that the answer is a problem with this status about this field.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status, status, "{}", self.text);
        let kind = self.headers["content-type"].to_str().unwrap();
        assert_eq!(kind, "application/problem+json", "{}", self.text);
        assert_eq!(self.json["status"], status, "{}", self.text);
        assert_eq!(self.json["field"].as_str(), field, "{}", self.text);
    }
}
