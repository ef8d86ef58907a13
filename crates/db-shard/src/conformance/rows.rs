use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde::Deserialize;
use uuid::Uuid;

use super::{Fixture, add, count, create_items};
use crate::{Row, Sql, Timestamp, Value, list, rows};

/// What is written is what is read, at the edges of every kind too.
pub async fn every_kind_of_value_survives(fixture: Fixture) {
    const CREATE: Sql = Sql::per_engine()
        .sqlite(
            "CREATE TABLE edge (id INTEGER PRIMARY KEY, i INTEGER, f REAL, d TEXT, t TEXT, b BLOB, \
             at INTEGER, u BLOB, j TEXT)",
        )
        .mysql(
            "CREATE TABLE edge (id BIGINT PRIMARY KEY, i BIGINT, f DOUBLE, d DECIMAL(30, 10), \
             t TEXT CHARACTER SET utf8mb4, b LONGBLOB, at DATETIME(6), u BINARY(16), j JSON)",
        );
    const INSERT: &str =
        "INSERT INTO edge (id, i, f, d, t, b, at, u, j) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let opened = fixture.open().await;
    let db = opened.database();
    db.execute(CREATE, ()).await.unwrap();
    let uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let long = "ß𝄞'\\\"%_\n\0".repeat(3_000);
    let json = serde_json::json!({ "a": [1, null, "x'y"], "b": { "c": 1.5 } });
    let now = Timestamp::from_micros(1_700_000_000_123_456);
    let edges: Vec<[Value; 8]> = vec![
        [
            i64::MAX.into(),
            f64::MAX.into(),
            Value::Decimal("12345678901234567890.0123456789".into()),
            long.as_str().into(),
            vec![0_u8, 255, 39, 92].into(),
            now.into(),
            uuid.into(),
            json.clone().into(),
        ],
        [
            i64::MIN.into(),
            (-0.5).into(),
            Value::Decimal("-1.5000000000".into()),
            "".into(),
            Vec::new().into(),
            // Before the epoch.
            Timestamp::from_micros(-1_000_001).into(),
            Uuid::nil().into(),
            serde_json::json!([]).into(),
        ],
        std::array::from_fn(|_| Value::Null),
    ];
    for (id, edge) in (1_i64..).zip(&edges) {
        let mut values = vec![Value::from(id)];
        values.extend(edge.iter().cloned());
        db.execute(INSERT, values).await.unwrap();
    }
    let found: Vec<Row> = db.query("SELECT * FROM edge ORDER BY id", ()).await.unwrap();
    assert_eq!(found.len(), edges.len());
    for (row, edge) in found.iter().zip(&edges) {
        assert_eq!(row.get::<Option<i64>>("i").ok(), Some(number(&edge[0])));
        let float = match edge[1] {
            Value::Float(float) => Some(float),
            _ => None,
        };
        assert_eq!(row.get::<Option<f64>>("f").unwrap(), float);
        let decimal = match &edge[2] {
            Value::Decimal(text) => Some(text.to_string()),
            _ => None,
        };
        assert_eq!(row.get::<Option<String>>("d").unwrap(), decimal);
        assert_eq!(row.value("t").unwrap(), &edge[3]);
        assert_eq!(row.value("b").unwrap(), &edge[4]);
        let at = match edge[5] {
            Value::Time(time) => Some(time),
            _ => None,
        };
        assert_eq!(row.get::<Option<Timestamp>>("at").unwrap(), at);
        let id = match edge[6] {
            Value::Uuid(uuid) => Some(uuid),
            _ => None,
        };
        assert_eq!(row.get::<Option<Uuid>>("u").unwrap(), id);
        let document = match &edge[7] {
            Value::Json(json) => Some(json.as_ref().clone()),
            _ => None,
        };
        if let Some(document) = document {
            assert_eq!(json_of(row), document);
        } else {
            assert!(row.value("j").unwrap().is_null());
        }
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn json_of(row: &Row) -> serde_json::Value {
    match row.value("j").unwrap() {
        Value::Json(json) => json.as_ref().clone(),
        Value::Text(text) => serde_json::from_str(text).unwrap(),
        other => panic!("json column holds {other:?}"),
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Item {
    id: u64,
    name: String,
}

/// Structs go by name, tuples by position, single values by the only column.
pub async fn rows_become_structs_tuples_and_single_values(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let id = add(db, "a").await;
    let item: Item = db.query_one("SELECT name, id FROM item", ()).await.unwrap();
    assert_eq!(item, Item { id, name: "a".to_owned() });
    let pair: (u64, String) = db.query_one("SELECT id, name FROM item", ()).await.unwrap();
    assert_eq!(pair, (id, "a".to_owned()));
    assert_eq!(db.query_one::<u64>("SELECT id FROM item", ()).await.unwrap(), id);
    let none = db.query_optional::<Item>("SELECT * FROM item WHERE id = ?", (0,)).await;
    assert_eq!(none.unwrap(), None);
    let error = db.query_one::<Item>("SELECT * FROM item WHERE id = ?", (0,)).await.unwrap_err();
    assert_eq!(error.kind(), trine_core::ErrorKind::NotFound);
    let error = db.query_one::<i64>("SELECT name FROM item", ()).await.unwrap_err();
    assert_eq!(error.kind(), trine_core::ErrorKind::Codec);
    assert!(error.to_string().contains("`name`"), "{error}");
}

/// Rows come in order and without a bound on their number; what a dropped
/// stream held is free again.
pub async fn a_stream_yields_every_row_and_may_be_dropped(fixture: Fixture) {
    const COUNT: u64 = 3_000;
    let fixture = fixture.with(|config| *config = config.clone().with_max_rows(10));
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let names = (0..COUNT).map(|index| [Value::from(format!("n{index}"))]);
    db.execute("INSERT INTO item (name) VALUES ?", (rows(names),)).await.unwrap();
    let mut stream = db.stream::<(u64, String)>("SELECT id, name FROM item ORDER BY id", ());
    let mut seen = 0;
    while let Some(row) = stream.next().await {
        assert_eq!(row.unwrap().1, format!("n{seen}"));
        seen += 1;
    }
    assert_eq!(seen, COUNT);
    for _ in 0..30 {
        let mut stream = db.stream::<Row>("SELECT id, name FROM item ORDER BY id", ());
        stream.next().await.unwrap().unwrap();
    }
    assert_eq!(count(db).await, COUNT);
}

/// `IN (?)` and `VALUES ?` take lists; an empty list matches nothing.
pub async fn lists_and_rows_are_written_out(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let names = ["a", "b", "c", "d", "e"].map(|name| [Value::from(name)]);
    let done = db.execute("INSERT INTO item (name) VALUES ?", (rows(names),)).await.unwrap();
    assert_eq!(done.affected, 5);
    let sql = "SELECT name FROM item WHERE name IN (?) AND name <> ? ORDER BY name";
    for (members, expected) in [(vec!["a", "c", "e"], vec!["a", "e"]), (vec![], vec![])] {
        let found: Vec<String> = db.query(sql, (list(members), "c")).await.unwrap();
        assert_eq!(found, expected);
    }
}

/// Every caller gets the id of its own row, however many insert at once.
pub async fn the_last_insert_id_is_the_statements_own(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let names: Vec<String> = (0..200).map(|index| format!("n{index}")).collect();
    let ids = join_all(names.iter().map(|name| add(db, name))).await;
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for (id, name) in ids.iter().zip(&names) {
        let found: String =
            db.query_one("SELECT name FROM item WHERE id = ?", (*id,)).await.unwrap();
        assert_eq!(&found, name);
    }
    let done = db.execute("UPDATE item SET name = 'x' WHERE id = ?", (ids[0],)).await.unwrap();
    assert_eq!((done.affected, done.last_insert_id), (1, None));
}

/// What the guide lists as portable gives the same answers everywhere.
pub async fn the_common_subset_runs(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    for name in ["a", "bb", "ccc"] {
        add(db, name).await;
    }
    let text = |sql: &'static str| async move {
        db.query_one::<Option<String>>(sql, ()).await.unwrap().unwrap_or_default()
    };
    assert_eq!(text("SELECT UPPER(name) FROM item ORDER BY id LIMIT 1 OFFSET 1").await, "BB");
    assert_eq!(text("SELECT 'a' || 'b' || 'c'").await, "abc");
    assert_eq!(text("SELECT COALESCE(NULL, 'x')").await, "x");
    assert_eq!(text("SELECT CASE WHEN 1 < 2 THEN 'yes' ELSE 'no' END").await, "yes");
    assert_eq!(text("SELECT MAX(name) FROM item WHERE name LIKE 'b%'").await, "bb");
    assert_eq!(text("SELECT REPLACE(TRIM('  a-b '), '-', '+')").await, "a+b");
    let number = |sql: &'static str| async move { db.query_one::<i64>(sql, ()).await.unwrap() };
    assert_eq!(number("SELECT COUNT(*) FROM item WHERE id BETWEEN 1 AND 2").await, 2);
    assert_eq!(number("SELECT LENGTH(name) FROM item ORDER BY name DESC LIMIT 1").await, 3);
    assert_eq!(number("SELECT ABS(-3) + 7 % 4").await, 6);
    assert_eq!(
        number(
            "SELECT COUNT(*) FROM item a JOIN item b ON a.id < b.id LEFT JOIN item c ON c.id = 0"
        )
        .await,
        3
    );
    assert_eq!(
        number("WITH t AS (SELECT id FROM item UNION ALL SELECT 9) SELECT COUNT(*) FROM t").await,
        4
    );
    assert_eq!(
        number(
            "SELECT COUNT(*) FROM item WHERE EXISTS (SELECT 1 FROM item b WHERE b.id > item.id)"
        )
        .await,
        2
    );
    assert_eq!(
        number("SELECT MAX(r) FROM (SELECT ROW_NUMBER() OVER (ORDER BY id) AS r FROM item) t")
            .await,
        3
    );
    assert_eq!(number("SELECT SUM(id) FROM item").await, 6);
    let sums: (u8, Option<i64>, f64, f32) = db
        .query_one("SELECT SUM(id), SUM(NULL), AVG(id), AVG(id) FROM item WHERE id > 1", ())
        .await
        .unwrap();
    assert_eq!(sums, (5, None, 2.5, 2.5));
    let done = db.execute("UPDATE item SET name = name || ? WHERE id > ?", ("!", 1)).await.unwrap();
    assert_eq!(done.affected, 2);
    let grouped: Vec<(i64, i64)> = db
        .query(
            "SELECT LENGTH(name), COUNT(*) FROM item GROUP BY LENGTH(name) \
             HAVING COUNT(*) > 0 ORDER BY 1",
            (),
        )
        .await
        .unwrap();
    assert_eq!(grouped, [(1, 1), (3, 1), (4, 1)]);
}
