//! Writers that remember what they were promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trine_testkit::{Ledger, LedgerAudit};

use crate::client::{Client, PASSWORD};

/// What all writers were promised, over all restarts.
#[derive(Debug)]
pub(crate) struct Book {
    ledger: Ledger,
    writers: Mutex<BTreeMap<String, Writer>>,
    /// Answers to a document that said it is stored.
    documents: AtomicU64,
    /// The accounts without documents that were looked for.
    checked: AtomicU64,
}

/// One account and the documents it replaces again and again.
#[derive(Clone, Debug, Default)]
struct Writer {
    token: String,
    next: u64,
    /// Per name, the version that was acknowledged last and the one that was
    /// attempted last.
    versions: BTreeMap<String, (u64, u64)>,
}

/// What a run of writers did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

const REPLACED: u64 = 4;

impl Book {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ledger: Ledger::in_memory(),
            writers: Mutex::default(),
            documents: AtomicU64::new(0),
            checked: AtomicU64::new(0),
        })
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger.acknowledged()
    }

    /// Returns how often a document was stored; a loop without any has proved
    /// nothing.
    pub(crate) fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    /// Registers and logs in `writers` accounts; the starter must be well.
    pub(crate) async fn add_writers(&self, client: &Client, prefix: &str, writers: usize) {
        for number in 0..writers {
            let email = format!("{prefix}{number}@example.com");
            self.ledger.attempt(format!("account {email}")).unwrap();
            client.register(&email).await;
            self.ledger.acknowledge(format!("account {email}")).unwrap();
            let token = client.log_in(&email).await.token().to_owned();
            let writer = Writer { token, ..Writer::default() };
            self.writers.lock().unwrap().insert(email, writer);
        }
    }

    /// Logs every writer in again, where sessions ended with the process.
    pub(crate) async fn log_in_again(&self, client: &Client) {
        let emails: Vec<_> = self.writers.lock().unwrap().keys().cloned().collect();
        for email in emails.iter().filter(|email| !email.is_empty()) {
            let token = client.log_in(email).await.token().to_owned();
            self.writer(email, |writer| writer.token = token);
        }
    }

    /// Lets every writer write until the token is cancelled, and one more
    /// register accounts. Failures are noted and change nothing.
    pub(crate) async fn write(self: &Arc<Self>, url: &str, stop: &CancellationToken) -> Tally {
        let mut tasks = JoinSet::new();
        let emails: Vec<_> = self.writers.lock().unwrap().keys().cloned().collect();
        let emails = emails.into_iter().filter(|email| !email.is_empty());
        for email in emails {
            let (book, client, stop) = (Arc::clone(self), Client::new(url), stop.clone());
            tasks.spawn(async move { book.write_documents(&email, client, stop).await });
        }
        let (book, client, stop) = (Arc::clone(self), Client::new(url), stop.clone());
        tasks.spawn(async move { book.register_accounts(client, stop).await });
        let mut sum = Tally::default();
        while let Some(tally) = tasks.join_next().await {
            let tally = tally.unwrap();
            sum.succeeded += tally.succeeded;
            sum.failed += tally.failed;
        }
        sum
    }

    async fn write_documents(&self, email: &str, client: Client, stop: CancellationToken) -> Tally {
        let mut tally = Tally::default();
        let client = client.with_token(&self.writers.lock().unwrap()[email].token);
        while !stop.is_cancelled() {
            let (version, is_new, name) = self.writer(email, |writer| {
                writer.next += 1;
                let (version, is_new) = (writer.next, writer.next % 2 == 0);
                let name = match is_new {
                    true => format!("new-{version}"),
                    false => format!("replaced-{}", version / 2 % REPLACED),
                };
                if !is_new {
                    writer.versions.entry(name.clone()).or_default().1 = version;
                }
                (version, is_new, name)
            });
            let id = format!("document {email} {name}");
            self.ledger.attempt(&id).unwrap();
            let request = client.request(Method::PUT, &format!("/api/documents/{name}"));
            let answer = client.try_send(request.body(text(version))).await;
            if !answer.is_ok_and(|answer| answer.status == 200) {
                tally.failed += 1;
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            tally.succeeded += 1;
            self.documents.fetch_add(1, Ordering::Relaxed);
            self.ledger.acknowledge(&id).unwrap();
            if !is_new {
                self.writer(email, |writer| writer.versions.get_mut(&name).unwrap().0 = version);
            }
        }
        tally
    }

    /// Registers one account after the other, each until it is there.
    async fn register_accounts(&self, client: Client, stop: CancellationToken) -> Tally {
        let mut tally = Tally::default();
        while !stop.is_cancelled() {
            let number = self.writer("", |writer| writer.next) + 1;
            let id = format!("account {}", extra(number));
            self.ledger.attempt(&id).unwrap();
            match register(&client, &extra(number)).await {
                // The second answer tells that an attempt without one succeeded.
                Some(201 | 409) => {
                    self.ledger.acknowledge(&id).unwrap();
                    self.writer("", |writer| writer.next = number);
                    tally.succeeded += 1;
                }
                _ => {
                    tally.failed += 1;
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
        tally
    }

    fn writer<T>(&self, email: &str, change: impl FnOnce(&mut Writer) -> T) -> T {
        change(self.writers.lock().unwrap().entry(email.to_owned()).or_default())
    }

    /// Compares what was promised with what is there. Of the accounts without
    /// documents it looks for those that are new since the last time.
    pub(crate) async fn audit(&self, client: &Client) -> Result<LedgerAudit, String> {
        let mut found = Vec::new();
        let writers = self.writers.lock().unwrap().clone();
        for (email, writer) in &writers {
            if email.is_empty() {
                found.extend(self.audit_extras(client, writer.next).await);
                continue;
            }
            let client = client.with_token(&writer.token);
            let me = client.get("/api/me").await;
            if me.status != 200 {
                // A lost session is a lost promise too.
                continue;
            }
            found.push(format!("account {email}"));
            for document in client.documents(200).await {
                let name = document["name"].as_str().unwrap();
                found.push(format!("document {email} {name}"));
                if let Some(versions) = writer.versions.get(name) {
                    check_version(&client, &document, *versions).await?;
                }
            }
        }
        Ok(self.ledger.check(found))
    }

    async fn audit_extras(&self, client: &Client, last: u64) -> Vec<String> {
        let checked = self.checked.swap(last, Ordering::Relaxed);
        let mut found: Vec<_> =
            (1..=checked).map(|number| format!("account {}", extra(number))).collect();
        for number in checked + 1..=last {
            // Refused, if it is there.
            if register(client, &extra(number)).await == Some(409) {
                found.push(format!("account {}", extra(number)));
            }
        }
        found
    }
}

fn extra(number: u64) -> String {
    format!("extra{number}@example.com")
}

async fn register(client: &Client, email: &str) -> Option<u16> {
    let body = json!({ "email": email, "password": PASSWORD, "name": "Extra" });
    let request = client.request(Method::POST, "/api/accounts").json(&body);
    client.try_send(request).await.ok().map(|answer| answer.status)
}

/// Checks that the text is whole, and no older than what was acknowledged.
async fn check_version(
    client: &Client,
    document: &serde_json::Value,
    (acknowledged, attempted): (u64, u64),
) -> Result<(), String> {
    let id = document["document_id"].as_str().unwrap();
    let found = client.get(&format!("/api/documents/{id}")).await.text;
    let version: Option<u64> = found.split(' ').next().and_then(|word| word.parse().ok());
    let Some(version) = version else { return Err(format!("{document} has no text: {found}")) };
    let words = found.split_whitespace().count() as u64;
    if found != text(version) || document["words"].as_u64() != Some(words) {
        return Err(format!("{document} is not whole: version {version}, {words} words"));
    }
    if !(acknowledged..=attempted).contains(&version) {
        return Err(format!(
            "{document} is version {version}, acknowledged {acknowledged}, attempted {attempted}"
        ));
    }
    Ok(())
}

/// A text that shows if it is a mixture of two versions.
fn text(version: u64) -> String {
    let mut text = version.to_string();
    for _ in 0..version % 400 {
        text.push_str(&format!(" {version}"));
    }
    text
}
