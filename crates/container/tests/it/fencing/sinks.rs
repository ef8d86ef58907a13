//! Resources that an owner writes to, seen as a schedule needs them.

use std::fmt::Debug;

use async_trait::async_trait;
use trine_cache::{
    BackendConfig, Batch, CacheConfig, CacheDeps, CacheService, End, MemoryConfig, Op, PutMode,
    Ttl, WhenFull,
};
use trine_core::{Durability, ErrorKind, Fence, FenceSink, Span};
use trine_db_shard::{Database, DbConfig, DbService, Row, Sql};

/// What an owner writes.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// A name of its own, beside all that were written.
    Entry(String),
    /// The same bytes whoever writes them.
    Same,
}

/// Whether a write is shown to be its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    On,
    Off,
}

/// Whether a resource took what it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    Fenced,
}

impl Taken {
    fn of<T: Debug>(result: Result<T, (ErrorKind, String)>) -> Self {
        match result {
            Ok(_) => Self::Yes,
            Err((ErrorKind::Fenced, _)) => Self::Fenced,
            Err((_, other)) => panic!("{other}"),
        }
    }
}

/// A resource with one part for each scope.
#[async_trait]
pub(crate) trait Sink: Debug + Send + Sync {
    /// Returns what guards a scope.
    fn guarding(&self, scope: &str) -> Box<dyn FenceSink>;

    async fn write(&self, scope: &str, fence: &Fence, what: &Write, check: Check) -> Taken;

    /// Returns the entries of a scope in their order.
    async fn read(&self, scope: &str) -> Vec<String>;

    async fn raise(&self, scope: &str, fence: &Fence) -> Taken {
        let raised = self.guarding(scope).raise(fence).await;
        Taken::of(raised.map_err(|error| (error.kind(), error.to_string())))
    }
}

/// A database that guards itself as a whole; scopes are rows.
#[derive(Clone, Debug)]
pub(crate) struct SqlSink {
    db: Database,
}

impl SqlSink {
    /// Returns the global database of a service in `folder`, and the service.
    pub(crate) async fn sqlite(folder: &std::path::Path) -> (DbService, Self) {
        let durability = Durability::Async { window: Span::secs(1) };
        let config = DbConfig::sqlite(folder, 4).with_durability(durability);
        let service = DbService::connect(&config).await.unwrap();
        let db = service.global().clone();
        let entries = "CREATE TABLE entry (id INTEGER PRIMARY KEY, scope TEXT, name TEXT)";
        let states = "CREATE TABLE state (scope TEXT PRIMARY KEY, what TEXT)";
        for table in [entries, "CREATE INDEX entry_scope ON entry (scope, id)", states] {
            db.execute(table, ()).await.unwrap();
        }
        (service, Self { db })
    }

    /// Returns the global database of a service on MariaDB, which processes
    /// share and which has locks too, and the service.
    #[cfg(all(feature = "lock", feature = "mysql", feature = "redis"))]
    pub(crate) async fn mariadb(url: &str) -> (DbService, Self) {
        let config = DbConfig::mysql(trine_core::Secret::new(url), []);
        let sets = trine_lock::migrations();
        let report = trine_db_shard::migrate(&config, &sets).await.unwrap();
        assert!(report.is_complete(), "{report}");
        let service = DbService::connect(&config).await.unwrap();
        let db = service.global().clone();
        let entries = "CREATE TABLE IF NOT EXISTS entry
            (id INTEGER AUTO_INCREMENT PRIMARY KEY, scope VARCHAR(99), name VARCHAR(99))";
        let states = "CREATE TABLE IF NOT EXISTS state
            (scope VARCHAR(99) PRIMARY KEY, what VARCHAR(99))";
        for table in [entries, states] {
            db.execute(table, ()).await.unwrap();
        }
        (service, Self { db })
    }
}

#[async_trait]
impl Sink for SqlSink {
    fn guarding(&self, _scope: &str) -> Box<dyn FenceSink> {
        Box::new(self.db.clone())
    }

    async fn write(&self, scope: &str, fence: &Fence, what: &Write, check: Check) -> Taken {
        const ENTRY: Sql = Sql::portable("INSERT INTO entry (scope, name) VALUES (?, ?)");
        const SAME: Sql = Sql::portable("REPLACE INTO state (scope, what) VALUES (?, 'paid')");
        let written = self.db.transaction(|mut tx| async move {
            if check == Check::On {
                tx.guard(fence).await?;
            }
            match what {
                Write::Entry(name) => tx.execute(ENTRY, (scope, name.as_str())).await,
                Write::Same => tx.execute(SAME, (scope,)).await,
            }
        });
        Taken::of(
            written.await.map_err(|error: trine_db_shard::Error| (error.kind(), error.to_string())),
        )
    }

    async fn read(&self, scope: &str) -> Vec<String> {
        const READ: Sql = Sql::portable("SELECT name FROM entry WHERE scope = ? ORDER BY id");
        let rows: Vec<Row> = self.db.query(READ, (scope,)).await.unwrap();
        rows.iter().map(|row| row.get("name").unwrap()).collect()
    }
}

/// A cache that guards the keys of each scope.
#[derive(Clone, Debug)]
pub(crate) struct CacheSink {
    cache: CacheService,
}

impl CacheSink {
    pub(crate) async fn memory() -> Self {
        let mut store = MemoryConfig::default();
        store.when_full = WhenFull::Refuse;
        Self::open(&CacheConfig::new(BackendConfig::Memory(store)), CacheDeps::default()).await
    }

    pub(crate) async fn open(config: &CacheConfig, deps: CacheDeps) -> Self {
        let cache = CacheService::open(config, deps).unwrap();
        cache.start().await.unwrap();
        Self { cache }
    }

    pub(crate) fn cache(&self) -> &CacheService {
        &self.cache
    }
}

fn entries(scope: &str) -> String {
    format!("{{{scope}}}:entries")
}

#[async_trait]
impl Sink for CacheSink {
    fn guarding(&self, scope: &str) -> Box<dyn FenceSink> {
        Box::new(self.cache.guarding([entries(scope)]).unwrap())
    }

    async fn write(&self, scope: &str, fence: &Fence, what: &Write, check: Check) -> Taken {
        let ttl = Ttl::secs(600);
        let op = match what {
            Write::Entry(name) => {
                let values = vec![serde_json::to_vec(name).unwrap().into()];
                let key = entries(scope).try_into().unwrap();
                Op::ListPush { key, end: End::Right, values, ttl }
            }
            Write::Same => {
                let key = format!("{{{scope}}}:state").try_into().unwrap();
                Op::Put { key, value: b"\"paid\"".to_vec().into(), ttl, mode: PutMode::Always }
            }
        };
        let batch = Batch::atomic().with(op);
        let batch = if check == Check::On { batch.guarded(fence) } else { batch };
        let written = self.cache.run(batch).await;
        Taken::of(written.map_err(|error| (error.kind(), error.to_string())))
    }

    async fn read(&self, scope: &str) -> Vec<String> {
        self.cache.list(entries(scope)).unwrap().range(0, -1).await.unwrap()
    }
}
