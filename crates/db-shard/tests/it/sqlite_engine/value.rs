use std::time::{SystemTime, UNIX_EPOCH};

use trine_core::ErrorKind;
use trine_db_shard::Timestamp;

use super::*;

#[tokio::test]
async fn values_come_back_as_they_are_stored() {
    let db = Db::new().await;
    db.execute("CREATE TABLE v (a, b, c, d, e, f, g, h, i)").await.unwrap();
    let id = uuid::Uuid::from_u128(7);
    let time = Timestamp::from(SystemTime::now());
    let document = serde_json::json!({ "a": [1, null] });
    let values = vec![
        Value::Null,
        i64::MIN.into(),
        0.5.into(),
        Value::Decimal("12.50".into()),
        "grün".into(),
        [0_u8, 255].into(),
        time.into(),
        id.into(),
        document.clone().into(),
    ];
    db.run(write("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)).await.unwrap();
    let reply = db.run(read("SELECT * FROM v")).await.unwrap();
    let expected = [
        Value::Null,
        Value::Int(i64::MIN),
        Value::Float(0.5),
        "12.50".into(),
        "grün".into(),
        [0_u8, 255].into(),
        Value::Int(time.as_micros()),
        id.as_bytes().into(),
        document.to_string().into(),
    ];
    assert_eq!(reply.rows[0].values(), expected);
    assert!(SystemTime::from(time) > UNIX_EPOCH);
}

#[tokio::test]
async fn what_sqlite_cannot_store_or_bind_is_invalid() {
    let db = Db::new().await;
    for value in [Value::UInt(u64::MAX), f64::NAN.into()] {
        let error = db.run(write("INSERT INTO part (id) VALUES (?)", vec![value])).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
    for values in [vec![], vec![1.into(), 2.into()]] {
        let error = db.run(write("INSERT INTO part (id) VALUES (?)", values)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("expected 1 values"), "{error}");
    }
    for text in ["SELECT :name", "SELECT FROM", "SELECT nothing FROM nowhere"] {
        assert_eq!(db.run(read(text)).await.unwrap_err().kind(), ErrorKind::Invalid, "{text}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_a_codec_error() {
    let db = Db::new().await;
    let error = db.run(read("SELECT CAST(x'ff' AS TEXT) AS broken")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("broken"), "{error}");
}

#[tokio::test]
async fn the_inserted_id_is_the_statements_own() {
    let db = Db::new().await;
    let id = async |text: &'static str| db.execute(text).await.unwrap().last_insert_id;
    assert_eq!(id("INSERT INTO item (name) VALUES ('a'), ('b'), ('c')").await, Some(1));
    assert_eq!(id("INSERT INTO item (id, name) VALUES (40, 'd')").await, Some(40));
    let upsert = "INSERT INTO item (id, name) VALUES (1, 'z')
         ON CONFLICT (id) DO UPDATE SET name = excluded.name";
    assert_eq!(id(upsert).await, None);
    assert_eq!(id("INSERT OR IGNORE INTO item (id, name) VALUES (1, 'z')").await, None);
    assert_eq!(id("UPDATE item SET name = 'y'").await, None);
    assert_eq!(id("REPLACE INTO item (id, name) VALUES (1, 'q')").await, Some(1));
    assert_eq!(
        id("WITH a AS (SELECT 'w' AS n) INSERT INTO item (name) SELECT n FROM a").await,
        Some(41)
    );

    db.execute("CREATE TABLE flat (id TEXT PRIMARY KEY) WITHOUT ROWID").await.unwrap();
    assert_eq!(id("INSERT INTO flat VALUES ('a')").await, None);

    db.execute("CREATE TABLE log (id INTEGER PRIMARY KEY)").await.unwrap();
    db.execute(
        "CREATE TRIGGER logging BEFORE INSERT ON item
         BEGIN INSERT INTO log (id) VALUES (7000 + new.id); END",
    )
    .await
    .unwrap();
    assert_eq!(id("INSERT INTO item (id, name) VALUES (60, 'd'), (61, 'e')").await, Some(60));
    assert_eq!(id("INSERT OR IGNORE INTO item (id, name) VALUES (60, 'd')").await, None);
}

#[tokio::test]
async fn changed_rows_are_the_statements_own() {
    let db = Db::new().await;
    let changed = async |text: &'static str| db.execute(text).await.unwrap().affected;
    assert_eq!(changed("INSERT INTO item (name) VALUES ('a'), ('b'), ('c')").await, 3);
    assert_eq!(changed("CREATE TABLE other (id INTEGER)").await, 0);
    assert_eq!(changed("SELECT count(*) FROM item").await, 0);
    assert_eq!(changed("DELETE FROM item WHERE id = 77").await, 0);
    assert_eq!(changed("WITH a AS (SELECT 1) UPDATE item SET name = 'x'").await, 3);
    assert_eq!(changed("DELETE FROM item").await, 3);
}

#[tokio::test]
async fn a_write_returns_its_rows_alone_and_beside_others() {
    let db = Db::new().await;
    let statement = |id: i64| {
        write("INSERT INTO item (id, name) VALUES (?, 'x') RETURNING id", vec![id.into()])
    };
    let reply = db.run(statement(1)).await.unwrap();
    assert_eq!(reply.rows[0].decode::<i64>().unwrap(), 1);
    let answers = db.grouped(vec![statement(2), insert(3), statement(4)]).await;
    for (answer, id) in [(&answers[0], 2), (&answers[2], 4)] {
        let reply = answer.as_ref().unwrap();
        assert_eq!(reply.rows[0].decode::<i64>().unwrap(), id);
        assert_eq!((reply.done.affected, reply.done.last_insert_id), (1, Some(id.cast_unsigned())));
    }
}

#[tokio::test]
async fn each_rule_of_a_table_has_its_kind() {
    let db = Db::new().await;
    db.execute(
        "CREATE TABLE rule (id INTEGER PRIMARY KEY, a INTEGER NOT NULL CHECK (a > 0), b TEXT,
         item INTEGER REFERENCES item (id), UNIQUE (a, b)) STRICT",
    )
    .await
    .unwrap();
    db.execute("INSERT INTO rule VALUES (1, 1, 'x', NULL)").await.unwrap();
    for (text, kind, word) in [
        ("INSERT INTO rule VALUES (2, 1, 'x', NULL)", ErrorKind::Conflict, "`rule.a, rule.b`"),
        ("INSERT INTO rule VALUES (1, 2, 'x', NULL)", ErrorKind::Conflict, "`rule.id`"),
        ("INSERT INTO rule VALUES (2, NULL, 'x', NULL)", ErrorKind::Invalid, "null"),
        ("INSERT INTO rule VALUES (2, -1, 'x', NULL)", ErrorKind::Invalid, "check"),
        ("INSERT INTO rule VALUES (2, 2, 'x', 5)", ErrorKind::Invalid, "foreign key"),
        ("INSERT INTO rule VALUES (2, 'two', 'x', NULL)", ErrorKind::Invalid, "type"),
        ("INSERT INTO rule VALUES ('two', 2, 'x', NULL)", ErrorKind::Invalid, "type"),
    ] {
        let error = db.execute(text).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(error.to_string().contains(word), "{error}");
    }
    db.execute("CREATE UNIQUE INDEX item_lower ON item (lower(name))").await.unwrap();
    db.run(insert(1)).await.unwrap();
    let error = db.run(insert(2)).await.unwrap_err();
    assert_eq!(error.unique_key(), Some(Some("item_lower")));
}
