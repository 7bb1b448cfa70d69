//! The helper thread: follows the cgroup tree, the configuration and the assignment.
//!
//! It starts before the scheduler attaches, because afterwards the process cannot make
//! threads. The overlay runs every thread of this process in the system tier without asking
//! user space, so this one never waits for the loop it serves.

use crate::cgroups::{Assignment as Entries, resolve, with_pods};
use crate::follow::Follower;
use crate::pods::Pods;
use crate::signals;
use crate::source::{Source, Wanted};
use crate::stats::Counters;
use crate::table::CgroupTable;
use crossbeam::channel::{Receiver, Sender};
use infera_plan::{Assignment, Config, Plan, Topology};
use libbpf_rs::MapHandle;
use log::{info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The cgroup tree is looked at no more often than this, however much comes and goes in it:
/// half of the 100 ms in which a new cgroup must have its tier.
const PERIOD: Duration = Duration::from_millis(50);

/// And no less often, should a notice be lost.
const REST: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Pods whose cgroups are gone are forgotten no sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What helpers ask of the loop.
pub enum Order {
    /// The cgroup table changed: tasks find their tier anew.
    Reclassify,
    /// A new configuration is in force.
    Configure(Box<(Config, Plan)>),
    /// This generation of the assignment is in force, by the orders before.
    InForce(u64),
    /// Send the counters back here.
    Report(Sender<Counters>),
}

/// The helper's ends of the channels.
pub struct Helper {
    /// The cgroup map, sent once the scheduler is attached.
    pub attached: Receiver<MapHandle>,
    /// Readable when the configuration is to be read again.
    pub hangup: OwnedFd,
    /// To the loop.
    pub orders: Sender<Order>,
    /// Where the configuration comes from.
    pub source: Source,
    /// What is in force.
    pub wanted: Wanted,
    /// The cgroup mount.
    pub root: PathBuf,
    /// The node's CPUs. They stay as they are: the scheduler ends when a CPU comes or goes.
    pub topology: Topology,
}

/// Why the helper goes on.
enum Woken {
    /// There are notices of cgroups.
    Notice,
    /// Nothing came for long, or notices cannot be had.
    Rest,
    /// The configuration is to be read again.
    Reload,
}

impl Helper {
    /// Runs until the loop is gone.
    pub fn run(mut self) {
        // Opened before the scheduler's link: on SIGKILL the kernel closes the newest file first, and closing inotify waits
        // for a kernel worker. The link must not wait for that.
        let mut follower = Follower::new();
        let Ok(map) = self.attached.recv() else {
            return;
        };
        signals::take();
        crate::privileges::drop_most();
        let mut table = CgroupTable::new(map);
        let mut reported_generation = 0;
        let mut pods = Pods::new(&self.wanted.assignment.pods);
        let mut looked = Instant::now();
        let mut look = true;
        let mut followed = false;
        // Of the rules alone.
        let mut named = Entries::new();
        let mut rules = self.wanted.config.all_rules();
        loop {
            // In this order: what comes after the look is noticed.
            look |= follower.take(&self.root, &mut pods);
            if look {
                followed = follower.follow(&self.root, &rules, &pods);
                if looked.elapsed() < LOOK_AGAIN {
                    pods.look(&self.root);
                } else {
                    pods.look_again(&self.root);
                    looked = Instant::now();
                }
                named = resolve(&self.root, &rules);
            }
            let found = with_pods(&named, &pods);
            let applied = table.apply(&found);
            if applied.changed && self.orders.send(Order::Reclassify).is_err() {
                return;
            }
            let generation = self.wanted.assignment.generation;
            if applied.whole && generation != reported_generation {
                let _ = self.orders.send(Order::InForce(generation));
                reported_generation = generation;
            }
            std::thread::sleep(PERIOD);
            let rest = if followed { REST } else { Timespec::default() };
            look = match self.wait(&follower, &rest) {
                Woken::Notice => false,
                Woken::Rest => {
                    self.follow_partitions();
                    true
                }
                Woken::Reload => {
                    self.reload();
                    rules = self.wanted.config.all_rules();
                    pods = Pods::new(&self.wanted.assignment.pods);
                    true
                }
            };
        }
    }

    /// Waits for something to do, for as long as `rest`.
    fn wait(&self, follower: &Follower, rest: &Timespec) -> Woken {
        let hangup = self.hangup.as_fd();
        let notices = follower.notices().unwrap_or(hangup);
        let for_input = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let ready = poll(&mut [for_input(hangup), for_input(notices)], Some(rest));
        match read(hangup, &mut [0; 8]) {
            Ok(_) => Woken::Reload,
            Err(_) if ready.is_ok_and(|ready| ready > 0) => Woken::Notice,
            Err(_) => Woken::Rest,
        }
    }

    fn reload(&mut self) {
        let wanted = self.source.read_again(&self.wanted);
        if wanted == self.wanted {
            return info!("configuration read again: nothing changed");
        }
        let (before, config) = (self.wanted.effective(), wanted.effective());
        if config != before {
            let plan = Plan::new(&self.topology, &config);
            info!("configuration read again\n{plan}");
            if config.policy != before.policy {
                warn!("the policy stays the one it was started with: start again to change it");
            }
            let _ = self.orders.send(Order::Configure(Box::new((config, plan))));
        }
        if wanted.assignment != self.wanted.assignment {
            let Assignment {
                generation, pods, ..
            } = &wanted.assignment;
            info!("assignment {generation}: {} pods", pods.len());
        }
        self.wanted = wanted;
    }

    /// Plans anew if cpuset partitions came or went, of which there is no notice.
    fn follow_partitions(&mut self) {
        let partitions = self.topology.partitions_below(&self.root);
        if partitions == self.topology.partitions {
            return;
        }
        self.topology.partitions = partitions;
        let config = self.wanted.effective();
        let plan = Plan::new(&self.topology, &config);
        info!("cpuset partitions have changed\n{plan}");
        let _ = self.orders.send(Order::Configure(Box::new((config, plan))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::bounded;
    use infera_plan::Fence;
    use std::fs::{File, write};

    #[test]
    fn a_partition_that_comes_or_goes_moves_the_fence_once() {
        let root = tempfile::tempdir().unwrap();
        let (orders, received) = bounded(16);
        let mut helper = Helper {
            attached: bounded(1).1,
            hangup: File::open("/dev/null").unwrap().into(),
            orders,
            source: Source::default(),
            wanted: Wanted {
                config: Config {
                    fence: Fence::Cores(1),
                    ..Config::default()
                },
                ..Wanted::default()
            },
            root: root.path().into(),
            topology: Topology::uniform(4, 1),
        };
        let mut fence = |left: &str| {
            write(root.path().join("cpuset.cpus.effective"), left).unwrap();
            helper.follow_partitions();
            match received.try_recv() {
                Ok(Order::Configure(planned)) => Some(planned.1.fence),
                Ok(_) => panic!("another order"),
                Err(_) => None,
            }
        };
        assert_eq!(fence("0-3\n"), None);
        assert_eq!(fence("0-2\n"), Some([2].into()));
        assert_eq!(fence("0-2\n"), None);
        assert_eq!(fence("0-3\n"), Some([3].into()));
    }
}
