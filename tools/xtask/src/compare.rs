//! `cargo xtask compare`: wakeups and bursts beside 16 hogs, ours against the stock scheduler
//! set up as well as two cgroup writes can, all in one boot and in exact time.

use crate::guest;
use crate::rows::Rows;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::time::Duration;

const SCRIPT: &str = include_str!("../guest-scripts/compare.sh");

/// The phases of the script, and what they are to the reader.
const PHASES: [(&str, &str); 5] = [
    ("idle", "idle node, no hogs"),
    ("eevdf-equal", "stock, equal weights"),
    ("eevdf-idle", "stock, hogs cpu.idle, load weight 10000"),
    ("critical", "scx_infera, Critical beside Background"),
    ("high", "scx_infera, High beside Normal"),
];

/// A figure of ours as a multiple of another, and how much is promised at HZ=1000.
struct Ratio {
    title: &'static str,
    ours: (&'static str, &'static str, &'static str),
    theirs: &'static str,
    /// At most this, or at least this for work done.
    bound: f64,
}

const RATIOS: [Ratio; 6] = [
    Ratio {
        title: "Critical wakeup p99 / stock with cpu.idle",
        ours: ("critical", "wake", "p99_us"),
        theirs: "eevdf-idle",
        bound: 1.15,
    },
    Ratio {
        title: "Critical wakeup p99.9 / stock with cpu.idle",
        ours: ("critical", "wake", "p999_us"),
        theirs: "eevdf-idle",
        bound: 1.25,
    },
    Ratio {
        title: "Critical burst p99 / idle node",
        ours: ("critical", "burst", "p99_us"),
        theirs: "idle",
        bound: 1.1,
    },
    Ratio {
        title: "High burst p99 / idle node",
        ours: ("high", "burst", "p99_us"),
        theirs: "idle",
        bound: 1.2,
    },
    Ratio {
        title: "hogs' work beside Critical / stock, equal weights",
        ours: ("critical", "hogs", "units"),
        theirs: "eevdf-equal",
        bound: 0.97,
    },
    Ratio {
        title: "hogs' work beside High / stock, equal weights",
        ours: ("high", "hogs", "units"),
        theirs: "eevdf-equal",
        bound: 0.97,
    },
];

/// What to compare.
#[derive(Args)]
pub struct CompareArgs {
    /// The kernel: the beginning of a cached kernel's release.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// How many runs, each with another seed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// QEMU runs every CPU at least once in this many virtual microseconds: `vm run --help`.
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..))]
    turn_us: u32,
    /// The policy that orders the hogs.
    #[arg(long, default_value = "weighted")]
    policy: String,
    /// Virtual milliseconds of each measurement.
    #[arg(long, default_value_t = 4000, value_name = "MS")]
    duration_ms: u64,
}

/// Runs it, prints what was measured, fails when a median ratio is out of its bound.
pub fn main(args: &CompareArgs) -> Result<()> {
    build_guest_programs()?;
    let mut runs = Vec::new();
    for seed in 1..=args.seeds {
        eprintln!("==> seed {seed} of {}", args.seeds);
        let rows = measure(args, seed)?;
        print!("{}", table(seed, &rows));
        runs.push(rows);
    }
    let (text, met) = judge(&runs)?;
    print!("{text}");
    if !met {
        bail!("a ratio is out of its bound");
    }
    Ok(())
}

fn measure(args: &CompareArgs, seed: u64) -> Result<Rows> {
    let options = VmOptions {
        kernel: args.kernel.clone(),
        exact: true,
        seed,
        turn_us: Some(args.turn_us),
        timeout: Duration::from_secs(1800),
        ..guest::options()
    };
    let (ms, policy) = (args.duration_ms, &args.policy);
    let script = format!("MS={ms} SEED={seed} POLICY={policy}\n{SCRIPT}");
    let command = ["sh", "-c", &script].map(str::to_owned);
    let outcome = vm::run(&options, &command, |line| eprintln!("    {line}"))?;
    if outcome.status != 0 {
        bail!("the comparison failed\n{}", console_tail(&outcome.console));
    }
    Ok(Rows::parse(&outcome.output))
}

fn table(seed: u64, rows: &Rows) -> String {
    let mut text = format!(
        "\n{:<42}{:>24}{:>24}{:>10}\n",
        format!("seed {seed}, virtual us, p50 / p99 / p99.9"),
        "wakeup",
        "burst of 3 ms",
        "hogs"
    );
    for (phase, title) in PHASES {
        let hogs = rows.get(phase, "hogs", "units");
        text += &format!(
            "{title:<42}{:>24}{:>24}{:>10}\n",
            rows.percentiles(phase, "wake"),
            rows.percentiles(phase, "burst"),
            hogs.map_or("-".to_owned(), |units| format!("{units:.0}")),
        );
    }
    text
}

/// Each ratio's median and range over the runs, and whether all medians are within bounds.
fn judge(runs: &[Rows]) -> Result<(String, bool)> {
    let mut text = format!(
        "\n{:<52}{:>18}{:>18}\n",
        "median (range)", "measured", "bound"
    );
    let mut met = true;
    for ratio in &RATIOS {
        let (phase, kind, key) = ratio.ours;
        let mut measured = runs
            .iter()
            .map(|rows| Some(rows.get(phase, kind, key)? / rows.get(ratio.theirs, kind, key)?))
            .collect::<Option<Vec<f64>>>()
            .with_context(|| format!("{kind} of {phase} was not measured"))?;
        measured.sort_by(f64::total_cmp);
        let (least, most) = (measured[0], measured[measured.len() - 1]);
        let median = (measured[(measured.len() - 1) / 2] + measured[measured.len() / 2]) / 2.0;
        let at_least = key == "units";
        let within = if at_least {
            median >= ratio.bound
        } else {
            median <= ratio.bound
        };
        met &= within;
        text += &format!(
            "{:<52}{:>18}{:>18}\n",
            ratio.title,
            format!("{median:.3} ({least:.2}-{most:.2})"),
            format!(
                "{} {} {}",
                if at_least { ">=" } else { "<=" },
                ratio.bound,
                if within { "ok" } else { "OVER" }
            ),
        );
    }
    Ok((text, met))
}

#[cfg(test)]
mod tests {
    use super::{Rows, judge};

    fn run(critical_p99: f64, hogs: f64) -> Rows {
        let mut text = String::new();
        for phase in ["idle", "eevdf-equal", "eevdf-idle", "critical", "high"] {
            let p99 = if phase == "critical" {
                critical_p99
            } else {
                100.0
            };
            for kind in ["wake", "burst"] {
                text += &format!(
                    "{phase} {{\"kind\":\"{kind}\",\"p99_us\":{p99},\"p999_us\":{p99}}}\n"
                );
            }
            let units = if phase == "high" { hogs } else { 1000.0 };
            text += &format!("{phase} {{\"kind\":\"hogs\",\"units\":{units}}}\n");
        }
        Rows::parse(&text)
    }

    #[test]
    fn the_median_counts() {
        let within = |runs: &[Rows]| judge(runs).expect("everything is there").1;
        assert!(within(&[run(105.0, 980.0)]));
        assert!(within(&[
            run(105.0, 980.0),
            run(200.0, 980.0),
            run(104.0, 980.0)
        ]));
        assert!(!within(&[run(112.0, 980.0)]), "burst is promised at 1.1");
        assert!(!within(&[run(105.0, 960.0)]), "hogs lose too much");
    }

    #[test]
    fn a_missing_measurement_is_an_error() {
        assert!(judge(&[Rows::parse("")]).is_err());
    }
}
