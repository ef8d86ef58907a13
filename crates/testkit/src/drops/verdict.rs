use std::fmt::Display;

/// What a check answers: nothing, having asserted, or a `Result`.
pub trait Verdict {
    /// Returns what is wrong, if anything is.
    fn into_complaint(self) -> Option<String>;
}

impl Verdict for () {
    fn into_complaint(self) -> Option<String> {
        None
    }
}

impl<E: Display> Verdict for Result<(), E> {
    fn into_complaint(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}
