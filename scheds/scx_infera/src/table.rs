//! The overlay's table of cgroups, brought in line with what is wanted entry by entry.
//!
//! An entry that the kernel refuses does not keep the others from being written: what is in force is known
//! at each moment, and the next call writes what is missing.

use crate::cgroups::Assignment as Entries;
use infera_policy::Tier;
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};
use log::{error, info};
use std::fmt::Display;

/// A map from cgroup id to tier.
pub trait Map {
    /// Why an entry was refused.
    type Error: Display;

    /// Writes an entry.
    fn set(&self, cgroup: u64, tier: Tier) -> Result<(), Self::Error>;

    /// Removes an entry, which may be gone already.
    fn remove(&self, cgroup: u64) -> Result<(), Self::Error>;
}

impl Map for MapHandle {
    type Error = libbpf_rs::Error;

    fn set(&self, cgroup: u64, tier: Tier) -> Result<(), Self::Error> {
        let tier = (tier.index() as u32).to_ne_bytes();
        self.update(&cgroup.to_ne_bytes(), &tier, MapFlags::ANY)
    }

    fn remove(&self, cgroup: u64) -> Result<(), Self::Error> {
        match self.delete(&cgroup.to_ne_bytes()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

/// What a call of [`CgroupTable::apply`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Tasks have to find their tier anew.
    pub changed: bool,
    /// All that is wanted is in force.
    pub whole: bool,
}

/// See the module.
pub struct CgroupTable<M> {
    map: M,
    in_force: Entries,
    refused: usize,
}

impl<M: Map> CgroupTable<M> {
    /// Of an empty map.
    pub fn new(map: M) -> Self {
        CgroupTable {
            map,
            in_force: Entries::new(),
            refused: 0,
        }
    }

    /// Writes the difference. Removals come first, so that a full map has room again.
    pub fn apply(&mut self, wanted: &Entries) -> Applied {
        let mut changed = false;
        let mut refused = Vec::new();
        let (map, in_force) = (&self.map, &mut self.in_force);
        in_force.retain(|id, _| {
            if wanted.contains_key(id) {
                return true;
            }
            match map.remove(*id) {
                Ok(()) => {
                    changed = true;
                    false
                }
                Err(error) => {
                    refused.push((*id, error));
                    true
                }
            }
        });
        for (id, tier) in wanted {
            if in_force.get(id) == Some(tier) {
                continue;
            }
            match map.set(*id, *tier) {
                Ok(()) => {
                    in_force.insert(*id, *tier);
                    changed = true;
                }
                Err(error) => refused.push((*id, error)),
            }
        }
        self.report(&refused);
        Applied {
            changed,
            whole: refused.is_empty(),
        }
    }

    /// Logs when the number of refused entries changes, and not each time that they are tried again.
    fn report(&mut self, refused: &[(u64, M::Error)]) {
        if refused.len() == self.refused {
            return;
        }
        self.refused = refused.len();
        match refused.first() {
            Some((id, error)) => error!(
                "cgroup table: the kernel refused {} changes, cgroup {id} first: {error}; those cgroups keep the tier \
                 that they had, all others are in force; they are tried again at the next change, and at most {} \
                 cgroups can be named",
                refused.len(),
                infera_bpf::MAX_CGROUPS
            ),
            None => info!("cgroup table: all entries are in force again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A map with room for two entries.
    #[derive(Default)]
    struct Small(RefCell<Entries>);

    impl Map for &Small {
        type Error = &'static str;

        fn set(&self, cgroup: u64, tier: Tier) -> Result<(), Self::Error> {
            let mut entries = self.0.borrow_mut();
            if entries.len() == 2 && !entries.contains_key(&cgroup) {
                return Err("full");
            }
            entries.insert(cgroup, tier);
            Ok(())
        }

        fn remove(&self, cgroup: u64) -> Result<(), Self::Error> {
            self.0.borrow_mut().remove(&cgroup);
            Ok(())
        }
    }

    fn entries(ids: &[u64]) -> Entries {
        ids.iter().map(|id| (*id, Tier::High)).collect()
    }

    #[test]
    fn a_full_map_has_room_after_removals() {
        let map = Small::default();
        let mut table = CgroupTable::new(&map);
        assert!(table.apply(&entries(&[1, 2])).whole);
        let applied = table.apply(&entries(&[3, 4]));
        assert!(applied.changed && applied.whole);
        assert_eq!(*map.0.borrow(), entries(&[3, 4]));
    }

    #[test]
    fn what_is_refused_keeps_nothing_else_away_and_is_tried_again() {
        let map = Small::default();
        let mut table = CgroupTable::new(&map);
        let applied = table.apply(&entries(&[1, 2, 3]));
        assert!(applied.changed && !applied.whole);
        assert_eq!(map.0.borrow().len(), 2);
        let again = table.apply(&entries(&[1, 2, 3]));
        assert!(!again.changed && !again.whole, "nothing new is in force");
        assert!(table.apply(&entries(&[1, 3])).whole);
        assert_eq!(*map.0.borrow(), entries(&[1, 3]));
        let lower: Entries = [(1, Tier::Low), (3, Tier::High)].into_iter().collect();
        assert!(table.apply(&lower).changed);
        assert_eq!(*map.0.borrow(), lower);
    }
}
