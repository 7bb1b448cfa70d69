//! `cargo xtask profile`: how many instructions a wakeup costs, and which functions they are of.
//!
//! Exact: QEMU counts them, no clock and no sampling has a part in it, and two runs print the same.

use crate::command::{output, run};
use crate::guest;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use infera_bench::Arm;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PLUGIN: &str = include_str!("../profile/count.c");
/// QEMU's whose plugins have the interface that ours is written for.
const QEMU: &str = "version 10.";
/// Stands before the name of a BPF program.
const BPF: &str = "bpf ";
/// Between what a load prints and the guest's symbols.
const SYMBOLS: &str = "SYMBOLS";

/// What is counted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum What {
    /// From a timer's interrupt to the first instruction of the Critical thread that it wakes, on a
    /// node full of Background hogs.
    Wakeup,
    /// From a write into a pipe to the next, which the Normal thread that it wakes does, on an idle node.
    Pipe,
    /// hackbench over sockets, all of it, for each message.
    Messages,
}

/// Under whom.
#[derive(Args)]
pub struct ProfileArgs {
    /// What to count.
    #[arg(value_enum, default_value = "wakeup")]
    what: What,
    /// The kernel: the beginning of a cached kernel's release.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// CPUs of the guest.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// A peer to compare with: `cargo xtask bench --list` prints them. eevdf and eevdf-idle where absent.
    #[arg(long = "against", value_name = "PEER")]
    against: Vec<String>,
    /// A policy of infera.
    #[arg(long, default_value = "weighted", value_name = "POLICY")]
    policy: String,
    /// How many functions to name.
    #[arg(long, default_value_t = 30)]
    top: usize,
}

/// Instructions per round, and calls per round, of each function.
struct Profile {
    rounds: u64,
    functions: BTreeMap<String, (f64, f64)>,
}

impl Profile {
    fn total(&self) -> f64 {
        self.functions.values().map(|(count, _)| count).sum()
    }

    fn of_bpf(&self) -> f64 {
        let programs = self
            .functions
            .iter()
            .filter(|(name, _)| name.starts_with(BPF));
        programs.map(|(_, (count, _))| count).sum::<f64>() + 0.0
    }
}

/// Counts, and prints a table.
pub fn main(args: &ProfileArgs) -> Result<()> {
    let mut arms = Vec::new();
    let default = ["eevdf".to_owned(), "eevdf-idle".to_owned()];
    let against = match args.against.is_empty() {
        true => &default[..],
        false => &args.against,
    };
    for peer in against {
        arms.push(Arm::peer(peer)?);
    }
    arms.push(Arm::policy(&args.policy)?);
    build_guest_programs()?;
    let version = output(Command::new("qemu-system-x86_64").arg("--version"))?;
    ensure!(
        version.contains(QEMU),
        "QEMU 10 is wanted, whose plugins can be loaded; this is {}",
        version.lines().next().unwrap_or_default()
    );
    let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
    let plugin = compile(scratch.path())?;
    // By one of these names, which differ between kernels.
    let (entry, newer) = match args.what {
        What::Wakeup => ("hrtimer_wakeup", None),
        What::Pipe => ("pipe_write", Some("anon_pipe_write")),
        What::Messages => ("unix_stream_sendmsg", None),
    };
    eprintln!("==> where {entry} is");
    let symbols = Symbols::parse(&run_guest(args, None, "cat /proc/kallsyms\n")?);
    let start = match newer.map(|name| symbols.address(name)) {
        Some(Ok(address)) => address,
        _ => symbols.address(entry)?,
    };
    let stop = match args.what {
        What::Wakeup => 0,
        What::Pipe | What::Messages => start,
    };
    let mut profiles = Vec::new();
    for arm in &arms {
        eprintln!("==> {arm}");
        let out = scratch.path().join("counts");
        let options = format!(
            "file={},start={start:x},stop={stop:x},out={}",
            plugin.display(),
            out.display()
        );
        let text = run_guest(args, Some(options), &script(args.what, arm)?)?;
        let (said, symbols) = text.split_once(SYMBOLS).context("the guest said nothing")?;
        eprint!("{said}");
        let counts = fs::read_to_string(&out).context("the plugin left no counts")?;
        profiles.push(read(&counts, &Symbols::parse(symbols))?);
    }
    print!("{}", table(&arms, &profiles, args.top));
    Ok(())
}

fn compile(scratch: &Path) -> Result<PathBuf> {
    let (source, plugin) = (scratch.join("count.c"), scratch.join("count.so"));
    fs::write(&source, PLUGIN)?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]);
    run(cc.arg(&plugin).arg(&source))?;
    Ok(plugin)
}

fn run_guest(args: &ProfileArgs, plugin: Option<String>, script: &str) -> Result<String> {
    let peers = crate::peers::installed(&crate::cache::dir("peers")?);
    let options = VmOptions {
        kernel: args.kernel.clone(),
        cpus: args.cpus,
        exact: true,
        plugin,
        timeout: Duration::from_secs(900),
        boot_config: !peers.is_empty(),
        programs: [guest::programs(), peers].concat(),
        script: script.to_owned(),
        ..guest::options()
    };
    let command = ["sh", "/infera/script"].map(str::to_owned);
    let outcome = vm::run(&options, &command, |_| {})?;
    if outcome.status != 0 {
        bail!(
            "the guest failed\n{}\n{}",
            outcome.output,
            console_tail(&outcome.console)
        );
    }
    Ok(outcome.output)
}

/// The load runs in the bench's way: an arm is set up there, and nowhere else.
fn script(what: What, arm: &Arm) -> Result<String> {
    let (head, work) = match what {
        What::Wakeup => (
            "ladder = [16]",
            "name = \"service\"\ntier = \"critical\"\nload = \"wake\"\nargs = [\"--interval-us\", \"490\"]\n\
             [[work]]\nname = \"batch\"\ntier = \"background\"\nload = \"hogs\"",
        ),
        What::Pipe => (
            "ladder = [0]",
            "name = \"pair\"\ntier = \"normal\"\nload = \"pingpong\"",
        ),
        What::Messages => (
            "ladder = [0]",
            "name = \"groups\"\ntier = \"normal\"\nload = \"hackbench\"\nargs = [\"-g\", \"4\", \"-l\", \"100\"]",
        ),
    };
    let chosen = match arm {
        Arm::Peer(peer) => format!("--against {peer} --policy none"),
        Arm::Infera(policy) => format!("--against none --policy {policy}"),
    };
    // The names of BPF programs go with their scheduler.
    Ok(format!(
        "cat >/tmp/profile.toml <<END\nname = \"profile\"\nwhat = \"counted\"\nwindow_ms = 2000\n{head}\n\
         [[work]]\n{work}\nEND\n\
         (until grep -q enabled /sys/kernel/sched_ext/state; do sleep 0.2; done\n\
         grep '\\[bpf\\]' /proc/kallsyms >/tmp/programs) &\n\
         infera bench --raw --scenario /tmp/profile.toml {chosen} >/dev/null || exit 1\n\
         echo {SYMBOLS}\ncat /proc/kallsyms /tmp/programs 2>/dev/null\nexit 0\n"
    ))
}

/// Where the guest's functions are, its BPF programs among them.
struct Symbols(Vec<(u64, String)>);

impl Symbols {
    fn parse(text: &str) -> Symbols {
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let kind = words.next()?;
                (address >> 63 == 1 && "tTwW".contains(kind))
                    .then(|| Some((address, words.next()?.to_owned())))?
            })
            .collect();
        symbols.sort();
        Symbols(symbols)
    }

    fn address(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|(_, known)| known == name);
        let (address, _) = found.with_context(|| format!("the kernel has no {name}"))?;
        Ok(*address)
    }

    /// The function at an address, and whether it begins there.
    fn at(&self, address: u64) -> (&str, bool) {
        if address >> 63 == 0 {
            return ("user space", false);
        }
        let next = self.0.partition_point(|(begin, _)| *begin <= address);
        match next.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some((begin, name)) => (name, *begin == address),
            None => ("unknown", false),
        }
    }
}

fn read(counts: &str, symbols: &Symbols) -> Result<Profile> {
    let mut lines = counts.lines();
    let rounds: u64 = lines.next().context("no counts")?.parse()?;
    ensure!(rounds > 0, "it did not happen once");
    let mut functions: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let mut word = || words.next().context("a count is cut");
        let address = u64::from_str_radix(word()?, 16)?;
        let (instructions, runs): (u64, u64) = (word()?.parse()?, word()?.parse()?);
        let (name, begins) = symbols.at(address);
        // A BPF program's name: prog, a hash of it, what it is called.
        let name = match name
            .strip_prefix("bpf_prog_")
            .and_then(|rest| rest.split_once('_'))
        {
            Some((_, name)) if !name.is_empty() => format!("{BPF}{name}"),
            _ => name.to_owned(),
        };
        let function = functions.entry(name).or_default();
        function.0 += (instructions * runs) as f64 / rounds as f64;
        function.1 += f64::from(u8::from(begins)) * runs as f64 / rounds as f64;
    }
    Ok(Profile { rounds, functions })
}

fn table(arms: &[Arm], profiles: &[Profile], top: usize) -> String {
    let mut text = format!("{:<40}", "instructions (calls) a round");
    for arm in arms {
        let _ = write!(text, "{:>20}", arm.to_string());
    }
    let _ = write!(text, "\n{:<40}", "all");
    for profile in profiles {
        let _ = write!(text, "{:>20}", format!("{:.0}", profile.total()));
    }
    let _ = write!(text, "\n{:<40}", "of these in BPF programs");
    for profile in profiles {
        let _ = write!(text, "{:>20}", format!("{:.0}", profile.of_bpf()));
    }
    let _ = write!(text, "\n{:<40}", "rounds");
    for profile in profiles {
        let _ = write!(text, "{:>20}", profile.rounds);
    }
    text.push('\n');
    let names: BTreeSet<&String> = profiles
        .iter()
        .flat_map(|one| one.functions.keys())
        .collect();
    let most = |name: &String| {
        let counts = profiles.iter().filter_map(|one| one.functions.get(name));
        counts.map(|(count, _)| *count).fold(0.0, f64::max)
    };
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by(|a, b| most(b).total_cmp(&most(a)));
    for name in names.into_iter().take(top) {
        let _ = write!(text, "{name:<40}");
        for profile in profiles {
            let cell = match profile.functions.get(name) {
                Some((count, calls)) => format!("{count:.0} ({calls:.1})"),
                None => "-".to_owned(),
            };
            let _ = write!(text, "{cell:>20}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "0000000000000000 A fixed\nffffffff81000010 T second\nffffffff81000000 t first\n\
                            ffffffff82000000 D data\nffffffffa0000000 t bpf_prog_de64d3563fb015a8_infera_dispatch\t[bpf]\n";

    #[test]
    fn blocks_belong_to_functions() {
        let symbols = Symbols::parse(KALLSYMS);
        assert_eq!(symbols.address("second").unwrap(), 0xffff_ffff_8100_0010);
        assert!(symbols.address("data").is_err());
        let counts = "2\nffffffff81000000 3 4\nffffffff8100000f 1 2\n555555550000 5 2\nffffffffa0000004 1 2\n";
        let profile = read(counts, &symbols).unwrap();
        assert_eq!(profile.functions["first"], (7.0, 2.0));
        assert_eq!(profile.functions["user space"], (5.0, 0.0));
        assert_eq!(profile.functions["bpf infera_dispatch"], (1.0, 0.0));
        assert!(read("0\n", &symbols).is_err());
        let text = table(&[Arm::peer("eevdf").unwrap()], &[profile], 1);
        assert!(text.contains("13\n") && text.contains("7 (2.0)"), "{text}");
        assert!(!text.contains("user space"), "{text}");
    }
}
