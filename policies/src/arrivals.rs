//! The tasks that wait for a decision, in the order they came.

use crate::{CAPACITY, Nanos, TaskView, slab::Slab};

/// The link that joins both ends of the list, so that linking has no special cases.
const ENDS: u32 = CAPACITY as u32;

const _: () = assert!((CAPACITY + 1) * size_of::<Link>() <= 2 << 20);

/// A slot's neighbours in arrival order, and how often it changed hands.
#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
    /// Goes up when a task comes and when it leaves: odd while one waits here.
    changes: u32,
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
    /// When the task in each slot came.
    came: Vec<Nanos>,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        let alone = Link {
            before: ENDS,
            after: ENDS,
            changes: 0,
        };
        Arrivals {
            slab: Slab::new(),
            links: vec![alone; CAPACITY + 1],
            came: vec![Nanos(0); CAPACITY],
        }
    }

    /// Appends `task`, which comes `now`: its slot, or `None` when [`CAPACITY`] tasks wait.
    pub(crate) fn push(&mut self, task: TaskView, now: Nanos) -> Option<u32> {
        let slot = self.slab.insert(task)?;
        self.came[slot as usize] = now;
        let last = self.links[ENDS as usize].before;
        let link = &mut self.links[slot as usize];
        link.before = last;
        link.after = ENDS;
        link.changes = link.changes.wrapping_add(1);
        self.links[last as usize].after = slot;
        self.links[ENDS as usize].before = slot;
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

    /// Removes the task that was ticketed as `answer`, and returns it as it came; `None` when
    /// no such task waits.
    pub(crate) fn take(&mut self, answer: &TaskView) -> Option<TaskView> {
        let slot = answer.enq_cnt as u32;
        let changes = (answer.enq_cnt >> 32) as u32;
        // At ENDS the count stays 0, so its parity refuses that too.
        let link = self.links.get(slot as usize)?;
        let waits = link.changes == changes && changes % 2 == 1;
        (waits && self.slab.get(slot).pid == answer.pid).then(|| self.remove(slot))
    }

    /// Removes the task that came first.
    pub(crate) fn pop(&mut self) -> Option<TaskView> {
        let slot = self.first()?;
        Some(self.remove(slot))
    }

    /// The task that came first, and when.
    pub(crate) fn oldest(&self) -> Option<(&TaskView, Nanos)> {
        let slot = self.first()?;
        Some((self.slab.get(slot), self.came[slot as usize]))
    }

    /// The slot of the task that came first.
    pub(crate) fn first(&self) -> Option<u32> {
        self.next(ENDS)
    }

    /// The slot of the task that came next after the one in `slot`.
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        let after = self.links[slot as usize].after;
        (after != ENDS).then_some(after)
    }

    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    fn remove(&mut self, slot: u32) -> TaskView {
        let link = &mut self.links[slot as usize];
        link.changes = link.changes.wrapping_add(1);
        let Link { before, after, .. } = *link;
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
        self.slab.remove(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::task;

    #[test]
    fn keeps_arrival_order_around_what_was_taken() {
        let mut arrivals = Arrivals::new();
        let slots: Vec<u32> = (0..5)
            .map(|pid| arrivals.push(task(pid), Nanos(pid as u64)).unwrap())
            .collect();
        for pid in [2, 0, 4] {
            let answer = arrivals.ticketed(slots[pid]);
            assert_eq!(arrivals.take(&answer), Some(task(pid as i32)));
            assert_eq!(arrivals.take(&answer), None, "twice");
        }
        assert!(arrivals.push(task(9), Nanos(9)).is_some());
        assert_eq!(arrivals.oldest(), Some((&task(1), Nanos(1))));
        let left: Vec<i32> = std::iter::from_fn(|| arrivals.pop())
            .map(|task| task.pid)
            .collect();
        assert_eq!(left, [1, 3, 9]);
        assert_eq!(arrivals.len(), 0);
    }

    #[test]
    fn forged_tickets_find_nothing() {
        let mut arrivals = Arrivals::new();
        let slot = arrivals.push(task(1), Nanos(0)).unwrap();
        let honest = arrivals.ticketed(slot);
        let wrong_pid = TaskView { pid: 2, ..honest };
        assert_eq!(arrivals.take(&wrong_pid), None);
        assert_eq!(arrivals.take(&honest), Some(task(1)));
        for changes in 0..4 {
            for slot in [slot, slot + 1, ENDS, u32::MAX] {
                let enq_cnt = changes << 32 | u64::from(slot);
                assert_eq!(arrivals.take(&TaskView { enq_cnt, ..honest }), None);
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
        assert_eq!(arrivals.take(&stale), None);
        assert_eq!(arrivals.len(), 1);
    }
}
