//! A program of another project: a policy of its own, and a guest that it boots.

use infera_policy::{Decision, Nanos, Policy, TaskQueue, TaskView, TierTable};
use infera_vm::VmOptions;

/// Runs tasks by weight, the heaviest first.
struct Heaviest {
    tiers: TierTable,
    queue: TaskQueue,
}

impl Policy for Heaviest {
    fn configure(&mut self, tiers: &TierTable) {
        self.tiers = *tiers;
    }

    fn enqueue(&mut self, task: TaskView, _now: Nanos) -> bool {
        self.queue.push(0, u64::from(u32::MAX - task.weight), task)
    }

    fn pick(&mut self, _now: Nanos) -> Option<Decision> {
        let (_, task) = self.queue.pop(0)?;
        let slice = self.tiers.get(task.tier).slice;
        Some(Decision {
            task,
            slice,
            vtime: 0,
        })
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut policy = Heaviest {
        tiers: TierTable::default(),
        queue: TaskQueue::new(1),
    };
    assert!(policy.pick(Nanos(0)).is_none());
    let options = VmOptions {
        cpus: 2,
        exact: true,
        ..VmOptions::default()
    };
    let command = ["uname", "-r"].map(str::to_owned);
    let outcome = infera_vm::run(&options, &command, |line| println!("{line}"))?;
    println!("exit status {}", outcome.status);
    Ok(())
}
