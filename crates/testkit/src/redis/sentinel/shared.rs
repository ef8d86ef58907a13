use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::redis::admin::{Admin, Place};
use crate::redis::namespace;
use crate::redis::sentinel::RedisSentinel;
use crate::{engine, env};

/// The sentinels, and the servers behind them, that all tests of a process
/// share: see [`RedisSentinel::shared`].
#[derive(Debug)]
pub struct SharedRedisSentinel {
    addresses: Vec<String>,
    master_name: String,
    version: String,
    /// Live as long as the process; `None` if they are somebody else's.
    own: Option<RedisSentinel>,
}

impl SharedRedisSentinel {
    pub(super) async fn get() -> Result<&'static Self> {
        static SHARED: OnceCell<SharedRedisSentinel> = OnceCell::const_new();
        SHARED.get_or_try_init(|| engine::run(Self::open())).await
    }

    async fn open() -> Result<Self> {
        let Some(list) = env::text(env::REDIS_SENTINELS) else {
            let own = RedisSentinel::start().await?;
            let (addresses, version) = (own.addresses(), own.version().to_owned());
            let master_name = own.master_name().to_owned();
            return Ok(Self { addresses, master_name, version, own: Some(own) });
        };
        let addresses = env::addresses(&list);
        let unusable = |error: Error| {
            let cause = trine_core::Report(&error);
            Error::NoServer(format!("{} cannot be used: {cause}", env::REDIS_SENTINELS))
        };
        let (mut version, mut names) = (String::new(), Vec::new());
        for address in &addresses {
            let admin = Admin::new(Place::Tcp(address.clone()), None);
            version = admin.version().await.map_err(unusable)?;
            let masters = admin.call(["SENTINEL", "MASTERS"]).await.map_err(unusable)?;
            names.extend(masters.items().iter().filter_map(|master| master.field("name")));
        }
        names.dedup();
        let [master_name] = names.as_slice() else {
            return Err(Error::NoServer(format!(
                "{}: the sentinels watch {} masters, and tests need to know which",
                env::REDIS_SENTINELS,
                names.len()
            )));
        };
        Ok(Self { addresses, master_name: master_name.clone(), version, own: None })
    }

    /// Returns the sentinels as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns what the sentinels call the master.
    #[must_use]
    pub fn master_name(&self) -> &str {
        &self.master_name
    }

    /// Returns what the keys of one test start with: `trine_test_` and 16 hex
    /// digits, different on each call.
    #[must_use]
    pub fn namespace(&self) -> String {
        namespace()
    }

    /// Returns what the sentinels say of their version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells whether they were started for this process, rather than named by
    /// `TRINE_TEST_REDIS_SENTINELS`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}
