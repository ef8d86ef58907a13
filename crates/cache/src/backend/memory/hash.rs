use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{held, kind, own};
use super::number::{self, NoSum};
use crate::FieldPage;

/// Fields with values, in the order of the names' bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Hash {
    fields: BTreeMap<Bytes, Bytes>,
    pub(super) bytes: u64,
}

kind!(Hash, "a hash");

/// Bytes of a field besides its name and value, in a tree of half-full nodes.
const FIELD: u64 = 104;

/// What a cursor begins with: the name that follows may be empty, and an empty
/// cursor is the first page's.
const AFTER: u8 = b'>';

impl Hash {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<&Bytes> {
        self.fields.get(field)
    }

    pub(super) fn values(&self, fields: &[Bytes]) -> Vec<Option<Bytes>> {
        fields.iter().map(|field| self.fields.get(field).cloned()).collect()
    }

    pub(super) fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        self.fields.iter().map(|(field, value)| (field.clone(), value.clone())).collect()
    }

    /// Tells whether it is that of a page.
    pub(super) fn is_cursor(cursor: &Bytes) -> bool {
        cursor.first().is_none_or(|first| *first == AFTER)
    }

    /// Returns the fields after the one that `cursor` names.
    pub(super) fn page(&self, cursor: &Bytes, count: u32) -> FieldPage {
        let after = match cursor.split_first() {
            Some((_, name)) => Bound::Excluded(name),
            None => Bound::Unbounded,
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let mut rest = self.fields.range::<[u8], _>((after, Bound::Unbounded));
        let fields: Vec<_> = rest
            .by_ref()
            .take(count)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        let last = fields.last().filter(|_| rest.next().is_some());
        let next = last.map(|(field, _)| {
            let mut cursor = BytesMut::with_capacity(field.len() + 1);
            cursor.put_u8(AFTER);
            cursor.extend_from_slice(field);
            cursor.freeze()
        });
        FieldPage::new(fields, next)
    }

    /// Returns by how many bytes it grows if the fields are written.
    pub(super) fn growth(&self, fields: &[(Bytes, Bytes)]) -> u64 {
        // Of a field that is given twice, the last one stays.
        let last: BTreeMap<_, _> = fields.iter().map(|(field, value)| (field, value)).collect();
        let (mut more, mut less) = (0, 0);
        for (field, value) in last {
            more += held(value);
            match self.fields.get(field) {
                Some(present) => less += held(present),
                None => more += FIELD + held(field),
            }
        }
        more.saturating_sub(less)
    }

    /// Returns by how many bytes it grows if `by` is added to a field.
    pub(super) fn growth_of_sum(&self, field: &Bytes, by: i64) -> u64 {
        let sum = self.sum(field, by);
        sum.map_or(0, |sum| self.growth(&[(field.clone(), sum.to_string().into())]))
    }

    fn sum(&self, field: &Bytes, by: i64) -> Result<i64, NoSum> {
        number::sum(self.fields.get(field).map(AsRef::as_ref), by)
    }

    /// Writes the fields and returns how many are new.
    pub(super) fn put(&mut self, fields: &[(Bytes, Bytes)]) -> u64 {
        let mut added = 0;
        for (field, value) in fields {
            added += u64::from(self.put_one(field, own(value)));
        }
        added
    }

    /// Writes a field and tells whether it is new.
    pub(super) fn put_one(&mut self, field: &Bytes, value: Bytes) -> bool {
        self.bytes += held(&value);
        if let Some(present) = self.fields.get_mut(field) {
            self.bytes -= held(present);
            *present = value;
            return false;
        }
        self.bytes += FIELD + held(field);
        self.fields.insert(own(field), value);
        true
    }

    pub(super) fn add(&mut self, field: &Bytes, by: i64) -> Result<i64, NoSum> {
        let sum = self.sum(field, by)?;
        self.put_one(field, sum.to_string().into());
        Ok(sum)
    }

    /// Removes the fields and returns how many there were.
    pub(super) fn remove(&mut self, fields: &[Bytes]) -> u64 {
        let mut removed = 0;
        for field in fields {
            if let btree_map::Entry::Occupied(present) = self.fields.entry(field.clone()) {
                self.bytes -= FIELD + held(present.key()) + held(present.get());
                present.remove();
                removed += 1;
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_end_at_the_empty_name() {
        let mut hash = Hash::default();
        hash.put(&[("".into(), "1".into()), ("a".into(), "2".into())]);
        let first = hash.page(&Bytes::new(), 1);
        assert_eq!(first.fields, [(Bytes::new(), Bytes::from("1"))]);
        let second = hash.page(&first.next.unwrap(), 1);
        assert_eq!(second, FieldPage::new(vec![("a".into(), "2".into())], None));
    }

    #[test]
    fn an_emptied_hash_has_no_weight() {
        let mut hash = Hash::default();
        hash.put(&[("a".into(), "1".into()), ("b".into(), "22".into())]);
        hash.put(&[("a".into(), "long".into())]);
        hash.add(&"n".into(), -12).unwrap();
        assert_eq!(hash.bytes, 3 * FIELD + 6 * 32 + 3 + 4 + 2 + 3);
        assert_eq!(hash.remove(&["a".into(), "b".into(), "n".into(), "a".into()]), 3);
        assert_eq!((hash.len(), hash.bytes), (0, 0));
    }
}
