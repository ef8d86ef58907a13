use std::fmt;

use trine_core::ErrorKind;

use super::{At, Error, Unavailable};

/// What a server answered instead of a reply: a code such as `WRONGTYPE`, and
/// its text. The arguments of the command are cut from the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    code: Box<str>,
    text: Box<str>,
}

/// Where the server begins to repeat the arguments of a command, among them the
/// new password that an `ACL SETUSER` was refused for.
const ARGUMENTS: [&str; 2] = [", with args beginning with", " modifier '"];

/// What the server adds to a refusal of a call that a script has made: part of
/// the script was carried out.
const IN_SCRIPT: &str = "on @user_script";

impl ServerError {
    pub(crate) fn new(error: &redis::ServerError) -> Self {
        Self::said(error.code(), error.details().unwrap_or_default())
    }

    pub(crate) fn said(code: &str, text: &str) -> Self {
        let before = |text, repeats| str::split_once(text, repeats).map_or(text, |(it, _)| it);
        let text = ARGUMENTS.into_iter().fold(text, before);
        Self { code: code.into(), text: text.into() }
    }

    /// Returns the first word of the answer, such as `"WRONGTYPE"`; `"ERR"` is
    /// what the server calls most of them.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the rest of the answer.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the kind that an error made of this has.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.code() {
            "NOPERM" | "NOAUTH" | "WRONGPASS" | "DENIED" => ErrorKind::Denied,
            "OOM" => ErrorKind::Exhausted,
            "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF"
            | "BUSY" | "NOREPLICAS" | "UNBLOCKED" | "MOVED" | "ASK" => ErrorKind::Unavailable,
            "BUSYGROUP" => ErrorKind::Conflict,
            "NOSCRIPT" | "EXECABORT" => ErrorKind::Internal,
            "ERR" => self.kind_of_text(),
            _ => ErrorKind::Invalid,
        }
    }

    /// The server has no codes for these.
    fn kind_of_text(&self) -> ErrorKind {
        const KINDS: [(&str, ErrorKind); 8] = [
            ("max number of clients", ErrorKind::Unavailable),
            ("unknown command", ErrorKind::Unsupported),
            ("unknown subcommand", ErrorKind::Unsupported),
            ("cluster support disabled", ErrorKind::Unsupported),
            ("user_script", ErrorKind::Internal),
            ("Error compiling script", ErrorKind::Internal),
            ("invalid password", ErrorKind::Denied),
            ("The user executing the script can't", ErrorKind::Denied),
        ];
        let text = self.text();
        let starts = |beginning: &str| {
            text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        let found = KINDS.iter().find(|(beginning, _)| starts(beginning));
        found.map_or(ErrorKind::Invalid, |(_, kind)| *kind)
    }

    /// Tells whether the server does not know the digest of a script.
    pub(crate) fn is_unknown_script(&self) -> bool {
        self.code() == "NOSCRIPT"
    }

    /// Tells whether another node, or the same one later, may carry the command
    /// out that this one has refused.
    pub(crate) fn is_redirect(&self) -> bool {
        let is_code =
            matches!(self.code(), "MOVED" | "ASK" | "TRYAGAIN" | "READONLY" | "CLUSTERDOWN");
        is_code && !self.text.contains(IN_SCRIPT)
    }

    pub(crate) fn into_error(self, at: At) -> Error {
        match self.kind() {
            ErrorKind::Denied => Error::Denied { at, cause: self.into() },
            ErrorKind::Exhausted => Error::OutOfMemory { at, cause: self.into() },
            ErrorKind::Conflict => Error::Conflict { at, cause: self.into() },
            ErrorKind::Internal => Error::Internal { at, cause: self.into() },
            ErrorKind::Unsupported => {
                let what = "the server does not know the command".into();
                Error::Unsupported { at, what, cause: Some(self.into()) }
            }
            ErrorKind::Unavailable => {
                let reason = match self.code() {
                    "MOVED" | "ASK" => Unavailable::Redirected,
                    "CLUSTERDOWN" | "MASTERDOWN" => Unavailable::NoMaster,
                    _ => Unavailable::Refused,
                };
                Error::Unavailable { at, reason, cause: Some(self.into()) }
            }
            _ => Error::Invalid {
                at,
                detail: "the server refused the command".into(),
                cause: Some(self.into()),
            },
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, text: &str) -> ServerError {
        ServerError { code: code.into(), text: text.into() }
    }

    #[test]
    fn what_a_script_was_refused_half_way_is_not_sent_again() {
        assert!(error("READONLY", "You can't write against a read only replica.").is_redirect());
        let text = "You can't write against a read only replica. script: 1a, on @user_script:1.";
        assert!(!error("READONLY", text).is_redirect());
        assert!(!error("ERR", "no such key").is_redirect());
    }

    #[test]
    fn what_a_command_was_given_is_cut() {
        let said = |text| ServerError::said("ERR", text).to_string();
        let shown = said("unknown command 'FOO', with args beginning with: 'hunter2' ");
        assert_eq!(shown, "ERR unknown command 'FOO'");
        let shown = said("Error in ACL SETUSER modifier '>hunter2': Syntax error");
        assert_eq!(shown, "ERR Error in ACL SETUSER");
    }

    #[test]
    fn every_answer_has_the_kind_of_the_table() {
        for (code, text, kind) in [
            ("WRONGTYPE", "Operation against a key", ErrorKind::Invalid),
            ("ERR", "value is not an integer or out of range", ErrorKind::Invalid),
            ("ERR", "wrong number of arguments for 'get' command", ErrorKind::Invalid),
            ("CROSSSLOT", "Keys in request don't hash to the same slot", ErrorKind::Invalid),
            ("NOPERM", "this user has no permissions", ErrorKind::Denied),
            ("NOAUTH", "Authentication required.", ErrorKind::Denied),
            ("WRONGPASS", "invalid username-password pair", ErrorKind::Denied),
            ("ERR", "The user executing the script can't run this command", ErrorKind::Denied),
            ("OOM", "command not allowed", ErrorKind::Exhausted),
            ("READONLY", "You can't write", ErrorKind::Unavailable),
            ("LOADING", "Redis is loading", ErrorKind::Unavailable),
            ("MASTERDOWN", "Link with MASTER is down", ErrorKind::Unavailable),
            ("CLUSTERDOWN", "The cluster is down", ErrorKind::Unavailable),
            ("TRYAGAIN", "Multiple keys request", ErrorKind::Unavailable),
            ("MISCONF", "Errors writing to the AOF", ErrorKind::Unavailable),
            ("BUSY", "Redis is busy running a script", ErrorKind::Unavailable),
            ("ERR", "max number of clients reached", ErrorKind::Unavailable),
            ("ERR", "unknown command 'FOO'", ErrorKind::Unsupported),
            ("ERR", "user_script:1: bad argument script: x", ErrorKind::Internal),
            ("ERR", "Error compiling script (new function)", ErrorKind::Internal),
            ("BUSYGROUP", "Consumer Group name already exists", ErrorKind::Conflict),
            ("MYOWN", "said by a script", ErrorKind::Invalid),
        ] {
            assert_eq!(error(code, text).kind(), kind, "{code} {text}");
            let at = At::new("run", &"redis.main".into());
            let error = error(code, text).into_error(at);
            assert_eq!(error.kind(), kind, "{code} {text}");
            assert_eq!(error.server().unwrap().code(), code);
        }
    }
}
