//! A thread beside the one that loads the overlay, which the kernel verifies for a second or so of a CPU's time.
//!
//! - On a crowded node, and in a pod of 100m there, that would take minutes: the loading thread
//!   gets half of a CPU, by a real-time priority for 20 ms of each 40.
//! - When a CPU comes or goes meanwhile, the kernel refuses the overlay, after it has verified it: the process
//!   ends before that.

use crate::exit_code::{Refusal, Status};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use infera_link::realtime;
use infera_plan::Topology;
use rustix::thread::gettid;
use std::convert::Infallible;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const SYS_CPUS: &str = "sys/devices/system/cpu";

/// The longest time for which the loading thread keeps a CPU from others, and the shortest that they have it afterwards.
const TURN: Duration = Duration::from_millis(20);

/// Turns without a change after which no further one is expected: half a second.
const QUIET: u32 = 25;

/// How often CPUs came or went since the kernel booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hotplugs(Option<u64>);

impl Hotplugs {
    pub fn read() -> Hotplugs {
        Hotplugs(infera_kernel::hotplugs(Path::new("/")))
    }

    /// Whether one came or went since.
    pub fn changed(self) -> bool {
        Hotplugs::read() != self
    }
}

/// How often the CPUs are looked at until none is on its way in or out, and what is between two looks.
const LOOKS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(20);

/// The node's CPUs at a moment at which none comes or goes, and the count as of then; after two seconds without such a moment, the CPUs
/// as they are. Taking one away may need half a second on a busy node: it is counted at first, and its directories lose their contents
/// at last.
///
/// # Errors
///
/// At the last look the list of online CPUs cannot be read, or a list is malformed. Where CPUs still come and go then,
/// the refusal is [`in_vain`].
pub fn cpus(root: &Path) -> Result<(Topology, Hotplugs), Refusal> {
    let mut looks = 0;
    loop {
        let before = Hotplugs::read();
        let at_rest = infera_kernel::cpus_are_settled(root);
        let topology = Topology::read(&root.join(SYS_CPUS));
        let at_rest = at_rest && !before.changed();
        looks += 1;
        match topology {
            Ok(topology) if at_rest || looks == LOOKS => return Ok((topology, before)),
            Err(error) if at_rest && looks == LOOKS => {
                return Err(Refusal::new(Status::Internal, error.to_string()));
            }
            Err(_) if looks == LOOKS => return Err(in_vain()),
            _ => sleep(BETWEEN),
        }
    }
}

/// The refusal of a start during which they did.
pub fn in_vain() -> Refusal {
    Refusal::new(
        Status::Again,
        "CPUs came or went while the scheduler started: start it again",
    )
}

/// The thread beside the loading one, `loader`.
pub struct Companion {
    loader: libc::pid_t,
    before: Hotplugs,
    guarded: bool,
}

impl Companion {
    /// For the calling thread, which is about to load.
    pub fn new(before: Hotplugs, guarded: bool) -> Companion {
        Companion {
            loader: gettid().as_raw_nonzero().get(),
            before,
            guarded,
        }
    }

    /// Returns when `loading` is closed, with the loading thread's priority as it was.
    pub fn run(&self, loading: &Receiver<Infallible>) {
        // Where it may not, it lacks CAP_SYS_NICE, of which the vitals thread warns.
        let lifts = realtime::enter().is_ok() && realtime::is_ordinary(self.loader);
        let mut lifted = false;
        let mut changes = Changes::since(self.before);
        while loading.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            // Its guard starts the next one, and undoes what this start has changed.
            if self.guarded && changes.are_over(Hotplugs::read()) {
                end(&in_vain());
            }
            if lifts {
                lifted = !lifted;
                let _ = realtime::set(self.loader, lifted.then_some(realtime::LOWEST));
            }
        }
        if lifted {
            let _ = realtime::set(self.loader, None);
        }
    }
}

/// Ends the process at once: what `exit()` runs may not run beside the loading thread.
fn end(why: &Refusal) -> ! {
    why.print();
    // SAFETY: it does not return.
    unsafe { libc::_exit(why.status as i32) }
}

/// CPUs that come and go. If the first change ended a start, each further one would end the next.
struct Changes {
    before: Hotplugs,
    last: Hotplugs,
    quiet: u32,
}

impl Changes {
    fn since(before: Hotplugs) -> Changes {
        Changes {
            before,
            last: before,
            quiet: 0,
        }
    }

    /// Whether there were some, and no more are expected. Asked once a turn.
    fn are_over(&mut self, now: Hotplugs) -> bool {
        self.quiet = if now == self.last { self.quiet + 1 } else { 0 };
        self.last = now;
        now != self.before && self.quiet >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::thread::scope;

    #[test]
    fn a_cpu_that_is_on_its_way_out_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let cpus_in = root.path().join(SYS_CPUS);
        let state = |cpu: usize, state: u32, target: u32| {
            let hotplug = cpus_in.join(format!("cpu{cpu}/hotplug"));
            create_dir_all(&hotplug).unwrap();
            write(hotplug.join("target"), format!("{target}\n")).unwrap();
            write(hotplug.join("state"), format!("{state}\n")).unwrap();
        };
        state(0, 240, 240);
        state(1, 60, 0);
        write(cpus_in.join("online"), "0-1\n").unwrap();
        let topology = scope(|scope| {
            scope.spawn(|| {
                sleep(3 * BETWEEN);
                write(cpus_in.join("online"), "0\n").unwrap();
                state(1, 0, 0);
            });
            cpus(root.path()).unwrap().0
        });
        assert_eq!(topology.cpus(), [0].into());
    }

    #[test]
    fn a_start_ends_half_a_second_after_the_last_change() {
        let at = |count| Hotplugs(Some(count));
        let mut changes = Changes::since(at(7));
        assert!((0..1000).all(|_| !changes.are_over(at(7))), "there is none");
        let flaps = (8..20).flat_map(|count| [count; QUIET as usize]);
        assert!(
            flaps.map(at).all(|now| !changes.are_over(now)),
            "one follows the other"
        );
        assert!(changes.are_over(at(19)));
    }
}
