//! `cargo xtask faults`: everything that can break, broken under load on a real kernel, and
//! what the node does then.

use crate::rows::Rows;
use crate::setup;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use crate::{guest, kernel};
use anyhow::{Result, bail};
use clap::Args;
use infera_guest_tests::{FREEZE_LINE, FROZEN};
use std::time::Duration;

const SCRIPT: &str = include_str!("../guest-scripts/faults.sh");

/// How many faults share a boot.
const BATCH: usize = 6;

/// What the node must do.
#[derive(Clone, Copy, PartialEq)]
enum Node {
    /// Never leave us.
    Stays,
    /// Be on the stock scheduler after at most this many ms, and then on ours again.
    Returns(f64),
    /// Be on the stock scheduler after at most this many ms, and stay there.
    Leaves(f64),
    /// Leave us for good, at a moment that only the tasks' longest wait shows.
    Left,
}

/// What carries a fault out.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// A function of guest-scripts/faults.sh.
    Script,
    /// A row of tools/guest-tests. New ones are there.
    GuestTests,
    /// The same, in a machine that is frozen when the row asks for it.
    Frozen,
}

#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    what: &'static str,
    node: Node,
    /// No task may wait longer, in ms.
    wait: f64,
    /// Whether every CI run has it.
    fast: bool,
    by: By,
}

const fn fault(name: &'static str, what: &'static str, node: Node, fast: bool) -> Fault {
    Fault {
        name,
        what,
        node,
        wait: 1_500.0,
        fast,
        by: By::Script,
    }
}

/// The row about it has its own bound on waiting.
const fn waits(fault: Fault, wait: f64) -> Fault {
    Fault { wait, ..fault }
}

const FAULTS: &[Fault] = &[
    fault(
        "sigkill_scheduler",
        "SIGKILL of the scheduler",
        Node::Returns(150.0),
        true,
    ),
    fault(
        "sigstop_scheduler",
        "SIGSTOP of the scheduler",
        Node::Returns(1_000.0),
        true,
    ),
    fault(
        "sigsegv_scheduler",
        "SIGSEGV of the scheduler",
        Node::Returns(150.0),
        false,
    ),
    fault(
        "sigkill_guard",
        "SIGKILL of the guard",
        Node::Leaves(150.0),
        true,
    ),
    fault(
        "sigsegv_guard",
        "SIGSEGV of the guard",
        Node::Leaves(150.0),
        false,
    ),
    waits(
        fault(
            "sigstop_guard",
            "SIGSTOP of the guard",
            Node::Returns(4_000.0),
            false,
        ),
        1_500.0,
    ),
    fault("sigkill_both", "SIGKILL of both", Node::Leaves(150.0), true),
    waits(
        fault(
            "sigstop_both",
            "SIGSTOP of both",
            Node::Returns(2_500.0),
            true,
        ),
        3_000.0,
    ),
    fault(
        "sigsegv_both",
        "SIGSEGV of both",
        Node::Leaves(150.0),
        false,
    ),
    fault("policy_panic", "the policy panics", Node::Stays, true),
    fault(
        "policy_unknown",
        "the policy answers tasks it was not given",
        Node::Stays,
        false,
    ),
    fault(
        "policy_hoard",
        "the policy answers nothing",
        Node::Stays,
        false,
    ),
    fault(
        "policy_slice",
        "the policy answers absurd slices",
        Node::Stays,
        false,
    ),
    fault(
        "policy_slow",
        "the policy takes 10 ms a decision",
        Node::Stays,
        false,
    ),
    waits(
        fault("policy_loop", "the policy never answers", Node::Left, true),
        1_000.0,
    ),
    fault(
        "policy_grow",
        "the policy eats all memory",
        Node::Left,
        false,
    ),
    waits(
        fault(
            "ten_thousand_threads",
            "10,000 busy threads",
            Node::Stays,
            false,
        ),
        10_000.0,
    ),
    waits(
        fault(
            "ring_full",
            "10,000 busy threads, scheduler stopped for 300 ms",
            Node::Stays,
            false,
        ),
        10_000.0,
    ),
    fault("fork_bomb", "fork bomb", Node::Stays, false),
    fault("exec_storm", "exec storm", Node::Stays, false),
    fault("cgroup_storm", "cgroups come and go", Node::Stays, false),
    fault(
        "every_affinity",
        "threads with every affinity",
        Node::Stays,
        false,
    ),
    fault("rt_hog", "a real-time hog", Node::Stays, false),
    fault(
        "cpu_hotplug",
        "a CPU goes and comes back",
        // The kernel's own time to take the CPU away is in it.
        Node::Returns(400.0),
        true,
    ),
    fault(
        "oom_kill",
        "the OOM killer takes the scheduler",
        Node::Returns(400.0),
        false,
    ),
    fault(
        "disk_full",
        "no space for state and reports",
        Node::Returns(150.0),
        false,
    ),
    fault(
        "hostile_config",
        "SIGHUP with corrupt, cut, huge and hostile files",
        Node::Stays,
        true,
    ),
    fault(
        "hostile_socket",
        "random bytes on the control socket",
        Node::Stays,
        true,
    ),
    fault("two_schedulers", "a second scheduler", Node::Stays, false),
    fault(
        "sysrq_s",
        "sysrq-S behind our back",
        Node::Leaves(150.0),
        true,
    ),
    fault(
        "link_detach",
        "its BPF link detached behind our back",
        Node::Leaves(150.0),
        false,
    ),
    fault(
        "clock_jump",
        "the clock jumps five years and back",
        Node::Stays,
        false,
    ),
    fault(
        "safe_mode_cli",
        "infera safe-mode on",
        Node::Returns(250.0),
        false,
    ),
    fault(
        "safe_mode_file",
        "the safe-mode file",
        Node::Returns(250.0),
        false,
    ),
    fault("safe_mode_signal", "SIGUSR1", Node::Returns(150.0), false),
];

/// A row of tools/guest-tests: the node stays, and the row has its own bound on waiting. CI runs have each
/// as a guest test.
fn guest_tests_row(row: &infera_guest_tests::Row) -> Fault {
    Fault {
        wait: row.wait.as_secs_f64() * 1e3,
        by: match row.frozen {
            true => By::Frozen,
            false => By::GuestTests,
        },
        ..fault(row.name, row.what, Node::Stays, false)
    }
}

/// Every row.
fn faults() -> impl Iterator<Item = Fault> {
    let rows = infera_guest_tests::ROWS.iter().map(guest_tests_row);
    FAULTS.iter().copied().chain(rows)
}

/// Which faults.
#[derive(Args)]
pub struct FaultArgs {
    /// The kernel: the beginning of a cached kernel's release, or `newest`: the one fetched
    /// last.
    #[arg(long, default_value = kernel::NEWEST)]
    kernel: String,
    /// Only the ones that every CI run has.
    #[arg(long)]
    fast: bool,
    /// QEMU runs every CPU at least once in this many virtual microseconds: `vm run --help`.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(10..))]
    turn_us: Option<u32>,
    /// Shows what guard and scheduler logged.
    #[arg(long)]
    verbose: bool,
    /// Only faults whose name contains this.
    filter: Option<String>,
}

/// Runs them; fails when the node did something else than it must.
pub fn main(args: &FaultArgs) -> Result<()> {
    setup::main()?;
    if args.kernel == kernel::NEWEST {
        kernel::fetch::main(false, kernel::fetch::UNSTABLE)?;
    }
    build_guest_programs()?;
    matrix(args)
}

/// The faults that every CI run has.
pub fn fast(kernel: &str) -> Result<()> {
    matrix(&FaultArgs {
        kernel: kernel.to_owned(),
        fast: true,
        turn_us: None,
        verbose: false,
        filter: None,
    })
}

fn matrix(args: &FaultArgs) -> Result<()> {
    let kernel = &args.kernel;
    let wanted: Vec<Fault> = faults()
        .filter(|fault| fault.fast || !args.fast)
        .filter(|fault| {
            args.filter
                .as_deref()
                .is_none_or(|text| fault.name.contains(text))
        })
        .collect();
    println!(
        "\n{:<52}{:>12}{:>14}{:>12}{:>6}{:>10}  on {kernel}",
        "fault", "disabled ms", "longest wait", "Critical", "lost", "then"
    );
    let mut failed = 0;
    let (frozen, others): (Vec<_>, Vec<_>) =
        wanted.iter().partition(|fault| fault.by == By::Frozen);
    for batch in others.chunks(BATCH).chain(frozen.chunks(1)) {
        failed += run(args, batch)?;
    }
    if failed > 0 {
        bail!(
            "{failed} of {} faults ended otherwise than promised",
            wanted.len()
        );
    }
    Ok(())
}

/// One boot; how many failed.
fn run(args: &FaultArgs, batch: &[&Fault]) -> Result<usize> {
    let (scripted, in_rust): (Vec<&Fault>, Vec<&Fault>) =
        batch.iter().partition(|fault| fault.by == By::Script);
    let frozen = batch.iter().any(|fault| fault.by == By::Frozen);
    let rows: Vec<String> = scripted
        .iter()
        .map(|fault| {
            let after = match fault.node {
                Node::Stays | Node::Returns(_) => "enabled",
                Node::Leaves(_) | Node::Left => "disabled",
            };
            format!("{}={after}", fault.name)
        })
        .collect();
    let show = if args.verbose { "SHOW=1\n" } else { "" };
    let mut script = format!("ROWS='{}'\n{show}{SCRIPT}\n", rows.join(" "));
    for fault in in_rust {
        script.push_str(&format!("infera-guest-tests row {}\n", fault.name));
    }
    let options = VmOptions {
        kernel: args.kernel.clone(),
        // In exact time the clock of a frozen guest stops, too.
        exact: !frozen,
        cpus: if frozen { 2 } else { 4 },
        freeze_at: frozen.then_some((FREEZE_LINE, FROZEN)),
        turn_us: args.turn_us,
        timeout: Duration::from_secs(1800),
        ..guest::options()
    };
    let command = ["sh", "-c", &script].map(str::to_owned);
    let mut failed = 0;
    let outcome = vm::run(&options, &command, |line| {
        let Some(fault) = batch.iter().find(|fault| {
            let rest = line.strip_prefix(fault.name);
            rest.is_some_and(|rest| rest.starts_with(" {"))
        }) else {
            println!("    {line}");
            return;
        };
        let (text, wrong) = judge(fault, &Rows::parse(line));
        println!("{text}");
        for sentence in &wrong {
            println!("    WRONG: {sentence}");
        }
        failed += usize::from(!wrong.is_empty());
    })?;
    if outcome.status != 0 || outcome.timed_out {
        bail!(
            "the guest did not finish\n{}",
            console_tail(&outcome.console)
        );
    }
    let rows = Rows::parse(&outcome.output);
    for fault in batch {
        if rows.row(fault.name, "fault").is_none() {
            println!("{:<52} WRONG: no result", fault.what);
            failed += 1;
        }
    }
    Ok(failed)
}

/// A row of the table, and what is wrong with it.
fn judge(fault: &Fault, rows: &Rows) -> (String, Vec<String>) {
    let figure = |key| rows.get(fault.name, "fault", key);
    let value = rows.row(fault.name, "fault");
    let text = |key: &str| value.and_then(|row| row[key].as_str()).unwrap_or("");
    let reached = value.is_some_and(|row| row["reached"] == true);
    let took = figure("ms").filter(|_| reached);
    let wait = figure("gap_ns").map(|ns| ns / 1e6);
    let critical = figure("wake_us").map(|us| us / 1e3);
    let lost = figure("stalled");
    let mut wrong = Vec::new();
    match (fault.node, took) {
        (Node::Returns(limit) | Node::Leaves(limit), Some(took)) if took > limit => {
            wrong.push(format!(
                "disabled after {took:.0} ms, not within {limit:.0}"
            ));
        }
        (Node::Returns(_) | Node::Leaves(_), None) => wrong.push("never disabled".into()),
        _ => {}
    }
    let then = match fault.node {
        Node::Stays | Node::Returns(_) => "enabled",
        Node::Leaves(_) | Node::Left => "disabled",
    };
    if text("state") != then {
        wrong.push(format!("the state is {}, not {then}", text("state")));
    }
    match wait {
        Some(wait) if wait <= fault.wait => {}
        Some(wait) => wrong.push(format!("a task waited {wait:.0} ms, not {:.0}", fault.wait)),
        None => wrong.push("no waits were measured".into()),
    }
    if lost != Some(0.0) {
        wrong.push(format!(
            "{} tasks got no CPU any more",
            lost.unwrap_or(f64::NAN)
        ));
    }
    if figure("complaints") != Some(0.0) {
        wrong.push("the kernel complained".into());
    }
    if !text("note").is_empty() {
        // What a row counts is no fault; what it misses says so in words.
        let note = text("note").trim().to_owned();
        if !note.starts_with("ring full") {
            wrong.push(note);
        }
    }
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
    let line = format!(
        "{:<52}{:>12}{:>14}{:>12}{:>6}{:>10}",
        fault.what,
        took.map_or("-".to_owned(), |ms| format!("{ms:.0}")),
        ms(wait),
        ms(critical),
        lost.map_or("-".to_owned(), |lost| format!("{lost:.0}")),
        text("state"),
    );
    (line, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(node: Node, row: &str) -> Vec<String> {
        judge(&fault("x", "x", node, true), &Rows::parse(row)).1
    }

    #[test]
    fn a_row_is_judged_in_full() {
        let row = r#"x {"kind":"fault","ms":90,"reached":true,"gap_ns":200000000,"wake_us":5,"stalled":0,"state":"enabled","complaints":0,"note":""}"#;
        assert!(judged(Node::Returns(150.0), row).is_empty());
        assert_eq!(judged(Node::Returns(80.0), row).len(), 1);
        assert_eq!(judged(Node::Leaves(150.0), row).len(), 1);
        for (from, to) in [
            ("\"stalled\":0", "\"stalled\":1"),
            ("\"complaints\":0", "\"complaints\":2"),
            ("\"note\":\"\"", "\"note\":\" it failed;\""),
            ("200000000", "9000000000"),
            ("\"reached\":true", "\"reached\":false"),
        ] {
            assert_eq!(
                judged(Node::Returns(150.0), &row.replace(from, to)).len(),
                1,
                "{to}"
            );
        }
        assert!(!judged(Node::Stays, "").is_empty());
    }

    #[test]
    fn names_are_those_of_the_script() {
        for fault in faults().filter(|fault| fault.by == By::Script) {
            assert!(
                SCRIPT.contains(&format!("fault_{}()", fault.name)),
                "{}",
                fault.name
            );
        }
    }
}
