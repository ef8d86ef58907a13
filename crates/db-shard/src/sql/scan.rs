use std::cell::RefCell;
use std::collections::HashMap;

use super::Engine;
use super::token::{Token, Tokens};

/// Most shapes that a thread keeps; a program that leaks its texts stays
/// bounded.
const MAX_KEPT: usize = 4096;

thread_local! {
    static SHAPES: RefCell<HashMap<(usize, usize, Engine), Shape>> = RefCell::default();
}

/// What the first words of a statement say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Only reads: runs on a reader.
    Read,
    /// Changes rows, or may: everything that is no other verb.
    Write,
    /// Changes the schema; MySQL commits the open transaction first.
    Schema,
    /// Begins, ends or marks a transaction, or changes the session: refused,
    /// because the connection belongs to many callers.
    Control,
    /// Makes or drops an object that belongs to one connection: refused, because
    /// the next caller gets it, and the object before the table of its name.
    Temporary,
    /// Calls a stored procedure.
    Call,
    /// Has no word at all.
    Empty,
}

/// Why [`Verb::Temporary`] is refused.
pub(crate) const TEMPORARY: &str = "temporary objects belong to one connection, which is every \
                                    caller's in turn: make an ordinary table";

/// What has to be known of a text before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) verb: Verb,
    /// How many `?` stand outside of strings and comments.
    pub(crate) parameters: usize,
    /// Whether text follows a semicolon.
    pub(crate) is_many: bool,
    /// Whether a `?` is followed by a digit, or a parameter has a name.
    pub(crate) is_numbered: bool,
    /// Whether its subject, which may stand behind a `WITH`, changes rows.
    pub(crate) changes_rows: bool,
    /// Whether rows come back: those of a query, or of a `RETURNING`.
    pub(crate) returns_rows: bool,
}

impl Shape {
    const EMPTY: Self = Self {
        verb: Verb::Empty,
        parameters: 0,
        is_many: false,
        is_numbered: false,
        changes_rows: false,
        returns_rows: false,
    };
}

impl Shape {
    /// Returns the shape of a text of the program, which each thread scans once.
    pub(super) fn of_constant(text: &'static str, engine: Engine) -> Self {
        // No other text can ever stand at the same place.
        let key = (text.as_ptr().addr(), text.len(), engine);
        SHAPES.with_borrow_mut(|shapes| {
            if let Some(shape) = shapes.get(&key) {
                return *shape;
            }
            let shape = Self::of(text, engine);
            if shapes.len() < MAX_KEPT {
                shapes.insert(key, shape);
            }
            shape
        })
    }

    /// Scans a text.
    pub(crate) fn of(text: &str, engine: Engine) -> Self {
        let mut shape = Self::EMPTY;
        let mut subject = Subject::default();
        let mut ended = false;
        let mut body = Body::NotCreate;
        let mut tokens = Tokens::new(text, engine);
        while let Some(token) = tokens.next() {
            // The semicolons of a procedure's body end no statement.
            if ended && token != Token::Semicolon && !body.is_open() {
                shape.is_many = true;
            }
            body = body.after(token, || tokens.peek_word());
            subject.see(token, || tokens.peek_word());
            match token {
                Token::Semicolon => ended = shape.verb != Verb::Empty && !body.is_open(),
                Token::Parameter { is_numbered } => {
                    shape.parameters += 1;
                    shape.is_numbered |= is_numbered;
                }
                Token::Word(word) if shape.verb == Verb::Empty => {
                    shape.verb = verb(word, &tokens);
                }
                // A file of the server's.
                Token::Word(word) if shape.verb == Verb::Read && is(word, &["INTO"]) => {
                    let target = tokens.peek_word().unwrap_or_default();
                    if engine == Engine::Mysql && is(target, &["OUTFILE", "DUMPFILE"]) {
                        shape.verb = Verb::Write;
                    }
                }
                Token::Word(_) | Token::Open | Token::Close | Token::Other => {}
            }
        }
        shape.changes_rows = subject.changes_rows;
        shape.returns_rows = subject.returns_rows;
        shape
    }
}

/// What the words outside of parentheses tell about the rows of a statement.
#[derive(Debug, Default)]
struct Subject {
    depth: u32,
    is_begun: bool,
    is_found: bool,
    changes_rows: bool,
    returns_rows: bool,
}

impl Subject {
    fn see<'a>(&mut self, token: Token<'a>, next: impl FnOnce() -> Option<&'a str>) {
        match token {
            Token::Open => self.depth += 1,
            Token::Close => self.depth = self.depth.saturating_sub(1),
            Token::Word(word) if self.depth == 0 => {
                let is_first = !std::mem::replace(&mut self.is_begun, true);
                if self.is_found {
                    self.returns_rows |= is(word, &["RETURNING"]);
                } else if is(word, &["INSERT", "UPDATE", "DELETE"])
                    || is(word, &["REPLACE"])
                        && (is_first || next().is_some_and(|next| is(next, &["INTO"])))
                {
                    (self.is_found, self.changes_rows) = (true, true);
                } else if is(word, &["SELECT", "VALUES", "EXPLAIN"]) {
                    (self.is_found, self.returns_rows) = (true, true);
                } else if is(word, &["CREATE", "DROP", "ALTER"]) {
                    self.is_found = true;
                }
            }
            _ => {}
        }
    }
}

/// Whether a statement creates something that has a body of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// It begins with another word.
    NotCreate,
    /// It begins with `CREATE`, and the kind of object has not come yet.
    Unknown,
    /// It has one: how many `BEGIN` and `CASE` are open, and whether the next
    /// word only names what an `END` closed.
    Yes { depth: u32, is_named: bool },
    /// It has none, or the body is over.
    No,
}

impl Body {
    fn is_open(self) -> bool {
        matches!(self, Self::Yes { .. })
    }

    fn after<'a>(self, token: Token<'a>, next: impl FnOnce() -> Option<&'a str>) -> Self {
        match (self, token) {
            (Self::NotCreate, Token::Word(word)) if is(word, &["CREATE"]) => Self::Unknown,
            (Self::NotCreate, Token::Semicolon) => Self::NotCreate,
            (Self::NotCreate, _) => Self::No,
            (Self::Unknown, Token::Word(word)) => {
                if is(word, &["TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE"]) {
                    Self::Yes { depth: 0, is_named: false }
                } else if is(
                    word,
                    &["TABLE", "INDEX", "VIEW", "DATABASE", "SCHEMA", "USER", "SEQUENCE"],
                ) {
                    Self::No
                } else {
                    Self::Unknown
                }
            }
            (Self::Yes { depth, is_named: true }, Token::Word(_)) => {
                Self::Yes { depth, is_named: false }
            }
            (Self::Yes { depth, .. }, Token::Word(word)) if is(word, &["BEGIN", "CASE"]) => {
                Self::Yes { depth: depth.saturating_add(1), is_named: false }
            }
            (Self::Yes { depth, .. }, Token::Word(word)) if is(word, &["END"]) => {
                let next = next().unwrap_or_default();
                if is(next, &["IF", "LOOP", "WHILE", "REPEAT", "FOR"]) {
                    return Self::Yes { depth, is_named: true };
                }
                match depth.saturating_sub(1) {
                    0 => Self::No,
                    depth => Self::Yes { depth, is_named: is(next, &["CASE"]) },
                }
            }
            // A body of one statement ends with it.
            (Self::Yes { depth: 0, .. }, Token::Semicolon) => Self::No,
            (other, _) => other,
        }
    }
}

fn is(word: &str, names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// Returns what a statement does that begins with `word`.
fn verb(word: &str, rest: &Tokens<'_>) -> Verb {
    let second = || rest.peek_word().unwrap_or_default();
    let is = |names: &[&str]| is(word, names);
    if is(&["SELECT", "VALUES", "SHOW", "TABLE"]) {
        return Verb::Read;
    }
    if is(&["WITH"]) {
        return led_to(rest.clone()).unwrap_or(Verb::Read);
    }
    if is(&["EXPLAIN", "DESCRIBE", "DESC"]) {
        // It runs what it explains only if it is to measure it.
        let measures = second().eq_ignore_ascii_case("ANALYZE");
        return match led_to(rest.clone()) {
            Some(Verb::Write) if measures => Verb::Write,
            _ => Verb::Read,
        };
    }
    if is(&["ANALYZE"]) {
        // The other meaning is that of the statistics of a table.
        return led_to(rest.clone()).unwrap_or(Verb::Schema);
    }
    if is(&["CALL"]) {
        return Verb::Call;
    }
    if is(&[
        "BEGIN",
        "START",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "END",
        "ABORT",
        "XA",
        "SET",
        "USE",
        "LOCK",
        "UNLOCK",
        "ATTACH",
        "DETACH",
        "PRAGMA",
        "KILL",
        "PREPARE",
        "EXECUTE",
        "DEALLOCATE",
        "HANDLER",
        "SHUTDOWN",
        "RESET",
        "FLUSH",
        "LOAD",
        "STOP",
        "CHANGE",
        "RESTART",
        "CLONE",
        "BINLOG",
    ]) {
        return Verb::Control;
    }
    if is(&["CREATE", "DROP"]) {
        return if is_temporary(rest.clone()) { Verb::Temporary } else { Verb::Schema };
    }
    if is(&[
        "ALTER",
        "TRUNCATE",
        "RENAME",
        "GRANT",
        "REVOKE",
        "REINDEX",
        "VACUUM",
        "OPTIMIZE",
        "REPAIR",
        "INSTALL",
        "UNINSTALL",
        "CHECK",
        "CACHE",
        "IMPORT",
    ]) {
        return Verb::Schema;
    }
    Verb::Write
}

/// Returns what the statement does that words such as `WITH` lead to, if there
/// is one.
fn led_to(rest: Tokens<'_>) -> Option<Verb> {
    let mut depth = 0_u32;
    let mut tokens = rest;
    while let Some(token) = tokens.next() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1)?,
            Token::Word(word) if depth == 0 => {
                if is(word, &["INSERT", "UPDATE", "DELETE"])
                    || is(word, &["REPLACE"]) && !tokens.peek_word().is_some_and(|w| is(w, &["AS"]))
                {
                    return Some(Verb::Write);
                }
                if is(word, &["SELECT", "VALUES"]) {
                    return Some(Verb::Read);
                }
                if is(word, &["TABLE"]) {
                    return None;
                }
            }
            _ => {}
        }
    }
    None
}

/// Tells whether what is created or dropped belongs to the connection: by a
/// word, or by the name of SQLite's schema for such objects.
fn is_temporary(rest: Tokens<'_>) -> bool {
    let kinds = ["UNIQUE", "VIRTUAL", "TABLE", "VIEW", "INDEX", "TRIGGER", "IF", "NOT", "EXISTS"];
    let mut tokens = rest;
    let mut is_name = false;
    loop {
        match tokens.next() {
            Some(Token::Word(word)) if is(word, &["OR", "REPLACE"]) => {}
            Some(Token::Word(word)) if is(word, &kinds) => is_name = true,
            Some(Token::Word(word)) if is(word, &["TEMP", "TEMPORARY"]) => {
                return !is_name || tokens.next() == Some(Token::Other);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape::of(text, Engine::Mysql)
    }

    #[test]
    fn question_marks_in_strings_names_and_comments_are_no_parameters() {
        let text = "SELECT '?', \"a?\", `b?`, 'it''s ?' /* ? */ -- ?\n, ? # ?\n FROM t WHERE a = ?";
        assert_eq!(shape(text).parameters, 2);
        assert_eq!(Shape::of("SELECT [a?], ? -- ?", Engine::Sqlite).parameters, 1);
    }

    #[test]
    fn parameters_with_a_number_or_a_name_are_seen() {
        for text in ["SELECT ?1", "SELECT $0", "SELECT :name", "SELECT @name"] {
            assert!(Shape::of(text, Engine::Sqlite).is_numbered, "{text}");
        }
        for text in ["SELECT a$b FROM t", "SELECT j ->> '$.a' FROM t", "SELECT ':a', \"@b\""] {
            assert!(!Shape::of(text, Engine::Sqlite).is_numbered, "{text}");
        }
        // A variable of the session is no parameter.
        assert!(!shape("SELECT @name").is_numbered);
    }

    #[test]
    fn a_backslash_escapes_in_mysql_only() {
        let text = r"SELECT '\', ? -- '";
        assert_eq!(Shape::of(text, Engine::Sqlite).parameters, 1);
        assert_eq!(Shape::of(text, Engine::Mysql).parameters, 0);
    }

    #[test]
    fn text_behind_a_semicolon_is_a_second_statement() {
        assert!(shape("DELETE FROM t; DROP TABLE t").is_many);
        assert!(shape("SELECT 1; SELECT 2").is_many);
        assert!(!shape("SELECT 1;").is_many);
        assert!(!shape("SELECT 1; -- done\n ;").is_many);
        assert!(!shape("SELECT ';' , 1").is_many);
        assert!(!shape("; ; SELECT 1").is_many);
    }

    #[test]
    fn the_body_of_a_procedure_or_trigger_is_part_of_its_statement() {
        for text in [
            "CREATE PROCEDURE p() BEGIN UPDATE t SET a = 1; DELETE FROM t; END",
            "create or replace definer = `x`@`y` function f() returns int begin return 1; end",
            "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END;",
        ] {
            assert!(!shape(text).is_many, "{text}");
        }
        let nested = "CREATE PROCEDURE p() BEGIN IF a THEN SET x = CASE WHEN b THEN 1 END; END IF; \
                      CASE c WHEN 1 THEN COMMIT; END CASE; END";
        assert!(!shape(nested).is_many);
        assert!(shape(&format!("{nested}; COMMIT")).is_many);
        assert!(
            shape("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END; COMMIT").is_many
        );
        assert!(shape("CREATE PROCEDURE p() SELECT 1; COMMIT").is_many);
        assert!(shape("CREATE TABLE t (a INT); DROP TABLE t").is_many);
        assert!(shape("CREATE VIEW trigger_view AS SELECT 1; COMMIT").is_many);
        assert!(shape("DELETE FROM procedure_log; COMMIT").is_many);
    }

    #[test]
    fn transaction_words_are_found_behind_comments_and_in_executable_ones() {
        for text in [
            "COMMIT",
            " /* x */ rollback",
            "-- x\nBEGIN",
            "start transaction",
            "SET autocommit = 0",
            "/*!50000 COMMIT */",
            "/*M!100100 COMMIT */",
            "#x\nSAVEPOINT a",
        ] {
            assert_eq!(shape(text).verb, Verb::Control, "{text}");
        }
        assert_eq!(shape("SELECT 'COMMIT'").verb, Verb::Read);
        assert_eq!(shape("INSERT INTO t VALUES ('; COMMIT')").verb, Verb::Write);
    }

    #[test]
    fn verbs_are_told_apart() {
        assert_eq!(shape("(SELECT 1) UNION SELECT 2").verb, Verb::Read);
        assert_eq!(shape("CALL p(?)").verb, Verb::Call);
        assert_eq!(shape("CREATE TABLE t (a INT)").verb, Verb::Schema);
        assert_eq!(shape("  /* nothing */ ").verb, Verb::Empty);
        assert!(shape("SELECT ?1").is_numbered);
    }

    #[test]
    fn a_write_is_found_wherever_it_hides() {
        for text in [
            "WITH a AS (SELECT 1) DELETE FROM t WHERE id IN (SELECT * FROM a)",
            "WITH RECURSIVE a (n) AS (SELECT 1), `select` AS (SELECT 2) UPDATE t SET n = 1",
            "(WITH a AS (SELECT 1) DELETE FROM t)",
            "ANALYZE UPDATE t SET n = 1",
            "ANALYZE FORMAT=JSON WITH a AS (SELECT 1) DELETE FROM t",
            "EXPLAIN ANALYZE DELETE t FROM t JOIN u USING (id)",
            "DESC ANALYZE FORMAT=TREE UPDATE t, u SET t.n = 1",
            "SELECT * FROM t INTO OUTFILE '/x/t'",
            "(SELECT * INTO /* here */ DUMPFILE '/x/t' FROM t)",
            "DO GET_LOCK('a', 1)",
        ] {
            assert_eq!(shape(text).verb, Verb::Write, "{text}");
        }
        for text in ["ANALYZE TABLE t", "ANALYZE LOCAL TABLE t UPDATE HISTOGRAM ON n", "ANALYZE"] {
            assert_eq!(shape(text).verb, Verb::Schema, "{text}");
        }
        for text in [
            "WITH `delete` AS (SELECT 1) SELECT * FROM `delete`",
            "WITH replace AS (SELECT 1) SELECT * FROM replace",
            "WITH a AS (SELECT 1) (SELECT * FROM a)",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN ANALYZE SELECT replace('delete', 'd', 'e') FROM t",
            "EXPLAIN ANALYZE TABLE t",
            "ANALYZE FORMAT=JSON SELECT * FROM t",
            "SELECT n FROM t FOR UPDATE",
            "SELECT 'INTO OUTFILE' FROM t",
            "TABLE t",
        ] {
            assert_eq!(shape(text).verb, Verb::Read, "{text}");
        }
        assert_eq!(shape("HANDLER t OPEN").verb, Verb::Control);
        let text = "WITH a AS (SELECT 1) DELETE FROM t";
        assert_eq!(Shape::of(text, Engine::Sqlite).verb, Verb::Write);
    }

    #[test]
    fn what_belongs_to_a_connection_is_found() {
        for text in [
            "CREATE TEMPORARY TABLE t (a INT)",
            "create or replace temporary table t (a INT)",
            "DROP TEMPORARY TABLE t",
            "CREATE TEMP VIEW v AS SELECT 1",
            "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END",
            "CREATE TABLE IF NOT EXISTS temp.t (a INT)",
            "CREATE VIRTUAL TABLE Temp.t USING fts5(a)",
        ] {
            assert_eq!(Shape::of(text, Engine::Sqlite).verb, Verb::Temporary, "{text}");
        }
        for text in [
            "CREATE TABLE temp (a INT)",
            "CREATE TABLE temp AS SELECT 1",
            "CREATE TABLE main.temp (a INT)",
            "CREATE INDEX temporary ON t (a)",
            "CREATE UNIQUE INDEX a ON temp (b)",
        ] {
            assert_eq!(Shape::of(text, Engine::Sqlite).verb, Verb::Schema, "{text}");
        }
    }

    fn rows(text: &str) -> (bool, bool) {
        let shape = Shape::of(text, Engine::Sqlite);
        (shape.changes_rows, shape.returns_rows)
    }

    #[test]
    fn the_subject_behind_a_with_is_found() {
        assert_eq!(rows("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a"), (true, false));
        assert_eq!(rows("WITH a AS (SELECT replace(x, 'a', 'b') FROM u) SELECT 1"), (false, true));
        assert_eq!(rows("WITH replace AS (SELECT 1) SELECT * FROM replace"), (false, true));
        assert_eq!(rows("/* INSERT */ select 'it''s INSERT', \"INSERT\", [INSERT]"), (false, true));
        assert_eq!(rows("REPLACE INTO t VALUES (1)"), (true, false));
        assert_eq!(rows("CREATE TABLE t AS SELECT 1"), (false, false));
    }

    #[test]
    fn rows_come_from_returning_clauses_only() {
        assert_eq!(rows("DELETE FROM t RETURNING id"), (true, true));
        assert_eq!(rows("INSERT INTO t VALUES ('RETURNING')"), (true, false));
        assert_eq!(rows("INSERT INTO t (returning) VALUES (1)"), (true, false));
        let replace = shape("REPLACE t VALUES (1) RETURNING a");
        assert!(replace.changes_rows && replace.returns_rows);
    }
}
