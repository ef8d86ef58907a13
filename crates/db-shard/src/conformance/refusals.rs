use std::time::Duration;

use tokio::time::Instant;
use trine_core::{CallContext, Deadline, ErrorKind};

use super::{Fixture, SLOW, add, count, create_items};
use crate::{Engine, Row, Sql};

/// A call gathers no more rows than it may, and says which setting decides.
pub async fn more_rows_than_asked_for_are_refused(fixture: Fixture) {
    let fixture = fixture.with(|config| *config = config.clone().with_max_rows(2));
    let service = fixture.start().await;
    let db = service.global();
    create_items(db).await;
    for name in ["a", "b", "c"] {
        add(db, name).await;
    }
    let error = db.query::<Row>("SELECT * FROM item", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("db.max_rows"), "{error}");
    assert_eq!(db.query::<Row>("SELECT * FROM item LIMIT 2", ()).await.unwrap().len(), 2);
    let error = db.query_one::<Row>("SELECT * FROM item LIMIT 2", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("at most one"), "{error}");
    assert_eq!(count(db).await, 3);
}

/// Transaction words, session words and several statements in one text.
pub async fn statements_that_would_touch_other_callers_are_refused(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    for text in [
        "COMMIT",
        "/* x */ ROLLBACK",
        "BEGIN",
        "SAVEPOINT a",
        "SET autocommit = 0",
        "INSERT INTO item (name) VALUES ('a'); COMMIT",
        "DELETE FROM item; DELETE FROM item",
        "CREATE TEMPORARY TABLE item (id INT)",
    ] {
        let error = db.execute(Sql::dynamic(text), ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        let error = tx.execute(Sql::dynamic(text), ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    }
    tx.execute("INSERT INTO item (name) VALUES ('; COMMIT')", ()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(count(db).await, 0);
}

/// Writes go through `execute`, so that they reach the writer.
pub async fn a_query_cannot_write(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    add(db, "a").await;
    for text in [
        "DELETE FROM item",
        "WITH a AS (SELECT 1) DELETE FROM item",
        "ANALYZE UPDATE item SET name = 'b'",
    ] {
        let error = db.query::<Row>(Sql::dynamic(text), ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("use `execute`"), "{error}");
    }
    assert_eq!(count(db).await, 1);
}

/// Too few, too many, and no text for the engine.
pub async fn parameters_that_do_not_fit_are_refused(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    let error = db.query::<Row>("SELECT ?, ?", (1,)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("takes 2 parameters, 1 were given"), "{error}");
    let error = db.query::<Row>("SELECT 1", (1,)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let other = match db.engine() {
        Engine::Sqlite => Sql::per_engine().mysql("SELECT 1"),
        Engine::Mysql => Sql::per_engine().sqlite("SELECT 1"),
    };
    let error = db.query::<Row>(other, ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(db.engine().as_str()), "{error}");
    let error = db.query::<Row>("SELEC 1", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = db.query::<Row>("SELECT * FROM nowhere", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Each rule of a table that a write breaks has the kind that the docs list.
pub async fn broken_rules_have_their_kind(fixture: Fixture) {
    const PARENT: Sql = Sql::per_engine()
        .sqlite("CREATE TABLE parent (id INTEGER NOT NULL PRIMARY KEY)")
        .mysql("CREATE TABLE parent (id BIGINT NOT NULL PRIMARY KEY) ENGINE=InnoDB");
    const CHILD: Sql = Sql::per_engine()
        .sqlite(
            "CREATE TABLE child (id INTEGER NOT NULL PRIMARY KEY, \
             parent_id INTEGER REFERENCES parent (id), age INTEGER CHECK (age >= 0))",
        )
        .mysql(
            "CREATE TABLE child (id BIGINT NOT NULL PRIMARY KEY, parent_id BIGINT, \
             age INT CHECK (age >= 0), FOREIGN KEY (parent_id) REFERENCES parent (id)) ENGINE=InnoDB",
        );
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    db.execute(PARENT, ()).await.unwrap();
    db.execute(CHILD, ()).await.unwrap();
    add(db, "a").await;
    let unique = db.execute("INSERT INTO item (name) VALUES ('a')", ()).await.unwrap_err();
    assert_eq!(unique.kind(), ErrorKind::Conflict);
    assert!(unique.unique_key().is_some() && !unique.is_retryable());
    for (rule, sql) in [
        ("not null", "INSERT INTO item (name) VALUES (NULL)"),
        ("foreign key", "INSERT INTO child (id, parent_id) VALUES (1, 9)"),
        ("check", "INSERT INTO child (id, age) VALUES (1, -1)"),
    ] {
        let error = db.execute(sql, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rule}: {error}");
        assert!(!error.is_retryable(), "{rule}");
    }
    assert_eq!(count(db).await, 1);
}

/// The call's own deadline ends a query, and the connection is free again.
pub async fn a_slow_query_ends_at_its_deadline(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    let began = Instant::now();
    let context = CallContext::default().with_deadline(Deadline::after(Duration::from_millis(200)));
    let error = context.scope(db.query::<Row>(SLOW, ())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("the deadline of the call"), "{error}");
    // Five times what the deadline and the end of the query may take.
    assert!(began.elapsed() < Duration::from_secs(6));
    let calls = (0..db.stats().max + 2).map(|_| db.query_one::<i64>("SELECT 1", ()));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), 1);
    }
}
