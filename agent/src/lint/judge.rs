//! From what the checks find to what is said.

use super::{CHECKS, Findings, Mark, Snapshot, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// While something is wrong, all threads are examined once in this interval, because that costs a few
/// milliseconds for every thousand.
const AGAIN: Duration = Duration::from_secs(10);

/// Remembers what was seen, until it is seen again or is gone.
#[derive(Default)]
pub struct Judge {
    /// By check: those found in the last look at all threads.
    before: BTreeMap<&'static str, BTreeSet<Mark>>,
    verdicts: BTreeMap<&'static str, Verdict>,
    looked: Option<Instant>,
    confirming: bool,
}

impl Judge {
    /// Whether to look at all threads now: a few of them gave rise to suspicion, or something is
    /// to be confirmed, or may be over.
    pub fn wants_all(&mut self, some: &Snapshot, now: Instant) -> bool {
        let since = self.looked.map(|at| now.duration_since(at));
        if self.confirming {
            return true;
        }
        if since.is_some_and(|since| since < AGAIN) {
            return false;
        }
        let mut suspicious = false;
        for check in CHECKS {
            match check.run(some) {
                Ok(found) => suspicious |= !found.is_empty(),
                Err(reason) => {
                    self.verdicts.insert(check.id(), Verdict::Skip { reason });
                }
            }
            let known = self.verdicts.entry(check.id()).or_insert(Verdict::Pass);
            suspicious |= known.violations() > 0;
        }
        suspicious
    }

    /// Judges a look at all threads.
    pub fn look(&mut self, all: &Snapshot, now: Instant) {
        self.looked = Some(now);
        let confirming = std::mem::take(&mut self.confirming);
        for check in CHECKS {
            let found = check.run(all);
            let marks = |found: &Findings| match found {
                Ok(found) => found.iter().map(|finding| finding.mark).collect(),
                Err(_) => BTreeSet::new(),
            };
            let seen = marks(&found);
            let before = self.before.insert(check.id(), seen.clone());
            let before = before.unwrap_or_default();
            let verdict = match found {
                Err(reason) => Verdict::Skip { reason },
                Ok(found) => {
                    let again = found.into_iter().filter(|one| before.contains(&one.mark));
                    let evidence: Vec<String> = again.map(|one| one.sentence).collect();
                    match evidence.is_empty() {
                        true => Verdict::Pass,
                        false => Verdict::Fail {
                            evidence,
                            fix: check.fix(),
                        },
                    }
                }
            };
            // New ones are looked at again at once, and once.
            self.confirming |= !confirming && seen.iter().any(|mark| !before.contains(mark));
            self.verdicts.insert(check.id(), verdict);
        }
    }

    /// What holds now, by the checks' names.
    pub fn verdicts(&self) -> &BTreeMap<&'static str, Verdict> {
        &self.verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_node::Thread;
    use infera_plan::CpuSet;
    use infera_policy::Tier;

    fn snapshot(outside: &[u32]) -> Snapshot {
        let threads = outside.iter().map(|tid| Thread {
            tid: *tid,
            name: "t".into(),
            pod: String::new(),
            tier: Tier::Critical,
            pod_tier: None,
            cpu: 0,
            runnable: true,
            allowed: None,
            ticks: 0,
        });
        Snapshot {
            threads: threads.collect(),
            fence: CpuSet::from([3]),
            lent: false,
            cores: (0..4).map(|cpu| CpuSet::from([cpu])).collect(),
        }
    }

    fn violations(judge: &Judge) -> usize {
        judge.verdicts()["protected_fallback"].violations()
    }

    #[test]
    fn what_is_seen_twice_is_a_violation_until_it_is_gone() {
        let mut judge = Judge::default();
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let (good, bad) = (snapshot(&[]), snapshot(&[7]));
        assert!(!judge.wants_all(&good, now));
        assert_eq!(violations(&judge), 0);
        assert!(judge.wants_all(&bad, now));
        judge.look(&bad, now);
        assert_eq!(violations(&judge), 0, "seen once");
        now += second;
        assert!(judge.wants_all(&good, now), "to be confirmed");
        judge.look(&bad, now);
        assert_eq!(violations(&judge), 1);
        now += second;
        assert!(!judge.wants_all(&bad, now), "not every second");
        assert_eq!(violations(&judge), 1, "and it stays said");
        now += AGAIN;
        assert!(judge.wants_all(&good, now), "it may be over");
        judge.look(&good, now);
        assert_eq!(violations(&judge), 0);
        assert!(!judge.wants_all(&good, now + AGAIN));
    }

    #[test]
    fn another_thread_each_time_is_none() {
        let mut judge = Judge::default();
        let mut now = Instant::now();
        for tid in 0..100 {
            now += Duration::from_secs(1);
            let seen = snapshot(&[tid]);
            if judge.wants_all(&seen, now) {
                judge.look(&seen, now);
            }
            assert_eq!(violations(&judge), 0);
        }
    }

    #[test]
    fn one_after_the_other_on_a_reserved_cpu_is_a_violation() {
        let mut judge = Judge::default();
        let mut now = Instant::now();
        for tid in 0..2 {
            let mut seen = snapshot(&[tid]);
            seen.threads[0].tier = Tier::Background;
            seen.threads[0].cpu = 3;
            assert!(judge.wants_all(&seen, now));
            judge.look(&seen, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(judge.verdicts()["open_reserve"].violations(), 1);
    }
}
