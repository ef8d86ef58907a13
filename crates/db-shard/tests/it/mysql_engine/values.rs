//! What goes in comes out.

use super::*;
use futures_util::TryStreamExt;
use trine_db_shard::Timestamp;
use uuid::Uuid;

#[tokio::test]
async fn every_kind_of_value_survives_the_round_trip() {
    let (_database, backend) = backend(1).await;
    run(
        &backend,
        "CREATE TABLE kinds (id INT PRIMARY KEY, i BIGINT, u BIGINT UNSIGNED, f DOUBLE, \
         d DECIMAL(65, 30), t TEXT, b BLOB, at DATETIME(6), uuid BINARY(16), j JSON)",
        vec![],
    )
    .await;
    let decimal = "-98765432109876543210987654321098765.000000000000000000000000000001";
    let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let at = Timestamp::from_micros(-1);
    let values = vec![
        Value::Int(i64::MIN),
        Value::UInt(u64::MAX),
        Value::Float(0.1 + 0.2),
        Value::Decimal(decimal.into()),
        Value::from("naïve 🦀 \\' \" \0"),
        Value::from(&b"\0\xff"[..]),
        Value::Time(at),
        Value::Uuid(id),
        Value::Json(Box::new(serde_json::json!({"a": [1, null]}))),
    ];
    let insert = "INSERT INTO kinds VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    run(&backend, insert, values.clone()).await;
    run(&backend, "INSERT INTO kinds VALUES (2, ?, ?, ?, ?, ?, ?, ?, ?, ?)", vec![Value::Null; 9])
        .await;

    let select = "SELECT i, u, f, d, t, b, at, uuid, j FROM kinds ORDER BY id";
    let rows = backend.run(call(), read(select, vec![])).await.unwrap().rows;
    let mut expected = values;
    expected[7] = Value::from(&id.as_bytes()[..]);
    // MariaDB has no JSON type of its own.
    expected[8] = Value::from("{\"a\":[1,null]}");
    assert_eq!(rows[0].values(), expected);
    assert_eq!(rows[1].values(), vec![Value::Null; 9]);

    // Compared as what they are, not as text or float.
    let found = "SELECT COUNT(*) FROM kinds WHERE d = ? AND at = ? AND uuid = ? AND u = ?";
    let bound = vec![
        Value::Decimal(decimal.into()),
        Value::Time(at),
        Value::Uuid(id),
        Value::UInt(u64::MAX),
    ];
    let reply = backend.run(call(), read(found, bound)).await.unwrap();
    assert_eq!(only(&reply), Value::Int(1));
}

const TYPES: &str = "CREATE TABLE types (i1 TINYINT, u1 TINYINT UNSIGNED, bit1 BOOL, \
    ub TINYINT(1) UNSIGNED, i2 SMALLINT, u2 SMALLINT UNSIGNED, i3 MEDIUMINT, u4 INT UNSIGNED, \
    f4 FLOAT, bits BIT(64), y YEAR, d DATE, t TIME(3), ts TIMESTAMP(6) NULL, e ENUM('a', 'b'), \
    s SET('x', 'y'), c CHAR(3), bin CHAR(3) COLLATE utf8mb4_bin, vb VARBINARY(3), g GEOMETRY)";
const TYPED: &str = "INSERT INTO types VALUES (-128, 255, TRUE, 200, -32768, 65535, -8388608, \
    4294967295, 1.5, b'1000000000000000000000000000000000000000000000000000000000000001', 2024, \
    '2024-02-29', '-26:03:04.5', '2024-02-29 23:59:59.999999', 'b', 'x,y', 'abc', 'äöü', X'00ff', \
    POINT(1, 2))";

fn typed() -> Vec<Value> {
    vec![
        Value::Int(-128),
        Value::Int(255),
        Value::Int(1),
        Value::Int(200),
        Value::Int(-32768),
        Value::Int(65535),
        Value::Int(-8_388_608),
        Value::Int(4_294_967_295),
        Value::Float(1.5),
        Value::UInt(1 << 63 | 1),
        Value::Int(2024),
        Value::from("2024-02-29"),
        Value::from("-26:03:04.500000"),
        Value::Time(Timestamp::from_micros(1_709_251_199_999_999)),
        Value::from("b"),
        Value::from("x,y"),
        Value::from("abc"),
        Value::from("äöü"),
        Value::from(&b"\0\xff"[..]),
    ]
}

#[tokio::test]
async fn every_type_of_column_is_read() {
    let (_database, backend) = backend(1).await;
    run(&backend, TYPES, vec![]).await;
    run(&backend, TYPED, vec![]).await;
    let rows = backend.run(call(), read("SELECT * FROM types", vec![])).await.unwrap().rows;
    assert_eq!(rows[0].values()[..19], typed());
    assert_eq!(rows[0].values()[19].kind(), "bytes");
    let streamed: Vec<_> =
        backend.stream(call(), read("SELECT * FROM types", vec![])).try_collect().await.unwrap();
    assert_eq!(streamed, rows);
    // Not to be prepared, so that every value comes as text.
    run(&backend, "PREPARE kept FROM 'SELECT * FROM types'", vec![]).await;
    let printed = backend.run(call(), read("EXECUTE kept", vec![])).await.unwrap().rows;
    let mut expected = rows[0].values().to_vec();
    expected[12] = Value::from("-26:03:04.500");
    assert_eq!(printed[0].values(), expected);
}

#[tokio::test]
async fn a_zero_date_is_an_error_that_names_its_column_and_costs_no_connection() {
    let (_database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE zero (at DATETIME, day DATE)", vec![]).await;
    let refused =
        backend.run(call(), write("INSERT INTO zero VALUES ('0000-00-00', NULL)", vec![])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    let lax = "INSERT IGNORE INTO zero VALUES ('0000-00-00', '0000-00-00')";
    run(&backend, lax, vec![]).await;
    for column in ["at", "day"] {
        let select = dynamic(format!("SELECT {column} FROM zero"), vec![]);
        let (kind, text) = told(&backend.run(call(), select).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Codec);
        assert!(
            text.contains(&format!("column `{column}`")) && text.contains("zero date"),
            "{text}"
        );
    }
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn what_can_never_be_stored_is_refused_before_anything_is_sent() {
    let (_database, backend) = backend(1).await;
    for value in [
        Value::Float(f64::NAN),
        Value::Decimal("12,5".into()),
        Value::Time(Timestamp::from_micros(i64::MAX)),
    ] {
        let statement = write("SELECT ?, ?", vec![Value::Null, value]);
        let (kind, text) = told(&backend.run(call(), statement).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(text.contains("parameter 2"), "{text}");
    }
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
}

#[tokio::test]
async fn a_write_tells_its_count_and_its_own_id() {
    let (_database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n INT)", vec![]).await;
    let done = run(&backend, "INSERT INTO t (n) VALUES (1), (2)", vec![]).await.done;
    assert_eq!((done.affected, done.last_insert_id), (2, Some(1)));
    // Rows that were found count, whether or not the value is another one.
    let done = run(&backend, "UPDATE t SET n = 1", vec![]).await.done;
    assert_eq!((done.affected, done.last_insert_id), (2, None));
    let upsert = "INSERT INTO t VALUES (1, 1) ON DUPLICATE KEY UPDATE n = VALUES(n)";
    assert_eq!(run(&backend, upsert, vec![]).await.done.affected, 1);
    let returning = "INSERT INTO t (n) VALUES (3) RETURNING id, n";
    let reply = run(&backend, returning, vec![]).await;
    assert_eq!(reply.rows[0].values(), [Value::Int(3), Value::Int(3)]);
}

#[tokio::test]
async fn more_rows_than_allowed_are_an_error_that_costs_no_connection() {
    let (_database, backend) = backend(1).await;
    let mut bounded = call();
    bounded.max_rows = 2;
    let three = || read("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3", vec![]);
    let (kind, text) = told(&backend.run(bounded, three()).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.contains("more than 2 rows"), "{text}");
    bounded.max_rows = 3;
    assert_eq!(backend.run(bounded, three()).await.unwrap().rows.len(), 3);
    assert_eq!(backend.stats().connects, 1);
    let many = read("SELECT seq FROM seq_1_to_1000000", vec![]);
    assert_eq!(backend.run(bounded, many).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
}

#[tokio::test]
async fn a_write_that_returns_too_many_rows_is_undone() {
    let (_database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE t (n INT)", vec![]).await;
    run(&backend, "INSERT INTO t VALUES (1), (2), (3)", vec![]).await;
    let delete = || write("DELETE FROM t RETURNING n", vec![]);
    let mut bounded = call();
    bounded.max_rows = 2;
    let (kind, text) = told(&backend.run(bounded, delete()).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Invalid, "{text}");
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(3));
    let mut work = backend.begin(call(), trine_db_shard::BeginOptions::default()).await.unwrap();
    work.run(call(), write("INSERT INTO t VALUES (4)", vec![])).await.unwrap();
    assert_eq!(work.run(bounded, delete()).await.unwrap_err().kind(), ErrorKind::Invalid);
    let first = write("DELETE FROM t WHERE n < 3 RETURNING n", vec![]);
    assert_eq!(work.run(bounded, first).await.unwrap().rows.len(), 2);
    work.commit(call()).await.unwrap();
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(2));
    bounded.max_rows = 3;
    assert_eq!(backend.run(bounded, delete()).await.unwrap().rows.len(), 2);
    assert_eq!(backend.stats().connects, 1);
}

#[tokio::test]
async fn a_procedure_returns_each_of_its_result_sets() {
    let (_database, backend) = backend(1).await;
    run(&backend, "CREATE TABLE t (n INT)", vec![]).await;
    run(
        &backend,
        "CREATE PROCEDURE two (IN x INT) BEGIN \
         SELECT x AS a; SELECT x AS b WHERE FALSE; INSERT INTO t VALUES (x), (x); \
         SELECT x + 1 AS c, 'y' AS d; END",
        vec![],
    )
    .await;
    run(&backend, "CREATE PROCEDURE quiet () INSERT INTO t VALUES (1), (2), (3)", vec![]).await;
    run(
        &backend,
        "CREATE PROCEDURE loud () BEGIN SELECT 1; \
         SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = 'no such order'; END",
        vec![],
    )
    .await;
    let sets = backend.call(call(), write("CALL two(?)", vec![Value::Int(7)])).await.unwrap();
    let rows: Vec<_> = sets.iter().map(|set| set.rows.len()).collect();
    assert_eq!(rows, [1, 0, 1]);
    assert_eq!(sets[2].rows[0].values(), [Value::Int(8), Value::from("y")]);
    let sets = backend.call(call(), write("CALL quiet()", vec![])).await.unwrap();
    assert_eq!((sets.len(), sets[0].affected), (1, 3));
    let (kind, text) = told(&backend.call(call(), write("CALL loud()", vec![])).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Invalid);
    for part in ["45000", "31001", "no such order"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(5));
    assert_eq!(backend.stats().connects, 1);
}
