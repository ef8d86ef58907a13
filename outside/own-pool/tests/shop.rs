use outside_own_pool::{migrate, pay};
use sqlx::MySqlPool;
use trine_db_shard::{Database, Once};
use trine_testkit::MariaDb;

#[trine_testkit::test]
async fn a_payment_that_comes_twice_is_booked_once() {
    let server = MariaDb::shared().await.unwrap();
    let database = server.database().await.unwrap();
    let pool = MySqlPool::connect(&database.url()).await.unwrap();
    let db = Database::from_mysql_pool(pool.clone());
    migrate(&db).await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (7, 0)").execute(&pool).await.unwrap();
    assert_eq!(pay(&db, "m-1", 7, 30).await.unwrap(), Once::First);
    assert_eq!(pay(&db, "m-1", 7, 30).await.unwrap(), Once::Repeated);
    assert_eq!(pay(&db, "m-2", 7, 12).await.unwrap(), Once::First);
    let paid: i64 =
        sqlx::query_scalar("SELECT paid FROM orders WHERE id = 7").fetch_one(&pool).await.unwrap();
    assert_eq!(paid, 42);
}
