//! Periodic bursts of CPU time.

use std::thread;

use anyhow::Result;

use crate::clock::{self, MS, US};
use crate::report::{Latencies, Periodic};
use crate::rng::SplitMix64;
use crate::window::{LEAD, Turn, Window};
use crate::work::Speed;

/// Options of `burst`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many threads make bursts.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// CPU time of one burst.
    #[arg(long, default_value_t = 3000)]
    pub work_us: u64,
    /// Time from one burst's start to the next, but for the jitter.
    #[arg(long, default_value_t = 25_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub period_us: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
    /// Seed of the jitter: each start is delayed by up to a fifth of the period.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Measures from each burst's wanted start to its completion. A burst that overruns the next
/// one's start delays it, and the delay counts; bursts still waiting at the end are missed.
///
/// # Errors
///
/// As [`clock::tighten_timers`].
pub fn run(args: &Args) -> Result<Periodic> {
    clock::tighten_timers()?;
    let speed = Speed::calibrate();
    let period = args.period_us.saturating_mul(US);
    let work = args.work_us.saturating_mul(US);
    let start = clock::monotonic() + LEAD;
    let window = Window::until(start.saturating_add(args.duration_ms.saturating_mul(MS)));
    let measured = thread::scope(|scope| {
        let workers: Vec<_> = (0..args.threads)
            .map(|i| {
                let rng = SplitMix64::for_thread(args.seed, i.into());
                scope.spawn(move || bursts(window, start, period, rng, || speed.burn(work)))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("the bursts do not panic"))
            .collect::<Vec<_>>()
    });
    Ok(Periodic::sum(measured))
}

fn bursts(
    mut window: Window,
    start: u64,
    period: u64,
    mut rng: SplitMix64,
    work: impl Fn(),
) -> (Latencies, u64) {
    let mut latencies = Latencies::new();
    let mut missed = 0;
    let mut base = start;
    loop {
        let wanted = base.saturating_add(rng.below(period / 5));
        match window.wait(wanted) {
            Turn::Go(_) => {
                work();
                latencies.record(clock::monotonic() - wanted);
            }
            Turn::Missed => missed += 1,
            Turn::Over => return (latencies, missed),
        }
        base = base.saturating_add(period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_depends_on_the_seed_alone() {
        let counts = |work: fn()| {
            let start = clock::monotonic();
            let window = Window::until(start + 50 * MS);
            let (latencies, missed) = bursts(window, start, 5 * MS, SplitMix64::new(3), work);
            (latencies.summary(), missed)
        };
        let (quick, quick_missed) = counts(|| ());
        // Overload: a burst takes four periods.
        let (slow, slow_missed) = counts(|| thread::sleep(std::time::Duration::from_millis(20)));
        assert_eq!(quick.count + quick_missed, slow.count + slow_missed);
        assert!(slow_missed >= 6);
        assert!(slow.max_us > 30_000.0);
    }
}
