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
