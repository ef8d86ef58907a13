use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::sleep;
use trine_core::Deadline;

use super::Shared;
use super::route::{MOST_REDIRECTS, TRY_AGAIN, is_too_late};
use crate::Command;
use crate::command::Shape;
use crate::link::{Outcome, Trouble};
use crate::node::Node;
use crate::topology::Redirect;

/// Most commands of one pipeline.
const MOST_COMMANDS: usize = 1_000;
/// Most bytes of one pipeline, unless a single command has more.
const MOST_BYTES: usize = 1 << 20;

/// What goes to one node, by the places of the commands.
struct Part {
    node: Arc<Node>,
    asking: bool,
    places: Vec<usize>,
}

impl Shared {
    /// Sends every command to where its keys are, and those that were refused
    /// there after them.
    pub(super) async fn route_all(
        &self,
        commands: &[Command],
        until: Option<Deadline>,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = commands.iter().map(|_| Err(Trouble::NoMaster)).collect();
        let mut parts = self.parts(commands, 0..commands.len(), &mut outcomes);
        for round in 0..=MOST_REDIRECTS {
            let sending = parts.iter().map(|part| self.send_part(part, commands, until));
            for (part, sent) in parts.iter().zip(join_all(sending).await) {
                for (place, outcome) in part.places.iter().zip(sent) {
                    put(&mut outcomes, *place, outcome);
                }
            }
            // Nothing is sent after the last round, so nothing is waited for.
            if round == MOST_REDIRECTS {
                break;
            }
            parts = self.redirected(parts, commands, &mut outcomes, until).await;
            if parts.is_empty() {
                break;
            }
        }
        outcomes
    }

    /// Groups commands by node; what has none gets its outcome.
    fn parts(
        &self,
        commands: &[Command],
        places: impl IntoIterator<Item = usize>,
        outcomes: &mut [Outcome],
    ) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for place in places {
            let Some(command) = commands.get(place) else { continue };
            let found = command
                .check(Shape::Plain)
                .map_err(Trouble::Invalid)
                .and_then(|()| self.topology.node(self.slot(command)?));
            match found {
                Ok(node) => add(&mut parts, &node, false, place),
                Err(trouble) => put(outcomes, place, Err(trouble)),
            }
        }
        parts
    }

    async fn send_part(
        &self,
        part: &Part,
        commands: &[Command],
        until: Option<Deadline>,
    ) -> Vec<Outcome> {
        let all: Vec<&Command> =
            part.places.iter().filter_map(|place| commands.get(*place)).collect();
        let mut outcomes = Vec::with_capacity(all.len());
        let mut rest = &*all;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk(rest));
            rest = after;
            let sent = part.node.run_all(&self.tasks, chunk, part.asking, until).await;
            let is_lost =
                sent.iter().any(|outcome| matches!(outcome, Err(trouble) if trouble.is_lost()));
            outcomes.extend(sent);
            if is_lost {
                // What comes after a command must not happen where nobody
                // knows about that command.
                outcomes.extend(rest.iter().map(|_| Err(Trouble::Skipped)));
                break;
            }
        }
        outcomes
    }

    /// Groups what was refused because it belongs elsewhere.
    async fn redirected(
        &self,
        parts: Vec<Part>,
        commands: &[Command],
        outcomes: &mut [Outcome],
        until: Option<Deadline>,
    ) -> Vec<Part> {
        let mut next: Vec<Part> = Vec::new();
        let (mut anew, mut later) = (Vec::new(), Vec::new());
        for part in parts {
            // A demoted server refuses all writes of a batch, and one of them
            // waits for its successor.
            let mut demoted = None;
            for place in part.places {
                let Some(Err(trouble)) = outcomes.get(place) else { continue };
                if !trouble.is_elsewhere() {
                    continue;
                }
                let redirect = match (&demoted, trouble.is_demotion()) {
                    (Some(known), true) => Redirect::clone(known),
                    (_, is_demotion) => {
                        let redirect = self.redirect(trouble, &part.node, until).await;
                        if is_demotion {
                            demoted = Some(redirect.clone());
                        }
                        redirect
                    }
                };
                match redirect {
                    Redirect::No => continue,
                    Redirect::Anew => anew.push(place),
                    Redirect::To { node, asking } => add(&mut next, &node, asking, place),
                    Redirect::Later if is_too_late(until) => continue,
                    Redirect::Later => later.push(place),
                }
                self.counters.redirects.add(1);
            }
        }
        if !later.is_empty() {
            sleep(TRY_AGAIN).await;
            anew.append(&mut later);
        }
        for part in self.parts(commands, anew, outcomes) {
            for place in part.places {
                add(&mut next, &part.node, false, place);
            }
        }
        for part in &mut next {
            part.places.sort_unstable();
        }
        next
    }
}

fn put(outcomes: &mut [Outcome], place: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = outcome;
    }
}

fn add(parts: &mut Vec<Part>, node: &Arc<Node>, asking: bool, place: usize) {
    let same = |part: &&mut Part| Arc::ptr_eq(&part.node, node) && part.asking == asking;
    match parts.iter_mut().find(same) {
        Some(part) => part.places.push(place),
        None => parts.push(Part { node: Arc::clone(node), asking, places: vec![place] }),
    }
}

/// Returns how many of the commands go into the next pipeline: at least one.
fn chunk(commands: &[&Command]) -> usize {
    let mut bytes = 0;
    let fits = |command: &&&Command| {
        bytes += command.size();
        bytes <= MOST_BYTES
    };
    commands.iter().take(MOST_COMMANDS).take_while(fits).count().max(1)
}
