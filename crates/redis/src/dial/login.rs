use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError};

use super::Reason;
use crate::config::Credentials;
use crate::facts::{Persistence, Stated};
use crate::{ServerError, ServerFacts, Value};

/// The oldest version that everything works on.
const OLDEST: u32 = 7;

/// What a server answers to a login.
pub(super) struct Greeting {
    hello: Value,
    info: Value,
    settings: Value,
}

/// Logs in and asks for the facts, in one round trip.
pub(super) async fn greet(
    connection: &mut MultiplexedConnection,
    protocol: u8,
    credentials: Option<&Credentials>,
    name: &str,
) -> Result<Greeting, Reason> {
    let mut pipeline = Pipeline::new();
    pipeline.add_command(hello(protocol, credentials, name));
    pipeline.cmd("INFO");
    pipeline.cmd("CONFIG").arg("GET").arg(&Persistence::SETTINGS);
    let replies = connection.send_packed_commands(&pipeline, 0, 3).await;
    let mut replies = replies.map_err(Reason::of_driver)?.into_iter().map(Value::new);
    let mut next = || replies.next().unwrap_or_default();
    Ok(Greeting { hello: next(), info: next(), settings: next() })
}

fn hello(protocol: u8, credentials: Option<&Credentials>, name: &str) -> Cmd {
    let mut hello = Cmd::new();
    hello.arg("HELLO").arg(protocol);
    if let Some(credentials) = credentials {
        hello.arg("AUTH").arg(credentials.user());
        hello.arg(credentials.password.expose());
    }
    hello.arg("SETNAME").arg(name);
    hello
}

/// Sends the credentials again on a connection that is in use.
pub(crate) fn auth(credentials: &Credentials) -> Cmd {
    let mut auth = Cmd::new();
    auth.arg("AUTH").arg(credentials.user()).arg(credentials.password.expose());
    auth
}

impl Greeting {
    pub(super) fn into_facts(
        self,
        address: &Arc<str>,
        stated: Stated,
    ) -> Result<ServerFacts, Reason> {
        if let Value::Error(error) = self.hello {
            return Err(refused_hello(error));
        }
        if let Value::Error(error) = self.info {
            return Err(Reason::Server(error));
        }
        let facts = self.info.as_text().and_then(|info| ServerFacts::read(address, info));
        let mut facts = facts.ok_or(Reason::Protocol)?;
        if facts.major() < OLDEST {
            return Err(Reason::Version(facts.version));
        }
        let settings = Persistence::read(&self.settings);
        facts.set_durability(settings.as_ref(), stated);
        Ok(facts)
    }
}

fn refused_hello(error: ServerError) -> Reason {
    // Servers before version 6 do not know the command.
    if error.kind() == trine_core::ErrorKind::Unsupported {
        return Reason::Version("older than 6".into());
    }
    Reason::Server(error)
}

impl Reason {
    /// Of a login, before which nothing of the caller's was sent.
    pub(super) fn of_driver(error: RedisError) -> Self {
        if let Some(code) = error.code() {
            return Self::Server(ServerError::said(code, error.detail().unwrap_or_default()));
        }
        match error.kind() {
            redis::ErrorKind::Parse => Self::Protocol,
            _ if error.is_timeout() => Self::Late,
            _ => Self::Broken(error),
        }
    }
}
