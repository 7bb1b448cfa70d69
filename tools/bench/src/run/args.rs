//! What to run: the command line's part that `infera bench` and `cargo xtask bench` share.

use crate::arm::{Arm, PEERS};
use crate::scenario::{Scenario, shipped};
use anyhow::{Result, ensure};
use clap::Args;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A scenario, by its name or its file, or the first words of several names: `neighbours` for
    /// neighbours-critical to neighbours-background. All shipped ones whose programs are installed where absent.
    #[arg(long = "scenario", value_name = "NAME|FILE")]
    pub scenarios: Vec<String>,
    /// A peer to compare with, of those that `--list` prints, or `none`. Where absent: eevdf, eevdf-idle and, where
    /// it is installed, scx_layered.
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
    ///
    /// # Errors
    ///
    /// A `--scenario` is neither the name nor the first words of a shipped scenario, nor a file with a scenario.
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
    ///
    /// # Errors
    ///
    /// There is no such peer or policy, none is left because both are `none`, or the program of an arm is not
    /// installed.
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
            "--against none --policy none leaves nothing to run"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_scenarios_peers_and_policies() {
        let list = RunArgs::list();
        for word in ["lone-sleeper", "neighbours-low", "scx_layered", "weighted"] {
            assert!(list.contains(word), "{word}");
        }
    }
}
