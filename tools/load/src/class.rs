//! The scheduling class that this process was started with, or was asked to have: a real-time priority or a
//! short slice are what the stock scheduler offers a service by itself.

use std::io;

use anyhow::{Context, Result};

use crate::clock::US;

/// `struct sched_attr` of the kernel, in its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Nanoseconds; for ordinary tasks the slice, from Linux 6.12 on.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// A policy with its priority, nice value and slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(SchedAttr);

impl Class {
    /// Changes the class of this process, of the threads that it starts and of the command that it becomes, where
    /// something is asked for; the nice value stays. Returns the class that it then has.
    ///
    /// # Errors
    ///
    /// The process may not have this class: SCHED_FIFO needs CAP_SYS_NICE or RLIMIT_RTPRIO. Before Linux 6.12 the
    /// kernel accepts a slice and ignores it.
    pub fn apply(fifo: Option<u32>, fair_slice_us: Option<u64>) -> Result<Class> {
        let inherited = Class::inherited()?;
        let attr = match (fifo, fair_slice_us) {
            (Some(priority), _) => SchedAttr {
                policy: libc::SCHED_FIFO as u32,
                priority,
                ..SchedAttr::default()
            },
            (None, Some(us)) => SchedAttr {
                policy: libc::SCHED_OTHER as u32,
                nice: inherited.0.nice,
                runtime: us * US,
                ..SchedAttr::default()
            },
            (None, None) => return Ok(inherited),
        };
        let class = Class(attr);
        class.set()?;
        Ok(class)
    }

    /// The class of this thread as it is, but for its slice: which of those the kernel reports were asked for, and
    /// which are its defaults of the moment, it does not say.
    fn inherited() -> Result<Class> {
        let mut attr = SchedAttr::default();
        let size = size_of::<SchedAttr>() as u32;
        // SAFETY: the kernel writes at most `size` bytes, and there are as many.
        let rc = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
        if rc != 0 {
            return Err(io::Error::last_os_error()).context("sched_getattr");
        }
        let slice = attr.policy != libc::SCHED_DEADLINE as u32;
        Ok(Class(SchedAttr {
            size: 0,
            runtime: if slice { 0 } else { attr.runtime },
            ..attr
        }))
    }

    /// The same with another nice value.
    pub fn with_nice(self, nice: i32) -> Class {
        Class(SchedAttr { nice, ..self.0 })
    }

    /// Gives this class to the calling thread: to what [`Class::stand_above`] made of its maker's children.
    ///
    /// # Errors
    ///
    /// The thread may not have this class: a real-time priority or a lower nice value needs CAP_SYS_NICE or a limit
    /// that allows it.
    pub fn take(self) -> Result<()> {
        // What is plain already needs no system call: of a crowd of 10,000 there would be as many.
        match self.0 == SchedAttr::default() {
            true => Ok(()),
            false => self.set(),
        }
    }

    /// Puts the calling thread above all threads of this class, and its children from now on into the plain
    /// one: without the right to it, it stays as it was.
    pub fn stand_above(self) {
        let real_time = [libc::SCHED_FIFO, libc::SCHED_RR].map(|policy| policy as u32);
        let above = match real_time.contains(&self.0.policy) {
            true => (self.0.priority + 1).min(99),
            false => 1,
        };
        let parameters = libc::sched_param {
            sched_priority: above as libc::c_int,
        };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the parameters outlive the call.
        unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    }

    fn set(self) -> Result<()> {
        let attr = SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            ..self.0
        };
        // SAFETY: the kernel reads `size` bytes, which are there and initialised.
        let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        match rc {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).context("sched_setattr"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_nice_value_survives_a_maker_that_stands_above() {
        // In a thread of its own, since a nice value can be raised, and not lowered again without the right to it.
        let nice = thread::spawn(|| {
            let class = Class::apply(None, None).unwrap().with_nice(7);
            class.take().unwrap();
            let inherited = Class::apply(None, None).unwrap();
            inherited.stand_above();
            let child = thread::spawn(move || {
                inherited.take().unwrap();
                Class::inherited().unwrap().0.nice
            });
            child.join().unwrap()
        });
        assert_eq!(nice.join().unwrap(), 7);
    }

    #[test]
    fn a_slice_leaves_the_nice_value() {
        let nice = thread::spawn(|| {
            let class = Class::apply(None, None).unwrap().with_nice(3);
            class.take().unwrap();
            Class::apply(None, Some(1000)).unwrap();
            Class::inherited().unwrap().0.nice
        });
        assert_eq!(nice.join().unwrap(), 3);
    }
}
