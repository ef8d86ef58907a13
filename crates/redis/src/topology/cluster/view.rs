use std::collections::HashSet;

use super::slots::{self, SlotRange};
use crate::Value;
use crate::config::Address;
use crate::dial::Reason;

/// Who has which slots, by the word of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Grows with every fail-over and every move of a slot.
    epoch: u64,
    ranges: Vec<SlotRange>,
}

impl View {
    /// Reads what a node answered to `CLUSTER SLOTS` and `CLUSTER INFO`.
    ///
    /// One that has lost the cluster, such as a master on the small side of a
    /// partition, is not listened to: its slots may have another master.
    pub(super) fn read(replies: Vec<redis::Value>, asked: &Address) -> Result<Self, Reason> {
        let mut replies = replies.into_iter().map(Value::new);
        let mut next = || match replies.next() {
            Some(Value::Error(error)) => Err(Reason::Server(error)),
            Some(value) => Ok(value),
            None => Err(Reason::Protocol),
        };
        let (slots, info) = (next()?, next()?);
        let info = info.as_text().ok_or(Reason::Protocol)?;
        if is_down(info) {
            return Err(Reason::NoMaster("it says that the cluster is down".into()));
        }
        let mut ranges = slots::read(&slots, asked).ok_or(Reason::Protocol)?;
        if ranges.is_empty() {
            return Err(Reason::NoMaster("no slot has a master yet".into()));
        }
        ranges.sort_by_key(SlotRange::first);
        let epoch = field(info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
        Ok(Self { epoch: epoch.unwrap_or_default(), ranges })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn ranges(&self) -> &[SlotRange] {
        &self.ranges
    }

    /// Returns what grows with how much can be made of it: a node that has just
    /// joined knows the epoch before it knows all slots.
    pub(super) fn rank(&self) -> (u64, u32) {
        (self.epoch, self.slots())
    }

    fn slots(&self) -> u32 {
        self.ranges.iter().map(SlotRange::len).sum()
    }

    /// Returns who has slots.
    pub(super) fn masters(&self) -> HashSet<&Address> {
        self.ranges.iter().map(SlotRange::master).collect()
    }

    /// Tells whether it may follow one of a higher epoch: it has no fewer slots,
    /// and most of the masters that it names are among those that answered, and
    /// said the same.
    pub(super) fn replaces(&self, former: &Self, answers: &[(&Address, Self)]) -> bool {
        let masters = self.masters();
        let says_so = |master: &&&Address| {
            answers.iter().any(|(asked, view)| *asked == **master && view == self)
        };
        let is_shared = masters.iter().filter(says_so).count() * 2 > masters.len();
        is_shared && self.slots() >= former.slots()
    }
}

/// Tells whether a node that answered `CLUSTER INFO` so takes no calls.
pub(crate) fn is_down(info: &str) -> bool {
    field(info, "cluster_state") == Some("fail")
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns slots as a server lists them.
    fn slots(ranges: &[(i64, i64, i64)]) -> redis::Value {
        let number = redis::Value::Int;
        let range = |(first, last, port): &(i64, i64, i64)| {
            let host = redis::Value::BulkString(b"10.0.0.1".to_vec());
            let master = redis::Value::Array(vec![host, number(*port)]);
            redis::Value::Array(vec![number(*first), number(*last), master])
        };
        redis::Value::Array(ranges.iter().map(range).collect())
    }

    fn said(state: &str, epoch: u64, ranges: &[(i64, i64, i64)]) -> Result<View, Reason> {
        let info = format!("cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n");
        let info = redis::Value::BulkString(info.into_bytes());
        View::read(vec![slots(ranges), info], &Address::tcp("asked", 1))
    }

    fn view(epoch: u64, ranges: &[(i64, i64, i64)]) -> View {
        said("ok", epoch, ranges).unwrap()
    }

    impl View {
        /// Returns what a node says of first slots, last slots and ports of
        /// 10.0.0.1.
        pub(in super::super) fn of(epoch: u64, ranges: &[(i64, i64, i64)]) -> Self {
            view(epoch, ranges)
        }
    }

    const OLD: &[(i64, i64, i64)] = &[(0, 8_191, 1), (8_192, 16_383, 2)];
    const NEW: &[(i64, i64, i64)] = &[(8_192, 16_383, 2), (0, 8_191, 3)];

    #[test]
    fn one_that_has_lost_the_cluster_is_not_listened_to() {
        assert!(matches!(said("fail", 9, OLD), Err(Reason::NoMaster(_))));
        assert!(matches!(said("ok", 9, &[]), Err(Reason::NoMaster(_))));
        assert_eq!(said("ok", 9, OLD).unwrap().epoch(), 9);
    }

    #[test]
    fn the_highest_epoch_counts_and_then_the_fullest_answer() {
        let (old, new, partial) = (view(4, OLD), view(5, NEW), view(5, &[(0, 8_191, 1)]));
        let newest = |views: [&View; 3]| views.into_iter().max_by_key(|view| view.rank()).cloned();
        assert_eq!(newest([&old, &new, &partial]).as_ref(), Some(&new));
        assert_eq!(newest([&partial, &new, &old]).as_ref(), Some(&new));
    }

    #[test]
    fn a_lower_epoch_counts_if_most_of_its_masters_share_it() {
        let address = |port| Address::tcp("10.0.0.1", port);
        let (one, two, three) = (address(1), address(2), address(3));
        let (old, new) = (view(4, OLD), view(5, NEW));
        let replaces = |answers: &[_]| old.replaces(&new, answers);
        // A master that was cut off names others, and they say otherwise.
        assert!(!replaces(&[(&one, old.clone())]));
        assert!(!replaces(&[(&one, old.clone()), (&two, new.clone())]));
        assert!(!replaces(&[(&one, old.clone()), (&three, old.clone())]));
        // A cluster that was made anew agrees with itself.
        let answers = [(&one, old.clone()), (&two, old.clone()), (&three, new.clone())];
        assert!(replaces(&answers));
        // One that has forgotten the others does too.
        let alone = view(4, &[(0, 8_191, 1)]);
        assert!(!alone.replaces(&new, &[(&one, alone.clone())]));
    }
}
