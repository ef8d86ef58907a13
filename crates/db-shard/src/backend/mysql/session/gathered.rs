use futures_util::TryStreamExt;
use sqlx::Either;
use sqlx::mysql::{MySqlQueryResult, MySqlRow};

use super::{Answers, Failure};
use crate::backend::Reply;
use crate::backend::mysql::decode::Layout;
use crate::{Done, ResultSet, Row};

/// What has been read of the answers to one statement.
pub(super) struct Gathered {
    max_rows: u64,
    max_drained: u64,
    pub(super) keeps_apart: bool,
    count: u64,
    rows: Vec<Row>,
    sets: Vec<ResultSet>,
    done: Done,
    /// What is wrong with the rows; they are still read to their end.
    problem: Option<Failure>,
}

impl Gathered {
    pub(super) fn new(max_rows: u64, max_drained: u64) -> Self {
        Self {
            max_rows,
            max_drained,
            keeps_apart: false,
            count: 0,
            rows: Vec::new(),
            sets: Vec::new(),
            done: Done::default(),
            problem: None,
        }
    }

    /// Reads all answers. An error for the rows leaves the rest unread; any
    /// other one ends the exchange.
    pub(super) async fn read(&mut self, mut answers: Answers<'_>) -> Result<(), Failure> {
        let mut layout = None;
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Either::Left(done) => {
                    layout = None;
                    self.end_set(&done);
                }
                Either::Right(row) => {
                    let layout = layout.get_or_insert_with(|| Layout::of(sqlx::Row::columns(&row)));
                    self.add(layout, &row);
                    if self.count > self.max_rows.saturating_add(self.max_drained) {
                        return Err(Failure::TooManyRows);
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, layout: &Layout, row: &MySqlRow) {
        self.count += 1;
        if self.problem.is_some() {
            return;
        }
        if self.count > self.max_rows {
            self.problem = Some(Failure::TooManyRows);
            return;
        }
        match layout.read(row) {
            Ok(row) => self.rows.push(row),
            Err(column) => self.problem = Some(Failure::Column(Box::new(column))),
        }
    }

    fn end_set(&mut self, done: &MySqlQueryResult) {
        self.done.affected = self.done.affected.saturating_add(done.rows_affected());
        if done.last_insert_id() != 0 {
            self.done.last_insert_id = Some(done.last_insert_id());
        }
        if self.keeps_apart {
            let rows = std::mem::take(&mut self.rows);
            self.sets.push(ResultSet::new(rows, done.rows_affected()));
        }
    }

    pub(super) fn into_reply(self) -> Result<Reply, Failure> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(Reply::new(self.rows, self.done)),
        }
    }

    pub(super) fn into_sets(mut self) -> Result<Vec<ResultSet>, Failure> {
        if self.sets.len() > 1 {
            self.sets.pop();
        }
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(self.sets),
        }
    }
}
