use crate::ShardId;

/// Chooses a shard for a key: each with a probability that is its share of the
/// weights, the same one whoever asks.
///
/// This is weighted rendezvous hashing: a shard's score is `-weight / ln(u)`
/// with `u` a hash of key and shard in (0, 1), and the highest score wins, so
/// that a shard that joins or leaves moves no choice between two others.
/// Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (SPAA 2005),
/// the logarithmic method; Thaler and Ravishankar (1998) without weights. Two
/// platforms may round a logarithm differently: the row in the database decides.
pub(super) fn choose(
    key: &[u8],
    shards: impl IntoIterator<Item = (ShardId, u32)>,
) -> Option<ShardId> {
    let key = hash(key);
    let scored = shards.into_iter().filter(|(_, weight)| *weight > 0).map(|(id, weight)| {
        let score = -f64::from(weight) / unit(mix(key ^ mix(u64::from(id.get()) + 1))).ln();
        (score, id)
    });
    // Equal scores go to the lower number.
    let best = scored.max_by(|(a, a_id), (b, b_id)| a.total_cmp(b).then(b_id.cmp(a_id)));
    best.map(|(_, id)| id)
}

/// FNV-1a: stable across versions, platforms and processes.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64: every bit of the input changes every bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Returns a number above 0 and below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(value: u64) -> f64 {
    ((value >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ShardKey;

    fn shards(weights: &[(u32, u32)]) -> Vec<(ShardId, u32)> {
        weights.iter().map(|(id, weight)| (ShardId::new(*id), *weight)).collect()
    }

    fn chosen(key: u64, shards: &[(ShardId, u32)]) -> ShardId {
        choose(ShardKey::from(key).as_bytes(), shards.iter().copied()).unwrap()
    }

    #[test]
    fn shares_follow_the_weights() {
        const KEYS: u64 = 40_000;
        let shards = shards(&[(0, 1), (7, 2), (8, 3), (4_000_000_000, 4), (9, 0)]);
        let mut counts = BTreeMap::<ShardId, f64>::new();
        for key in 0..KEYS {
            *counts.entry(chosen(key, &shards)).or_default() += 1.0;
        }
        let total: u32 = shards.iter().map(|(_, weight)| weight).sum();
        let chi_square: f64 = shards
            .iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(id, weight)| {
                let expected = KEYS as f64 * f64::from(*weight) / f64::from(total);
                (counts[id] - expected).powi(2) / expected
            })
            .sum();
        // Three degrees of freedom: 16.27 is exceeded once in a thousand.
        assert!(chi_square < 16.27, "{chi_square}: {counts:?}");
        assert!(!counts.contains_key(&ShardId::new(9)));
    }

    #[test]
    fn a_shard_that_leaves_moves_only_its_own_keys() {
        let all = shards(&[(0, 3), (1, 1), (2, 2)]);
        let fewer = shards(&[(0, 3), (2, 2)]);
        for key in 0..5_000 {
            let before = chosen(key, &all);
            assert!(before == ShardId::new(1) || before == chosen(key, &fewer));
        }
    }

    #[test]
    fn without_a_weight_there_is_no_choice() {
        assert_eq!(choose(b"k", shards(&[(0, 0), (1, 0)])), None);
    }
}
