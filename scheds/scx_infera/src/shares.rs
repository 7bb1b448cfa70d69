//! Publishes to the overlay what each cgroup is worth within its tier: its counts go to [`infera_policy::Shares`], the shares back.

use crate::bpf_skel::types::{bss, infera_group};
use infera_bpf::{MAX_GROUPS, SHARE_ONE};
use infera_policy::{Group, Shares as Averages};
use std::ptr;

/// Between two updates, the averages.
pub struct Shares(Averages);

impl Shares {
    /// With room for all that the overlay counts.
    pub fn new() -> Shares {
        Shares(Averages::with_capacity(MAX_GROUPS))
    }

    /// Reads the overlay's counts and writes shares.
    ///
    /// # Safety
    ///
    /// `bss` points at the overlay's mapped variables, of which no other thread writes `share` and `parts`.
    pub unsafe fn update(&mut self, bss: *mut bss) {
        // SAFETY: each field is a word that the kernel side writes, and whichever value is read is one that it had.
        let end = unsafe { ptr::read_volatile(&raw const (*bss).infera_groups_end) };
        // SAFETY: an address within what `bss` points at; nothing is read.
        let entry = |at: usize| unsafe { &raw mut (*bss).infera_groups[at] };
        let entries = (0..MAX_GROUPS.min(end as usize)).map(entry);
        let groups = entries.clone().map(|entry| {
            // SAFETY: as above, and the index is bounded.
            unsafe { read(entry) }
        });
        for (entry, worth) in entries.zip(self.0.update(groups)) {
            // SAFETY: as above. One without the other, for a moment, is a share of before.
            unsafe {
                ptr::write_volatile(&raw mut (*entry).share, (worth.share * one()) as u64);
                ptr::write_volatile(&raw mut (*entry).parts, worth.parts as u32);
            }
        }
    }
}

fn one() -> f64 {
    f64::from(SHARE_ONE)
}

/// # Safety
///
/// `entry` points at one of the overlay's mapped entries.
unsafe fn read(entry: *const infera_group) -> Group {
    // SAFETY: as promised.
    let (key, parent, weight, runnable) = unsafe {
        (
            ptr::read_volatile(&raw const (*entry).key),
            ptr::read_volatile(&raw const (*entry).parent),
            ptr::read_volatile(&raw const (*entry).weight),
            ptr::read_volatile(&raw const (*entry).runnable),
        )
    };
    Group {
        key,
        parent: (parent as usize).checked_sub(1),
        weight: f64::from(weight) / one(),
        // A count that is taken back on another CPU first may be below zero for a moment.
        runnable: f64::from((runnable as i32).max(0)),
    }
}
