use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use trine_db_shard::ShardId;

use super::walk::{Reason, Skipped};

/// What an import did, for people.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(super) stored: Totals,
    /// What each shard took.
    pub(super) shards: BTreeMap<ShardId, Totals>,
    skipped: BTreeMap<Reason, Examples>,
    pub(super) took: Duration,
}

/// Sums over documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) words: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Examples {
    count: u64,
    names: Vec<String>,
}

/// Most names shown per reason.
const SHOWN: usize = 5;

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, words, bytes } = self;
        write!(f, "{files} files, {words} words, {bytes} bytes")
    }
}

impl Summary {
    pub(super) fn add_stored(&mut self, shard: ShardId, totals: Totals) {
        self.stored.add(totals);
        self.shards.entry(shard).or_default().add(totals);
    }

    pub(super) fn add_skipped(&mut self, skipped: Skipped) {
        let examples = self.skipped.entry(skipped.reason).or_default();
        examples.count += 1;
        if examples.names.len() < SHOWN {
            examples.names.push(skipped.name);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "imported {} in {:.2?}", self.stored, self.took)?;
        for (shard, totals) in &self.shards {
            writeln!(f, "  shard {shard}: {totals}")?;
        }
        let count: u64 = self.skipped.values().map(|examples| examples.count).sum();
        if count > 0 {
            writeln!(f, "skipped {count}")?;
        }
        for (reason, Examples { count, names }) in &self.skipped {
            write!(f, "  {count} × {reason}: {}", names.join(", "))?;
            let is_cut = *count > u64::try_from(names.len()).unwrap_or(u64::MAX);
            writeln!(f, "{}", if is_cut { ", …" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_went_where_and_what_was_left_out() {
        let mut summary = Summary { took: Duration::from_millis(1_500), ..Summary::default() };
        summary.add_stored(ShardId::new(2), Totals { files: 2, words: 7, bytes: 40 });
        summary.add_stored(ShardId::new(2), Totals { files: 1, words: 1, bytes: 2 });
        for n in 0..7 {
            let name = format!("{n}.bin");
            summary.add_skipped(Skipped { name, reason: Reason::NotText });
        }
        summary.add_skipped(Skipped { name: ".git".to_owned(), reason: Reason::HiddenFolder });
        let expected = "imported 3 files, 8 words, 42 bytes in 1.50s\n  \
            shard 2: 3 files, 8 words, 42 bytes\nskipped 8\n  \
            7 × not UTF-8 text: 0.bin, 1.bin, 2.bin, 3.bin, 4.bin, …\n  \
            1 × hidden folder: .git\n";
        assert_eq!(summary.to_string(), expected);
    }
}
