use std::num::NonZeroU32;

use futures_util::future::join_all;
use trine_core::{Secret, Span};

use super::{CacheService, Duration, Fixture, Op, key, one, panic_with, scans};
use crate::{CreateOutcome, Created, Presence, Sessions, SessionsConfig, WhenTooMany};

fn config(change: impl FnOnce(&mut SessionsConfig)) -> SessionsConfig {
    let mut config = SessionsConfig::new(Secret::new("k".repeat(32)));
    change(&mut config);
    config
}

fn open(cache: &CacheService, change: impl FnOnce(&mut SessionsConfig)) -> Sessions<String> {
    Sessions::open(cache, &config(change)).unwrap()
}

async fn create(sessions: &Sessions<String>, user: &str) -> Created<String> {
    match sessions.create(user, &"data".to_owned()).await.unwrap() {
        CreateOutcome::Created(created) => created,
        other @ CreateOutcome::TooMany { .. } => panic_with(&format!("{other:?}")),
    }
}

fn most(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// Whoever has the token is the user, until it is revoked.
pub async fn a_session_is_made_used_and_revoked(fixture: Fixture) {
    let cache = fixture.start().await;
    let sessions = open(&cache, |_| {});
    let created = create(&sessions, "ada").await;
    let token = created.token.expose();
    let session = sessions.get(token).await.unwrap().unwrap();
    assert_eq!((&*session.user, &*session.data), ("ada", "data"));
    assert_eq!(session.id, created.session.id);
    let stored = sessions.put(token, &"more".to_owned()).await.unwrap().unwrap();
    assert_eq!(stored.data, "more");
    assert_eq!(sessions.get(token).await.unwrap().unwrap().data, "more");

    let other = create(&sessions, "bob").await;
    let forged = format!("{}{}", &token[..17], &other.token.expose()[17..]);
    for text in ["", "x", &forged, &token[1..], &format!("{token}=")] {
        assert!(sessions.get(text).await.unwrap().is_none(), "{text}");
        assert_eq!(sessions.revoke(text).await.unwrap(), Presence::Absent);
    }
    let other_key = Secret::new("K".repeat(32));
    let elsewhere = Sessions::<String>::open(&cache, &SessionsConfig::new(other_key)).unwrap();
    assert!(elsewhere.list("ada").await.unwrap().is_empty());
    assert!(elsewhere.get(token).await.unwrap().is_none());
    assert!(elsewhere.put(token, &String::new()).await.unwrap().is_none());
    assert!(elsewhere.rotate(token).await.unwrap().is_none());

    assert_eq!(sessions.revoke(token).await.unwrap(), Presence::Present);
    assert_eq!(sessions.revoke(token).await.unwrap(), Presence::Absent);
    assert!(sessions.get(token).await.unwrap().is_none());
    assert!(sessions.put(token, &"late".to_owned()).await.unwrap().is_none());
    assert!(sessions.get(other.token.expose()).await.unwrap().is_some());
    // Nothing in the store is a token.
    let secret = &other.token.expose()[17..];
    let names = scans::scanned(&cache, "", 100).await;
    assert!(!names.is_empty());
    for name in names {
        assert!(!name.contains(secret));
        let pairs =
            one(&cache, Op::HashAll { key: key(&name) }).await.unwrap().into_pairs().unwrap();
        assert!(pairs.iter().all(|pair| !format!("{pair:?}").contains(secret)));
    }
}

/// Each use puts the one end off, nothing the other.
pub async fn a_session_ends_when_it_is_idle_and_when_it_is_old(fixture: Fixture) {
    let cache = fixture.start().await;
    let second = Duration::from_secs(1);
    let sessions = open(&cache, |config| {
        config.idle = Span::from(second);
        config.absolute = Span::from(second * 2);
        config.touch_every = Some(Span::millis(50));
    });
    let used = create(&sessions, "ada").await;
    let idle = create(&sessions, "ada").await;
    for _ in 0..2 {
        fixture.pass(second * 6 / 10).await;
        assert!(sessions.get(used.token.expose()).await.unwrap().is_some());
    }
    assert!(sessions.get(idle.token.expose()).await.unwrap().is_none());
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
    fixture.pass(second * 6 / 10).await;
    assert!(sessions.get(used.token.expose()).await.unwrap().is_some());
    fixture.pass(second * 6 / 10).await;
    assert!(sessions.get(used.token.expose()).await.unwrap().is_none());
    assert!(sessions.rotate(used.token.expose()).await.unwrap().is_none());
    assert!(sessions.list("ada").await.unwrap().is_empty());
}

/// The longest unused one goes, or none is made.
pub async fn a_user_has_only_so_many_sessions(fixture: Fixture) {
    let cache = fixture.start().await;
    let sessions = open(&cache, |config| {
        config.max_per_user = most(2);
        config.touch_every = Some(Span::millis(1));
    });
    let first = create(&sessions, "ada").await;
    fixture.pass(Duration::from_millis(5)).await;
    let second = create(&sessions, "ada").await;
    create(&sessions, "bob").await;
    fixture.pass(Duration::from_millis(5)).await;
    sessions.get(first.token.expose()).await.unwrap().unwrap();
    fixture.pass(Duration::from_millis(5)).await;
    let third = create(&sessions, "ada").await;
    assert_eq!(third.ended, std::slice::from_ref(&second.session.id));
    assert!(sessions.get(second.token.expose()).await.unwrap().is_none());
    assert!(sessions.get(first.token.expose()).await.unwrap().is_some());

    let strict = open(&cache, |config| {
        config.max_per_user = most(2);
        config.when_too_many = WhenTooMany::Refuse;
    });
    let refused = strict.create("ada", &String::new()).await.unwrap();
    assert!(matches!(refused, CreateOutcome::TooMany { present: 2 }), "{refused:?}");
    strict.revoke(third.token.expose()).await.unwrap();
    create(&strict, "ada").await;
}

/// In one step; what the host keeps goes along.
pub async fn a_rotated_token_replaces_the_old_one(fixture: Fixture) {
    let cache = fixture.start().await;
    let sessions = open(&cache, |_| {});
    let old = create(&sessions, "ada").await;
    let new = sessions.rotate(old.token.expose()).await.unwrap().unwrap();
    assert!(sessions.get(old.token.expose()).await.unwrap().is_none());
    let session = sessions.get(new.token.expose()).await.unwrap().unwrap();
    assert_eq!((&*session.user, &*session.data), ("ada", "data"));
    assert_eq!(session.created_at, old.session.created_at);
    assert!(sessions.rotate(old.token.expose()).await.unwrap().is_none());
    let racing = (0..8).map(|_| sessions.rotate(new.token.expose()));
    let rotated = join_all(racing).await.into_iter().filter(|each| matches!(each, Ok(Some(_))));
    assert_eq!(rotated.count(), 1);
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
}

/// One by its name, the others, and all.
pub async fn sessions_are_listed_and_revoked_together(fixture: Fixture) {
    let cache = fixture.start().await;
    let sessions = open(&cache, |_| {});
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(create(&sessions, "ada").await);
    }
    create(&sessions, "bob").await;
    let mut listed: Vec<_> =
        sessions.list("ada").await.unwrap().into_iter().map(|session| session.id).collect();
    let mut expected: Vec<_> = made.iter().map(|created| created.session.id.clone()).collect();
    listed.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    expected.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    assert_eq!(listed, expected);
    let (first, second) = (made.remove(0), made.remove(0));
    let id = &first.session.id;
    assert_eq!(sessions.revoke_one("bob", id).await.unwrap(), Presence::Absent);
    assert_eq!(sessions.revoke_one("ada", id).await.unwrap(), Presence::Present);
    assert_eq!(sessions.revoke_one("ada", id).await.unwrap(), Presence::Absent);
    assert_eq!(sessions.revoke_others(first.token.expose()).await.unwrap(), None);
    assert_eq!(sessions.revoke_others(second.token.expose()).await.unwrap(), Some(3));
    assert!(sessions.get(second.token.expose()).await.unwrap().is_some());
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 0);
    assert!(sessions.list("ada").await.unwrap().is_empty());
    assert_eq!(sessions.list("bob").await.unwrap().len(), 1);
}

/// However many log in at the same moment.
pub async fn sessions_made_at_once_keep_the_cap(fixture: Fixture) {
    let cache = fixture.start().await;
    let sessions = open(&cache, |config| config.max_per_user = most(3));
    let made = join_all((0..8).map(|_| create(&sessions, "ada"))).await;
    let live = sessions.list("ada").await.unwrap();
    assert_eq!(live.len(), 3);
    let mut good = 0;
    for created in &made {
        good += usize::from(sessions.get(created.token.expose()).await.unwrap().is_some());
    }
    assert_eq!(good, 3);
}
