use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use futures_util::StreamExt;

use crate::{Database, Error, FromRow, Param, Result, ShardId, SqlText};

/// Returns the first `limit` rows of a query.
pub(super) async fn head<T: FromRow + Send + 'static>(
    database: &Database,
    sql: SqlText,
    params: Vec<Param>,
    limit: usize,
) -> Result<Vec<T>> {
    let mut stream = database.stream::<T>(sql, params);
    let mut rows = Vec::new();
    // Reads one row beyond the last: a stream that has ended by itself costs
    // no cancellation.
    while let Some(row) = stream.next().await {
        let row = row?;
        if rows.len() >= limit {
            break;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Returns the rows with their keys.
///
/// # Errors
///
/// Fails with `Invalid` if they are not in the order of the keys.
pub(super) fn keyed<T, K: Ord>(
    database: &Database,
    rows: Vec<T>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<(K, T)>> {
    let rows: Vec<_> = rows.into_iter().map(|row| (key(&row), row)).collect();
    if rows.is_sorted_by(|(one, _), (other, _)| one <= other) {
        return Ok(rows);
    }
    let detail = "the rows are not in ascending order of the merge key: give the statement an \
                  ORDER BY that agrees with it";
    Err(Error::invalid(database.at("fan_out.ordered"), detail))
}

/// Merges lists that are ordered; equal keys in the order of the shards.
pub(super) fn merge<T, K: Ord>(
    by_shard: BTreeMap<ShardId, Vec<(K, T)>>,
    limit: usize,
) -> Vec<(ShardId, T)> {
    let mut lists: BTreeMap<ShardId, _> =
        by_shard.into_iter().map(|(shard, rows)| (shard, rows.into_iter())).collect();
    let mut heads = BinaryHeap::with_capacity(lists.len());
    for (shard, list) in &mut lists {
        if let Some((key, row)) = list.next() {
            heads.push(Head { order: Reverse((key, *shard)), row });
        }
    }
    let mut merged = Vec::new();
    while merged.len() < limit {
        let Some(Head { order: Reverse((_, shard)), row }) = heads.pop() else { break };
        merged.push((shard, row));
        if let Some((key, row)) = lists.get_mut(&shard).and_then(Iterator::next) {
            heads.push(Head { order: Reverse((key, shard)), row });
        }
    }
    merged
}

/// The next row of one list; the greatest has the lowest key.
struct Head<T, K> {
    order: Reverse<(K, ShardId)>,
    row: T,
}

impl<T, K: Ord> PartialEq for Head<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T, K: Ord> Eq for Head<T, K> {}

impl<T, K: Ord> PartialOrd for Head<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, K: Ord> Ord for Head<T, K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_merge_is_a_stable_sort_cut_off(
            lists in proptest::collection::vec(proptest::collection::vec(0_u8..20, 0..30), 0..6),
            limit in 0_usize..120,
        ) {
            let mut by_shard = BTreeMap::new();
            let mut all = Vec::new();
            for (shard, mut keys) in (0..).map(ShardId::new).zip(lists) {
                keys.sort_unstable();
                let rows: Vec<_> = keys.iter().enumerate().map(|(row, key)| (*key, row)).collect();
                all.extend(rows.iter().map(|(key, row)| (*key, shard, *row)));
                by_shard.insert(shard, rows);
            }
            all.sort_by_key(|(key, shard, row)| (*key, *shard, *row));
            let expected: Vec<_> =
                all.into_iter().take(limit).map(|(_, shard, row)| (shard, row)).collect();
            prop_assert_eq!(merge(by_shard, limit), expected);
        }
    }
}
