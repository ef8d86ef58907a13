/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// Who owns which slots, as one node of a cluster sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// In the order of their first slots.
    ranges: Vec<Range>,
    /// Replicas and their masters, sorted.
    replicas: Vec<(String, String)>,
    known: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u16,
    last: u16,
    owner: String,
    epoch: u64,
}

impl View {
    /// Reads the answer to `CLUSTER NODES`.
    pub(super) fn parse(text: &str) -> Self {
        let mut view = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [id, _, flags, master, _, _, epoch, _, slots @ ..] = words.as_slice() else {
                continue;
            };
            if !flags.contains("handshake") && !flags.contains("noaddr") {
                view.known += 1;
            }
            if flags.contains("slave") {
                view.replicas.push(((*id).to_owned(), (*master).to_owned()));
            }
            let epoch = epoch.parse().unwrap_or(0);
            view.ranges.extend(slots.iter().filter_map(|slots| Range::parse(slots, id, epoch)));
        }
        view.ranges.sort();
        view.replicas.sort();
        view
    }

    /// Returns who owns `slot`, and since when.
    pub(super) fn owner(&self, slot: u16) -> Option<(u64, &str)> {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        Some((range.epoch, &range.owner))
    }

    /// Returns who owns any slot.
    pub(super) fn owners(&self) -> impl Iterator<Item = &str> {
        self.ranges.iter().map(|range| range.owner.as_str())
    }

    /// Returns the replicas of `master`.
    pub(super) fn replicas_of(&self, master: &str) -> impl Iterator<Item = &str> {
        let found = self.replicas.iter().filter(move |(_, of)| of == master);
        found.map(|(replica, _)| replica.as_str())
    }

    /// Tells whether `id` is a replica.
    pub(super) fn is_replica(&self, id: &str) -> bool {
        self.replicas.iter().any(|(replica, _)| replica == id)
    }

    /// Tells whether every slot has an owner.
    pub(super) fn is_complete(&self) -> bool {
        let count = |range: &Range| u32::from(range.last - range.first) + 1;
        self.ranges.iter().map(count).sum::<u32>() == u32::from(SLOTS)
    }

    /// Returns how many nodes are known by their address.
    pub(super) fn known(&self) -> usize {
        self.known
    }
}

impl Range {
    /// Reads `0-5460` or `7`; a slot on the move stands in brackets beside them.
    fn parse(slots: &str, owner: &str, epoch: u64) -> Option<Self> {
        let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        Some(Self { first, last, owner: owner.to_owned(), epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
aa 127.0.0.1:1@2 myself,master - 0 1 3 connected 0-5460 5462 [5461->-bb]
bb 127.0.0.1:3@4 master - 0 1 4 connected 5461 5463-16383
cc 127.0.0.1:5@6 slave aa 0 1 3 connected
dd 127.0.0.1:7@8 handshake - 0 1 0 disconnected
";

    #[test]
    fn the_answer_says_who_owns_what() {
        let view = View::parse(TEXT);
        assert_eq!(view.owner(5_462), Some((3, "aa")));
        assert_eq!(view.owner(5_461), Some((4, "bb")));
        assert_eq!(view.replicas_of("aa").collect::<Vec<_>>(), ["cc"]);
        assert!(view.is_replica("cc") && !view.is_replica("aa"));
        assert!(view.is_complete());
        assert_eq!(view.known(), 3);
    }

    #[test]
    fn a_missing_slot_is_noticed() {
        let view = View::parse(&TEXT.replace("5463-16383", "5464-16383"));
        assert!(!view.is_complete());
        assert_eq!(view.owner(5_463), None);
    }
}
