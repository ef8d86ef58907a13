use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_scan_finds_the_prefix_whatever_the_size_of_its_pages() {
    let store = Store::evicting();
    let mut expected = Vec::new();
    for each in 0..500 {
        let text = format!("{}:{each:03}", ["a", "ab", "b"][each % 3]);
        store.put(&text, "1", Ttl::secs(1 + each as u64 % 2)).await;
        expected.push(text);
    }
    expected.sort();
    for count in [1, 7, 100, 10_000] {
        assert_eq!(store.scan("", count).await, expected);
        let prefixed: Vec<_> =
            expected.iter().filter(|text| text.starts_with("ab")).cloned().collect();
        assert_eq!(store.scan("ab", count).await, prefixed);
        assert_eq!(store.scan("none", count).await, Vec::<String>::new());
    }
    store.clock.advance(SECOND);
    assert_eq!(store.scan("", 100).await.len(), 250);
}

#[tokio::test]
async fn a_key_that_stays_is_found_while_others_come_and_go() {
    let store = Store::new(64 * 1024, WhenFull::Refuse);
    for each in 0..100 {
        store.put(&format!("stays{each}"), "1", Ttl::Never).await;
        store.put(&format!("goes{each}"), "1", Ttl::Never).await;
    }
    let (mut found, mut cursor, mut round) = (BTreeSet::new(), Some(Cursor::first()), 0);
    while let Some(from) = cursor {
        let page = store.backend.scan(Call::new("scan"), "", from, 3).await.unwrap();
        found.extend(page.keys.iter().map(ToString::to_string));
        cursor = page.next;
        store.run(Op::Remove { key: key(&format!("goes{round}")) }).await;
        store.put(&format!("comes{round}"), "1", Ttl::Never).await;
        store.put(&format!("stays{round}"), "another value", Ttl::secs(9)).await;
        round += 1;
    }
    assert!(round > 5, "{round}");
    assert!((0..100).all(|each| found.contains(&format!("stays{each}"))));
}

#[tokio::test]
async fn marks_are_not_scanned_and_count_as_bytes() {
    let store = Store::refusing();
    for each in 0..200 {
        let fence = Fence::new(format!("lock.test/{each}"), 1).unwrap();
        store.batch(Batch::raise(&fence, key(&format!("k{each}")))).await.unwrap();
    }
    assert_eq!(store.scan("", 10).await, Vec::<String>::new());
    let bytes = store.stats().bytes;
    assert!(bytes > 200 * 20, "{bytes}");
    // Those that have ended make room for others.
    store.clock.advance(60 * SECOND);
    for each in 0..200 {
        let fence = Fence::new(format!("lock.other/{each}"), 1).unwrap();
        for tag in 0..40 {
            let raised = store.batch(Batch::raise(&fence, key(&format!("k{tag}")))).await;
            if let Err(error) = raised {
                assert_eq!(error.kind(), ErrorKind::Exhausted);
            }
        }
    }
    assert!(store.stats().bytes <= 1024 * 1024);
    assert!(store.stats().bytes > 900 * 1024, "{:?}", store.stats());
}
