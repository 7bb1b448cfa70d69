//! Runs scenarios under arms. What fails under one arm is recorded, and the run goes on with the next.

mod args;
mod load;
mod window;

pub use args::RunArgs;

use crate::arm::Arm;
use crate::machine::{self, attached};
use crate::record::Record;
use crate::scenario::Scenario;
use anyhow::{Context, Result};
use std::thread::sleep;
use std::time::Duration;
use window::window;

/// Stands before each record where records go to the standard output.
pub const RECORD: &str = "RECORD ";
/// From the start of load to the first window.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs everything; each record is given to `sink` as it comes, each line about progress to `say`.
///
/// # Errors
///
/// `args` names an unknown scenario or arm, the cgroups cannot be made, `sink` returns an error, the bench itself fails
/// in a window, or a scheduler does not end within a minute. An arm that does not attach is recorded, and the run goes
/// on.
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
                // The first arm finds another machine than the last one, so each seed begins with another.
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
                    for (work, reason) in record.failures() {
                        say(&format!(
                            "{} under {arm}, {rung}: {work} failed: {reason}",
                            scenario.name
                        ));
                    }
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
