//! The thread that publishes vitals for the guard, from the overlay's own counters. It asks the
//! loop nothing, so it reports a loop that is stuck, too.

use crate::bpf_skel::types::bss;
use crate::shares::Shares;
use crate::silence::{Reading, Silence};
use anyhow::{Context, Result, ensure};
use crossbeam::channel::Receiver;
use infera_heartbeat::{Page, Phase, TIERS, Vitals};
use infera_policy::{Fault, Tier};
use libbpf_rs::{MapCore, MapHandle, libbpf_sys};
use log::{error, info, warn};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often.
pub const PERIOD: Duration = Duration::from_millis(50);

/// A guard that has not read the heartbeat for this long does not protect this node any more.
const GUARD_AWAY: Duration = Duration::from_secs(3);

const _: () = assert!(TIERS == Tier::COUNT);

/// Set when the policy was deposed; the loop does that.
pub static DEPOSED: AtomicBool = AtomicBool::new(false);

/// Set when the guard does not watch any more, and we leave for that.
pub static UNWATCHED: AtomicBool = AtomicBool::new(false);

/// The overlay as this thread sees it.
pub struct Eyes {
    /// Has the overlay measure.
    pub measure: OwnedFd,
    /// The map that holds the overlay's variables.
    pub bss: MapHandle,
    /// One more than the highest CPU's number.
    pub cpus: usize,
}

impl Eyes {
    /// The overlay's variables. This thread writes shares alone.
    fn open(&self) -> Result<*mut bss> {
        let size = self.bss.value_size() as usize;
        ensure!(size >= size_of::<bss>(), "the overlay's .bss is too short");
        // SAFETY: a new mapping at an address of the kernel's choice, which touches no other.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &self.bss,
                0,
            )
        };
        Ok(address.context("cannot map the overlay's .bss")?.cast())
    }

    fn measure(&self) -> Result<()> {
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            ..Default::default()
        };
        // SAFETY: the program takes no context, and the options outlive the call.
        let result =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.measure.as_raw_fd(), &mut options) };
        ensure!(result == 0, "cannot run infera_measure: error {}", -result);
        Ok(())
    }
}

/// Publishes vitals until the process ends, or until a guard has not read the heartbeat for three seconds: then it requests the
/// process's end. Also logs a policy's fault.
///
/// # Errors
///
/// The overlay's .bss is shorter than this program expects, or cannot be mapped. Once it publishes, it returns no
/// error: the first measurement that fails is logged.
pub fn publish(eyes: &Eyes, faults: &Receiver<Fault>, page: &Page, guarded: bool) -> Result<()> {
    let bss = eyes.open()?;
    // The guard's own priority: other real-time threads then delay both alike, and neither takes the other's delay for a fault.
    if let Err(error) = infera_link::realtime::enter() {
        info!("the vitals thread runs without real-time priority ({error}): it lacks CAP_SYS_NICE");
    }
    crate::privileges::drop_most();
    let before = major_faults();
    let mut complained = false;
    let mut shares = Shares::new();
    let mut silence = Silence::since(crate::scheduler::now().0);
    loop {
        if let Err(error) = eyes.measure()
            && !complained
        {
            warn!("{error:#}");
            complained = true;
        }
        // SAFETY: the mapping lives on, and no other thread writes what this one does.
        unsafe { shares.update(bss) };
        // SAFETY: the mapping lives on.
        let (reading, ring_full) = unsafe { read(bss, eyes.cpus, page) };
        let silent = silence.update(&reading);
        page.publish(Vitals {
            beat: reading.now,
            unseen: silent.unseen,
            waited: silent.waited,
            unserved: silent.unserved,
            ring_full,
            major_faults: major_faults().saturating_sub(before),
            deposed: DEPOSED.load(Ordering::Relaxed).into(),
            ..Vitals::default()
        });
        // Not before: once the phase is attached, the guard expects a beat.
        page.begin();
        for fault in faults.try_iter() {
            error!("{fault}: arrival order decides from now on; start again with another policy");
        }
        let away = silence.lasted(page.guard_beat());
        if guarded && page.phase() == Phase::Attached && away > GUARD_AWAY {
            error!(
                "the guard has not read the heartbeat for {} ms: detaching, because it would miss a fault",
                away.as_millis()
            );
            UNWATCHED.store(true, Ordering::Relaxed);
            leave();
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

/// What the overlay and the loop show now, and how many tasks have found the ring to the policy full.
///
/// # Safety
///
/// `bss` must point at the overlay's mapped variables.
unsafe fn read(bss: *const bss, cpus: usize, page: &Page) -> (Reading, u64) {
    let now = crate::scheduler::now().0;
    // SAFETY: as promised; each field is a word that the kernel side writes, and whichever value is read is one that it had.
    let (waited, cpu_time, unseen, idle, realtime_at, ring_full) = unsafe {
        (
            ptr::read_volatile(&raw const (*bss).infera_waited),
            cpu_time(bss, cpus),
            ptr::read_volatile(&raw const (*bss).infera_unseen),
            ptr::read_volatile(&raw const (*bss).infera_sched_idle),
            ptr::read_volatile(&raw const (*bss).infera_realtime_at),
            ptr::read_volatile(&raw const (*bss).nr_sched_congested),
        )
    };
    let reading = Reading {
        now,
        realtime_at,
        waited: std::array::from_fn(|tier| waited[tier]),
        oldest: page.oldest(),
        cpu_time,
        unseen,
        rests: idle != 0,
        rounds: page.rounds(),
    };
    (reading, ring_full)
}

/// Each tier's CPU time on all CPUs.
///
/// # Safety
///
/// `bss` must point at the overlay's mapped variables.
unsafe fn cpu_time(bss: *const bss, cpus: usize) -> [u64; TIERS] {
    std::array::from_fn(|tier| {
        // SAFETY: as above; the index is bounded.
        let time = |cpu: usize| unsafe {
            ptr::read_volatile(&raw const (*bss).infera_cpu_time[cpu][tier])
        };
        (0..cpus).map(time).fold(0, u64::wrapping_add)
    })
}

/// What a signal to stop does.
fn leave() {
    // SAFETY: it sends this process a signal that it handles.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

fn major_faults() -> u64 {
    // SAFETY: all zeroes is a valid value, and getrusage fills it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    usage.ru_majflt as u64
}
