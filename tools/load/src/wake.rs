//! How late periodic wake-ups are.

use std::thread;

use anyhow::Result;

use crate::clock::{self, MS, US};
use crate::report::{Latencies, Periodic};
use crate::rng::SplitMix64;
use crate::tour::Tour;
use crate::window::{LEAD, Turn, Window};

/// Options of `wake`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Time from one wake-up to the next.
    #[arg(long, default_value_t = 1970, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval_us: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
    /// How many threads; their wake-ups are spread over the interval.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Go to another CPU every 25 wake-ups, and stay there unless moved.
    #[arg(long)]
    pub tour: bool,
    /// Seed of the first wake-up's place within the interval.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How many wake-ups a thread on tour stays for.
const STAY: u64 = 25;

/// Measures. As in cyclictest, wake-ups that a late one overran are skipped; they are counted as
/// missed.
///
/// # Errors
///
/// As [`clock::tighten_timers`]; on a tour also as [`Tour::new`] and [`Tour::go`].
pub fn run(args: &Args) -> Result<Periodic> {
    clock::tighten_timers()?;
    let interval = args.interval_us.saturating_mul(US);
    let start = clock::monotonic() + LEAD;
    let window = Window::until(start.saturating_add(args.duration_ms.saturating_mul(MS)));
    let phase = SplitMix64::new(args.seed).below(interval);
    let threads = u64::from(args.threads);
    let measured = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|i| {
                let place = (phase + interval / threads * i) % interval;
                let first = start.saturating_add(place);
                let tour = args.tour.then_some(i as usize);
                scope.spawn(move || probe(window, first, interval, tour))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("the probe does not panic"))
            .collect::<Result<Vec<_>>>()
    });
    Ok(Periodic::sum(measured?))
}

fn probe(
    mut window: Window,
    first: u64,
    interval: u64,
    tour: Option<usize>,
) -> Result<(Latencies, u64)> {
    let mut tour = tour.map(Tour::new).transpose()?;
    let mut latencies = Latencies::new();
    let mut missed = 0;
    let mut wanted = first;
    loop {
        match window.wait(wanted) {
            Turn::Go(now) => {
                latencies.record(now - wanted);
                wanted = wanted.saturating_add(interval);
                while wanted <= now && window.contains(wanted) {
                    missed += 1;
                    wanted = wanted.saturating_add(interval);
                }
                if let Some(tour) = tour
                    .as_mut()
                    .filter(|_| latencies.count().is_multiple_of(STAY))
                {
                    // What the move takes is no wake-up's lateness.
                    tour.go()?;
                    while wanted <= clock::monotonic() {
                        wanted = wanted.saturating_add(interval);
                    }
                }
            }
            Turn::Missed => {
                missed += 1;
                wanted = wanted.saturating_add(interval);
            }
            Turn::Over => return Ok((latencies, missed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_is_counted_or_missed() {
        let args = |tour| Args {
            interval_us: 1000,
            duration_ms: 50,
            threads: 2,
            tour,
            seed: 1,
        };
        let got = run(&args(false)).unwrap();
        assert_eq!(got.latencies.count + got.missed, 100);
        // What a move took is left out.
        let got = run(&args(true)).unwrap();
        assert!(got.latencies.count + got.missed <= 100);
    }
}
