//! What the program says to its user.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::home::{BOUND, Engine, Home};

mod sqlite {
    use super::*;

    #[trine_testkit::test]
    async fn a_second_process_on_the_data_folder_is_told_of_the_first() {
        let home = Home::sqlite();
        let starter = home.serve().await;
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        let holder = format!("held by process {}", starter.process.pid());
        assert!(said.contains(&holder), "{said}");
        let address = starter.url().strip_prefix("http://").unwrap();
        let (status, said) = home.run(["--listen", address]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&holder), "{said}");
        let (status, said) = home.run(["migrate"]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        starter.client().get("/health/ready").await.expect(reqwest::StatusCode::OK);
    }

    #[trine_testkit::test]
    async fn the_data_folder_is_its_owners_and_a_wider_one_is_complained_of() {
        let home = Home::sqlite();
        let mode = || fs::metadata(home.data()).unwrap().permissions().mode() & 0o777;
        let (status, said) = home.run(["migrate"]).await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(mode(), 0o700);
        assert!(!said.contains("may be entered by others"), "{said}");
        fs::set_permissions(home.data(), fs::Permissions::from_mode(0o755)).unwrap();
        let (status, said) = home.run(["migrate"]).await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("may be entered by others"), "{said}");
        assert_eq!(mode(), 0o755, "what somebody chose is theirs to change");
    }

    #[trine_testkit::test]
    async fn the_key_of_sessions_is_made_once_and_is_its_owners() {
        let home = Home::sqlite();
        let file = home.data().join("sessions.key");
        let mut kept = Vec::new();
        for _ in 0..2 {
            let starter = home.serve().await;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            kept.push(fs::read_to_string(&file).unwrap());
            starter.process.terminate().unwrap();
            starter.process.wait(BOUND).await.unwrap();
            assert!(!starter.process.log().contains(&kept[0]));
        }
        assert_eq!(kept[0], kept[1]);
        assert_eq!(kept[0].len(), 64);
        // What the owner gives instead replaces the file.
        let home = home.with_setting("sessions", "key = \"too short\"");
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("sessions.key: 9 bytes, expected at least 32"), "{said}");
    }

    #[trine_testkit::test]
    async fn an_address_that_is_taken_is_named() {
        let (home, other) = (Home::sqlite(), Home::sqlite());
        let starter = home.serve().await;
        let address = starter.url().strip_prefix("http://").unwrap();
        let (status, said) = other.run(["--listen", address]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("listen on {address}")), "{said}");
    }

    #[trine_testkit::test]
    async fn everything_wrong_with_the_configuration_is_listed_at_once() {
        let home = Home::sqlite()
            .with_setting("starter", "acount_ttl = \"1h\"")
            .with_setting("starter.login", "window = 5")
            .with_setting("starter.login", "failures_per_account = 0")
            .with_setting("db", "max_rows = 0")
            .with_setting("database.global", "raeders = 2")
            .with_setting("telemetry", "filter = \"trine=loud\"")
            .with_setting("jobs.cleanup", "schedule = \"daily 25:00\"")
            .with_setting("scheduler", "pol = \"1s\"")
            .with_setting("lock", "ttl = \"1ms\"");
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(2), "{said}");
        for expected in [
            "starter.acount_ttl",
            "did you mean `account_ttl`?",
            "starter.login.window",
            "starter.login.failures_per_account",
            "db.max_rows",
            "database.global.raeders",
            "telemetry.filter",
            "jobs.cleanup.schedule",
            "scheduler.pol",
            "lock.ttl",
            "settings.toml",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!said.contains("listening on"), "{said}");
        assert!(!home.data().exists(), "nothing may be made of a wrong configuration");
    }

    #[trine_testkit::test]
    async fn a_variable_is_checked_like_a_file() {
        let home = Home::sqlite();
        let child = home.command().env("TRINE__STARTER__ADMIN_TOKEN", "short-secret");
        let child = child.env("TRINE__DB__MAX_ROWSS", "1");
        let child = child.env("TRINE__JOBS__STATISTICS__SCHEDULE", "hourly").spawn().unwrap();
        let status = child.wait(BOUND).await.unwrap();
        let said = child.log();
        assert_eq!(status.code(), Some(2), "{said}");
        for expected in [
            "starter.admin_token",
            "TRINE__STARTER__ADMIN_TOKEN",
            "max_rowss",
            "jobs.statistics.schedule",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!said.contains("short-secret"), "{said}");
    }

    #[trine_testkit::test]
    async fn options_that_cannot_be_are_refused() {
        let home = Home::sqlite();
        let nowhere = home.path().join("nowhere");
        let nowhere = nowhere.to_str().unwrap();
        let here = home.path().to_str().unwrap();
        let cases: [&[&str]; 9] = [
            &["--import", here, "--exit-after-import", "migrate"],
            &["--listen", "127.0.0.1:0", "migrate"],
            &["--import", here, "migrate", "--print"],
            &["--listen", "127.0.0.1:0", "config", "schema"],
            &["--import", nowhere],
            &["--exit-after-import"],
            &["--profile", "staging"],
            &["--listen", "nowhere"],
            &["--unknown"],
        ];
        for args in cases {
            let child = home.command().args(args.iter().copied()).spawn().unwrap();
            let status = child.wait(BOUND).await.unwrap();
            assert_eq!(status.code(), Some(2), "{args:?}: {}", child.log());
        }
    }

    #[trine_testkit::test]
    async fn the_schema_names_every_section() {
        let home = Home::sqlite();
        let (status, said) = home.run(["config", "schema"]).await;
        assert_eq!(status.code(), Some(0), "{said}");
        let schema: serde_json::Value = serde_json::from_str(&said).unwrap();
        for section in [
            "starter",
            "db",
            "database",
            "container",
            "telemetry",
            "cache",
            "redis",
            "sessions",
            "lock",
            "scheduler",
            "jobs",
        ] {
            assert!(!schema["properties"][section].is_null(), "{section}");
        }
        let token = &schema["$defs"]["StarterConfig"]["properties"]["admin_token"];
        assert!(token.to_string().contains("password"), "a secret is marked as one: {token}");
    }
}

mod mariadb {
    use super::*;

    #[trine_testkit::test]
    async fn pending_migrations_are_listed_with_the_command_that_applies_them() {
        let home = Home::with_empty_databases().await;
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        for expected in ["starter-accounts 1", "trine-scheduler 1", "trine-starter migrate"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let (status, said) = home.run(["migrate", "--print"]).await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("CREATE TABLE account"), "{said}");
        for table in ["document", "statistics", "trine_lock", "trine_job", "trine_tick"] {
            assert!(said.contains(&format!("CREATE TABLE {table} (")), "{table}: {said}");
        }
    }

    #[trine_testkit::test]
    async fn a_profile_without_its_urls_says_which_are_missing_and_shows_no_secret() {
        let home = Home::new(Engine::MariaDb).await;
        let file = home.path().join("one.toml");
        let secret = "mysql://me:hidden-password@127.0.0.1:1/x?ssl-mode=nonsense";
        fs::write(&file, format!("[database.shard_0]\nurl = \"{secret}\"\n[starter]\nx = 1\n"))
            .unwrap();
        let program = trine_testkit::Child::builder(env!("CARGO_BIN_EXE_trine-starter"));
        let child = program.args(["--profile", "prod", "--config", file.to_str().unwrap()]);
        let child = child.spawn().unwrap();
        let status = child.wait(BOUND).await.unwrap();
        let said = child.log();
        assert_eq!(status.code(), Some(2), "{said}");
        for expected in ["database.global", "database.shard_1", "url", "starter.x"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!said.contains("hidden-password"), "{said}");
    }
}
