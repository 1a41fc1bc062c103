//! Small numbers for keys, so that what is counted for them lies in arrays.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers keys from 0 on, up to a bound.
#[derive(Debug)]
pub(super) struct Numbers<K> {
    ids: HashMap<K, u32>,
    limit: u32,
}

impl<K: Eq + Hash> Numbers<K> {
    pub(super) fn new(limit: u32) -> Self {
        Numbers {
            ids: HashMap::new(),
            limit,
        }
    }

    /// The key's number, and whether it is new; `None` if it is new and there is no room.
    pub(super) fn of(&mut self, key: K) -> Option<(u32, bool)> {
        if let Some(id) = self.ids.get(&key) {
            return Some((*id, false));
        }
        let id = u32::try_from(self.ids.len()).ok()?;
        if id >= self.limit {
            return None;
        }
        self.ids.insert(key, id);
        Some((id, true))
    }

    /// The number of a key that has one.
    pub(super) fn get(&self, key: &K) -> Option<u32> {
        self.ids.get(key).copied()
    }

    /// All keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.ids.iter().map(|(key, id)| (key, *id))
    }

    /// The keys in the order of their numbers.
    pub(super) fn keys(&self) -> Vec<&K> {
        let mut keys: Vec<_> = self.iter().collect();
        keys.sort_unstable_by_key(|(_, id)| *id);
        keys.into_iter().map(|(key, _)| key).collect()
    }
}
