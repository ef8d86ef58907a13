use std::fmt;
use std::sync::Arc;

use trine_core::{Durability, Span};

/// A server as a connection to it has found it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Host and port, or the path of the socket.
    pub address: Arc<str>,
    /// What the process behind the connection calls itself: another one after
    /// each restart.
    pub run_id: Arc<str>,
    /// Its version, such as `"7.0.15"`.
    pub version: Box<str>,
    /// What it is at present.
    pub role: Role,
    /// How many replicas follow it.
    pub replicas: u64,
    /// How many clients are connected.
    pub clients: u64,
    /// Bytes in use.
    pub used_memory: u64,
    /// Most bytes that it uses; 0 is no limit.
    pub max_memory: u64,
    /// What it does at that limit, such as `"noeviction"`.
    pub policy: Box<str>,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Where that is from.
    pub durability_source: DurabilitySource,
    pub(crate) mode: Mode,
}

/// What part a server plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows a master.
    Replica,
    /// It watches masters.
    Sentinel,
}

impl Role {
    /// Returns the stable name, such as `"master"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
            Self::Sentinel => "sentinel",
        }
    }
}

/// Where the durability of a server is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurabilitySource {
    /// The server was asked.
    Server,
    /// The configuration says so.
    Declared,
    /// Nobody says; the least that can be meant.
    Assumed,
}

impl DurabilitySource {
    /// Returns the stable name, such as `"declared"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Declared => "declared",
            Self::Assumed => "assumed",
        }
    }
}

/// How a server was set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "a server without cluster support",
            Self::Cluster => "a node of a cluster",
            Self::Sentinel => "a sentinel",
        })
    }
}

/// Redis holds the write to its log back while a sync is under way, for two
/// seconds at most.
const EVERY_SECOND: Span = Span::secs(2);
/// When the kernel writes by itself.
const KERNEL: Span = Span::secs(30);
/// Nobody says anything.
const UNKNOWN: Span = Span::secs(24 * 60 * 60);

impl ServerFacts {
    /// Tells whether the server may remove keys that have not expired.
    #[must_use]
    pub fn evicts(&self) -> bool {
        &*self.policy != "noeviction"
    }

    /// Reads what `INFO` answered; `None` if it has no `run_id` or version.
    pub(crate) fn read(address: &Arc<str>, info: &str) -> Option<Self> {
        let field = |name: &str| {
            let lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        let number = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or_default();
        let mode = match field("redis_mode") {
            Some("cluster") => Mode::Cluster,
            Some("sentinel") => Mode::Sentinel,
            _ => Mode::Standalone,
        };
        let role = match (mode, field("role")) {
            (Mode::Sentinel, _) => Role::Sentinel,
            (_, Some("slave")) => Role::Replica,
            _ => Role::Master,
        };
        Some(Self {
            address: Arc::clone(address),
            run_id: field("run_id")?.into(),
            version: field("redis_version")?.into(),
            role,
            replicas: number("connected_slaves"),
            clients: number("connected_clients"),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
            policy: field("maxmemory_policy").unwrap_or("noeviction").into(),
            durability: Durability::Async { window: UNKNOWN },
            durability_source: DurabilitySource::Assumed,
            mode,
        })
    }

    /// Fills in the durability from what the server answered, else from what
    /// the configuration declares.
    pub(crate) fn set_durability(
        &mut self,
        settings: Option<&Persistence>,
        declared: Option<Durability>,
    ) {
        let known = settings.map(|settings| {
            // What a replica was not sent is lost by a fail-over.
            let can_fail_over = self.replicas > 0 || self.mode == Mode::Cluster;
            (settings.durability(can_fail_over), DurabilitySource::Server)
        });
        let declared = declared.map(|declared| (declared, DurabilitySource::Declared));
        if let Some((durability, source)) = known.or(declared) {
            self.durability = durability;
            self.durability_source = source;
        }
    }

    /// Returns the major number of the version, 0 if it has none.
    pub(crate) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
    }
}

/// What `CONFIG GET appendonly appendfsync save` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persistence {
    pub(crate) append_only: bool,
    pub(crate) sync: String,
    pub(crate) save: String,
}

impl Persistence {
    /// Reads names and values in turn.
    pub(crate) fn read(reply: &crate::Value) -> Option<Self> {
        let mut words = reply.as_array()?.iter().map(|value| value.as_text().unwrap_or_default());
        let mut found = Self::default();
        let mut is_any = false;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            is_any = true;
            match name {
                "appendonly" => found.append_only = value == "yes",
                "appendfsync" => value.clone_into(&mut found.sync),
                "save" => value.clone_into(&mut found.save),
                _ => {}
            }
        }
        is_any.then_some(found)
    }

    fn durability(&self, can_fail_over: bool) -> Durability {
        match (self.append_only, &*self.sync) {
            (true, "always") if !can_fail_over => Durability::Synced,
            (true, "always" | "everysec") => Durability::Async { window: EVERY_SECOND },
            (true, _) => Durability::Async { window: KERNEL },
            (false, _) => self.snapshots(),
        }
    }

    /// A snapshot is taken this many seconds after the first change at most.
    fn snapshots(&self) -> Durability {
        let seconds = self.save.split_whitespace().step_by(2);
        let longest = seconds.filter_map(|text| text.parse().ok()).max();
        longest
            .map_or(Durability::Memory, |longest| Durability::Async { window: Span::secs(longest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
        run_id:abc\r\nconnected_clients:3\r\nused_memory:1000\r\nmaxmemory:0\r\n\
        maxmemory_policy:allkeys-lru\r\nrole:master\r\nconnected_slaves:1\r\n";

    #[test]
    fn facts_are_read_from_info() {
        let facts = ServerFacts::read(&"h:1".into(), INFO).unwrap();
        assert_eq!((&*facts.run_id, facts.major(), facts.role), ("abc", 7, Role::Master));
        assert_eq!((facts.clients, facts.used_memory, facts.replicas), (3, 1000, 1));
        assert!(facts.evicts());
        assert!(ServerFacts::read(&"h:1".into(), "role:master").is_none());
    }

    #[test]
    fn durability_is_never_more_than_the_server_keeps() {
        let durability = |append_only, sync: &str, save: &str, fails_over| {
            let (sync, save) = (sync.to_owned(), save.to_owned());
            Persistence { append_only, sync, save }.durability(fails_over)
        };
        let within = |secs| Durability::Async { window: Span::secs(secs) };
        assert_eq!(durability(true, "always", "", false), Durability::Synced);
        assert_eq!(durability(true, "always", "", true), within(2));
        assert_eq!(durability(true, "everysec", "", false), within(2));
        assert_eq!(durability(true, "no", "", false), within(30));
        assert_eq!(durability(false, "always", "3600 1 300 100", false), within(3600));
        assert_eq!(durability(false, "always", "", false), Durability::Memory);
    }

    #[test]
    fn what_the_server_says_goes_before_what_is_declared() {
        let mut facts = ServerFacts::read(&"h:1".into(), INFO).unwrap();
        facts.set_durability(None, None);
        assert_eq!(facts.durability_source, DurabilitySource::Assumed);
        facts.set_durability(None, Some(Durability::Synced));
        assert_eq!(facts.durability, Durability::Synced);
        facts.set_durability(Some(&Persistence::default()), Some(Durability::Synced));
        assert_eq!(facts.durability, Durability::Memory);
        assert_eq!(facts.durability_source, DurabilitySource::Server);
    }
}
