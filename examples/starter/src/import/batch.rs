use futures_util::stream::{Stream, StreamExt};

use super::summary::Totals;
use super::walk::Skipped;
use crate::documents::NewDocument;

/// What one transaction stores, and what was skipped on the way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) documents: Vec<NewDocument>,
    pub(super) totals: Totals,
    pub(super) skipped: Vec<Skipped>,
}

impl Batch {
    /// Documents and bytes after which a batch is full. One transaction must
    /// stay well below the time that a writer may be held.
    const DOCUMENTS: usize = 64;
    const BYTES: u64 = 2 * 1024 * 1024;

    /// Takes from `files` until the batch is full, `None` if there is nothing
    /// left.
    pub(super) async fn gather(
        files: &mut (impl Stream<Item = Result<NewDocument, Skipped>> + Unpin),
    ) -> Option<Self> {
        let mut batch = Self::default();
        while !batch.is_full() {
            match files.next().await {
                Some(Ok(document)) => batch.add(document),
                Some(Err(skipped)) => batch.skipped.push(skipped),
                None => return (!batch.is_empty()).then_some(batch),
            }
        }
        Some(batch)
    }

    fn add(&mut self, document: NewDocument) {
        let bytes = document.text.len().try_into().unwrap_or(u64::MAX);
        self.totals.add(Totals { files: 1, words: document.words, bytes });
        self.documents.push(document);
    }

    fn is_full(&self) -> bool {
        let entries = self.documents.len().max(self.skipped.len());
        entries >= Self::DOCUMENTS || self.totals.bytes >= Self::BYTES
    }

    fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.skipped.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::documents::DocumentName;

    fn document(bytes: usize) -> Result<NewDocument, Skipped> {
        let name = DocumentName::parse("x").unwrap();
        Ok(NewDocument { name, text: "x".repeat(bytes), words: 1 })
    }

    #[tokio::test]
    async fn a_batch_ends_by_number_or_by_size_and_loses_nothing() {
        let small = (0..100).map(|_| document(1));
        let large = (0..3).map(|_| document(1024 * 1024));
        let mut files = stream::iter(small.chain(large));
        let mut sizes = Vec::new();
        while let Some(batch) = Batch::gather(&mut files).await {
            assert_eq!(batch.totals.files, batch.documents.len() as u64);
            sizes.push(batch.documents.len());
        }
        assert_eq!(sizes, [64, 38, 1]);
    }
}
