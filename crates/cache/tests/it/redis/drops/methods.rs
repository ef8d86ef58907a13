//! A call of every public method that asks the store, each of which asserts that
//! it is answered what it asked.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use trine_cache::{
    Batch, CacheHash, CacheList, CacheRanking, CacheService, CacheSet, CreateOutcome, Cursor, End,
    Error, Expected, Fenced, Key, Lifetime, Op, Outcome, Presence, PutMode, PutOutcome, Reply,
    SessionId, SortedMode, Ttl,
};
use trine_core::FenceSink;

use super::{Bench, Work};

type Method = for<'a> fn(&'a Bench, &'a str) -> Work<'a>;

macro_rules! methods {
    ($b:ident, $name:ident; $($title:literal => $body:expr;)+) => {
        &[$(($title, {
            fn work<'a>($b: &'a Bench, $name: &'a str) -> Work<'a> {
                Box::pin(async move { $body })
            }
            work as Method
        })),+]
    };
}

pub(super) const METHODS: &[(&str, Method)] = methods! {
    b, name;
    "get" => is(name, b.cache().get::<String>(v(name)).await);
    "get_bytes" => quoted(name, b.cache().get_bytes(v(name)).await);
    "get_text" => {
        let found = b.cache().get_text(v(name)).await.unwrap();
        assert_eq!(found, Some(format!("\"{name}\"")));
    };
    "get_many" => {
        let found = b.cache().get_many::<String>([v(name), v("b")]).await.unwrap();
        assert_eq!(found, [Some(name.to_owned()), Some("b".to_owned())]);
    };
    "get_many_bytes" => {
        let found = b.cache().get_many_bytes([v(name), v("b")]).await.unwrap();
        assert_eq!(found[0].as_deref(), Some(format!("\"{name}\"").as_bytes()));
    };
    "put" => b.cache().put(v(name), name, Ttl::Never).await.unwrap();
    "put_bytes" => {
        b.cache().put_bytes(v(name), format!("\"{name}\""), Ttl::Never).await.unwrap();
    };
    "put_if" => {
        let kept = b.cache().put_if(v(name), "foreign", Ttl::Never, PutMode::IfAbsent).await.unwrap();
        assert_eq!(kept, PutOutcome::Kept);
    };
    "put_many" => {
        let entries = [(v(name), name), (x(name), name)];
        b.cache().put_many(entries, Ttl::Never).await.unwrap();
    };
    "swap" => is(name, b.cache().swap(v(name), &name.to_owned(), Ttl::Never).await);
    "take" => may_be(name, b.cache().take::<String>(x(name)).await);
    "touch" => is(name, b.cache().touch::<String>(v(name), Ttl::Never).await);
    "compare_and_put" => {
        let put = b.cache().compare_and_put(v(name), Some(name), name, Ttl::Never).await.unwrap();
        assert_eq!(put, PutOutcome::Stored);
    };
    "add" => {
        b.begun.fetch_add(1, Ordering::Relaxed);
        let count = b.cache().add(format!("n:{name}"), 1, Ttl::Never).await.unwrap();
        assert!(count > 0);
        b.answered.fetch_add(1, Ordering::Relaxed);
    };
    "remove" => { b.cache().remove(x(name)).await.unwrap(); };
    "remove_many" => {
        let removed = b.cache().remove_many([x(name), "x:nobody".to_owned()]).await.unwrap();
        assert!(removed <= 1);
    };
    "has" => assert!(b.cache().has(v(name)).await.unwrap());
    "expire" => {
        assert_eq!(b.cache().expire(v(name), Ttl::Never).await.unwrap(), Presence::Present);
    };
    "lifetime" => assert_eq!(b.cache().lifetime(v(name)).await.unwrap(), Lifetime::Endless);
    "run pipelined" => {
        let ops = [Op::get(key(&v(name))), Op::Exists { key: key(&x("nobody")) }];
        let replies = ran(b.cache().run(ops.into_iter().fold(Batch::pipelined(), Batch::with)).await);
        let [found, nobody] = <[Reply; 2]>::try_from(replies).unwrap();
        quoted(name, found.into_value());
        assert!(!nobody.into_applied().unwrap());
    };
    "run atomic" => {
        b.begun.fetch_add(1, Ordering::Relaxed);
        let count = Op::Add { key: key(&format!("n:{name}")), by: 1, ttl: Ttl::Never };
        let batch = Batch::atomic().with(count).when(key(&format!("n:{name}")), Expected::Present);
        if let Outcome::Ran(_) = b.cache().run(batch).await.unwrap() {
            b.answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    "scan" => {
        let mut cursor = Cursor::first();
        let mut found = false;
        loop {
            let page = b.cache().scan("v:", cursor, 3).await.unwrap();
            found |= page.keys.contains(&key(&v(name)));
            assert!(page.keys.iter().all(|key| key.as_str().starts_with("v:")), "{:?}", page.keys);
            match page.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert!(found);
    };
    "remove_prefix" => { b.cache().remove_prefix(&x(name)).await.unwrap(); };

    "hash get" => is(name, h(b, name).get::<String>("f").await);
    "hash get_many" => {
        let found = h(b, name).get_many::<String>(["f", "none", "g"]).await.unwrap();
        assert_eq!(found, [Some(name.to_owned()), None, Some(name.to_owned())]);
    };
    "hash all" => {
        let all = h(b, name).all::<String>().await.unwrap();
        assert!(all.len() == 2 && all.iter().all(|(_, value)| value == name), "{all:?}");
    };
    "hash scan" => {
        let (page, _) = h(b, name).scan::<String>(Bytes::new(), 10).await.unwrap();
        assert!(page.len() == 2 && page.iter().all(|(_, value)| value == name), "{page:?}");
    };
    "hash put" => { h(b, name).put("f", name).await.unwrap(); };
    "hash put_many" => { h(b, name).put_many([("f", name), ("g", name)]).await.unwrap(); };
    "hash put_new" => {
        assert_eq!(h(b, name).put_new("f", "foreign").await.unwrap(), PutOutcome::Kept);
    };
    "hash add" => {
        b.begun.fetch_add(1, Ordering::Relaxed);
        let hash = b.cache().hash(format!("hn:{name}")).unwrap();
        let count = hash.add(name.to_owned(), 1).await.unwrap();
        assert!(count > 0);
        b.answered.fetch_add(1, Ordering::Relaxed);
    };
    "hash remove" => assert_eq!(h(b, name).remove(["none"]).await.unwrap(), 0);
    "hash len" => assert_eq!(h(b, name).len().await.unwrap(), 2);
    "hash clear" => b.cache().hash(x(name)).unwrap().clear().await.unwrap();

    "set add" => assert_eq!(s(b, name).add([name.to_owned()]).await.unwrap(), 0);
    "set remove" => assert_eq!(s(b, name).remove(["none"]).await.unwrap(), 0);
    "set has" => assert!(s(b, name).has(name.to_owned()).await.unwrap());
    "set has_many" => {
        let found = s(b, name).has_many([name.to_owned(), "none".to_owned()]).await.unwrap();
        assert_eq!(found, [true, false]);
    };
    "set all" => assert_eq!(s(b, name).all().await.unwrap(), [name]);
    "set random" => assert_eq!(s(b, name).random(3).await.unwrap(), [name]);
    "set pop" => assert!(b.cache().set(format!("xs:{name}")).unwrap().pop(2).await.unwrap().is_empty());
    "set len" => assert_eq!(s(b, name).len().await.unwrap(), 1);
    "set clear" => b.cache().set(x(name)).unwrap().clear().await.unwrap();

    "list push" => { many(b, name).push(End::Left, name).await.unwrap(); };
    "list push_many" => { many(b, name).push_many(End::Right, [name, name]).await.unwrap(); };
    "list pop" => may_be(name, many(b, name).pop::<String>(End::Right).await);
    "list pop_many" => {
        let found = many(b, name).pop_many::<String>(End::Left, 9).await.unwrap();
        assert!(found.iter().all(|found| found == name), "{found:?}");
    };
    "list range" => assert_eq!(l(b, name).range::<String>(0, -1).await.unwrap(), [name]);
    "list get" => is(name, l(b, name).get::<String>(0).await);
    "list trim" => l(b, name).trim(0, 9).await.unwrap();
    "list remove" => assert_eq!(l(b, name).remove("none", 0).await.unwrap(), 0);
    "list len" => assert_eq!(l(b, name).len().await.unwrap(), 1);
    "list clear" => b.cache().list(x(name)).unwrap().clear().await.unwrap();

    "ranking put" => { r(b, name).put([(name.to_owned(), 1.0)]).await.unwrap(); };
    "ranking put_if" => {
        let put = r(b, name).put_if([(name.to_owned(), 9.0)], SortedMode::IfAbsent).await;
        assert_eq!(put.unwrap(), 0);
    };
    "ranking add" => {
        let sums = b.cache().ranking(format!("rn:{name}")).unwrap();
        assert!(sums.add(name.to_owned(), 1.0).await.unwrap() > 0.0);
    };
    "ranking rank" => {
        assert_eq!(r(b, name).rank(name.to_owned()).await.unwrap().unwrap().place, 0);
    };
    "ranking scores" => {
        let scores = r(b, name).scores([name.to_owned(), "none".to_owned()]).await.unwrap();
        assert_eq!(scores, [Some(1.0), None]);
    };
    "ranking range" => assert_eq!(r(b, name).range(0, -1).await.unwrap()[0].member, name);
    "ranking by_score" => {
        assert_eq!(r(b, name).by_score(0.0, 2.0, 0, 9).await.unwrap()[0].member, name);
    };
    "ranking count" => assert_eq!(r(b, name).count(0.0, 2.0).await.unwrap(), 1);
    "ranking len" => assert_eq!(r(b, name).len().await.unwrap(), 1);
    "ranking pop" => assert!(b.cache().ranking(format!("xr:{name}")).unwrap().pop(2).await.unwrap().is_empty());
    "ranking remove" => assert_eq!(r(b, name).remove(["none"]).await.unwrap(), 0);
    "ranking remove_scores" => assert_eq!(r(b, name).remove_scores(5.0, 9.0).await.unwrap(), 0);
    "ranking keep_best" => assert_eq!(r(b, name).keep_best(9).await.unwrap(), 0);
    "ranking clear" => b.cache().ranking(x(name)).unwrap().clear().await.unwrap();

    "sessions create" => {
        let other = format!("other {name}");
        let made = b.sessions.create(&other, &name.to_owned()).await.unwrap();
        let CreateOutcome::Created(made) = made else { panic!("{made:?}") };
        assert_eq!((made.session.user, made.session.data.as_str()), (other, name));
    };
    "sessions get" => assert_eq!(b.sessions.get(b.token(name)).await.unwrap().unwrap().user, name);
    "sessions put" => {
        let session = b.sessions.put(b.token(name), &name.to_owned()).await.unwrap().unwrap();
        assert_eq!((session.user.as_str(), session.data.as_str()), (name, name));
    };
    "sessions rotate" => {
        // A dropped rotation may have taken the old token away.
        let other = format!("other {name}");
        let CreateOutcome::Created(made) = b.sessions.create(&other, &name.to_owned()).await.unwrap()
        else { panic!("it was not made") };
        let made = b.sessions.rotate(made.token.expose()).await.unwrap().unwrap();
        assert_eq!((made.session.user, made.session.data.as_str()), (other, name));
    };
    "sessions list" => {
        let list = b.sessions.list(name).await.unwrap();
        assert!(list.len() == 1 && list[0].user == name, "{list:?}");
    };
    "sessions revoke" => {
        let nobody = b.sessions.revoke(&format!("{}0", b.token(name))).await.unwrap();
        assert_eq!(nobody, Presence::Absent);
        let CreateOutcome::Created(made) =
            b.sessions.create(&format!("other {name}"), &name.to_owned()).await.unwrap()
        else { panic!("it was not made") };
        assert_eq!(b.sessions.revoke(made.token.expose()).await.unwrap(), Presence::Present);
    };
    "sessions revoke_one" => {
        let nobody = b.sessions.revoke_one(name, &SessionId::new("none")).await.unwrap();
        assert_eq!(nobody, Presence::Absent);
    };
    "sessions revoke_others" => {
        assert_eq!(b.sessions.revoke_others(b.token(name)).await.unwrap(), Some(0));
    };
    "sessions revoke_all" => { b.sessions.revoke_all(&format!("other {name}")).await.unwrap(); };

    "fenced put" => b.fenced().put(v(name), name, Ttl::Never).await.unwrap();
    "fenced get" => is(name, b.fenced().get::<String>(v(name)).await);
    "fenced remove" => { b.fenced().remove(x(name)).await.unwrap(); };
    "fenced run" => {
        let batch = Batch::atomic().with(Op::get(key(&v(name))));
        let found = ran(b.fenced().run(batch).await).pop().unwrap();
        quoted(name, found.into_value());
    };
    "guarded raise" => {
        b.cache().guarding([v(name), v("b")]).unwrap().raise(&b.fence).await.unwrap();
    };
};

impl Bench {
    fn cache(&self) -> &CacheService {
        &self.opened.cache
    }

    fn fenced(&self) -> Fenced<'_> {
        self.opened.cache.fenced(&self.fence)
    }
}

/// What stays under each name.
fn v(name: &str) -> String {
    format!("v:{name}")
}

/// What comes and goes.
fn x(name: &str) -> String {
    format!("x:{name}")
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn h(bench: &Bench, name: &str) -> CacheHash {
    bench.cache().hash(format!("h:{name}")).unwrap()
}

fn s(bench: &Bench, name: &str) -> CacheSet {
    bench.cache().set(format!("s:{name}")).unwrap()
}

fn l(bench: &Bench, name: &str) -> CacheList {
    bench.cache().list(format!("l:{name}")).unwrap()
}

/// A list whose entries come and go.
fn many(bench: &Bench, name: &str) -> CacheList {
    bench.cache().list(format!("lm:{name}")).unwrap()
}

fn r(bench: &Bench, name: &str) -> CacheRanking {
    bench.cache().ranking(format!("r:{name}")).unwrap()
}

fn is(name: &str, found: Result<Option<String>, Error>) {
    assert_eq!(found.unwrap().as_deref(), Some(name));
}

fn may_be(name: &str, found: Result<Option<String>, Error>) {
    let found = found.unwrap();
    assert!(found.as_deref().is_none_or(|found| found == name), "{found:?} under {name}");
}

fn quoted(name: &str, found: Result<Option<Bytes>, Error>) {
    assert_eq!(found.unwrap().as_deref(), Some(format!("\"{name}\"").as_bytes()));
}

fn ran(outcome: Result<Outcome, Error>) -> Vec<Reply> {
    match outcome.unwrap() {
        Outcome::Ran(replies) => replies.into_vec(),
        refused => panic!("{refused:?}"),
    }
}
