//! The names of the annotations. Their prefix may change: it is said once.

/// Annotation keys under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys that begin with `prefix` and a slash.
    #[must_use]
    pub fn new(prefix: &str) -> Keys {
        let prefix = prefix.to_owned();
        Keys { prefix }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// On a node: `true` asks it to stand down.
    pub fn safe_mode_requested(&self) -> String {
        self.key("safe-mode-requested")
    }

    /// On a pod: a tier, which can only be a lower one than its own.
    pub fn tier(&self) -> String {
        self.key("tier")
    }

    /// On a node: `Ready`, or `NotReady: reason`.
    pub fn agent_status(&self) -> String {
        self.key("agent-status")
    }

    /// On a node: `active: reason`, or absent.
    pub fn safe_mode(&self) -> String {
        self.key("safe-mode")
    }

    /// On a node: counts up when the assignment in force changes.
    pub fn config_generation(&self) -> String {
        self.key("config-generation")
    }

    /// On a node: pods of each tier, JSON.
    pub fn tier_pods(&self) -> String {
        self.key("tier-pods")
    }

    /// On a node: thousandths of a CPU that the pods of each tier ask for, JSON.
    pub fn tier_cpu_millis(&self) -> String {
        self.key("tier-cpu-millis")
    }

    /// All that the agent writes to a node.
    pub fn written(&self) -> [String; 5] {
        [
            self.agent_status(),
            self.safe_mode(),
            self.config_generation(),
            self.tier_pods(),
            self.tier_cpu_millis(),
        ]
    }
}
