use std::fmt;
use std::io::{self, Write};

/// Prints a line for the person who started the program. A reader that is gone
/// changes nothing.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line about what went wrong.
pub(crate) fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
