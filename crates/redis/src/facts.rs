use std::fmt;
use std::sync::Arc;

use trine_core::{Durability, Health, Span};

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
    /// What an acknowledged write survives, never more than this server's
    /// settings promise:
    ///
    /// * `Synced`: the log is synced before each answer (`appendfsync always`),
    ///   and no other server can take over.
    /// * `Async` of 2 s: it is synced every second, or always with a successor
    ///   that may lack what was answered last. How much a fail-over loses has
    ///   no bound: it is what the old master had not sent.
    /// * `Async` of 30 s: the kernel writes the log when it likes, be it always
    ///   (`appendfsync no`) or during a rewrite (`no-appendfsync-on-rewrite`).
    /// * `Async` of the shortest interval of `save` for which one change is
    ///   enough, without a log: a snapshot begins so long after the one before,
    ///   and what it takes to write one comes on top. The end of the process
    ///   counts as a loss of power here. An interval for which more changes
    ///   are needed promises nothing to the last of them.
    /// * `Memory`: none of these.
    pub durability: Durability,
    /// Where that is from.
    pub durability_source: DurabilitySource,
    pub(crate) mode: Mode,
    pub(crate) is_loading: bool,
    /// Whether it has told that its cluster is down.
    pub(crate) has_lost_cluster: bool,
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

/// What the configuration says of what writes survive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated {
    /// Where the server does not say.
    pub(crate) declared: Option<Durability>,
    /// Whether another server may take over.
    pub(crate) fails_over: bool,
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
        // Valkey calls it by the second name.
        let mode = match (field("redis_mode").or(field("server_mode")), field("cluster_enabled")) {
            (Some("cluster"), _) | (None, Some("1")) => Mode::Cluster,
            (Some("sentinel"), _) => Mode::Sentinel,
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
            is_loading: number("loading") > 0,
            has_lost_cluster: false,
        })
    }

    /// Fills in the durability from what the server answered, else from what
    /// the configuration declares.
    pub(crate) fn set_durability(&mut self, settings: Option<&Persistence>, stated: Stated) {
        let known = settings.map(|settings| (settings.durability(), DurabilitySource::Server));
        let declared = stated.declared.map(|declared| (declared, DurabilitySource::Declared));
        let Some((durability, source)) = known.or(declared) else { return };
        // What a replica was not sent is lost by a fail-over.
        let fails_over = stated.fails_over || self.replicas > 0 || self.mode == Mode::Cluster;
        self.durability = match durability {
            Durability::Synced if fails_over => Durability::Async { window: EVERY_SECOND },
            durability => durability,
        };
        self.durability_source = source;
    }

    /// Returns how well it serves.
    pub(crate) fn health(&self) -> Health {
        if self.is_loading {
            Health::down("it is loading its data, and takes no calls")
        } else if self.has_lost_cluster {
            Health::down("it says that the cluster is down, and takes no calls")
        } else if self.role == Role::Replica {
            Health::degraded("it is a replica, and takes no writes")
        } else {
            Health::up()
        }
    }

    /// Returns the major number of the version, 0 if it has none.
    pub(crate) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
    }
}

/// What a server says of its persistence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persistence {
    append_only: bool,
    sync: String,
    /// Whether the log is not synced while it is written anew.
    rests_on_rewrite: bool,
    save: String,
}

impl Persistence {
    /// What is asked of it by `CONFIG GET`.
    pub(crate) const SETTINGS: [&str; 4] =
        ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save"];

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
                "no-appendfsync-on-rewrite" => found.rests_on_rewrite = value == "yes",
                "save" => value.clone_into(&mut found.save),
                _ => {}
            }
        }
        is_any.then_some(found)
    }

    fn durability(&self) -> Durability {
        match (self.append_only, &*self.sync) {
            (true, "always") if !self.rests_on_rewrite => Durability::Synced,
            (true, "everysec") if !self.rests_on_rewrite => {
                Durability::Async { window: EVERY_SECOND }
            }
            (true, _) => Durability::Async { window: KERNEL },
            (false, _) => self.snapshots(),
        }
    }

    /// One change alone is in a snapshot only where one is enough for it.
    fn snapshots(&self) -> Durability {
        let words: Vec<&str> = self.save.split_whitespace().collect();
        let seconds = words.chunks(2).filter_map(|pair| match pair {
            [seconds, "0" | "1"] => seconds.parse().ok(),
            _ => None,
        });
        let window = seconds.min().map(Span::secs);
        window.map_or(Durability::Memory, |window| Durability::Async { window })
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
    fn the_mode_is_found_whatever_its_name() {
        let mode = |line: &str| {
            let info = INFO.replace("redis_mode:standalone", line);
            ServerFacts::read(&"h:1".into(), &info).unwrap().mode
        };
        assert_eq!(mode("redis_mode:standalone"), Mode::Standalone);
        assert_eq!(mode("redis_mode:cluster"), Mode::Cluster);
        // Valkey 8.
        let valkey =
            |mode| format!("server_name:valkey\r\nvalkey_version:8.0.1\r\nserver_mode:{mode}");
        assert_eq!(mode(&valkey("cluster")), Mode::Cluster);
        assert_eq!(mode(&valkey("sentinel")), Mode::Sentinel);
        assert_eq!(mode(&valkey("standalone")), Mode::Standalone);
        // One that says neither.
        assert_eq!(mode("cluster_enabled:1"), Mode::Cluster);
        assert_eq!(mode("cluster_enabled:0"), Mode::Standalone);
    }

    const ALONE: Stated = Stated { declared: None, fails_over: false };

    /// Returns the durability of a server without replicas.
    fn durability(append_only: &str, sync: &str, rests: &str, save: &str) -> Durability {
        let values = [append_only, sync, rests, save];
        let words = Persistence::SETTINGS.into_iter().zip(values).flat_map(<[&str; 2]>::from);
        let reply =
            crate::Value::Array(words.map(|word| crate::Value::Bytes(word.into())).collect());
        let settings = Persistence::read(&reply).unwrap();
        let mut facts = facts("connected_slaves:0");
        facts.set_durability(Some(&settings), ALONE);
        assert_eq!(facts.durability_source, DurabilitySource::Server);
        facts.durability
    }

    fn facts(replicas: &str) -> ServerFacts {
        let info = INFO.replace("connected_slaves:1", replicas);
        ServerFacts::read(&"h:1".into(), &info).unwrap()
    }

    fn within(secs: u64) -> Durability {
        Durability::Async { window: Span::secs(secs) }
    }

    #[test]
    fn durability_is_never_more_than_the_server_keeps() {
        assert_eq!(durability("yes", "always", "no", ""), Durability::Synced);
        assert_eq!(durability("yes", "everysec", "no", ""), within(2));
        assert_eq!(durability("yes", "no", "no", ""), within(30));
        for sync in ["always", "everysec", "no"] {
            assert_eq!(durability("yes", sync, "yes", ""), within(30), "{sync}");
        }
        assert_eq!(durability("no", "always", "no", ""), Durability::Memory);
    }

    #[test]
    fn a_snapshot_counts_where_one_change_is_enough() {
        let save = |save| durability("no", "always", "no", save);
        assert_eq!(save("3600 1 300 100 60 10000"), within(3600));
        assert_eq!(save("3600 1 60 1"), within(60));
        assert_eq!(save("300 100 60 10000"), Durability::Memory);
        assert_eq!(save("3600"), Durability::Memory);
    }

    #[test]
    fn a_fail_over_may_lose_what_was_synced() {
        let synced = Persistence { append_only: true, sync: "always".into(), ..Default::default() };
        let is_synced = |mut facts: ServerFacts, stated: Stated| {
            facts.set_durability(Some(&synced), stated);
            facts.durability == Durability::Synced
        };
        assert!(is_synced(facts("connected_slaves:0"), ALONE));
        assert!(!is_synced(facts("connected_slaves:1"), ALONE));
        // Sentinels may find replicas that are away at present.
        let watched = Stated { fails_over: true, ..ALONE };
        assert!(!is_synced(facts("connected_slaves:0"), watched));
        let mut node = facts("connected_slaves:0");
        node.mode = Mode::Cluster;
        assert!(!is_synced(node, ALONE));
        let mut declared = facts("connected_slaves:0");
        declared.set_durability(None, Stated { declared: Some(Durability::Synced), ..watched });
        assert_eq!(declared.durability, within(2));
        assert_eq!(declared.durability_source, DurabilitySource::Declared);
    }

    #[test]
    fn what_the_server_says_goes_before_what_is_declared() {
        let mut facts = facts("connected_slaves:0");
        facts.set_durability(None, ALONE);
        assert_eq!(facts.durability_source, DurabilitySource::Assumed);
        let declared = Stated { declared: Some(Durability::Synced), ..ALONE };
        facts.set_durability(None, declared);
        assert_eq!(facts.durability, Durability::Synced);
        facts.set_durability(Some(&Persistence::default()), declared);
        assert_eq!(facts.durability, Durability::Memory);
        assert_eq!(facts.durability_source, DurabilitySource::Server);
    }
}
