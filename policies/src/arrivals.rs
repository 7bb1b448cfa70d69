//! The tasks that wait for a decision, in the order they came.

use crate::{CAPACITY, Nanos, TaskView, Tier, slab::Slab};

/// The first of the links that join both ends of a tier's list, so that linking has no special
/// cases: one a tier, behind those of the slots.
const ENDS: u32 = CAPACITY as u32;

const _: () = assert!((CAPACITY + Tier::COUNT) * size_of::<Link>() <= 3 << 20);
const _: () = assert!(CAPACITY * size_of::<Arrival>() <= 2 << 20);

/// A slot's neighbours in arrival order, and the ticket for it.
#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
    /// How often the slot changed hands: goes up when a ticket for it is given out and when
    /// that is taken back, odd while it is out.
    changes: u32,
    /// The pid on the ticket.
    pid: i32,
}

/// When a task came: the time, and its number, for many come at one time.
#[derive(Clone, Copy)]
struct Arrival {
    time: Nanos,
    number: u64,
}

/// Every waiting task, found in constant time by the ticket that a policy was given with it.
///
/// A policy sees a ticket in place of [`TaskView::enq_cnt`], which is opaque to it: the
/// task's slot, and what the slot's count of changes was then. So finding what it answered is
/// one indexed load rather than a hash table of (pid, enqueue), and two tasks that agree
/// in both, as a reused pid may, are still two. Everything is allocated by `new`.
pub(crate) struct Arrivals {
    slab: Slab,
    links: Vec<Link>,
    came: Vec<Arrival>,
    next: u64,
}

/// A place in the order of all tiers' arrivals.
pub(crate) struct Cursor([u32; Tier::COUNT]);

fn ends(tier: Tier) -> u32 {
    ENDS + tier.index() as u32
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        let alone = |slot| Link {
            before: slot,
            after: slot,
            changes: 0,
            pid: 0,
        };
        let never = Arrival {
            time: Nanos(0),
            number: 0,
        };
        Arrivals {
            slab: Slab::new(),
            links: (0..ENDS + Tier::COUNT as u32).map(alone).collect(),
            came: vec![never; CAPACITY],
            next: 0,
        }
    }

    /// Appends `task`, which comes `now`: its slot, or `None` when [`CAPACITY`] tasks wait.
    pub(crate) fn push(&mut self, task: TaskView, now: Nanos) -> Option<u32> {
        let slot = self.slab.insert(task)?;
        self.came[slot as usize] = Arrival {
            time: now,
            number: self.next,
        };
        self.next += 1;
        let ends = ends(task.tier);
        let last = self.links[ends as usize].before;
        let link = &mut self.links[slot as usize];
        link.changes = link.changes.wrapping_add(1);
        link.pid = task.pid;
        self.join(last, slot);
        self.join(slot, ends);
        Some(slot)
    }

    /// The task in `slot` as a policy sees it: with its ticket.
    pub(crate) fn ticketed(&self, slot: u32) -> TaskView {
        let changes = self.links[slot as usize].changes;
        TaskView {
            enq_cnt: u64::from(changes) << 32 | u64::from(slot),
            ..*self.slab.get(slot)
        }
    }

    /// The slot of the task that was ticketed as `answer`; `None` when no such task waits.
    pub(crate) fn find(&self, answer: &TaskView) -> Option<u32> {
        let slot = answer.enq_cnt as u32;
        let changes = (answer.enq_cnt >> 32) as u32;
        // At the ends the count stays 0, so its parity refuses those too.
        let link = self.links.get(slot as usize)?;
        let waits = link.changes == changes && changes % 2 == 1;
        (waits && link.pid == answer.pid).then_some(slot)
    }

    /// Removes the task in `slot`, whose ticket is back.
    pub(crate) fn remove(&mut self, slot: u32) -> TaskView {
        let link = &mut self.links[slot as usize];
        link.changes = link.changes.wrapping_add(1);
        let Link { before, after, .. } = *link;
        self.join(before, after);
        self.slab.remove(slot)
    }

    /// Removes the task in `other` though it is the ticket for `slot` that is back: from now on
    /// the ticket for `other` is for the task that was in `slot`, and keeps its turn in the order.
    pub(crate) fn remove_instead(&mut self, slot: u32, other: u32) -> TaskView {
        debug_assert_ne!(slot, other);
        let Link { before, after, .. } = self.links[other as usize];
        self.join(before, after);
        let Link { before, after, .. } = self.links[slot as usize];
        self.join(before, other);
        self.join(other, after);
        self.came[other as usize] = self.came[slot as usize];
        let link = &mut self.links[slot as usize];
        link.changes = link.changes.wrapping_add(1);
        let stays = self.slab.remove(slot);
        self.slab.replace(other, stays)
    }

    /// The task in `slot`.
    pub(crate) fn get(&self, slot: u32) -> &TaskView {
        self.slab.get(slot)
    }

    /// The slot of the task of `tier` that came first, and when.
    pub(crate) fn oldest(&self, tier: Tier) -> Option<(u32, Nanos)> {
        let slot = self.links[ends(tier) as usize].after;
        (slot < ENDS).then(|| (slot, self.came[slot as usize].time))
    }

    /// Removes the task that came first.
    pub(crate) fn pop(&mut self) -> Option<TaskView> {
        let slot = self.next(&mut self.start())?;
        Some(self.remove(slot))
    }

    /// Before the task that came first.
    pub(crate) fn start(&self) -> Cursor {
        Cursor(Tier::ALL.map(|tier| self.links[ends(tier) as usize].after))
    }

    /// The slot of the task that came next after `cursor`, which moves behind it.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<u32> {
        let next = cursor
            .0
            .iter_mut()
            .filter(|slot| **slot < ENDS)
            .min_by_key(|slot| self.came[**slot as usize].number)?;
        let slot = *next;
        *next = self.links[slot as usize].after;
        Some(slot)
    }

    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    fn join(&mut self, before: u32, after: u32) {
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::task;

    fn of(tier: Tier, pid: i32) -> TaskView {
        TaskView { tier, ..task(pid) }
    }

    /// Tasks 0 to 4, of two tiers by turns.
    fn five() -> (Arrivals, Vec<u32>) {
        let mut arrivals = Arrivals::new();
        let slots = (0..5)
            .map(|pid| {
                let tier = [Tier::Low, Tier::High][pid as usize % 2];
                arrivals.push(of(tier, pid), Nanos(pid as u64 / 2)).unwrap()
            })
            .collect();
        (arrivals, slots)
    }

    fn take(arrivals: &mut Arrivals, answer: &TaskView) -> Option<i32> {
        let slot = arrivals.find(answer)?;
        Some(arrivals.remove(slot).pid)
    }

    fn drain(arrivals: &mut Arrivals) -> Vec<i32> {
        std::iter::from_fn(|| arrivals.pop())
            .map(|task| task.pid)
            .collect()
    }

    #[test]
    fn keeps_arrival_order_around_what_was_taken() {
        let (mut arrivals, slots) = five();
        for pid in [2, 0] {
            let answer = arrivals.ticketed(slots[pid]);
            assert_eq!(take(&mut arrivals, &answer), Some(pid as i32));
            assert_eq!(take(&mut arrivals, &answer), None, "twice");
        }
        assert!(arrivals.push(of(Tier::Low, 9), Nanos(9)).is_some());
        assert_eq!(arrivals.oldest(Tier::High), Some((slots[1], Nanos(0))));
        assert_eq!(arrivals.oldest(Tier::Low), Some((slots[4], Nanos(2))));
        assert_eq!(arrivals.oldest(Tier::Normal), None);
        assert_eq!(drain(&mut arrivals), [1, 3, 4, 9]);
        assert_eq!(arrivals.len(), 0);
    }

    #[test]
    fn who_goes_instead_leaves_its_ticket() {
        for (answered, goes, left) in [(4, 0, [1, 2, 3, 4]), (0, 2, [0, 1, 3, 4])] {
            let (mut arrivals, slots) = five();
            let tickets: Vec<TaskView> =
                slots.iter().map(|slot| arrivals.ticketed(*slot)).collect();
            let slot = arrivals.find(&tickets[answered]).unwrap();
            let went = arrivals.remove_instead(slot, slots[goes]);
            assert_eq!(went.pid, goes as i32);
            assert_eq!(arrivals.find(&tickets[answered]), None);
            assert_eq!(arrivals.len(), 4);
            assert_eq!(arrivals.get(slots[goes]).pid, answered as i32);
            let mut order = Vec::new();
            let mut cursor = arrivals.start();
            while let Some(slot) = arrivals.next(&mut cursor) {
                order.push(arrivals.get(slot).pid);
            }
            assert_eq!(order, left);
            assert_eq!(take(&mut arrivals, &tickets[goes]), Some(answered as i32));
            assert_eq!(arrivals.len(), 3);
        }
    }

    #[test]
    fn forged_tickets_find_nothing() {
        let mut arrivals = Arrivals::new();
        let slot = arrivals.push(task(1), Nanos(0)).unwrap();
        let honest = arrivals.ticketed(slot);
        let wrong_pid = TaskView { pid: 2, ..honest };
        assert_eq!(take(&mut arrivals, &wrong_pid), None);
        assert_eq!(take(&mut arrivals, &honest), Some(1));
        for changes in 0..4 {
            for slot in [slot, slot + 1, ENDS, ENDS + 5, u32::MAX] {
                let enq_cnt = changes << 32 | u64::from(slot);
                assert_eq!(take(&mut arrivals, &TaskView { enq_cnt, ..honest }), None);
            }
        }
    }

    #[test]
    fn a_stale_ticket_does_not_fit_the_slots_next_task() {
        let mut arrivals = Arrivals::new();
        let slot = arrivals.push(task(1), Nanos(0)).unwrap();
        let stale = arrivals.ticketed(slot);
        assert!(arrivals.pop().is_some());
        assert_eq!(
            arrivals.push(task(1), Nanos(0)),
            Some(slot),
            "the slot is used again"
        );
        assert_eq!(take(&mut arrivals, &stale), None);
        assert_eq!(arrivals.len(), 1);
    }
}
