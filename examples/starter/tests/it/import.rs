//! The import of a folder.

use std::fs;
use std::os::unix::fs::symlink;

use reqwest::StatusCode;
use serde_json::json;

use crate::home::{BOUND, Home, Starter};

pub(crate) async fn a_folder_is_imported_and_imported_again(home: Home) {
    let texts = home.path().join("texts");
    for folder in ["deep/er", ".git"] {
        fs::create_dir_all(texts.join(folder)).unwrap();
    }
    fs::write(texts.join("a.txt"), "one two").unwrap();
    fs::write(texts.join("deep/er/b c.md"), "three").unwrap();
    fs::write(texts.join(".git/HEAD"), "ref").unwrap();
    fs::write(texts.join("picture"), [0xff, 0xd8]).unwrap();
    fs::write(texts.join("large"), vec![b'x'; 8 * 1024 * 1024 + 1]).unwrap();
    symlink("/etc/hostname", texts.join("link")).unwrap();
    let folder = texts.to_str().unwrap();

    let (status, first) = home.run(["--import", folder, "--exit-after-import"]).await;
    assert_eq!(status.code(), Some(0), "{first}");
    for expected in [
        "imported 2 files, 3 words, 12 bytes",
        "1 × not UTF-8 text: picture",
        "1 × larger than 8 MiB: large",
        "1 × symbolic links are not followed: link",
        "1 × hidden folder: .git",
    ] {
        assert!(first.contains(expected), "{expected}: {first}");
    }
    assert!(!first.contains('\r') && !first.contains("/s"), "a bar without a terminal: {first}");
    assert!(!first.contains('\u{1b}'), "colours without a terminal: {first}");
    assert!(!first.contains("health of a service changed"), "a start is no change: {first}");
    let password = first.lines().find_map(|line| line.trim().strip_prefix("password: ")).unwrap();

    fs::write(texts.join("a.txt"), "one two three four").unwrap();
    fs::write(texts.join("new.txt"), "five").unwrap();
    let command = home.command().args(["--import", folder, "--listen", "127.0.0.1:0"]);
    let starter = Starter::of(command.spawn().unwrap()).await;
    let line = starter.process.wait_for_log("imported ", BOUND).await.unwrap();
    assert!(line.starts_with("imported 3 files, 6 words"), "{line}");
    starter.process.wait_for_log("curl ", BOUND).await.unwrap();
    assert!(!starter.process.log().contains("password: "), "{}", starter.process.log());

    let login = json!({ "email": "demo@example.com", "password": password });
    let opened = starter.client().post("/api/sessions", login).await.expect(StatusCode::OK).json;
    let demo = starter.client().with_token(opened["access_token"].as_str().unwrap());
    let listed = demo.documents(10).await;
    let mut found: Vec<_> = listed
        .iter()
        .map(|document| (document["name"].as_str().unwrap(), document["words"].as_u64().unwrap()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("a.txt", 4), ("deep/er/b c.md", 1), ("new.txt", 1)]);
}

mod mariadb {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};
    use trine_core::Secret;
    use trine_lock::{Key, LockConfig, LockDeps, LockOptions, LockService};
    use trine_redis::{RedisConfig, RedisService};
    use trine_testkit::Child;

    use super::*;
    use crate::home::Engine;

    /// Imports that wait for rows which somebody else has.
    struct Waiting {
        home: Home,
        texts: String,
        rows: Vec<trine_db_shard::Tx>,
        _redis: RedisService,
        locks: LockService,
    }

    impl Waiting {
        async fn new() -> Self {
            let home = Home::new(Engine::MariaDb).await;
            let texts = home.path().join("texts");
            fs::create_dir(&texts).unwrap();
            fs::write(texts.join("a.txt"), "one two").unwrap();
            let texts = texts.to_str().unwrap().to_owned();
            let (status, said) = home.run(["--import", &texts, "--exit-after-import"]).await;
            assert_eq!(status.code(), Some(0), "{said}");
            let mut rows = Vec::new();
            for shard in [1, 2] {
                rows.push(home.hold(shard, "SELECT name FROM document FOR UPDATE").await);
            }
            let (url, namespace) = home.redis();
            let config = RedisConfig::single(namespace, Secret::new(url));
            let redis = RedisService::connect(&config).await.unwrap();
            let deps = LockDeps::default().with_redis("main", redis.pool());
            let locks = LockService::open(&LockConfig::redis("main"), deps).unwrap();
            locks.start().await.unwrap();
            Self { home, texts, rows, _redis: redis, locks }
        }

        /// Begins an import and returns it with the key it holds.
        async fn begin(&self) -> (Child, Key) {
            let child = self.home.command().args(["--import", &self.texts, "--exit-after-import"]);
            let (child, start) = (child.spawn().unwrap(), Instant::now());
            loop {
                let held = self.locks.holders("import:", None, 10).await.unwrap();
                if let Some(held) = held.keys.into_iter().find(|held| !held.holders.is_empty()) {
                    return (child, held.key);
                }
                assert!(start.elapsed() < BOUND, "nothing is locked: {}", child.log());
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    #[trine_testkit::test(timeout = "120s")]
    async fn a_second_import_of_the_account_is_told_of_the_first() {
        let mut waiting = Waiting::new().await;
        let (first, _) = waiting.begin().await;
        let args = ["--import", &waiting.texts, "--exit-after-import"];
        let (status, said) = waiting.home.run(args).await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("is being imported to by"), "{said}");
        assert!(said.contains(&first.pid().to_string()), "{said}");
        assert!(first.is_running(), "{}", first.log());
        for rows in waiting.rows.drain(..) {
            rows.rollback().await.unwrap();
        }
        let status = first.wait(BOUND).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", first.log());
        let (status, said) = waiting.home.run(args).await;
        assert_eq!(status.code(), Some(0), "it is free: {said}");
    }

    #[trine_testkit::test(timeout = "120s")]
    async fn an_import_that_loses_its_lock_ends_and_says_so() {
        let waiting = Waiting::new().await;
        let (first, key) = waiting.begin().await;
        let guard = waiting.locks.steal(key, LockOptions::default()).await.unwrap();
        let status = first.wait(BOUND).await.unwrap();
        assert_eq!(status.code(), Some(1), "{}", first.log());
        assert!(first.log().contains("has lost its lock and ended"), "{}", first.log());
        assert!(!first.log().contains("imported "), "{}", first.log());
        guard.release().await.unwrap();
    }
}
