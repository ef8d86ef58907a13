//! A cart in a cache, as somebody else would write it: no container, no other
//! service, and a Redis behind TLS.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_cache::{CacheConfig, CacheDeps, CacheService, Result, Ttl};
use trine_core::{BoxFault, Deadline, Secret};
use trine_redis::{RedisConfig, RedisService, TlsConfig};

/// What somebody is about to buy.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cart {
    /// Articles and how many of each.
    pub articles: Vec<(String, u32)>,
}

/// The carts of all customers.
#[derive(Debug)]
pub struct Carts {
    redis: RedisService,
    cache: CacheService,
}

impl Carts {
    /// Connects to the Redis at `url`, whose certificate is of the authority in
    /// `authority`.
    ///
    /// # Errors
    ///
    /// Fails with what keeps it from connecting.
    pub async fn connect(url: Secret, authority: &Path) -> Result<Self, BoxFault> {
        let mut tls = TlsConfig::default();
        tls.ca_file = Some(authority.to_owned());
        let config = RedisConfig::single("shop:test", url).with_tls(tls);
        let redis = RedisService::connect(&config).await?;
        let deps = CacheDeps::default().with_redis("main", redis.pool());
        let cache = CacheService::open(&CacheConfig::redis("main"), deps)?;
        cache.start().await?;
        Ok(Self { redis, cache })
    }

    /// Returns the cart of a customer, an empty one if there is none.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the cache.
    pub async fn get(&self, customer: u64) -> Result<Cart> {
        Ok(self.cache.get(format!("cart:{customer}")).await?.unwrap_or_default())
    }

    /// Keeps the cart of a customer for an hour.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the cache.
    pub async fn put(&self, customer: u64, cart: &Cart) -> Result<()> {
        self.cache.put(format!("cart:{customer}"), cart, Ttl::secs(3_600)).await
    }

    /// Ends all connections.
    ///
    /// # Errors
    ///
    /// Never fails today.
    pub async fn close(&self) -> Result<(), BoxFault> {
        let soon = Deadline::after(Duration::from_secs(5));
        self.cache.shutdown(soon).await?;
        Ok(self.redis.shutdown(soon).await?)
    }
}
