//! The options that print something and exit, without a scheduler to attach: --list-policies, --check, --help-stats, --monitor.

use crate::cli::Args;
use crate::exit_code::{Refusal, Status};
use crate::report::{self, SOCKET};
use crate::{internal, is_root, monitor};
use infera_policy::REGISTRY;
use std::path::Path;
use std::time::Duration;

/// Handles the options that print something and exit. `None`: `args` ask for a scheduler.
///
/// # Errors
///
/// The standard output is closed while it prints the descriptions of the statistics, or as [`monitor::monitor`].
pub fn answer(args: &Args) -> Result<Option<Status>, Refusal> {
    if args.list_policies {
        list_policies();
    } else if args.check {
        return Ok(Some(print_check()));
    } else if args.help_stats {
        report::describe(&mut std::io::stdout()).map_err(internal)?;
    } else if let Some(seconds) = args.monitor {
        monitor::monitor(Path::new(SOCKET), Duration::from_secs(seconds))?;
    } else {
        return Ok(None);
    }
    Ok(Some(Status::Done))
}

fn list_policies() {
    for entry in REGISTRY {
        println!("{:<10} {}", entry.name, entry.summary);
    }
}

fn print_check() -> Status {
    let mut status = Status::Done;
    for check in infera_kernel::check(Path::new("/"), is_root()) {
        match check.outcome {
            Ok(found) => println!("ok    {:<16} {found}", check.name),
            Err(obstacle) => {
                println!("FAIL  {:<16} {}", check.name, obstacle.sentence());
                if status == Status::Done {
                    status = Refusal::from(obstacle).status;
                }
            }
        }
    }
    println!(
        "note  while attached, cpu.weight of cgroups is in force within each tier, and cpu.max in all, unless `limits` is off"
    );
    status
}
