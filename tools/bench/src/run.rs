//! Runs scenarios under arms.

use crate::arm::{Arm, Entered, PEERS};
use crate::machine::{self, attached, cgroup, enable_seq, process_cpu, usage};
use crate::record::{Cdf, Record, Share, Work};
use crate::scenario::{Load, Scenario, Workload, shipped};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use infera_node::{STATS_SOCKET, StatsClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Stands before each record where records go to the standard output.
pub const RECORD: &str = "RECORD ";
/// From the start of load to the first window.
const SETTLE: Duration = Duration::from_millis(500);
/// How often CPU time is looked at while a window is open.
const LOOK: Duration = Duration::from_millis(200);
/// A load that is not done so long after the window has failed.
const LATE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A scenario, by its name or its file, or the first words of several names: `neighbours` for
    /// neighbours-critical to neighbours-background. All shipped ones whose programs are installed where absent.
    #[arg(long = "scenario", value_name = "NAME|FILE")]
    pub scenarios: Vec<String>,
    /// Whom to compare with: `--list` tells. eevdf, eevdf-idle and, where it is installed, scx_layered
    /// where absent, and `none` for nobody.
    #[arg(long = "against", value_name = "PEER")]
    pub against: Vec<String>,
    /// A policy of infera; weighted where absent, and `none` for none.
    #[arg(long = "policy", value_name = "POLICY")]
    pub policies: Vec<String>,
    /// How often, each time with other arrivals and the arms in another order.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub first_seed: u64,
    /// Milliseconds of each window, whatever the scenario says.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub window_ms: Option<u64>,
}

impl RunArgs {
    /// The scenarios that are meant.
    pub fn scenarios(&self) -> Result<Vec<Scenario>> {
        let named = self.scenarios.iter().map(|name| Scenario::select(name));
        let mut scenarios: Vec<Scenario> = match self.scenarios.is_empty() {
            true => shipped()
                .into_iter()
                .filter(Scenario::is_possible)
                .collect(),
            false => named.collect::<Result<Vec<_>>>()?.concat(),
        };
        for scenario in &mut scenarios {
            scenario.window_ms = self.window_ms.unwrap_or(scenario.window_ms);
        }
        Ok(scenarios)
    }

    /// The arms that are meant, peers first.
    pub fn arms(&self) -> Result<Vec<Arm>> {
        let peers = match self.against.is_empty() {
            false if self.against == ["none"] => Vec::new(),
            false => self
                .against
                .iter()
                .map(|name| Arm::peer(name))
                .collect::<Result<Vec<_>>>()?,
            true => ["eevdf", "eevdf-idle", "scx_layered"]
                .into_iter()
                .map(Arm::Peer)
                .filter(Arm::is_installed)
                .collect(),
        };
        let policies = match &self.policies[..] {
            [] => vec![Arm::policy("weighted")?],
            [none] if none == "none" => Vec::new(),
            names => names
                .iter()
                .map(|name| Arm::policy(name))
                .collect::<Result<_>>()?,
        };
        let arms: Vec<Arm> = peers.into_iter().chain(policies).collect();
        ensure!(
            !arms.is_empty(),
            "--against none --policy none leaves nobody"
        );
        for arm in &arms {
            ensure!(arm.is_installed(), "{arm} is not installed");
        }
        Ok(arms)
    }

    /// What there is, for people.
    #[must_use]
    pub fn list() -> String {
        let mut text = String::from("scenarios\n");
        for scenario in shipped() {
            text += &format!("  {:<24}{}\n", scenario.name, scenario.what);
        }
        text += "peers\n";
        for (name, what) in PEERS {
            text += &format!("  {name:<24}{what}\n");
        }
        text += "policies\n";
        for name in infera_policy::names() {
            text += &format!("  {name}\n");
        }
        text
    }
}

/// Runs everything; each record is given to `sink` as it comes, each line about progress to `say`.
pub fn run(
    args: &RunArgs,
    mut sink: impl FnMut(&Record) -> Result<()>,
    mut say: impl FnMut(&str),
) -> Result<()> {
    let (scenarios, arms) = (args.scenarios()?, args.arms()?);
    let all = args.seeds as usize * scenarios.len() * arms.len();
    let mut begun = 0;
    for seed in args.first_seed..args.first_seed + args.seeds {
        for scenario in &scenarios {
            let names = || scenario.work.iter().map(|work| &*work.name);
            machine::make_cgroups(names())?;
            for at in 0..arms.len() {
                // Whoever comes first finds another machine than who comes last.
                let arm = &arms[(at + seed as usize) % arms.len()];
                begun += 1;
                say(&format!(
                    "{begun}/{all}: {} under {arm}, seed {seed}",
                    scenario.name
                ));
                let entered = match arm.enter(scenario) {
                    Ok(entered) => entered,
                    Err(refusal) => {
                        let refused = format!("{refusal:#}");
                        say(&refused);
                        for rung in &scenario.ladder {
                            sink(&Record {
                                refused: Some(refused.clone()),
                                ..blank(scenario, arm, *rung, seed)
                            })?;
                        }
                        continue;
                    }
                };
                sleep(SETTLE);
                for rung in &scenario.ladder {
                    let record = window(scenario, arm, &entered, *rung, seed)
                        .with_context(|| format!("{} under {arm}, {rung}", scenario.name))?;
                    sink(&record)?;
                }
                entered.leave()?;
            }
            machine::remove_cgroups(names());
        }
    }
    Ok(())
}

/// A record in which nothing is measured yet.
fn blank(scenario: &Scenario, arm: &Arm, rung: u32, seed: u64) -> Record {
    Record {
        scenario: scenario.name.clone(),
        rung,
        arm: arm.to_string(),
        seed,
        kernel: machine::kernel(),
        cpus: machine::cpus(),
        attached: attached(),
        ..Record::default()
    }
}

/// A workload that runs.
struct Running<'a> {
    work: &'a Workload,
    child: Child,
    /// Where hogs count.
    progress: Option<PathBuf>,
}

impl Running<'_> {
    fn units(&self) -> u64 {
        let bytes = self.progress.as_ref().and_then(|path| fs::read(path).ok());
        let counters = bytes.unwrap_or_default();
        let counters = counters
            .chunks_exact(8)
            .map(|counter| u64::from_ne_bytes(counter.try_into().unwrap_or_default()));
        counters.sum()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return; // It ended by itself.
        }
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// A command of a workload: joins its cgroup, takes what the arm gives its tier.
fn load(arm: &Arm, work: &Workload, words: &[String]) -> Command {
    let mut command = Command::new("infera-load");
    command
        .arg(&words[0])
        .arg("--cgroup")
        .arg(cgroup(&work.name))
        .args(arm.load_options(work.tier))
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What runs all through the window, and is not waited for: `None` for the rest, and for none of it.
fn background<'a>(arm: &Arm, work: &'a Workload, rung: u32) -> Result<Option<Running<'a>>> {
    let count = work.count.unwrap_or(rung);
    let (mut line, progress) = match work.load {
        Load::Hogs | Load::Idle if count == 0 => return Ok(None),
        Load::Hogs => {
            let path = PathBuf::from(format!("/tmp/infera-bench-{}", work.name));
            let _ = fs::remove_file(&path);
            let text = path.display().to_string();
            (
                words(&["hogs", "--count", &count.to_string(), "--progress", &text]),
                Some(path),
            )
        }
        Load::Idle => (words(&["idle", "--threads", &count.to_string()]), None),
        Load::Memcached => (
            words(&[
                "run",
                "--",
                "memcached",
                "-u",
                "root",
                "-l",
                "127.0.0.1",
                "-p",
                "11211",
                "-t",
                "2",
            ]),
            None,
        ),
        Load::Pgbench => (words(&["postgres"]), None),
        _ => return Ok(None),
    };
    if matches!(work.load, Load::Hogs | Load::Idle) {
        line.extend(work.args.iter().cloned());
    }
    let child = load(arm, work, &line).stdout(Stdio::null()).spawn();
    let child = child.context("cannot start infera-load: is it installed?")?;
    if work.load == Load::Pgbench {
        let prepare = words(&["pgbench", "--prepare"]);
        let status = load(arm, work, &prepare).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "PostgreSQL cannot be prepared: {status}");
    }
    Ok(Some(Running {
        work,
        child,
        progress,
    }))
}

/// What is started with the window and ends by itself.
fn measured<'a>(arm: &Arm, work: &'a Workload, ms: u64, seed: u64) -> Result<Option<Running<'a>>> {
    let (ms, seed) = (ms.to_string(), seed.to_string());
    let timed = |name: &str| words(&[name, "--duration-ms", &ms]);
    let seeded = |name: &str| words(&[name, "--duration-ms", &ms, "--seed", &seed]);
    let mut line = match work.load {
        Load::Wake => timed("wake"),
        Load::Pingpong => timed("pingpong"),
        Load::Compile => words(&["compile"]),
        Load::Burst => seeded("burst"),
        Load::Chain => seeded("chain"),
        Load::Memcached => seeded("memcached"),
        Load::Pgbench => seeded("pgbench"),
        Load::Hackbench => words(&["run", "--", "hackbench"]),
        Load::Hogs | Load::Idle => return Ok(None),
    };
    line.extend(work.args.iter().cloned());
    let child = load(arm, work, &line).spawn();
    let child = child.context("cannot start infera-load: is it installed?")?;
    Ok(Some(Running {
        work,
        child,
        progress: None,
    }))
}

fn window(
    scenario: &Scenario,
    arm: &Arm,
    entered: &Entered,
    rung: u32,
    seed: u64,
) -> Result<Record> {
    let mut behind = Vec::new();
    for work in &scenario.work {
        behind.extend(background(arm, work, rung)?);
    }
    sleep(SETTLE);
    let seq = enable_seq();
    let used = |work: &Workload| usage(&work.name);
    let before: Vec<(f64, u64)> = scenario.work.iter().map(used).collect();
    let units: Vec<u64> = behind.iter().map(Running::units).collect();
    let scheduler = || entered.pid().map_or(0.0, process_cpu);
    let mut stats = StatsClient::new(Path::new(STATS_SOCKET));
    let mut decided = || match arm {
        Arm::Infera(_) => stats.read().map_or(0, |stats| {
            stats.tiers.values().map(|tier| tier.user).sum::<u64>()
        }),
        Arm::Peer(_) => 0,
    };
    // What came before the window.
    decided();
    let spent = scheduler();
    let begun = Instant::now();
    let mut front = Vec::new();
    for work in &scenario.work {
        front.extend(measured(arm, work, scenario.window_ms, seed)?);
    }
    let length = Duration::from_millis(scenario.window_ms);
    let mut watch = Watch::new(scenario, begun);
    loop {
        sleep(LOOK);
        watch.look(scenario, entered.holds());
        let mut running = 0;
        for one in &mut front {
            running += usize::from(one.child.try_wait()?.is_none());
        }
        // Where nothing ends by itself, the window does.
        if running == 0 && (!front.is_empty() || begun.elapsed() >= length) {
            break;
        }
        if begun.elapsed() > length + LATE {
            let names: Vec<&str> = front.iter().map(|one| &*one.work.name).collect();
            bail!("{} took a minute longer than the window", names.join(", "));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after: Vec<(f64, u64)> = scenario.work.iter().map(used).collect();
    let done: Vec<u64> = behind.iter().map(Running::units).collect();
    let spent = scheduler() - spent;
    let decisions = decided();
    let mut work: Vec<Work> = Vec::new();
    for ((one, before), after) in scenario.work.iter().zip(&before).zip(&after) {
        work.push(Work {
            name: one.name.clone(),
            tier: one.tier.name().to_owned(),
            load: format!("{:?}", one.load).to_lowercase(),
            cpu_s: after.0 - before.0,
            ..Work::default()
        });
    }
    for ((one, before), after) in behind.iter().zip(units).zip(done) {
        if let (Load::Hogs, Some(entry)) = (one.work.load, entry(&mut work, &one.work.name)) {
            // Windows are not of one length: they end with the last load.
            let units = after.saturating_sub(before) as f64;
            entry.values.insert("units_per_s".into(), units / seconds);
        }
    }
    for one in &mut front {
        let mut text = String::new();
        let out = one.child.stdout.take();
        out.context("no output")?.read_to_string(&mut text)?;
        if let Some(entry) = entry(&mut work, &one.work.name) {
            (entry.values, entry.cdf_us) = figures(one.work.load, &text)
                .with_context(|| format!("{} said: {text}", one.work.name))?;
        }
    }
    Ok(Record {
        ejected: !entered.holds() || enable_seq() != seq,
        stock_s: watch.away.as_secs_f64(),
        throttled: before.iter().zip(&after).map(|(a, b)| b.1 - a.1).sum(),
        scheduler_cpu_s: spent,
        decisions,
        seconds,
        work,
        shares: watch.shares,
        unlimited: entered.pid().is_some()
            && scenario.work.iter().any(|work| work.cpu_max.is_some()),
        ..blank(scenario, arm, rung, seed)
    })
}

fn entry<'a>(work: &'a mut [Work], name: &str) -> Option<&'a mut Work> {
    work.iter_mut().find(|work| work.name == name)
}

/// Looks while a window is open.
struct Watch {
    begun: Instant,
    last: (Instant, BTreeMap<String, f64>),
    away: Duration,
    shares: Vec<Share>,
}

impl Watch {
    fn new(scenario: &Scenario, begun: Instant) -> Watch {
        Watch {
            begun,
            last: (begun, by_tier(scenario)),
            away: Duration::ZERO,
            shares: Vec::new(),
        }
    }

    fn look(&mut self, scenario: &Scenario, holds: bool) {
        let (now, used) = (Instant::now(), by_tier(scenario));
        let passed = now.duration_since(self.last.0);
        if !holds {
            self.away += passed;
        }
        let cpus = used.iter().map(|(tier, seconds)| {
            let before = self.last.1.get(tier).copied().unwrap_or(0.0);
            (
                tier.clone(),
                (seconds - before) / passed.as_secs_f64().max(0.001),
            )
        });
        self.shares.push(Share {
            at_s: now.duration_since(self.begun).as_secs_f64(),
            cpus: cpus.collect(),
        });
        self.last = (now, used);
    }
}

fn by_tier(scenario: &Scenario) -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for work in &scenario.work {
        *used.entry(work.tier.name().to_owned()).or_insert(0.0) += usage(&work.name).0;
    }
    used
}

/// What a load printed: a line of JSON, or hackbench's time.
fn figures(load: Load, text: &str) -> Result<(BTreeMap<String, f64>, Cdf)> {
    if load == Load::Hackbench {
        let time = text.lines().find_map(|line| line.strip_prefix("Time: "));
        let seconds: f64 = time.context("no time")?.trim().parse()?;
        return Ok(([("seconds".to_owned(), seconds)].into(), Vec::new()));
    }
    let line: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let object = line.as_object().context("no object")?;
    let values = object
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
    let cdf = object.get("cdf_us").cloned().unwrap_or(json!([]));
    Ok((values.collect(), serde_json::from_value(cdf)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_print_is_read() {
        let (values, cdf) = figures(
            Load::Wake,
            "{\"kind\":\"wake\",\"count\":3,\"p99_us\":4.5,\"cdf_us\":[[0.5,1.0],[0.9,2.0]]}\n",
        )
        .unwrap();
        assert_eq!((values["p99_us"], values.len(), cdf.len()), (4.5, 2, 2));
        let (values, _) =
            figures(Load::Hackbench, "Running in process mode\nTime: 0.693\n").unwrap();
        assert_eq!(values["seconds"], 0.693);
        assert!(figures(Load::Wake, "").is_err());
        assert!(figures(Load::Hackbench, "Killed").is_err());
    }

    #[test]
    fn the_list_tells_of_everything() {
        let list = RunArgs::list();
        for word in ["lone-sleeper", "scx_layered", "weighted"] {
            assert!(list.contains(word), "{word}");
        }
    }
}
