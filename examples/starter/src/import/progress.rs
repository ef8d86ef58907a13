use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on a terminal, and nothing anywhere else.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Returns a bar on the standard error output.
    pub(crate) fn on_terminal() -> Self {
        let bar = ProgressBar::new(0);
        let style = "{bar:40} {pos}/{len} files, {per_sec}, {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    pub(super) fn expect_one(&self) {
        self.bar.inc_length(1);
    }

    pub(super) fn advance(&self, entries: u64) {
        self.bar.inc(entries);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
