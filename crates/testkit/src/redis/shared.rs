use std::net::SocketAddr;

use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::redis::admin::Admin;
use crate::redis::endpoint::Endpoint;
use crate::redis::{Redis, RedisReply, namespace};
use crate::{engine, env};

/// The server that all tests of a process share: see [`Redis::shared`].
#[derive(Debug)]
pub struct SharedRedis {
    endpoint: Endpoint,
    admin: Admin,
    version: String,
    /// Lives as long as the process; `None` if the server is somebody else's.
    own: Option<Redis>,
}

impl SharedRedis {
    pub(super) async fn get() -> Result<&'static Self> {
        static SHARED: OnceCell<SharedRedis> = OnceCell::const_new();
        SHARED.get_or_try_init(|| engine::run(Self::open())).await
    }

    async fn open() -> Result<Self> {
        let Some(url) = env::text(env::REDIS_URL) else {
            let own = Redis::start().await?;
            let (endpoint, admin) = (own.endpoint.clone(), own.admin.clone());
            return Ok(Self { endpoint, admin, version: own.version.clone(), own: Some(own) });
        };
        let unusable = |error: Error| {
            let cause = trine_core::Report(&error);
            Error::NoServer(format!("{} cannot be used: {cause}", env::REDIS_URL))
        };
        let (endpoint, admin) = Endpoint::from_url(&url).map_err(unusable)?;
        let version = admin.version().await.map_err(unusable)?;
        Ok(Self { endpoint, admin, version, own: None })
    }

    /// Returns the URL, password included.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Returns the URL by way of another address, such as a
    /// [`Proxy`](crate::Proxy)'s.
    #[must_use]
    pub fn url_via(&self, addr: SocketAddr) -> String {
        self.endpoint.via(addr).url()
    }

    /// Returns the address of the server.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if the server's name has no address.
    pub async fn addr(&self) -> Result<SocketAddr> {
        self.endpoint.addr().await
    }

    /// Returns what the keys of one test start with: `trine_test_` and 16 hex
    /// digits, different on each call.
    #[must_use]
    pub fn namespace(&self) -> String {
        namespace()
    }

    /// Runs any command, from the kit's own client. What it changes must be in
    /// the test's own [`namespace`](Self::namespace).
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Refused`] if the server refuses it.
    pub async fn admin(&self, words: &[&str]) -> Result<RedisReply> {
        self.admin.call(words.iter().copied()).await
    }

    /// Returns what the server says of its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells whether the server was started for this process, rather than named
    /// by `TRINE_TEST_REDIS_URL`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}
