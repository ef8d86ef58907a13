//! Which statements are logged as slow.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use trine_core::{Metrics, Span};
use trine_db_shard::{BeginOptions, Observed};

use super::*;

/// Keeps statement and outcome of each slow statement.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, String)>>>);

#[derive(Default)]
struct Fields {
    statement: String,
    outcome: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "statement" => self.statement = value.to_owned(),
            "outcome" => self.outcome = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "trine_db_shard::slow"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push((fields.statement, fields.outcome));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Log {
    fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn logged(statement: &str, outcome: &str) -> Vec<(String, String)> {
    vec![(statement.to_owned(), outcome.to_owned())]
}

#[tokio::test]
async fn every_way_to_run_a_slow_statement_is_logged() {
    let folder = TempDir::new().unwrap();
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let name = DatabaseName::Named("test".into());
    let metrics = Metrics::new("db");
    let db = Observed::new(open(&config(folder.path())), &name, Duration::ZERO, &metrics);
    let create = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)";
    db.run(call(), write(create, vec![])).await.unwrap();
    assert_eq!(log.take(), logged(create, "ok"));

    let first = "INSERT INTO item VALUES (1, ?)";
    let second = "INSERT INTO item VALUES (2, 'b')";
    let list = vec![write(first, vec!["secret".into()]), write(second, vec![])];
    db.run_all(call(), list).await.unwrap();
    assert_eq!(log.take(), logged(&format!("{first};\n{second}"), "ok"));

    let all = "SELECT * FROM item";
    let mut rows = db.stream(call(), read(all));
    while let Some(row) = rows.next().await {
        row.unwrap();
    }
    assert_eq!(log.take(), logged(all, "ok"));
    let mut rows = db.stream(call(), read(all));
    rows.next().await.unwrap().unwrap();
    drop(rows);
    assert_eq!(log.take(), logged(all, "ok"));
    let mut rows = db.stream(call(), read("SELECT * FROM nowhere"));
    rows.next().await.unwrap().unwrap_err();
    drop(rows);
    assert_eq!(log.take(), logged("SELECT * FROM nowhere", "invalid"));

    let endless = db.run(call(), read(ENDLESS));
    assert!(tokio::time::timeout(Duration::from_millis(20), endless).await.is_err());
    assert_eq!(log.take(), logged(ENDLESS, "interrupted"));
    let work = db.begin(call(), BeginOptions::default()).await.unwrap();
    work.rollback(call()).await.unwrap();
    assert_eq!(log.take(), []);
}

/// A second of the caller's between two rows is no second of the database's.
#[tokio::test]
async fn the_time_that_a_caller_takes_over_the_rows_does_not_count() {
    let folder = TempDir::new().unwrap();
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let name = DatabaseName::Named("test".into());
    let metrics = Metrics::new("db");
    let slow = Span::secs(2).get();
    let db = Observed::new(open(&config(folder.path())), &name, slow, &metrics);
    let mut rows = db.stream(call(), read("SELECT 1 UNION ALL SELECT 2"));
    rows.next().await.unwrap().unwrap();
    tokio::time::pause();
    tokio::time::advance(slow * 2).await;
    tokio::time::resume();
    while let Some(row) = rows.next().await {
        row.unwrap();
    }
    assert_eq!(log.take(), []);
}
