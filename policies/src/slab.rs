//! Tasks in numbered slots.

use crate::{CAPACITY, TaskView};

/// [`CAPACITY`] slots for tasks, allocated at once; a slot left last is taken first, while it
/// is still in the CPU's cache.
pub(crate) struct Slab {
    tasks: Vec<TaskView>,
    free: Vec<u32>,
}

impl Slab {
    pub(crate) fn new() -> Self {
        Slab {
            tasks: Vec::with_capacity(CAPACITY),
            free: Vec::with_capacity(CAPACITY),
        }
    }

    /// The slot that `task` now has, below [`CAPACITY`]; `None` when all are taken.
    pub(crate) fn insert(&mut self, task: TaskView) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.tasks[slot as usize] = task;
            return Some(slot);
        }
        if self.tasks.len() == CAPACITY {
            return None;
        }
        self.tasks.push(task);
        Some((self.tasks.len() - 1) as u32)
    }

    /// The task in a taken slot.
    pub(crate) fn get(&self, slot: u32) -> &TaskView {
        &self.tasks[slot as usize]
    }

    /// Puts `task` into a taken slot, and returns the one that was there.
    pub(crate) fn replace(&mut self, slot: u32, task: TaskView) -> TaskView {
        std::mem::replace(&mut self.tasks[slot as usize], task)
    }

    /// Frees a taken slot.
    pub(crate) fn remove(&mut self, slot: u32) -> TaskView {
        self.free.push(slot);
        self.tasks[slot as usize]
    }

    /// How many slots are taken.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len() - self.free.len()
    }
}
