use std::io::{self, ErrorKind};

/// What a Redis server answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisReply {
    /// Nothing is there.
    Nil,
    /// A word of the server's own, such as `OK`.
    Status(String),
    /// A number.
    Integer(i64),
    /// A value.
    Bytes(Vec<u8>),
    /// Several answers.
    List(Vec<Self>),
    /// A refusal among several answers; one that stands alone is an error.
    Refusal(String),
}

impl RedisReply {
    /// Returns a word, number or value as text; `None` for the others and for
    /// what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Status(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
            Self::Nil | Self::List(_) | Self::Refusal(_) => None,
        }
    }

    /// Returns a number, also one that was sent as text.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// Returns several answers; empty if there is only one.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the value that follows `name` in a list of names and values.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.items().chunks(2).find_map(|pair| match pair {
            [found, value] if found.text().as_deref() == Some(name) => value.text(),
            _ => None,
        })
    }
}

/// Returns one command as the server reads it.
pub(super) fn encode(words: &[String]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

/// Reads one reply and returns it with what follows it; `None` while a part of
/// it is missing.
pub(super) fn parse(input: &[u8]) -> io::Result<Option<(RedisReply, &[u8])>> {
    let Some((line, rest)) = split_line(input) else {
        return Ok(None);
    };
    let (kind, text) = line.split_at_checked(1).ok_or_else(malformed)?;
    let text = || std::str::from_utf8(text).map_err(|_| malformed());
    let number = || text()?.parse::<i64>().map_err(|_| malformed());
    let reply = match kind {
        b"+" => RedisReply::Status(text()?.to_owned()),
        b"-" => RedisReply::Refusal(text()?.to_owned()),
        b":" => RedisReply::Integer(number()?),
        b"$" | b"*" if number()? < 0 => RedisReply::Nil,
        b"$" => {
            let length = usize::try_from(number()?).map_err(|_| malformed())?;
            let Some((value, rest)) = rest.split_at_checked(length) else {
                return Ok(None);
            };
            let Some((_, rest)) = rest.split_at_checked(2) else {
                return Ok(None);
            };
            return Ok(Some((RedisReply::Bytes(value.to_vec()), rest)));
        }
        b"*" => {
            let (mut items, mut left) = (Vec::new(), rest);
            for _ in 0..number()? {
                let Some((item, rest)) = parse(left)? else {
                    return Ok(None);
                };
                items.push(item);
                left = rest;
            }
            return Ok(Some((RedisReply::List(items), left)));
        }
        _ => return Err(malformed()),
    };
    Ok(Some((reply, rest)))
}

fn split_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = input.split_at(end);
    Some((line, rest.get(2..)?))
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is not the Redis protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"*5\r\n+OK\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*1\r\n-ERR no\r\n";

    #[test]
    fn every_kind_of_reply_is_read() {
        let (reply, rest) = parse(ANSWER).unwrap().unwrap();
        assert!(rest.is_empty());
        let expected = [
            RedisReply::Status("OK".into()),
            RedisReply::Integer(-7),
            RedisReply::Bytes(b"a\r\nb".to_vec()),
            RedisReply::Nil,
            RedisReply::List(vec![RedisReply::Refusal("ERR no".into())]),
        ];
        assert_eq!(reply.items(), expected);
    }

    #[test]
    fn a_part_of_a_reply_is_waited_for() {
        for end in 0..ANSWER.len() {
            assert_eq!(parse(&ANSWER[..end]).unwrap(), None, "{end} bytes");
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for stranger in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b":x\r\n", b"$x\r\n"] {
            assert_eq!(parse(stranger).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_command_is_written_word_by_word() {
        let words = ["SET", "ключ", ""].map(str::to_owned);
        assert_eq!(encode(&words), "*3\r\n$3\r\nSET\r\n$8\r\nключ\r\n$0\r\n\r\n".as_bytes());
    }
}
