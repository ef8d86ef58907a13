use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use super::Outcome;
use crate::command::Form;
use crate::{Command, Script, ServerFacts};

/// A connection that works.
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) facts: ServerFacts,
    suspected: Arc<Notify>,
    /// Scripts that the server has run, by digest.
    scripts: Mutex<HashSet<Box<str>>>,
}

/// A connection and what it is to carry.
pub(super) type Ready<'a> = (MultiplexedConnection, Cow<'a, redis::Cmd>);

impl Live {
    pub(super) fn new(
        connection: MultiplexedConnection,
        facts: ServerFacts,
        suspected: &Arc<Notify>,
    ) -> Self {
        Self { connection, facts, suspected: Arc::clone(suspected), scripts: Mutex::default() }
    }

    pub(super) fn ready<'a>(&self, command: &'a Command, form: Form) -> Ready<'a> {
        (self.connection.clone(), command.packed(&self.facts.run_id, form))
    }

    /// Has the connection looked after unless the doubt is cleared.
    pub(crate) fn doubt(&self) -> Doubt<'_> {
        Doubt::of(&self.suspected)
    }

    /// Returns how each command of a pipeline is sent. A script that the server
    /// does not know would be carried out after what follows it, so it goes as a
    /// whole: the first time in each pipeline, and every time as long as the
    /// server was not seen to run it, because it may refuse the first.
    pub(super) fn forms(&self, commands: &[&Command], form: Form) -> Vec<Form> {
        if commands.len() < 2 || commands.iter().all(|command| command.script().is_none()) {
            return vec![form; commands.len()];
        }
        let run = self.scripts();
        let mut sent: Vec<&str> = Vec::new();
        let each = commands.iter().map(|command| match command.script().map(Script::digest) {
            Some(digest) if run.contains(digest) && sent.contains(&digest) => form,
            Some(digest) => {
                sent.push(digest);
                Form::Text
            }
            None => form,
        });
        each.collect()
    }

    /// Notes which scripts the server has run.
    pub(super) fn note_scripts(&self, commands: &[&Command], outcomes: &[Outcome]) {
        for (command, outcome) in commands.iter().zip(outcomes) {
            let (Some(script), Ok(_)) = (command.script(), outcome) else { continue };
            let mut run = self.scripts();
            if !run.contains(script.digest()) {
                run.insert(script.digest().into());
            }
        }
    }

    fn scripts(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply that is waited for. A caller that gives up, in whatever way, leaves
/// the connection suspected of being dead.
pub(crate) struct Doubt<'a>(Option<&'a Notify>);

impl<'a> Doubt<'a> {
    pub(super) fn of(suspected: &'a Notify) -> Self {
        Self(Some(suspected))
    }

    /// Something came.
    pub(crate) fn clear(mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(suspected) = self.0 {
            suspected.notify_one();
        }
    }
}
