use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::account::Account;
use crate::engine;
use crate::error::{Error, Result};
use crate::redis::reply::{RedisReply, encode, parse};

/// Longest wait for the answer to anything the kit asks a server.
const BOUND: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Host and port.
    Tcp(String),
    Socket(PathBuf),
}

/// What the kit asks servers to do, over a connection per request: nothing is
/// kept that a kill or a restart could break. A client of its own, so that the
/// kit can test whatever client there is.
#[derive(Clone)]
pub(super) struct Admin {
    place: Place,
    account: Option<Account>,
}

impl Admin {
    pub(super) fn new(place: Place, account: Option<Account>) -> Self {
        Self { place, account }
    }

    /// Answers whether the server takes connections and commands now.
    pub(super) async fn ping(&self) -> Result<()> {
        self.call(["PING"]).await.map(drop)
    }

    /// Runs one command.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Refused`] if the server refuses it, and otherwise if
    /// it does not answer.
    pub(super) async fn call<W: Into<String>>(
        &self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<RedisReply> {
        let words = words.into_iter().map(Into::into).collect();
        let mut replies = self.calls(vec![words]).await?;
        Ok(replies.pop().unwrap_or(RedisReply::Nil))
    }

    /// Runs `commands` on one connection and stops at the first that is refused.
    pub(super) async fn calls(&self, commands: Vec<Vec<String>>) -> Result<Vec<RedisReply>> {
        let admin = self.clone();
        engine::run(async move {
            match timeout(BOUND, admin.converse(commands)).await {
                Ok(replies) => replies,
                Err(_) => {
                    Err(Error::TimedOut { operation: format!("ask {admin:?}"), after: BOUND })
                }
            }
        })
        .await
    }

    async fn converse(&self, commands: Vec<Vec<String>>) -> Result<Vec<RedisReply>> {
        let failed = || Error::io(format!("ask {self:?}"));
        let mut stream = self.connect().await.map_err(failed())?;
        if let Some(account) = &self.account {
            let words = ["AUTH", account.name(), account.password()].map(str::to_owned);
            checked(&words, ask(&mut stream, &words).await.map_err(failed())?)?;
        }
        let mut replies = Vec::new();
        for words in commands {
            let reply = ask(&mut stream, &words).await.map_err(failed())?;
            replies.push(checked(&words, reply)?);
        }
        Ok(replies)
    }

    async fn connect(&self) -> io::Result<Pin<Box<dyn Stream>>> {
        Ok(match &self.place {
            Place::Tcp(authority) => Box::pin(TcpStream::connect(authority).await?),
            Place::Socket(path) => Box::pin(UnixStream::connect(path).await?),
        })
    }

    /// Returns a field of `INFO`; `None` if there is no such field now.
    pub(super) async fn info(&self, field: &str) -> Result<Option<String>> {
        let text = self.call(["INFO", "everything"]).await?.text().unwrap_or_default();
        Ok(text.lines().find_map(|line| {
            let value = line.strip_prefix(field)?.strip_prefix(':')?;
            Some(value.to_owned())
        }))
    }

    pub(super) async fn version(&self) -> Result<String> {
        Ok(self.info("redis_version").await?.unwrap_or_default())
    }

    /// Returns the ids of the connections of clients: neither the kit's own, nor
    /// those of replicas and sentinels.
    async fn connections(&self) -> Result<Vec<String>> {
        let own = format!("user={}", self.account.as_ref().map_or("", Account::name));
        let list = self.call(["CLIENT", "LIST"]).await?.text().unwrap_or_default();
        let is_client = |line: &&str| {
            let has = |word: &str| line.split(' ').any(|found| found == word);
            let flags = line.split(' ').find_map(|word| word.strip_prefix("flags="));
            !(has(&own)
                || line.contains(" name=sentinel-")
                || flags.is_some_and(|flags| flags.contains(['M', 'S'])))
        };
        let id = |line: &str| Some(line.split(' ').next()?.strip_prefix("id=")?.to_owned());
        Ok(list.lines().filter(is_client).filter_map(id).collect())
    }

    /// Returns how many connections clients have.
    pub(super) async fn count_connections(&self) -> Result<usize> {
        Ok(self.connections().await?.len())
    }

    /// Ends the connections of clients and returns how many there were.
    pub(super) async fn kill_connections(&self) -> Result<usize> {
        let mut killed = 0;
        for id in self.connections().await? {
            // One that has left by itself meanwhile is not there to be killed.
            let reply = self.call(["CLIENT", "KILL", "ID", &id]).await?;
            killed += usize::from(reply == RedisReply::Integer(1));
        }
        Ok(killed)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(authority) => write!(f, "Redis at {authority}"),
            Place::Socket(path) => write!(f, "Redis at {}", path.display()),
        }
    }
}

/// Turns a refusal into an error that does not repeat the arguments: they may
/// hold a password.
fn checked(words: &[String], reply: RedisReply) -> Result<RedisReply> {
    match reply {
        RedisReply::Refusal(answer) => {
            let command = words.first().cloned().unwrap_or_default();
            Err(Error::Refused { command, answer })
        }
        other => Ok(other),
    }
}

async fn ask(stream: &mut Pin<Box<dyn Stream>>, words: &[String]) -> io::Result<RedisReply> {
    stream.write_all(&encode(words)).await?;
    let mut input = Vec::new();
    loop {
        if let Some((reply, _)) = parse(&input)? {
            return Ok(reply);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_no_argument() {
        let words = ["ACL", "SETUSER", "a", ">secret"].map(str::to_owned);
        let error = checked(&words, RedisReply::Refusal("ERR no".into())).unwrap_err();
        assert_eq!(error.to_string(), "ACL: ERR no");
    }

    #[test]
    fn debug_output_hides_passwords() {
        let account = Account::new("a");
        let admin = Admin::new(Place::Tcp("host:1".into()), Some(account.clone()));
        assert_eq!(format!("{admin:?}"), "Redis at host:1");
        assert!(!format!("{account:?}").contains(account.password()));
    }
}
