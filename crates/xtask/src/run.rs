use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::failure::{Context, Failure, Result};

/// One program to run, with the line that a person would type for it.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    line: String,
}

impl Run {
    /// Starts a command line with `program`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let line = program.as_ref().to_string_lossy().into_owned();
        Self { command: Command::new(program), line }
    }

    /// Starts a command line of the cargo that runs this tool.
    pub(crate) fn cargo() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Self { command: Command::new(cargo), line: "cargo".to_owned() }
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            let shown = arg.as_ref().to_string_lossy();
            let plain = !shown.is_empty() && !shown.contains([' ', '"', '\'', '$', '|', '*']);
            let _ =
                if plain { write!(self.line, " {shown}") } else { write!(self.line, " '{shown}'") };
            self.command.arg(arg);
        }
        self
    }

    /// Sets a variable of the program's environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the program in `folder`.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Returns what a person would type.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// Gives up the wrapper where pipes or process groups are set by hand.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Prints the command line and runs it on this process's own streams.
    ///
    /// # Errors
    ///
    /// Fails with the program's exit code if it is not 0, and if the program
    /// cannot be started.
    pub(crate) fn status(mut self) -> Result<()> {
        println!("$ {}", self.line);
        let status = self.command.status().context(format_args!("`{}`", self.line))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{}` ended with {status}", self.line))
            .with_code(status.code().unwrap_or(1)))
    }

    /// Runs the program without input and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails with what the program printed if it ends with another code than
    /// 0, and if it cannot be started.
    pub(crate) fn text(mut self) -> Result<String> {
        let output = self.command.stdin(Stdio::null()).output();
        self.verdict(&output.context(format_args!("`{}`", self.line))?)
    }

    /// Runs the program with `input` as its standard input.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub(crate) fn feed(mut self, input: &str) -> Result<()> {
        let command =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context(format_args!("`{}`", self.line))?;
        let pipe = child.stdin.take();
        let output = thread::scope(|scope| {
            // A program that stops reading says why in its output.
            scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
            child.wait_with_output()
        });
        self.verdict(&output.context(format_args!("`{}`", self.line))?).map(drop)
    }

    fn verdict(&self, output: &Output) -> Result<String> {
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(text.into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!(
            "`{}` ended with {}\n{}{}",
            self.line,
            output.status,
            text,
            complaint.trim_end()
        )))
    }

    /// Reports whether the program starts and ends with 0, quietly.
    pub(crate) fn succeeds(mut self) -> bool {
        let quiet = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_quotes_what_a_shell_would_split() {
        let run = Run::new("sh").args(["-c", "exit 3", ""]);
        assert_eq!(run.line(), "sh -c 'exit 3' ''");
    }

    #[test]
    fn a_program_that_reads_nothing_does_not_block_its_feeder() {
        let much = "x".repeat(1 << 20);
        assert!(Run::new("true").feed(&much).is_ok());
        let failure = Run::new("sh")
            .args(["-c", "cat >/dev/null; echo bad; exit 1"])
            .feed(&much)
            .unwrap_err();
        assert!(failure.to_string().contains("bad"), "{failure}");
    }

    #[test]
    fn a_failing_program_fails_the_command_and_keeps_its_message() {
        let failure = Run::new("sh").args(["-c", "echo broken >&2; exit 3"]).text().unwrap_err();
        assert!(failure.to_string().contains("broken"), "{failure}");
        assert!(!Run::new("sh").args(["-c", "exit 3"]).succeeds());
        assert!(!Run::new("no-such-program-here").succeeds());
    }
}
