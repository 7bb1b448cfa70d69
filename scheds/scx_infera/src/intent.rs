//! What is to be attached: read, validated and planned. This stage of a start changes nothing.

use crate::CGROUP_ROOT;
use crate::cli::Args;
use crate::exit_code::{Refusal, Status};
use crate::source::{Source, Wanted};
use crate::starting::{self, Hotplugs};
use infera_plan::{Config, ConfigError, Plan, Topology};
use infera_policy::{Contained, Drill, Entry, Sabotage, find, names};
use log::warn;
use std::path::Path;

/// A scheduler that is to be attached.
pub struct Intent {
    /// Where the configuration is read again from.
    pub source: Source,
    /// What was read there.
    pub wanted: Wanted,
    /// The configuration in force: what was read, with the fence that pods ask for.
    pub config: Config,
    /// The policy.
    pub entry: &'static Entry,
    /// The node's CPUs, and how often some came or went when they were looked at.
    pub topology: Topology,
    pub hotplugs: Hotplugs,
    /// Which CPUs are whose.
    pub plan: Plan,
    drill: Option<(Drill, u64)>,
}

impl Intent {
    /// What `args` ask for.
    ///
    /// # Errors
    ///
    /// The configuration is wrong, names no policy that there is, or the drill is none; or the CPUs cannot be read within two seconds
    /// ([`starting::cpus`]).
    pub fn read(args: &Args) -> Result<Intent, Refusal> {
        let source = Source {
            file: args.config.clone(),
            rules: args.tiers.clone(),
            slice_us: args.slice_us,
            assignment: args.assignment.clone(),
        };
        let refuse = |error: ConfigError| Refusal::new(Status::Config, error.to_string());
        let wanted = source.read().map_err(refuse)?;
        let config = wanted.effective();
        let entry = find_policy(args.policy.as_deref().or(config.policy.as_deref()))?;
        let drill = args.drill.as_deref().map(parse_drill).transpose()?;
        let (topology, hotplugs) = starting::cpus(Path::new("/"))?;
        let topology = topology.with_partitions(Path::new(CGROUP_ROOT));
        Ok(Intent {
            plan: Plan::new(&topology, &config),
            source,
            wanted,
            config,
            entry,
            topology,
            hotplugs,
            drill,
        })
    }

    /// Prints it, for `--dry-run`.
    pub fn print(&self) {
        println!("policy: {} - {}", self.entry.name, self.entry.summary);
        println!("{}", self.plan);
        for line in self.config.describe_rules(Path::new(CGROUP_ROOT)) {
            println!("  {line}");
        }
        for pod in &self.wanted.assignment.pods {
            println!("  tier {}: pod {}", pod.tier, pod.cgroup);
        }
    }

    /// The policy, which is contained: what it panics with or decides wrongly is a fault that is reported.
    pub fn policy(&self) -> Contained {
        let mut policy = (self.entry.build)(&self.config.tiers);
        if let Some((drill, after)) = self.drill {
            warn!(
                "this is a drill: {} after {after} decisions",
                drill.summary()
            );
            policy = Box::new(Sabotage::new(policy, drill, after));
        }
        Contained::new(policy, self.entry.name, &self.config.tiers)
    }
}

fn find_policy(name: Option<&str>) -> Result<&'static Entry, Refusal> {
    let name = name.unwrap_or("weighted");
    find(name).ok_or_else(|| {
        let names: Vec<_> = names().collect();
        Refusal::new(
            Status::Config,
            format!("unknown policy '{name}': use one of {}", names.join(", ")),
        )
    })
}

fn parse_drill(text: &str) -> Result<(Drill, u64), Refusal> {
    let (name, after) = text.split_once('@').unwrap_or((text, "1000"));
    let refuse = |why: String| Refusal::new(Status::Config, format!("--drill {text}: {why}"));
    let drill = name.parse().map_err(|_| {
        let names: Vec<_> = Drill::ALL.iter().map(|drill| drill.name()).collect();
        refuse(format!("use one of {}", names.join(", ")))
    })?;
    let after = after
        .parse()
        .map_err(|_| refuse("@ wants a number".into()))?;
    Ok((drill, after))
}
