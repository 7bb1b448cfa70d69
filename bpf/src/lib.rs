//! The layouts that the BPF overlay (`overlay.bpf.c`) shares with user space.
//!
//! The overlay itself is compiled by the scheduler's build script, because its object is
//! driven by code that `scx_rustland_core` generates there. This crate links nothing.

/// Width of per-tier tables in the overlay (`TIER_SLOTS`).
pub const TIER_SLOTS: usize = 8;

/// Buckets of a wakeup-latency histogram (`LAT_BUCKETS`): bucket `b` counts wakeups that
/// waited at least `2^b` and less than `2^(b+1)` nanoseconds.
pub const LAT_BUCKETS: usize = 32;

/// Most cgroups that can have a tier of their own (`MAX_CGROUPS`).
pub const MAX_CGROUPS: usize = 16_384;

/// Most cgroups whose `cpu.max` is in force at a time (`MAX_LIMITED`).
pub const MAX_LIMITED: usize = 4096;

/// Most cgroups whose `cpu.weight` is in force at a time (`MAX_GROUPS`).
pub const MAX_GROUPS: usize = 16_384;

/// Weights are counted in this many parts (`SHARE_ONE`).
pub const SHARE_ONE: u32 = 64;

/// What becomes of `cpu.max` (`enum infera_limits_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LimitsMode {
    /// No cgroup has more than its quota.
    Strict = 0,
    /// It is not in force.
    Off = 1,
}

/// The overlay's code for an exit because real-time threads had every CPU (`EXIT_REALTIME`).
pub const EXIT_REALTIME: i64 = 1;

/// The overlay's code for an exit because a real-time thread kept a CPU from a task that waits there (`EXIT_PAUSE`).
pub const EXIT_PAUSE: i64 = 2;

/// How a task got to its CPU (`enum infera_path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Path {
    /// An idle CPU, straight from the wakeup.
    Idle = 0,
    /// A CPU taken from a lower tier.
    Preempt = 1,
    /// A queue in the kernel, by virtual time.
    Queue = 2,
    /// Ordered by the policy.
    User = 3,
    /// A queue in the kernel instead of the policy: the policy was late, or the ring full.
    Full = 4,
    /// A CPU taken from a peer of its tier that is ahead in virtual time.
    Peer = 5,
}

/// Of a message's `stop_ts`: the policy decided on the task since it last had it (`MSG_PICKED`).
pub const MSG_PICKED: u64 = 1;

/// In `infera_wake_gran_ns`: wakeups of the tier take no CPU from peers, and wait for the policy
/// (`NEVER`).
pub const NEVER: u64 = u64::MAX;

impl Path {
    /// Every path.
    pub const ALL: [Path; 6] = [
        Path::Idle,
        Path::Preempt,
        Path::Queue,
        Path::User,
        Path::Full,
        Path::Peer,
    ];

    /// The metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Path::Idle => "idle",
            Path::Preempt => "preempt",
            Path::Queue => "queue",
            Path::User => "user",
            Path::Full => "full",
            Path::Peer => "peer",
        }
    }
}

/// The tier index and the weight within the tier that the overlay packs into a message's `weight`.
#[must_use]
pub const fn unpack_weight(weight: u64) -> (usize, u32) {
    (((weight >> 32) & 7) as usize, (weight & 0xffff_ffff) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_policy::{SHORTEST_SLICE, Tier};

    /// Every entry of the header's enums, with its value.
    fn header() -> Vec<(&'static str, u64)> {
        let mut entries = Vec::new();
        let mut next = None;
        for line in include_str!("../overlay.h").lines() {
            let code = line.split("/*").next().unwrap_or_default().trim();
            if code.starts_with("enum ") {
                next = Some(0);
            } else if code.starts_with('}') {
                next = None;
            } else if let (Some(value), Some(code)) = (next, code.strip_suffix(',')) {
                let (name, value) = match code.split_once('=') {
                    Some((name, text)) => (name.trim(), text.trim().parse().expect("a number")),
                    None => (code, value),
                };
                entries.push((name, value));
                next = Some(value + 1);
            }
        }
        entries
    }

    #[test]
    fn header_and_mirror_agree() {
        let mut mirror: Vec<(String, u64)> = Vec::new();
        for tier in Tier::ALL {
            let name = format!("TIER_{}", tier.name().to_uppercase());
            mirror.push((name, tier.index() as u64));
        }
        mirror.push(("NR_TIERS".into(), Tier::COUNT as u64));
        mirror.push(("TIER_SLOTS".into(), TIER_SLOTS as u64));
        mirror.push(("LAT_BUCKETS".into(), LAT_BUCKETS as u64));
        mirror.push(("MAX_CGROUPS".into(), MAX_CGROUPS as u64));
        mirror.push(("MAX_LIMITED".into(), MAX_LIMITED as u64));
        mirror.push(("MAX_GROUPS".into(), MAX_GROUPS as u64));
        mirror.push(("SHARE_ONE".into(), u64::from(SHARE_ONE)));
        let shortest = SHORTEST_SLICE.0 / 1_000;
        mirror.push(("SHORTEST_SLICE_US".into(), shortest));
        mirror.push(("EXIT_REALTIME".into(), EXIT_REALTIME as u64));
        mirror.push(("EXIT_PAUSE".into(), EXIT_PAUSE as u64));
        for path in Path::ALL {
            let name = format!("PATH_{}", path.name().to_uppercase());
            mirror.push((name, path as u64));
        }
        mirror.push(("NR_PATHS".into(), Path::ALL.len() as u64));
        for (name, mode) in [("STRICT", LimitsMode::Strict), ("OFF", LimitsMode::Off)] {
            mirror.push((format!("LIMITS_{name}"), mode as u64));
        }
        mirror.push(("MSG_PICKED".into(), MSG_PICKED));
        // The overlay's alone.
        let own = [
            "ALIVE_MS",
            "ALIVE_CHECK_MS",
            "ATTACH_MS",
            "EXIT_SILENT",
            "EXIT_KILLED",
            "LOOP_MS",
            "MAX_ASKED",
            "MEASURED",
            "MAX_DEPTH",
            "REALTIME_MS",
            "KEPT_MS",
            "PATH_SLOTS",
        ];
        let header: Vec<(String, u64)> = header()
            .into_iter()
            .filter(|(name, _)| !own.contains(name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(header, mirror);
        assert!(TIER_SLOTS.is_power_of_two() && Tier::COUNT <= TIER_SLOTS);
    }

    #[test]
    fn weight_carries_the_tier() {
        assert_eq!(unpack_weight((5 << 32) | 100), (5, 100));
    }
}
