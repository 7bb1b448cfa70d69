//! From a pod's priority and quality-of-service class to its tier.

use infera_policy::Tier;

/// From here on Kubernetes' own classes lie, `system-cluster-critical` and `system-node-critical`;
/// it allows no other class a priority above a billion.
///
/// Their pods are High. Not System: a log shipper of the class that uses every CPU would take the
/// node from everything else. Not Critical: the class says what must not be evicted, not what
/// needs whole cores, and dozens of such pods would fill the fence.
const SYSTEM_CLASSES: i32 = 2_000_000_000;

/// The quality-of-service class that Kubernetes gives a pod by its requests and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits, and requests equal to them.
    Guaranteed,
    /// Some container has a request or a limit.
    Burstable,
    /// None has.
    BestEffort,
}

/// What decides a pod's tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPriority {
    /// `spec.priority`, filled in by Kubernetes; 0 where it is absent.
    pub priority: i32,
    /// Whether `spec.priorityClassName` is set: a priority of 0 was then chosen, and is not the default.
    pub has_class: bool,
    /// `status.qosClass`.
    pub qos: QosClass,
    /// The tier that an annotation asks for; it can only lower.
    pub asked: Option<Tier>,
}

/// The lowest pod priority of each tier, `[priority_mapping]`; below `low` is Background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityMapping {
    /// From here on a pod is Critical, up to Kubernetes' own classes: those are High.
    pub critical: i32,
    /// From here on it is High.
    pub high: i32,
    /// From here on it is Normal.
    pub normal: i32,
    /// From here on it is Low.
    pub low: i32,
}

impl Default for PriorityMapping {
    fn default() -> PriorityMapping {
        PriorityMapping {
            critical: 1_000_000,
            high: 100_000,
            normal: 0,
            low: -100,
        }
    }
}

impl PriorityMapping {
    /// The tier of a pod. An untouched cluster's pods are Normal, or Background where they
    /// ask for nothing.
    #[must_use]
    pub fn tier_of(&self, pod: &PodPriority) -> Tier {
        let untouched = pod.priority == 0 && !pod.has_class;
        let tier = match pod.priority {
            SYSTEM_CLASSES.. => Tier::High,
            _ if untouched && pod.qos == QosClass::BestEffort => Tier::Background,
            _ if untouched => Tier::Normal,
            priority if priority >= self.critical => Tier::Critical,
            priority if priority >= self.high => Tier::High,
            priority if priority >= self.normal => Tier::Normal,
            priority if priority >= self.low => Tier::Low,
            _ => Tier::Background,
        };
        // Better tiers have lower ranks.
        pod.asked.map_or(tier, |asked| tier.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pod(priority: i32) -> PodPriority {
        PodPriority {
            priority,
            has_class: true,
            qos: QosClass::Burstable,
            asked: None,
        }
    }

    fn tier(pod: PodPriority) -> Tier {
        PriorityMapping::default().tier_of(&pod)
    }

    #[test]
    fn the_shipped_classes_have_the_tiers_of_their_names() {
        for (priority, expected) in [
            (i32::MAX, Tier::High),
            (2_000_001_000, Tier::High),
            (2_000_000_000, Tier::High),
            (1_999_999_999, Tier::Critical),
            (1_000_000, Tier::Critical),
            (999_999, Tier::High),
            (100_000, Tier::High),
            (99_999, Tier::Normal),
            (0, Tier::Normal),
            (-1, Tier::Low),
            (-100, Tier::Low),
            (-101, Tier::Background),
            (i32::MIN, Tier::Background),
        ] {
            assert_eq!(tier(pod(priority)), expected, "{priority}");
        }
    }

    #[test]
    fn who_asks_for_nothing_yields() {
        for (qos, has_class, expected) in [
            (QosClass::Guaranteed, false, Tier::Normal),
            (QosClass::Burstable, false, Tier::Normal),
            (QosClass::BestEffort, false, Tier::Background),
            (QosClass::BestEffort, true, Tier::Normal),
        ] {
            let pod = PodPriority {
                qos,
                has_class,
                ..pod(0)
            };
            assert_eq!(tier(pod), expected, "{qos:?} {has_class}");
        }
    }

    proptest! {
        #[test]
        fn more_priority_is_never_a_worse_tier_below_the_system_classes(a in ..SYSTEM_CLASSES, b in ..SYSTEM_CLASSES) {
            let (lower, higher) = (a.min(b), a.max(b));
            prop_assert!(tier(pod(higher)) <= tier(pod(lower)));
        }

        #[test]
        fn no_priority_is_system_and_the_system_classes_are_off_the_fence(priority: i32, critical: i32, high: i32) {
            let mapping = PriorityMapping { critical, high, ..PriorityMapping::default() };
            let tier = mapping.tier_of(&pod(priority));
            prop_assert_ne!(tier, Tier::System);
            prop_assert!(priority < SYSTEM_CLASSES || tier == Tier::High);
        }

        #[test]
        fn an_annotation_never_raises(priority: i32, has_class: bool, qos in 0..3, asked in 0..Tier::COUNT) {
            let qos = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort][qos as usize];
            let plain = PodPriority { priority, has_class, qos, asked: None };
            let asked = Tier::ALL[asked];
            let lowered = tier(PodPriority { asked: Some(asked), ..plain });
            prop_assert!(lowered >= tier(plain));
            prop_assert!(lowered == tier(plain) || lowered == asked);
        }
    }
}
