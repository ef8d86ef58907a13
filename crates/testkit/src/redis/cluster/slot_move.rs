use crate::error::Result;
use crate::redis::cluster::RedisCluster;
use crate::redis::{Redis, RedisReply};

/// How long the nodes may take for one key.
const MIGRATE_MS: &str = "5000";

/// A slot on its way from one master to another.
///
/// Until [`finish`](Self::finish), the old owner answers for the keys it still
/// has and sends clients elsewhere with `ASK` for the others; commands on keys
/// of which one is here and one is there meet `TRYAGAIN`. Dropped before that,
/// the slot stays half moved.
#[derive(Debug)]
#[must_use]
pub struct SlotMove<'a> {
    cluster: &'a RedisCluster,
    slot: u16,
    from: &'a Redis,
    to: &'a Redis,
}

impl<'a> SlotMove<'a> {
    pub(super) async fn begin(cluster: &'a RedisCluster, slot: u16, to: &'a Redis) -> Result<Self> {
        let from = cluster.master_of(slot).await?;
        let moving = Self { cluster, slot, from, to };
        moving.set(to, "IMPORTING", from).await?;
        moving.set(from, "MIGRATING", to).await?;
        Ok(moving)
    }

    /// Returns where the slot comes from.
    #[must_use]
    pub fn from(&self) -> &'a Redis {
        self.from
    }

    /// Returns where the slot goes to.
    #[must_use]
    pub fn to(&self) -> &'a Redis {
        self.to
    }

    /// Moves one key; one that is not there counts as moved.
    ///
    /// # Errors
    ///
    /// Fails if one of the two nodes does not answer.
    pub async fn move_key(&self, key: &str) -> Result<()> {
        let port = self.to.port().to_string();
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, key, "0", MIGRATE_MS];
        if let Some(password) = self.cluster.password() {
            words.extend(["AUTH", password]);
        }
        self.from.admin(&words).await.map(drop)
    }

    /// Moves all keys that are left and tells every master who the owner is now.
    ///
    /// # Errors
    ///
    /// Fails if a node does not answer; the slot then stays half moved.
    pub async fn finish(self) -> Result<()> {
        let slot = self.slot.to_string();
        loop {
            let keys = self.from.admin(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await?;
            if keys.items().is_empty() {
                break;
            }
            for key in keys.items().iter().filter_map(RedisReply::text) {
                self.move_key(&key).await?;
            }
        }
        // The new owner first: nobody would own the slot in between.
        self.set(self.to, "NODE", self.to).await?;
        self.set(self.from, "NODE", self.to).await?;
        self.cluster.wait_until_owned(self.slot, self.to).await
    }

    async fn set(&self, node: &Redis, what: &str, other: &Redis) -> Result<()> {
        let (slot, other) = (self.slot.to_string(), self.cluster.id_of(other)?);
        node.admin(&["CLUSTER", "SETSLOT", &slot, what, other]).await.map(drop)
    }
}
