//! Documents.

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use reqwest::{Body, StatusCode};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::home::Home;

const LARGEST: usize = 8 * 1024 * 1024;

pub(crate) async fn a_document_is_stored_listed_read_replaced_and_removed(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let stored = ann.put("notes%2Ffirst.txt", "one two\nthrée").await.expect(StatusCode::OK).json;
    assert_eq!(stored["bytes"], 14);
    assert_eq!(stored["words"], 3);
    let id = stored["document_id"].as_str().unwrap().to_owned();
    let path = format!("/api/documents/{id}");

    let listed = ann.documents(10).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["document_id"], id);
    assert_eq!(listed[0]["name"], "notes/first.txt");
    assert_eq!((&listed[0]["bytes"], &listed[0]["words"]), (&14.into(), &3.into()));
    let read = ann.get(&path).await.expect(StatusCode::OK);
    assert_eq!(read.text, "one two\nthrée");
    assert_eq!(read.headers["content-type"], "text/plain; charset=utf-8");

    let replaced = ann.put("notes%2Ffirst.txt", "four").await.expect(StatusCode::OK).json;
    assert_eq!(replaced["document_id"], id);
    assert_eq!(ann.get(&path).await.text, "four");
    let listed = ann.documents(10).await;
    assert_eq!((listed.len(), &listed[0]["words"]), (1, &1.into()));

    ann.delete(&path).await.expect(StatusCode::NO_CONTENT);
    ann.get(&path).await.expect_problem(404, None);
    ann.delete(&path).await.expect_problem(404, None);
    assert!(ann.documents(10).await.is_empty());
}

pub(crate) async fn a_listing_goes_through_every_page(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    assert!(ann.documents(1).await.is_empty());
    let names: Vec<_> = (0..7).map(|n| format!("{n}.txt")).collect();
    for name in &names {
        ann.put(name, name.clone()).await.expect(StatusCode::OK);
    }
    for limit in [1, 2, 3, 7, 200] {
        let listed = ann.documents(limit).await;
        let mut found: Vec<_> = listed.iter().map(|document| document["name"].clone()).collect();
        found.sort_by_key(ToString::to_string);
        assert_eq!(found, names, "{limit}");
    }
}

pub(crate) async fn documents_of_others_are_not_there(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let stored = ann.put("secret", "of Ann").await.expect(StatusCode::OK).json;
    let path = format!("/api/documents/{}", stored["document_id"].as_str().unwrap());
    let home_of = async |client: &Client| client.get("/api/me").await.json["shard_id"].as_u64();
    let shard = home_of(&ann).await;
    let mut neighbours = 0;
    // On another shard nothing could be found anyway.
    for n in 0..64 {
        let bob = starter.account(&format!("bob{n}@example.com")).await;
        if home_of(&bob).await != shard {
            continue;
        }
        bob.get(&path).await.expect_problem(404, None);
        bob.delete(&path).await.expect_problem(404, None);
        assert!(bob.documents(10).await.is_empty());
        let own = bob.put("secret", "of Bob").await.expect(StatusCode::OK).json;
        assert_ne!(own["document_id"], stored["document_id"]);
        neighbours += 1;
        if neighbours == 2 {
            break;
        }
    }
    assert_eq!(neighbours, 2, "nobody shares the shard");
    assert_eq!(ann.get(&path).await.text, "of Ann");
}

pub(crate) async fn names_may_hold_anything_but_control_characters(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let names = [
        ("a%20b", "a b"),
        ("a%20", "a "),
        ("a", "a"),
        ("A", "A"),
        ("%25%2B+", "%++"),
        ("..%2F..%2Fetc", "../../etc"),
        ("%F0%9F%A6%80", "🦀"),
        ("%C3%A9", "é"),
        ("e%CC%81", "e\u{301}"),
    ];
    for (escaped, name) in names {
        ann.put(escaped, name).await.expect(StatusCode::OK);
    }
    let listed = ann.documents(50).await;
    let mut found: Vec<_> =
        listed.iter().map(|document| document["name"].as_str().unwrap()).collect();
    let mut expected = names.map(|(_, name)| name);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for bad in ["a%00b", "a%0Ab", &"x".repeat(1_025)] {
        ann.put(bad, "text").await.expect_problem(422, Some("key"));
    }
    ann.put("%FF", "text").await.expect_problem(400, Some("path"));
}

pub(crate) async fn what_is_wrong_with_a_document_is_named(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    ann.put("kept", "kept").await.expect(StatusCode::OK);
    ann.put("kept", vec![b'a', 0xff]).await.expect_problem(400, Some("body"));
    ann.put("kept", vec![b'x'; LARGEST + 1]).await.expect_problem(413, Some("body"));
    let chunk = || Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024]);
    let unannounced = Body::wrap_stream(stream::iter((0..129).map(move |_| chunk())));
    ann.put("kept", unannounced).await.expect_problem(413, Some("body"));
    let largest = ann.put("largest", "x ".repeat(LARGEST / 2)).await.expect(StatusCode::OK).json;
    assert_eq!(largest["words"], LARGEST / 2);

    let queries = [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=d1", "cursor"),
        ("crusor=x", "crusor"),
    ];
    for (query, field) in queries {
        let answer = ann.get(&format!("/api/documents?{query}")).await;
        answer.expect_problem(422, Some(field));
    }
    ann.get("/api/documents/nonsense").await.expect_problem(422, Some("key"));
    ann.delete("/api/documents/nonsense").await.expect_problem(422, Some("key"));
    ann.get("/api/documents/00000000-0000-0000-0000-000000000000").await.expect_problem(404, None);
    let nowhere = ann.get("/api/nowhere").await;
    assert_eq!(nowhere.status, 404);
    let names: Vec<_> = ann.documents(10).await.iter().map(|d| d["name"].clone()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// A body that brings a little and then nothing, and tells that it is read.
fn slow_body(begun: &mpsc::UnboundedSender<()>) -> Body {
    let begun = begun.clone();
    let first = stream::once(async { Ok::<_, std::io::Error>("some text") });
    let never = stream::once(async move {
        begun.send(()).unwrap();
        std::future::pending().await
    });
    Body::wrap_stream(first.chain(never))
}

/// The server gives up on each of them in time, and says whose fault it is.
pub(crate) async fn slow_clients_are_told_so_and_keep_nobody_else_from_storing(home: Home) {
    let home = home.with_setting("starter", "request_timeout = \"4s\"");
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let bob = starter.account("bob@example.com").await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let names: Vec<_> = (0..32).map(|n| format!("slow-{n}")).collect();
    let slow = join_all(names.iter().map(|name| ann.put(name, slow_body(&begun))));
    let meanwhile = async {
        for _ in 0..32 {
            begins.recv().await.unwrap();
        }
        bob.put("quick", "text").await.expect(StatusCode::OK);
    };
    let (answers, ()) = tokio::join!(slow, meanwhile);
    let mut too_slow = 0;
    for answer in answers {
        if answer.status == 408 {
            answer.expect_problem(408, Some("body"));
            too_slow += 1;
        } else {
            answer.expect_problem(503, None);
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
    assert!(too_slow > 0);
    ann.put("quick", "text").await.expect(StatusCode::OK);
}

/// Each holds its text in memory until it is sent.
pub(crate) async fn documents_that_nobody_takes_off_keep_nobody_else_from_reading(home: Home) {
    let home = home.with_setting("starter", "request_timeout = \"4s\"");
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let bob = starter.account("bob@example.com").await;
    let path = async |client: &Client, text: String| {
        let stored = client.put("text", text).await.expect(StatusCode::OK).json;
        format!("/api/documents/{}", stored["document_id"].as_str().unwrap())
    };
    let large = path(&ann, "x".repeat(LARGEST)).await;
    let small = path(&bob, "small".to_owned()).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        let response = ann.request(reqwest::Method::GET, &large).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        taken.push(response);
    }
    let refused = ann.request(reqwest::Method::GET, &large).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(bob.get(&small).await.text, "small");
    for response in taken {
        assert_eq!(response.bytes().await.unwrap().len(), LARGEST);
    }
    assert_eq!(ann.get(&large).await.expect(StatusCode::OK).text.len(), LARGEST);
}
