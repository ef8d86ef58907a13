use trine_core::{Deadline, Health, HealthStatus, Report, State};

use super::RedisService;
use crate::ServerFacts;

impl RedisService {
    /// Asks every master side by side; bounded, and shared by concurrent
    /// callers.
    ///
    /// Down if none answers or no call is taken, degraded if some are away or
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
        let mut health = if away == found.len() {
            Health::down("no server answers")
        } else if orphans > 0 {
            Health::degraded(format!("{orphans} slots have no master"))
        } else {
            Health::up()
        };
        health = health.with_detail("kind", config.server.kind());
        for (name, facts) in &found {
            let part = match facts {
                Ok(facts) => part(facts),
                Err(error) => Health::down(Report(error)),
            };
            health = health.with_optional_part(&**name, &part);
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
    let part = Health::new(HealthStatus::Up)
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
