use trine_core::{Deadline, Health, HealthStatus, Report, State};

use super::RedisService;
use crate::ServerFacts;

impl RedisService {
    /// Asks every master side by side; bounded, and shared by concurrent
    /// callers.
    ///
    /// Down if none answers or takes calls, as while it loads its data or its
    /// cluster is down; degraded if some are so, if one takes no writes, or if
    /// slots have no master.
    pub async fn health(&self) -> Health {
        self.probe.check(|| self.look()).await
    }

    async fn look(&self) -> Health {
        let shared = &self.pool.shared;
        let state = self.state();
        if state != State::Running {
            return Health::down(format!("the service is {state}"));
        }
        let config = &shared.config;
        let bound = config.connect_timeout.get() + config.response_timeout.get();
        let found = self.pool.examine_all("health", Some(Deadline::after(bound))).await;
        let away = found.iter().filter(|(_, facts)| facts.is_err()).count();
        let orphans = shared.topology.orphans();
        let parts: Vec<_> = found
            .iter()
            .map(|(name, facts)| match facts {
                Ok(facts) => (name, part(facts)),
                Err(error) => (name, Health::down(Report(error))),
            })
            .collect();
        let serves = parts.iter().any(|(_, part)| part.status != HealthStatus::Down);
        let mut health = if away == found.len() {
            Health::down("no server answers")
        } else if !serves {
            let why = parts.iter().find_map(|(_, part)| part.error.as_deref());
            Health::down(format!("no server takes calls: {}", why.unwrap_or_default()))
        } else if orphans > 0 {
            Health::degraded(format!("{orphans} slots have no master"))
        } else {
            Health::up()
        };
        health = health.with_detail("kind", config.server.kind());
        for (name, part) in &parts {
            health = health.with_optional_part(&***name, part);
        }
        let dedicated = shared.topology.dedicated();
        health
            .with_detail("masters", found.len())
            .with_detail("masters_away", away)
            .with_detail("dedicated_in_use", dedicated.in_use)
            .with_detail("dedicated_idle", dedicated.idle)
    }
}

fn part(facts: &ServerFacts) -> Health {
    let part = facts
        .health()
        .with_detail("version", &*facts.version)
        .with_detail("role", facts.role.as_str())
        .with_detail("replicas", facts.replicas)
        .with_detail("clients", facts.clients)
        .with_detail("used_memory", facts.used_memory)
        .with_detail("max_memory", facts.max_memory)
        .with_detail("policy", &*facts.policy)
        .with_detail("evicts", facts.evicts())
        .with_detail("durability", facts.durability.to_string());
    part.with_detail("durability_source", facts.durability_source.as_str())
}
