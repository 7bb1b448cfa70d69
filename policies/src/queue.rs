//! The ordered queue every policy keeps its tasks in.

use crate::{TaskView, slab::Slab};

/// How many tasks a [`TaskQueue`] holds, over all its lanes.
///
/// The scheduler's allocator cannot hand out 32 MiB in one piece. The largest piece here is
/// the slab of task views: 131072 times 64 bytes or less, at most 8 MiB; a lane's heap is
/// 131072 times 24 bytes, 3 MiB.
pub const CAPACITY: usize = 1 << 17;

const _: () = assert!(CAPACITY * size_of::<TaskView>() <= 8 << 20);
const _: () = assert!(CAPACITY * size_of::<Entry>() <= 3 << 20);

/// A heap entry: small, because sifting moves it; the task itself stays in the slab.
///
/// The derived order compares `key`, then `seq`; `seq` is unique, so `slot` never decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: u64,
    seq: u64,
    slot: u32,
}

/// Tasks in lanes, each lane ordered by (key, arrival): smallest key first, and first come
/// first served among equal keys. Keys compare as plain `u64`.
///
/// Everything is allocated by [`TaskQueue::new`] and nothing afterwards. `push` and `pop` take
/// O(log n) of the lane's length, the rest O(1). A lane is a binary heap; all lanes share one
/// slab of tasks, so any mix of lanes may use the whole [`CAPACITY`].
pub struct TaskQueue {
    lanes: Box<[Vec<Entry>]>,
    slab: Slab,
    next_seq: u64,
}

impl TaskQueue {
    /// An empty queue with `lanes` lanes, numbered from 0.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        TaskQueue {
            lanes: (0..lanes).map(|_| Vec::with_capacity(CAPACITY)).collect(),
            slab: Slab::new(),
            next_seq: 0,
        }
    }

    /// Queues `task` in `lane` under `key`; `false`, changing nothing, when full.
    ///
    /// # Panics
    ///
    /// When there is no such lane.
    #[must_use]
    pub fn push(&mut self, lane: usize, key: u64, task: TaskView) -> bool {
        let Some(slot) = self.slab.insert(task) else {
            return false;
        };
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        let heap = &mut self.lanes[lane];
        heap.push(Entry { key, seq, slot });
        sift_up(heap);
        true
    }

    /// Removes the first task of `lane`, with its key.
    pub fn pop(&mut self, lane: usize) -> Option<(u64, TaskView)> {
        let heap = &mut self.lanes[lane];
        if heap.is_empty() {
            return None;
        }
        let first = heap.swap_remove(0);
        sift_down(heap);
        Some((first.key, self.slab.remove(first.slot)))
    }

    /// Gives each task of `lane` the key that `rekey` makes of its old one. O(n log n), without an allocation.
    ///
    /// # Panics
    ///
    /// When there is no such lane.
    pub fn rekey(&mut self, lane: usize, rekey: impl Fn(u64, &TaskView) -> u64) {
        let heap = &mut self.lanes[lane];
        for entry in heap.iter_mut() {
            entry.key = rekey(entry.key, self.slab.get(entry.slot));
        }
        // What is sorted is a heap.
        heap.sort_unstable();
    }

    /// The key of the first task of `lane`.
    #[must_use]
    pub fn peek_key(&self, lane: usize) -> Option<u64> {
        self.lanes[lane].first().map(|entry| entry.key)
    }

    /// Whether `lane` is empty.
    #[must_use]
    pub fn lane_is_empty(&self, lane: usize) -> bool {
        self.lanes[lane].is_empty()
    }

    /// How many tasks are queued, over all lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next push would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == CAPACITY
    }
}

// std's BinaryHeap would do, but it is a max-heap: wrapping each entry in Reverse costs more
// reading than these two loops.
fn sift_up(heap: &mut [Entry]) {
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if heap[parent] <= heap[at] {
            break;
        }
        heap.swap(parent, at);
        at = parent;
    }
}

fn sift_down(heap: &mut [Entry]) {
    let mut at = 0;
    loop {
        let left = 2 * at + 1;
        if left >= heap.len() {
            break;
        }
        let right = left + 1;
        let least = if right < heap.len() && heap[right] < heap[left] {
            right
        } else {
            left
        };
        if heap[at] <= heap[least] {
            break;
        }
        heap.swap(at, least);
        at = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::task;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pops_in_key_then_arrival_order(keys in prop::collection::vec(0u64..20, 0..300)) {
            let mut queue = TaskQueue::new(1);
            for (pid, key) in keys.iter().enumerate() {
                prop_assert!(queue.push(0, *key, task(pid as i32)));
            }
            let mut want: Vec<_> = keys.iter().copied().zip(0..).collect();
            want.sort();
            for (key, pid) in want {
                prop_assert_eq!(queue.peek_key(0), Some(key));
                prop_assert_eq!(queue.pop(0), Some((key, task(pid))));
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(queue.pop(0), None);
        }
    }

    #[test]
    fn new_keys_are_a_new_order() {
        let mut queue = TaskQueue::new(1);
        for pid in 0..100 {
            assert!(queue.push(0, pid, task(pid as i32)));
        }
        queue.rekey(0, |key, _| 1_000 - key);
        assert!(queue.push(0, 950, task(100)));
        let keys: Vec<u64> = std::iter::from_fn(|| queue.pop(0))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys.len(), 101);
        assert!(keys.is_sorted());
    }

    #[test]
    fn refuses_when_full_and_recovers() {
        let mut queue = TaskQueue::new(2);
        for n in 0..CAPACITY {
            assert!(queue.push(n % 2, u64::MAX, task(n as i32)));
        }
        assert!(queue.is_full());
        assert!(!queue.push(0, 0, task(-1)));
        assert_eq!(queue.len(), CAPACITY);
        assert_eq!(queue.pop(0), Some((u64::MAX, task(0))));
        assert!(queue.push(1, 0, task(-1)));
        assert_eq!(queue.pop(1), Some((0, task(-1))));
        assert_eq!(queue.pop(1), Some((u64::MAX, task(1))));
    }
}
