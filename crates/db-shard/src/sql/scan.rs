use std::cell::RefCell;
use std::collections::HashMap;

use super::Engine;

/// Most shapes that a thread keeps; a program that leaks its texts stays
/// bounded.
const MAX_KEPT: usize = 4096;

thread_local! {
    static SHAPES: RefCell<HashMap<(usize, usize, Engine), Shape>> = RefCell::default();
}

/// What the first word of a statement says about it.
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
    /// Calls a stored procedure.
    Call,
    /// Has no word at all.
    Empty,
}

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
        let mut shape =
            Self { verb: Verb::Empty, parameters: 0, is_many: false, is_numbered: false };
        let mut ended = false;
        let mut body = Body::NotCreate;
        let mut tokens = Tokens::new(text, engine);
        while let Some(token) = tokens.next() {
            // The semicolons of a procedure's body end no statement.
            if ended && token != Token::Semicolon && !body.is_open() {
                shape.is_many = true;
            }
            body = body.after(token, || tokens.peek_word());
            match token {
                Token::Semicolon => ended = shape.verb != Verb::Empty && !body.is_open(),
                Token::Parameter { is_numbered } => {
                    shape.parameters += 1;
                    shape.is_numbered |= is_numbered;
                }
                Token::Word(word) if shape.verb == Verb::Empty => {
                    shape.verb = verb(word, || tokens.peek_word());
                }
                Token::Word(_) | Token::Other => {}
            }
        }
        shape
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
        let is =
            |word: &str, names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
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

fn verb<'a>(word: &str, second: impl FnOnce() -> Option<&'a str>) -> Verb {
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if is(&["SELECT", "WITH", "VALUES", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "TABLE", "ANALYZE"])
    {
        return Verb::Read;
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
    ]) {
        return Verb::Control;
    }
    if is(&["CREATE", "DROP"]) {
        // Temporary tables belong to the connection and end no transaction.
        let is_temporary = second().is_some_and(|word| word.eq_ignore_ascii_case("TEMPORARY"));
        return if is_temporary { Verb::Write } else { Verb::Schema };
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
    ]) {
        return Verb::Schema;
    }
    Verb::Write
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Parameter {
        is_numbered: bool,
    },
    Semicolon,
    /// Anything else that is no white space and no comment.
    Other,
}

/// The tokens of a text, as far as Trine has to tell them apart.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    engine: Engine,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str, engine: Engine) -> Self {
        Self { text, at: 0, engine }
    }

    /// Returns the offset behind the last token.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    fn peek_word(&self) -> Option<&'a str> {
        match self.clone().next() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn skip_past(&mut self, from: usize, end: &str) {
        let rest = self.text.get(self.at + from..).unwrap_or_default();
        self.at =
            rest.find(end).map_or(self.text.len(), |found| self.at + from + found + end.len());
    }

    /// Skips a quoted text. A doubled quote stands for itself; a backslash
    /// escapes in the strings of MySQL, never in its names.
    fn skip_quoted(&mut self, quote: u8) {
        let escapes = self.engine == Engine::Mysql && quote != b'`';
        let rest = self.rest();
        let mut position = 1;
        loop {
            match rest.get(position) {
                None => break,
                Some(b'\\') if escapes => position += 2,
                Some(byte) if *byte == quote => {
                    if rest.get(position + 1) != Some(&quote) {
                        position += 1;
                        break;
                    }
                    position += 2;
                }
                Some(_) => position += 1,
            }
        }
        self.at = (self.at + position).min(self.text.len());
    }

    fn skip_comment(&mut self) -> bool {
        let rest = self.rest();
        let is_mysql = self.engine == Engine::Mysql;
        match rest {
            // MySQL runs what stands in these, so they are no comments.
            [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] if is_mysql => {
                self.at += if rest.get(2) == Some(&b'!') { 3 } else { 4 };
                let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
                self.at += digits;
            }
            [b'/', b'*', ..] => self.skip_past(2, "*/"),
            // MySQL wants a space behind the dashes, SQLite does not.
            [b'-', b'-', after, ..] if !is_mysql || after.is_ascii_whitespace() => {
                self.skip_past(2, "\n");
            }
            [b'-', b'-'] => self.at = self.text.len(),
            [b'#', ..] if is_mysql => self.skip_past(1, "\n"),
            _ => return false,
        }
        true
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.rest().first()?;
            if byte.is_ascii_whitespace() {
                self.at += 1;
            } else if !self.skip_comment() {
                break;
            }
        }
        let rest = self.rest();
        let token = match *rest.first()? {
            b'?' => {
                self.at += 1;
                let is_numbered = rest.get(1).is_some_and(u8::is_ascii_digit);
                Token::Parameter { is_numbered }
            }
            b'$' | b':' | b'@'
                if self.engine == Engine::Sqlite
                    && rest.get(1).is_some_and(|next| is_part_of_word(*next)) =>
            {
                self.at += 1;
                Token::Parameter { is_numbered: true }
            }
            b';' => {
                self.at += 1;
                Token::Semicolon
            }
            quote @ (b'\'' | b'"' | b'`') => {
                self.skip_quoted(quote);
                Token::Other
            }
            b'[' if self.engine == Engine::Sqlite => {
                self.skip_past(1, "]");
                Token::Other
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = rest.iter().take_while(|byte| is_part_of_word(**byte)).count();
                let word = self.text.get(self.at..self.at + length).unwrap_or_default();
                self.at += length;
                Token::Word(word)
            }
            _ => {
                let width = self.text.get(self.at..).and_then(|rest| rest.chars().next());
                self.at += width.map_or(1, char::len_utf8);
                Token::Other
            }
        };
        Some(token)
    }
}

fn is_part_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(shape("CREATE TEMPORARY TABLE t (a INT)").verb, Verb::Write);
        assert_eq!(shape("  /* nothing */ ").verb, Verb::Empty);
        assert!(shape("SELECT ?1").is_numbered);
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_to_its_end(text in "\\PC*") {
            for engine in [Engine::Sqlite, Engine::Mysql] {
                let mut tokens = Tokens::new(&text, engine);
                while tokens.next().is_some() {}
                prop_assert_eq!(tokens.offset(), text.len());
            }
        }
    }
}
