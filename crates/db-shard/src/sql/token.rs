use super::Engine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Parameter {
        is_numbered: bool,
    },
    Semicolon,
    /// `(`.
    Open,
    /// `)`.
    Close,
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

    pub(super) fn peek_word(&self) -> Option<&'a str> {
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
            byte @ (b';' | b'(' | b')') => {
                self.at += 1;
                match byte {
                    b';' => Token::Semicolon,
                    b'(' => Token::Open,
                    _ => Token::Close,
                }
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
