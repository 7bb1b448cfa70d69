//! `cargo xtask demo`: a latency-critical service beside batch work, under the stock
//! scheduler and under ours, in one boot.

use crate::rows::Rows;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use crate::{guest, kernel, setup};
use anyhow::{Result, bail};
use std::time::Duration;

const SCRIPT: &str = include_str!("../guest-scripts/demo.sh");

/// The phases of the script, and what they are to the reader.
const PHASES: [(&str, &str); 3] = [
    ("stock", "stock scheduler"),
    ("stock+idle", "stock, cpu.idle, weight"),
    ("infera", "scx_infera"),
];

/// Sets up what is missing, runs the demo, prints the table.
pub fn main() -> Result<()> {
    setup::main()?;
    kernel::fetch::main(false, kernel::fetch::UNSTABLE)?;
    build_guest_programs()?;
    eprintln!("==> booting a guest: 4 CPUs, memcached and a wake probe beside 16 batch threads");
    let options = VmOptions {
        exact: true,
        // Else as long as a tick of the kernel, and nothing shorter could be seen.
        turn_us: Some(50),
        timeout: Duration::from_secs(900),
        ..guest::options()
    };
    let command = ["sh", "-c", SCRIPT].map(str::to_owned);
    let outcome = vm::run(&options, &command, |line| eprintln!("    {line}"))?;
    if outcome.status != 0 {
        bail!("the demo failed\n{}", console_tail(&outcome.console));
    }
    print!("{}", table(&outcome.output));
    Ok(())
}

/// Makes the table from the script's `PHASE JSON` lines.
fn table(output: &str) -> String {
    let rows = Rows::parse(output);
    let batch = |phase| rows.get(phase, "batch", "units");
    let base = batch("stock").unwrap_or(f64::NAN);
    let mut text = format!(
        "\n{:<25}{:>26}{:>26}{:>10}\n{:<25}{:>26}{:>26}{:>10}\n",
        "",
        "memcached, virtual us",
        "wakeup, virtual us",
        "batch",
        "",
        "p50 / p99 / p99.9",
        "p50 / p99 / p99.9",
        "progress"
    );
    for (phase, title) in PHASES {
        let share = batch(phase).map_or_else(
            || "-".to_owned(),
            |units| format!("{:.0} %", units / base * 100.0),
        );
        text += &format!(
            "{title:<25}{:>26}{:>26}{share:>10}\n",
            rows.percentiles(phase, "memcached"),
            rows.percentiles(phase, "wake"),
        );
    }
    text +=
        "\nVirtual time counts instructions (QEMU icount): compare rows, not with real hardware.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_row_for_each_phase() {
        let text = table(concat!(
            "stock {\"kind\":\"wake\",\"p50_us\":1,\"p99_us\":2,\"p999_us\":3}\n",
            "stock {\"kind\":\"batch\",\"units\":100}\n",
            "infera {\"kind\":\"batch\",\"units\":97}\n",
        ));
        assert!(text.contains("1 / 2 / 3") && text.contains("100 %") && text.contains("97 %"));
    }
}
