use std::collections::BTreeSet;

use super::{CacheService, Fixture, Ttl, assert_invalid};
use crate::Cursor;

/// Returns what all pages of a scan have.
pub(super) async fn scanned(cache: &CacheService, prefix: &str, count: u32) -> BTreeSet<String> {
    let (mut found, mut cursor) = (BTreeSet::new(), Cursor::first());
    loop {
        let page = cache.scan(prefix, cursor, count).await.unwrap();
        found.extend(page.keys.iter().map(|key| key.as_str().to_owned()));
        match page.next {
            Some(next) => cursor = next,
            None => return found,
        }
    }
}

async fn put_all(cache: &CacheService, names: &BTreeSet<String>) {
    let entries = names.iter().map(|name| (name, &1));
    cache.put_many(entries, Ttl::Never).await.unwrap();
}

fn numbered(prefix: &str, count: u32) -> BTreeSet<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Taken as it is written: no character in it means anything else.
pub async fn a_scan_yields_every_key_with_the_prefix(fixture: Fixture) {
    let cache = fixture.start().await;
    let (users, others) = (numbered("user:", 700), numbered("use", 300));
    put_all(&cache, &users).await;
    put_all(&cache, &others).await;
    assert_eq!(scanned(&cache, "user:", 50).await, users);
    assert_eq!(scanned(&cache, "", 10_000).await, &users | &others);
    assert!(scanned(&cache, "absent", 10).await.is_empty());
    let odd = ["a*b", "a?b", "a[b]c", r"a\b", "a^b", "aXb", "{a*}b", "ä*"];
    let odd: BTreeSet<_> = odd.iter().map(|name| (*name).to_owned()).collect();
    put_all(&cache, &odd).await;
    for name in &odd {
        assert_eq!(scanned(&cache, name, 10).await, BTreeSet::from([name.clone()]));
    }
    let star = BTreeSet::from(["a*b".to_owned()]);
    assert_eq!(scanned(&cache, "a*", 10).await, star);
}

/// Those that stay are all yielded.
pub async fn a_scan_goes_on_while_keys_come_and_go(fixture: Fixture) {
    let cache = fixture.start().await;
    let staying = numbered("stay:", 300);
    put_all(&cache, &staying).await;
    let changing = async {
        for round in 0..10 {
            let passing = numbered(&format!("pass{round}:"), 100);
            put_all(&cache, &passing).await;
            cache.remove_many(&passing).await.unwrap();
        }
    };
    let scanning = async {
        for _ in 0..5 {
            let found = scanned(&cache, "", 20).await;
            assert!(staying.is_subset(&found));
        }
    };
    tokio::join!(changing, scanning);
}

/// Rather than begin again, or end before all was seen.
pub async fn a_cursor_of_no_scan_is_refused(fixture: Fixture) {
    let cache = fixture.start().await;
    put_all(&cache, &numbered("k", 50)).await;
    let hash = cache.hash("h").unwrap();
    hash.put("f", &1).await.unwrap();
    let texts: [&[u8]; 9] =
        [b"x", b"0", b":", b"x:a", b"9999:a", b"99999999999999999999:a", b"@", b"x@y", b"0:\xff"];
    for text in texts {
        let refused = cache.scan("k", Cursor::new(text), 10).await;
        let told = assert_invalid(refused);
        assert!(told.contains("cursor"), "{told}");
    }
    for text in ["x", "-1", "1x"] {
        assert_invalid(hash.scan::<u32>(text.into(), 10).await);
    }
}

/// However many there are.
pub async fn a_prefix_is_removed_and_nothing_else(fixture: Fixture) {
    let cache = fixture.start().await;
    let (old, new) = (numbered("old:", 1_200), numbered("new:", 50));
    put_all(&cache, &old).await;
    put_all(&cache, &new).await;
    assert_eq!(cache.remove_prefix("old:").await.unwrap(), 1_200);
    assert_eq!(cache.remove_prefix("old:").await.unwrap(), 0);
    assert_eq!(scanned(&cache, "", 100).await, new);
}
