use futures_util::future::join_all;
use trine_core::ErrorKind;
use trine_db_shard::Conflict;
use trine_testkit::drop_at_every_await;

use super::*;

fn kinds(answers: &[Result<Reply>]) -> Vec<Option<ErrorKind>> {
    answers.iter().map(|answer| answer.as_ref().err().map(trine_db_shard::Error::kind)).collect()
}

#[tokio::test]
async fn a_duplicate_stays_with_its_caller() {
    let db = Db::new().await;
    let answers = db.grouped(vec![insert(1), insert(1), insert(2)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Conflict), None]);
    assert_eq!(answers[1].as_ref().unwrap_err().unique_key(), Some(Some("item.id")));
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn a_rollback_of_the_whole_transaction_hurts_its_owner_only() {
    let db = Db::new().await;
    db.run(insert(1)).await.unwrap();
    let answers = db
        .grouped(vec![
            insert(2),
            write("INSERT OR ROLLBACK INTO item (id, name) VALUES (1, 'y')", vec![]),
            insert(3),
        ])
        .await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Conflict), None]);
    assert_eq!(db.ids().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_trigger_that_rolls_back_hurts_its_owner_only() {
    let db = Db::new().await;
    db.execute(
        "CREATE TRIGGER no_nine BEFORE INSERT ON item WHEN new.id = 9
         BEGIN SELECT raise(ROLLBACK, 'no nine'); END",
    )
    .await
    .unwrap();
    let answers = db.grouped(vec![insert(2), insert(9), insert(3)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Invalid), None]);
    assert_eq!(db.ids().await, [2, 3]);
}

#[tokio::test]
async fn a_deferred_foreign_key_fails_its_owner_only() {
    let db = Db::new().await;
    let orphan = write("INSERT INTO part (id, item) VALUES (1, 77)", vec![]);
    let answers = db.grouped(vec![insert(1), orphan, insert(2)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Invalid), None]);
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn nobody_is_refused_for_a_row_that_was_never_committed() {
    let db = Db::new().await;
    let orphan = write("INSERT INTO part (id, item) VALUES (1, 77)", vec![]);
    let rival = write("INSERT INTO part (id, item) VALUES (1, NULL)", vec![]);
    let answers = db.grouped(vec![orphan, rival]).await;
    assert_eq!(kinds(&answers), [Some(ErrorKind::Invalid), None]);
}

#[tokio::test]
async fn a_failed_statement_changes_nothing_whatever_its_or_clause_says() {
    let db = Db::new().await;
    let text = "INSERT OR FAIL INTO item (id, name) VALUES (5, 'a'), (1, 'b'), (6, 'c')";
    db.run(insert(1)).await.unwrap();
    let answers = db.grouped(vec![write(text, vec![]), insert(2)]).await;
    assert_eq!(kinds(&answers), [Some(ErrorKind::Conflict), None]);
    assert_eq!(db.run(write(text, vec![])).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn a_list_is_all_or_nothing_beside_others_and_alone() {
    let db = Db::new().await;
    let bad = || vec![insert(1), insert(2), insert(1)];
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let (bad_list, good_list, single, ()) = tokio::join!(
        db.backend.run_all(call(), bad()),
        db.backend.run_all(call(), vec![insert(3), insert(4)]),
        db.run(insert(5)),
        async {
            db.until_waiting(3).await;
            tx.rollback(call()).await.unwrap();
        }
    );
    assert_eq!(bad_list.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(good_list.unwrap().len(), 2);
    single.unwrap();
    assert_eq!(db.backend.run_all(call(), bad()).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(db.ids().await, [3, 4, 5]);
    assert!(db.backend.run_all(call(), vec![]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_text_whose_comment_does_not_end_is_refused_and_harms_nobody() {
    let db = Db::new().await;
    let open = || write("INSERT INTO item (id, name) VALUES (8, 'x') /* oops", vec![]);
    let answers = db.grouped(vec![insert(1), open(), insert(2)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Invalid), None]);
    assert_eq!(db.run(open()).await.unwrap_err().kind(), ErrorKind::Invalid);
    db.run(insert(3)).await.unwrap();
    assert_eq!(db.ids().await, [1, 2, 3]);
}

#[tokio::test]
async fn what_would_leave_the_group_is_refused() {
    let db = Db::new().await;
    for text in
        ["COMMIT", "ROLLBACK", "DELETE FROM item; COMMIT", "SELECT '\0'", "PRAGMA user_version = 1"]
    {
        for access in [Access::Read, Access::Write] {
            let error = db.run(dynamic(text.into(), access)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }
}

#[tokio::test]
async fn a_thread_that_dies_takes_its_own_statement_only() {
    let db = Db::new().await;
    // The driver panics on a parameter of this name.
    let deadly = || write("INSERT INTO item (id, name) VALUES (8, $0)", vec![]);
    let answers = db.grouped(vec![insert(1), deadly(), insert(2)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::OutcomeUnknown), None]);
    assert_eq!(db.run(deadly()).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    db.backend.prove(call()).await.unwrap();
    db.run(insert(3)).await.unwrap();
    assert_eq!(db.ids().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_change_of_the_schema_runs_beside_other_writes() {
    let db = Db::new().await;
    let answers = db
        .grouped(vec![
            insert(1),
            write("CREATE TABLE other (id INTEGER PRIMARY KEY)", vec![]),
            insert(2),
            write("VACUUM", vec![]),
        ])
        .await;
    assert_eq!(kinds(&answers), [None; 4]);
    assert_eq!(answers[1].as_ref().unwrap().done, Done::default());
}

#[tokio::test]
async fn a_write_dropped_anywhere_happens_once_or_not_and_harms_nobody() {
    let db = Db::new().await;
    let mut id = 0;
    let report = drop_at_every_await(
        || {
            id += 2;
            let (dropped, kept) = (insert(id), insert(id + 1));
            let db = &db;
            async move {
                let (dropped, kept) = tokio::join!(db.run(dropped), db.run(kept));
                dropped.unwrap();
                kept.unwrap();
            }
        },
        async |_| {
            db.run(insert(1_000_000)).await.unwrap();
            db.execute("DELETE FROM item WHERE id = 1000000").await.unwrap();
        },
    )
    .await
    .unwrap();
    assert!(report.confirmed > 0 && report.finished == 1);
    let ids = db.ids().await;
    assert!(ids.contains(&id) && ids.contains(&(id + 1)));
}

#[tokio::test]
async fn who_leaves_before_its_turn_is_skipped() {
    let db = Db::new().await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let left = tokio::time::timeout(Duration::from_millis(20), db.run(insert(1))).await;
    assert!(left.is_err());
    tx.rollback(call()).await.unwrap();
    db.run(insert(2)).await.unwrap();
    assert_eq!(db.ids().await, [2]);
}

#[tokio::test]
async fn who_leaves_while_running_is_stopped_and_the_others_commit() {
    let db = Db::new().await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let endless = async {
        let running = db.backend.run(call(), write(ENDLESS_WRITE, vec![]));
        let left = tokio::time::timeout(Duration::from_millis(200), running).await;
        assert!(left.is_err());
    };
    let others = join_all([1, 2].map(|id| db.run(insert(id))));
    let ((), others, ()) = tokio::join!(endless, others, async {
        db.until_waiting(3).await;
        tx.rollback(call()).await.unwrap();
    });
    assert_eq!(kinds(&others), [None, None]);
    assert_eq!(db.ids().await, [1, 2]);
    assert_eq!(db.backend.stats().cancelled, 1);
}

#[tokio::test]
async fn a_write_past_its_deadline_is_rolled_back_alone() {
    let db = Db::new().await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let late = db.backend.run(within(Duration::from_millis(200)), write(ENDLESS_WRITE, vec![]));
    let (late, first, second, ()) =
        tokio::join!(late, db.run(insert(1)), db.run(insert(2)), async {
            db.until_waiting(3).await;
            tx.rollback(call()).await.unwrap();
        });
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    first.unwrap();
    second.unwrap();

    let alone = db.backend.run(within(Duration::from_millis(100)), write(ENDLESS_WRITE, vec![]));
    assert_eq!(alone.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn who_waits_behind_a_long_one_of_its_group_is_told_that_nothing_was_run() {
    let db = Db::new().await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let long = db.backend.run(within(Duration::from_secs(2)), write(ENDLESS_WRITE, vec![]));
    let behind = db.backend.run(within(Duration::from_millis(700)), insert(1));
    let (long, behind, ()) = tokio::join!(long, behind, async {
        db.until_waiting(2).await;
        tx.rollback(call()).await.unwrap();
    });
    assert_eq!(behind.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(long.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(db.ids().await.is_empty());
}

#[tokio::test]
async fn groups_of_one_keep_every_promise() {
    let db = Db::with(|config| config.group = 1.try_into().unwrap()).await;
    let answers = db.grouped(vec![insert(1), insert(1), insert(2)]).await;
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Conflict), None]);
    assert!(matches!(
        answers[1],
        Err(trine_db_shard::Error::Conflict { conflict: Conflict::UniqueKey { .. }, .. })
    ));
}
