//! Where configuration and assignment come from, and what they are together.

use infera_plan::{Assignment, Config, ConfigError};
use infera_policy::Nanos;
use log::warn;
use std::path::PathBuf;

/// The command line's part in it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--tier`.
    pub rules: Vec<String>,
    /// `--slice-us`.
    pub slice_us: Option<u64>,
    /// `--assignment`.
    pub assignment: Option<PathBuf>,
}

/// What is to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// As it was read.
    pub config: Config,
    /// The pods.
    pub assignment: Assignment,
}

impl Source {
    /// Reads and validates everything. A wrong assignment is said and is none: what the operator
    /// wrote must not wait for the agent.
    ///
    /// # Errors
    ///
    /// The configuration file is missing or wrong ([`Config::read`]), or a `--tier` argument is wrong
    /// ([`Config::add_arguments`]).
    pub fn read(&self) -> Result<Wanted, ConfigError> {
        Ok(Wanted {
            config: self.read_config()?,
            assignment: self.read_assignment().unwrap_or_default(),
        })
    }

    /// Reads again what can be read; the rest stays as it was, and is said.
    pub fn read_again(&self, before: &Wanted) -> Wanted {
        let config = self.read_config().unwrap_or_else(|error| {
            warn!("configuration not changed: {error}");
            before.config.clone()
        });
        Wanted {
            config,
            assignment: self
                .read_assignment()
                .unwrap_or_else(|| before.assignment.clone()),
        }
    }

    fn read_config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.file {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.add_arguments(&self.rules)?;
        if let Some(us) = self.slice_us {
            config.set_slice(Nanos::from_micros(us));
        }
        Ok(config)
    }

    fn read_assignment(&self) -> Option<Assignment> {
        let Some(path) = &self.assignment else {
            return Some(Assignment::default());
        };
        let assignment = Assignment::read(path);
        assignment
            .inspect_err(|error| warn!("assignment not changed: {error}"))
            .ok()
    }
}

impl Wanted {
    /// The configuration with the fence that the Critical pods ask for, where it names none.
    pub fn effective(&self) -> Config {
        self.config.fenced_for(self.assignment.critical_cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_plan::Fence;
    use std::fs;

    #[test]
    fn what_cannot_be_read_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (file, assignment) = (dir.path().join("c.toml"), dir.path().join("a.json"));
        let source = Source {
            file: Some(file.clone()),
            assignment: Some(assignment.clone()),
            ..Source::default()
        };
        fs::write(&file, "loans = false").unwrap();
        fs::write(&assignment, r#"{"generation":3,"pods":[]}"#).unwrap();
        let before = source.read().unwrap();
        assert_eq!(before.assignment.generation, 3);
        fs::write(&assignment, "{").unwrap();
        fs::write(&file, "loans = true").unwrap();
        let after = source.read_again(&before);
        assert_eq!((after.config.loans, after.assignment.generation), (true, 3));
        fs::write(&file, "loans = maybe").unwrap();
        assert_eq!(source.read_again(&after), after);
        // At the start there is nothing to stay with.
        assert!(source.read().is_err());
    }

    #[test]
    fn critical_pods_get_a_fence_where_none_is_configured() {
        let wanted = |fence: Fence| Wanted {
            config: Config {
                fence,
                ..Config::default()
            },
            assignment: Assignment {
                critical_cores: Some(2),
                ..Assignment::default()
            },
        };
        assert_eq!(wanted(Fence::None).effective().fence, Fence::Cores(2));
        // No fence is what the configuration chooses here.
        assert_eq!(wanted(Fence::Cores(0)).effective().fence, Fence::Cores(0));
    }
}
