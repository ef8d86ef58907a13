//! What became of every tick, by the tables alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use trine_db_shard::{Database, Timestamp};
use trine_scheduler::{AttemptEnd, Tick, TickState};

use super::{Fleet, member};

/// Effects, and who made what when: ticks that are planned, those that an
/// operator asks for, in a session 0, and each time that a process became or
/// stayed the planner, which ends the transaction of its ticks.
const TABLES: [&str; 4] = [
    "CREATE TABLE effect (
        seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        job VARBINARY(100) NOT NULL,
        nominal DATETIME(6) NOT NULL,
        attempt INT UNSIGNED NOT NULL,
        token BIGINT NOT NULL,
        process VARBINARY(255) NOT NULL,
        at DATETIME(6) NOT NULL,
        UNIQUE (job, nominal, attempt)
    ) ENGINE=InnoDB",
    "CREATE TABLE planning (
        seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        session BIGINT NOT NULL,
        job VARBINARY(100) NULL,
        nominal DATETIME(6) NULL,
        process VARBINARY(255) NULL,
        expires_at DATETIME(6) NULL,
        at DATETIME(6) NOT NULL
    ) ENGINE=InnoDB",
    "CREATE TRIGGER tick_made AFTER INSERT ON trine_tick FOR EACH ROW
        INSERT INTO planning (session, job, nominal, at)
        VALUES (IF(NEW.kind = 0, CONNECTION_ID(), 0), NEW.job, NEW.nominal, SYSDATE(6))",
    "CREATE TRIGGER planner_is AFTER UPDATE ON trine_job_planner FOR EACH ROW
        INSERT INTO planning (session, process, expires_at, at)
        VALUES (CONNECTION_ID(), NEW.process, NEW.expires_at, SYSDATE(6))",
];

pub(super) async fn prepare(db: &Database) {
    for text in TABLES {
        db.execute(text, ()).await.unwrap();
    }
}

/// A tick: its job, and its nominal time.
pub(super) type Name = (String, Timestamp);

/// One effect.
#[derive(Clone, Debug)]
struct Done {
    attempt: u32,
    token: u64,
    process: String,
    at: Timestamp,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Ticks that the schedules have between begin and end.
    pub(super) nominal: usize,
    pub(super) made: usize,
    pub(super) succeeded: usize,
    pub(super) effects: usize,
    pub(super) attempts: usize,
    /// How attempts ended that were not the last of their ticks.
    pub(super) lost: usize,
    pub(super) failed: usize,
    /// How often another process than before became the planner, and who they
    /// were.
    pub(super) changes: usize,
    pub(super) planners: BTreeSet<String>,
    /// From the nominal time to the effect.
    pub(super) latest: Duration,
    /// The ticks that each planner made, in the order in which they were.
    pub(super) made_by: Vec<(String, Name)>,
    /// What must not be, by its kind.
    pub(super) wrong: BTreeMap<&'static str, Vec<String>>,
}

impl Audit {
    /// Looks at everything up to `until`.
    pub(super) async fn of(fleet: &Fleet, until: SystemTime) -> Self {
        let mut audit = Self::default();
        let made = audit.planning(fleet.db()).await;
        let effects = effects(fleet.db()).await;
        audit.made = made.len();
        audit.effects = effects.values().map(Vec::len).sum();
        let mut known = BTreeSet::new();
        for number in 0..fleet.task.jobs {
            let job = member::job(number);
            let ticks = fleet.ticks(&job).await;
            audit.expect(fleet, job.as_str(), &made, until);
            let is_alone = member::overlap(number).concurrency() == 1;
            audit.attempts_of(&ticks, is_alone);
            for tick in &ticks {
                let name = (job.as_str().to_owned(), Timestamp::from(tick.nominal));
                if tick.nominal <= until {
                    audit.tick(tick, &name, &made, effects.get(&name).map_or(&[], Vec::as_slice));
                }
                known.insert(name);
            }
        }
        for name in effects.keys().filter(|name| !known.contains(name)) {
            audit.note("effect without a tick", name);
        }
        audit
    }

    /// Reads who planned, and returns how often each tick was made.
    async fn planning(&mut self, db: &Database) -> HashMap<Name, usize> {
        type Row =
            (u64, Option<String>, Option<Timestamp>, Option<String>, Option<Timestamp>, Timestamp);
        let text =
            "SELECT session, job, nominal, process, expires_at, at FROM planning ORDER BY seq";
        let rows: Vec<Row> = db.query(text, ()).await.unwrap();
        let (mut made, mut open) = (HashMap::new(), HashMap::<u64, Vec<Name>>::new());
        let mut last: Option<(String, Timestamp)> = None;
        for (session, job, nominal, process, expires_at, at) in rows {
            if let (Some(job), Some(nominal)) = (job, nominal) {
                *made.entry((job.clone(), nominal)).or_default() += 1;
                if session > 0 {
                    open.entry(session).or_default().push((job, nominal));
                }
                continue;
            }
            let (Some(process), Some(expires_at)) = (process, expires_at) else { continue };
            let ticks = open.remove(&session).unwrap_or_default();
            self.made_by.extend(ticks.into_iter().map(|tick| (process.clone(), tick)));
            if let Some((before, until)) = &last
                && *before != process
                && !process.is_empty()
            {
                self.changes += 1;
                if *until > at {
                    self.note("two planners at once", &(before, &process, until, at));
                }
            }
            self.planners.extend((!process.is_empty()).then(|| process.clone()));
            last = Some((process, expires_at));
        }
        for (_, ticks) in open {
            self.note("made by nobody", &ticks);
        }
        made
    }

    /// Notes which nominal times have no tick.
    fn expect(&mut self, fleet: &Fleet, job: &str, made: &HashMap<Name, usize>, until: SystemTime) {
        let schedule: trine_scheduler::Schedule = fleet.task.schedule.parse().unwrap();
        let Some(from) = fleet.from else { return };
        for nominal in schedule.upcoming(from).take_while(|nominal| *nominal <= until) {
            self.nominal += 1;
            let name = (job.to_owned(), Timestamp::from(nominal));
            if !made.contains_key(&name) {
                self.note("never made", &name);
            }
        }
    }

    fn tick(&mut self, tick: &Tick, name: &Name, made: &HashMap<Name, usize>, effects: &[Done]) {
        if made.get(name) != Some(&1) {
            self.note("not made once", &(name, made.get(name)));
        }
        if tick.state != TickState::Succeeded {
            self.note("not completed", tick);
        }
        self.succeeded += usize::from(tick.state == TickState::Succeeded);
        match effects {
            [] => self.note("without its effect", name),
            [done] => {
                let nominal = Timestamp::from(tick.nominal);
                let late = done.at.as_micros() - nominal.as_micros();
                match u64::try_from(late) {
                    Ok(late) => self.latest = self.latest.max(Duration::from_micros(late)),
                    Err(_) => self.note("before its time", name),
                }
                let last = tick.attempts.last();
                if last.is_none_or(|last| {
                    (last.number, last.token, &*last.process)
                        != (done.attempt, done.token, &*done.process)
                }) {
                    self.note("the effect of another attempt", &(name, done, &tick.attempts));
                }
            }
            several => self.note("with effects", &(name, several)),
        }
        let numbers = tick.attempts.iter().map(|attempt| attempt.number);
        if !numbers.eq(1..=u32::try_from(tick.attempts.len()).unwrap()) {
            self.note("attempts with gaps", &(name, &tick.attempts));
        }
        self.attempts += tick.attempts.len();
        for attempt in tick.attempts.iter().rev().skip(1) {
            match &attempt.end {
                Some(AttemptEnd::Lost) => self.lost += 1,
                Some(AttemptEnd::Succeeded) | None => {
                    self.note("tried again without need", &(name, &tick.attempts));
                }
                Some(_) => self.failed += 1,
            }
        }
    }

    /// Notes tokens that do not rise, and attempts beside each other where one
    /// at a time was asked for.
    fn attempts_of(&mut self, ticks: &[Tick], is_alone: bool) {
        let mut attempts: Vec<_> = ticks.iter().flat_map(|tick| &tick.attempts).collect();
        attempts.sort_by_key(|attempt| attempt.token);
        for pair in attempts.windows(2) {
            let (one, next) = (pair[0], pair[1]);
            if next.token <= one.token || next.began < one.began {
                self.note("a token that is not higher", &pair);
            }
            let ended = one.took.map(|took| one.began + took);
            if is_alone && ended.is_none_or(|ended| ended > next.began) {
                self.note("two at once", &pair);
            }
        }
    }

    fn note(&mut self, what: &'static str, of: &dyn std::fmt::Debug) {
        self.wrong.entry(what).or_default().push(format!("{of:?}"));
    }

    /// How much of a kind was found.
    pub(super) fn count(&self, what: &str) -> usize {
        self.wrong.get(what).map_or(0, Vec::len)
    }

    /// What was found, in a line.
    pub(super) fn line(&self) -> String {
        let Self { nominal, made, succeeded, effects, attempts, lost, failed, .. } = self;
        let (changes, planners, latest) = (self.changes, self.planners.len(), self.latest);
        let wrong: Vec<_> =
            self.wrong.iter().map(|(what, found)| format!("{} {what}", found.len())).collect();
        format!(
            "{nominal} nominal times, {made} ticks made, {succeeded} completed, {effects} \
             effects, {attempts} attempts ({lost} lost, {failed} failed), {planners} planners, \
             {changes} changes of the planner, latest effect after {latest:?}; wrong: {wrong:?}"
        )
    }

    pub(super) fn assert_clean(&self) {
        println!("{}", self.line());
        let some = self.wrong.iter().map(|(what, found)| (what, &found[..found.len().min(5)]));
        let some: Vec<_> = some.collect();
        assert!(some.is_empty(), "{some:#?}");
        assert!(self.made >= self.nominal && self.succeeded >= self.nominal, "{}", self.line());
    }
}

async fn effects(db: &Database) -> HashMap<Name, Vec<Done>> {
    type Row = (String, Timestamp, u32, u64, String, Timestamp);
    let text = "SELECT job, nominal, attempt, token, process, at FROM effect ORDER BY seq";
    let rows: Vec<Row> = db.query(text, ()).await.unwrap();
    let mut effects = HashMap::<Name, Vec<Done>>::new();
    for (job, nominal, attempt, token, process, at) in rows {
        effects.entry((job, nominal)).or_default().push(Done { attempt, token, process, at });
    }
    effects
}
