//! Whether this node is protected, in a sentence: what the annotation says.

use infera_control::{State, Status};

/// What the agent knows of its scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether infera schedules the node.
    pub attached: bool,
    /// One word for metrics: why the stock scheduler does.
    pub reason: &'static str,
    /// `Ready`, or `NotReady: reason`.
    pub text: String,
}

impl Readiness {
    fn not(reason: &'static str, sentence: &str) -> Readiness {
        Readiness {
            attached: false,
            reason,
            text: format!("NotReady: {sentence}"),
        }
    }

    /// Of the guard's answer, or of why there is none.
    #[must_use]
    pub fn of(status: Option<&Status>, refusal: Option<&str>) -> Readiness {
        let Some(status) = status else {
            let sentence = refusal.unwrap_or("the guard does not answer");
            return Readiness::not("unavailable", sentence);
        };
        let last = status
            .history
            .last()
            .map_or("", |event| event.what.as_str());
        match status.state {
            State::Attached if status.policy_deposed => Readiness {
                attached: true,
                reason: "degraded",
                text: "NotReady: degraded: the policy misbehaved, and arrival order decides".into(),
            },
            State::Attached => Readiness {
                attached: true,
                reason: "attached",
                text: "Ready".into(),
            },
            State::SafeMode => Readiness::not("safe-mode", &safe_mode(status)),
            State::BackingOff => Readiness::not("ejected", &format!("ejected: {last}")),
            State::Starting => Readiness::not("starting", "the scheduler is starting"),
            State::Leaving => Readiness::not("leaving", "the scheduler is leaving"),
            State::Ended => Readiness::not("unavailable", "the guard has ended"),
        }
    }
}

fn safe_mode(status: &Status) -> String {
    let reasons: Vec<String> = status
        .safe_mode
        .iter()
        .map(|(source, reason)| format!("{source}: {reason}"))
        .collect();
    format!("safe mode ({})", reasons.join("; "))
}

/// What the annotation about safe mode says, if it is active.
#[must_use]
pub fn safe_mode_text(status: Option<&Status>) -> Option<String> {
    let status = status.filter(|status| !status.safe_mode.is_empty())?;
    let reasons: Vec<&str> = status.safe_mode.values().map(String::as_str).collect();
    Some(format!("active: {}", reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_control::Event;

    fn status(state: State) -> Status {
        Status {
            version: String::new(),
            state,
            since: 0,
            pid: None,
            safe_mode: [("annotation".to_owned(), "p99 is bad".to_owned())].into(),
            generation: 1,
            policy_deposed: false,
            ejects: 1,
            eject_kinds: std::collections::BTreeMap::new(),
            history: vec![Event {
                at: 0,
                what: "a task got no CPU for 3087 ms".into(),
            }],
        }
    }

    #[test]
    fn every_state_says_why() {
        let text = |state| Readiness::of(Some(&status(state)), None).text;
        assert_eq!(text(State::Attached), "Ready");
        assert_eq!(
            text(State::SafeMode),
            "NotReady: safe mode (annotation: p99 is bad)"
        );
        assert_eq!(
            text(State::BackingOff),
            "NotReady: ejected: a task got no CPU for 3087 ms"
        );
        let none = Readiness::of(None, Some("this kernel cannot"));
        assert_eq!(
            (none.attached, none.text.as_str()),
            (false, "NotReady: this kernel cannot")
        );
        let mut degraded = status(State::Attached);
        degraded.policy_deposed = true;
        assert!(
            Readiness::of(Some(&degraded), None)
                .text
                .contains("degraded")
        );
    }

    #[test]
    fn safe_mode_is_active_or_absent() {
        let mut status = status(State::SafeMode);
        assert_eq!(safe_mode_text(Some(&status)).unwrap(), "active: p99 is bad");
        status.safe_mode.clear();
        assert_eq!(safe_mode_text(Some(&status)), None);
    }
}
