//! `cargo xtask soak`: hours of random load and random changes in exact time. What happens is
//! decided by the seed alone, so that a failure can be had again.

use crate::rows::Rows;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use crate::{guest, kernel};
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::fmt::Write as _;
use std::time::Duration;

const SCRIPT: &str = include_str!("../guest-scripts/soak.sh");
const TIERS: [&str; 5] = ["critical", "high", "normal", "low", "background"];

/// Virtual seconds between checks.
const CHECK: f64 = 30.0;

/// Growth of the scheduler's resident memory that is still flat, in KiB.
const FLAT: f64 = 512.0;

/// How long, and which.
#[derive(Args)]
pub struct SoakArgs {
    /// Virtual hours of each run.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one run each.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The kernel: the beginning of a cached kernel's release, or `newest`.
    #[arg(long, default_value = kernel::NEWEST)]
    kernel: String,
    /// The policy.
    #[arg(long, default_value = "weighted")]
    policy: String,
    /// An instruction takes 2 to the power of N virtual nanoseconds. A machine that is 8 times
    /// slower is harder on the scheduler, and its hour takes a quarter of an hour.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=6))]
    shift: u8,
    /// The placement linter runs beside it, nothing is misconfigured on purpose and no thread is
    /// bound to CPUs: fails when the linter says anything.
    #[arg(long)]
    linter: bool,
    /// Prints the script of the first run and does not run it.
    #[arg(long)]
    print: bool,
}

/// Runs them; fails at the first thing that is not as promised.
pub fn main(args: &SoakArgs) -> Result<()> {
    if args.print {
        print!("{}", script(args, args.seed));
        return Ok(());
    }
    if args.kernel == kernel::NEWEST {
        kernel::fetch::main(false, kernel::fetch::UNSTABLE)?;
    }
    build_guest_programs()?;
    for seed in args.seed..args.seed + args.seeds {
        println!(
            "seed {seed}, {} virtual hours on {}; again with: cargo xtask soak --hours {} --seed {seed} --kernel {} --policy {} --shift {}{}",
            args.hours,
            args.kernel,
            args.hours,
            args.kernel,
            args.policy,
            args.shift,
            if args.linter { " --linter" } else { "" }
        );
        run(args, seed)?;
    }
    Ok(())
}

fn run(args: &SoakArgs, seed: u64) -> Result<()> {
    let options = VmOptions {
        kernel: args.kernel.clone(),
        exact: true,
        seed,
        shift: args.shift,
        // Four CPUs that are busy take some two seconds for a virtual one.
        timeout: Duration::from_secs_f64(args.hours * 3600.0 * 6.0 + 300.0),
        script: script(args, seed),
        ..guest::options()
    };
    let command = ["sh", "/infera/script"].map(str::to_owned);
    let mut checks = Vec::new();
    let outcome = vm::run(&options, &command, |line| {
        let rows = Rows::parse(line);
        let figure = |key| rows.get("check", "soak", key).unwrap_or(f64::NAN);
        if rows.row("check", "soak").is_none() {
            return println!("    {line}");
        }
        println!(
            "  {:>8.0} virtual s: resident {:.0} KiB, {} major faults, longest wait {} ms",
            figure("virtual_s"),
            figure("rss_kb"),
            figure("major_faults"),
            figure("longest_wait_ms")
        );
        checks.push((figure("rss_kb"), figure("major_faults")));
    })?;
    if outcome.status != 0 {
        bail!("seed {seed} failed\n{}", console_tail(&outcome.console));
    }
    let (Some(first), Some(last)) = (checks.first(), checks.last()) else {
        bail!("nothing was checked");
    };
    ensure!(last.1 == 0.0, "{} major faults after attaching", last.1);
    ensure!(
        last.0 - first.0 <= FLAT,
        "resident memory grew from {} to {} KiB",
        first.0,
        last.0
    );
    println!("  seed {seed}: {} checks, all as promised", checks.len());
    Ok(())
}

/// SplitMix64: its sequence depends on the seed alone, in every version of this program.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    fn tier(&mut self) -> &'static str {
        TIERS[self.within(0..=4) as usize]
    }
}

fn script(args: &SoakArgs, seed: u64) -> String {
    let mut random = Random(seed);
    let mut script = format!(
        "POLICY={}\nSECONDS_ASKED={}\nLINTER={}\n{SCRIPT}\n",
        args.policy,
        (args.hours * 3600.0) as u64,
        if args.linter { "1" } else { "" },
    );
    let (mut now, mut checked) = (0.0, 0.0);
    while now < args.hours * 3600.0 {
        step(&mut script, &mut random, args.linter);
        let pause = random.within(50..=2500) as f64 / 1000.0;
        let _ = writeln!(script, "usleep {}", (pause * 1e6) as u64);
        now += pause;
        if now - checked >= CHECK {
            script.push_str("check\n");
            // The check itself looks for three seconds.
            now += 3.0;
            checked = now;
        }
    }
    script + "check\nfinish\n"
}

/// One random thing.
fn step(script: &mut String, random: &mut Random, calm: bool) {
    let tier = random.tier();
    let ms = random.within(100..=6000);
    let _ = match random.within(0..=11) {
        // What an operator of sound mind does not do every few seconds.
        7 | 10 | 11 if calm => writeln!(script, "wake {tier} 1 {ms}"),
        0..=2 => writeln!(script, "hogs {tier} {} {ms}", random.within(1..=12)),
        3 | 4 => writeln!(script, "wake {tier} {} {ms}", random.within(1..=8)),
        5 | 6 => writeln!(script, "burst {tier} {} {ms}", random.within(1..=6)),
        7 => writeln!(
            script,
            "pinned {tier} {} {ms} 0x{:x}",
            random.within(1..=4),
            random.within(1..=15)
        ),
        8 => writeln!(script, "forks {}", random.within(5..=60)),
        9 => writeln!(script, "cgroups {tier} {}", random.within(1..=10)),
        10 => writeln!(
            script,
            "move {tier} {} {}",
            random.tier(),
            random.within(1..=3)
        ),
        _ => writeln!(script, "config <<'X'\n{}X\nreload", config(random)),
    };
}

/// A configuration of random values, all of them allowed.
fn config(random: &mut Random) -> String {
    let mut text = format!(
        "user_bound_ms = {}\nloans = {}\n",
        random.within(20..=200),
        random.within(0..=1) == 1
    );
    for tier in TIERS {
        let _ = writeln!(
            text,
            "[tiers.{tier}]\nslice_us = {}\nweight = {}\nmin_share = 0.0{}\nmax_wait_ms = {}",
            random.within(1000..=40_000),
            random.within(1..=10_000),
            random.within(1..=9),
            random.within(50..=1000)
        );
        if tier == "critical" && random.within(0..=1) == 1 {
            let _ = writeln!(text, "fence_cores = {}", random.within(1..=3));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(hours: f64) -> SoakArgs {
        SoakArgs {
            hours,
            seed: 1,
            seeds: 1,
            kernel: String::new(),
            policy: "weighted".into(),
            shift: 3,
            linter: false,
            print: false,
        }
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(script(&args(0.1), 7), script(&args(0.1), 7));
        assert_ne!(script(&args(0.1), 7), script(&args(0.1), 8));
    }

    #[test]
    fn the_script_lasts_as_long_as_asked() {
        let script = script(&args(0.5), 3);
        let pauses: f64 = script
            .lines()
            .filter_map(|line| line.strip_prefix("usleep ")?.parse::<f64>().ok())
            .sum();
        let checks = script.lines().filter(|line| *line == "check").count() as f64;
        let hours = (pauses / 1e6 + 3.0 * checks) / 3600.0;
        assert!((0.49..0.51).contains(&hours), "{hours}");
        assert!(checks >= 50.0);
    }
}
