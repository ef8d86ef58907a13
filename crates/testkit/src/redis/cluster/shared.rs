use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::redis::admin::{Admin, Place};
use crate::redis::cluster::RedisCluster;
use crate::redis::namespace;
use crate::{engine, env};

/// The cluster that all tests of a process share: see [`RedisCluster::shared`].
#[derive(Debug)]
pub struct SharedRedisCluster {
    addresses: Vec<String>,
    version: String,
    /// Lives as long as the process; `None` if the cluster is somebody else's.
    own: Option<RedisCluster>,
}

impl SharedRedisCluster {
    pub(super) async fn get() -> Result<&'static Self> {
        static SHARED: OnceCell<SharedRedisCluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| engine::run(Self::open())).await
    }

    async fn open() -> Result<Self> {
        let Some(list) = env::text(env::REDIS_CLUSTER) else {
            let own = RedisCluster::start().await?;
            let version = own.version().to_owned();
            return Ok(Self { addresses: own.addresses(), version, own: Some(own) });
        };
        let addresses = env::addresses(&list);
        let (mut version, mut has_cluster) = (String::new(), false);
        for address in &addresses {
            let admin = Admin::new(Place::Tcp(address.clone()), None);
            let unusable = |error: Error| {
                let cause = trine_core::Report(&error);
                Error::NoServer(format!("{} cannot be used: {cause}", env::REDIS_CLUSTER))
            };
            version = admin.version().await.map_err(unusable)?;
            let enabled = admin.info("cluster_enabled").await.map_err(unusable)?;
            has_cluster = enabled.as_deref() == Some("1");
        }
        if !has_cluster {
            return Err(Error::NoServer(format!(
                "{} names no nodes of a cluster: expected host:port,host:port",
                env::REDIS_CLUSTER
            )));
        }
        Ok(Self { addresses, version, own: None })
    }

    /// Returns the nodes as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns what the keys of one test start with: `trine_test_` and 16 hex
    /// digits, different on each call.
    #[must_use]
    pub fn namespace(&self) -> String {
        namespace()
    }

    /// Returns what the nodes say of their version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells whether the cluster was started for this process, rather than named
    /// by `TRINE_TEST_REDIS_CLUSTER`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}
