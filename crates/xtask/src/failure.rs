use std::fmt;
use std::process::ExitCode;

/// Why a command of this tool failed, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

/// The result of a command of this tool.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Returns a failure that ends the process with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// Replaces the exit code; 0 is not one, and stays 1.
    pub(crate) fn with_code(self, code: i32) -> Self {
        let code = u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1);
        Self { code, ..self }
    }

    /// Returns what the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Adds what was being done to an error of the standard library or a parser.
pub(crate) trait Context<T> {
    /// Puts `what` before the error's own text.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Failure::new(format!("{what}: {cause}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_never_ends_the_process_with_success() {
        for code in [0, -1, 256, 512] {
            assert_eq!(Failure::new("x").with_code(code).code, 1, "{code}");
        }
        assert_eq!(Failure::new("x").with_code(101).code, 101);
    }
}
