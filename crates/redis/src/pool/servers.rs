use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use trine_core::{CallContext, Deadline, Secret};

use super::RedisPool;
use crate::config::Credentials;
use crate::dial::{Purpose, auth};
use crate::facts::Persistence;
use crate::link::Trouble;
use crate::node::Node;
use crate::slot::slot;
use crate::topology::is_down;
use crate::{Access, Command, Error, Result, Route, ServerFacts, Unavailable, Value};

impl RedisPool {
    /// Returns the server that a route leads to, as it was when the connection
    /// to it was made: its `run_id`, whether it evicts, what it keeps.
    ///
    /// Waits for the connection if it is being made.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) for what was not sent.
    pub async fn server(&self, route: Route<'_>) -> Result<ServerFacts> {
        const OPERATION: &str = "server";
        let _call = self.enter(OPERATION)?;
        let until = CallContext::current().deadline();
        let slot = match route {
            Route::Key(key) => Some(slot(key)),
            Route::Any => None,
        };
        let failed = |trouble: Trouble| trouble.into_error(self.at(OPERATION), Access::Read);
        let node = self.shared.topology.node(slot).map_err(failed)?;
        let live = node.connected(&self.shared.tasks, until).await.map_err(failed)?;
        Ok(live.facts.clone())
    }

    /// Asks every master for its facts as they are now, side by side.
    ///
    /// # Errors
    ///
    /// Fails as a whole only if the service takes no calls.
    pub async fn servers(&self) -> Result<Vec<(Arc<str>, Result<ServerFacts>)>> {
        const OPERATION: &str = "servers";
        let _call = self.enter(OPERATION)?;
        let until = CallContext::current().deadline();
        Ok(self.examine_all(OPERATION, until).await)
    }

    pub(crate) async fn examine_all(
        &self,
        operation: &'static str,
        until: Option<Deadline>,
    ) -> Vec<(Arc<str>, Result<ServerFacts>)> {
        let masters = self.shared.topology.masters();
        let asking = masters.iter().map(|node| async move {
            let facts = self.examine(node, until).await;
            let failed = |trouble: Trouble| trouble.into_error(self.at(operation), Access::Read);
            (Arc::clone(&node.name), facts.map_err(failed))
        });
        join_all(asking).await
    }

    async fn examine(&self, node: &Node, until: Option<Deadline>) -> Result<ServerFacts, Trouble> {
        let info = Command::read("INFO");
        let config = Command::read("CONFIG").arg("GET");
        let config = Persistence::SETTINGS.into_iter().fold(config, Command::arg);
        let cluster = Command::read("CLUSTER").arg("INFO");
        let mut asked = vec![&info, &config];
        if self.shared.topology.is_cluster() {
            asked.push(&cluster);
        }
        let mut outcomes = node.run_all(&self.shared.tasks, &asked, false, until).await.into_iter();
        let info = outcomes.next().unwrap_or(Err(Trouble::NoMaster))?;
        let settings = outcomes.next().and_then(Result::ok);
        let settings = settings.as_ref().and_then(Persistence::read);
        let cluster = outcomes.next().and_then(Result::ok);
        let facts = info.as_text().and_then(|info| ServerFacts::read(&node.name, info));
        let mut facts = facts.ok_or_else(Trouble::broken)?;
        facts.set_durability(settings.as_ref(), self.shared.config.stated());
        let cluster = cluster.as_ref().and_then(Value::as_text);
        facts.has_lost_cluster = cluster.is_some_and(is_down);
        Ok(facts)
    }

    /// Changes the user and the password of all connections, those that exist
    /// and those to come. An empty `username` is the default user.
    ///
    /// They are tried on a new connection to every master first, side by side;
    /// if one refuses them or is away, nothing changes. Calls go on meanwhile.
    /// Several changes at once are made one after the other. Replicas are not
    /// asked: one that does not know the password fails when it takes over.
    ///
    /// Subscriptions stay logged in as they are for as long as they live, and
    /// dedicated connections until they come back: removing a password ends none
    /// of them, but removing their user does.
    ///
    /// Dropped unfinished, it may have changed some connections: call it again.
    /// The deadline of the current [`CallContext`] bounds the trial only.
    ///
    /// # Errors
    ///
    /// Fails with `Denied` if a server refuses them, with `Unavailable` if one
    /// cannot be asked, the cause naming it, and with `Timeout` at the deadline.
    pub async fn set_credentials(&self, username: &str, password: Secret) -> Result<()> {
        const OPERATION: &str = "set_credentials";
        let _call = self.enter(OPERATION)?;
        let topology = &self.shared.topology;
        let credentials = Credentials::new(username, password);
        let dialer = topology.dialer();
        let trial = async {
            let alone = topology.rotation().await;
            let masters = topology.masters();
            if masters.is_empty() {
                return Err(Error::unavailable(self.at(OPERATION), Unavailable::NoMaster));
            }
            let trying = masters
                .iter()
                .map(|node| dialer.dial_as(&node.address, Purpose::Commands, Some(&credentials)));
            let tried = try_join_all(trying).await;
            tried.map_err(|refusal| refusal.to_error(self.at(OPERATION)))?;
            Ok(alone)
        };
        let _alone = self.bounded(OPERATION, Box::pin(trial)).await??;
        let auth = auth(&credentials);
        dialer.set_credentials(credentials);
        let nodes = topology.nodes();
        join_all(nodes.iter().map(|node| node.log_in_again(&auth))).await;
        Ok(())
    }

    /// Changes the user and the password with which the sentinels themselves
    /// are asked. An empty `username` is the default user.
    ///
    /// They are tried on every sentinel first, side by side; if one refuses
    /// them or none answers, nothing changes.
    ///
    /// # Errors
    ///
    /// Fails with `Denied` if a sentinel refuses them, with `Unavailable` if
    /// none can be asked, and with `Invalid` where there are no sentinels.
    pub async fn set_sentinel_credentials(&self, username: &str, password: Secret) -> Result<()> {
        const OPERATION: &str = "set_sentinel_credentials";
        let _call = self.enter(OPERATION)?;
        let topology = &self.shared.topology;
        let Some(sentinel) = topology.sentinel() else {
            return Err(Error::invalid(self.at(OPERATION), "server.kind is not \"sentinel\""));
        };
        let _alone = topology.rotation().await;
        let changed = sentinel.set_credentials(Credentials::new(username, password)).await;
        changed.map_err(|refusal| refusal.to_error(self.at(OPERATION)))
    }
}
