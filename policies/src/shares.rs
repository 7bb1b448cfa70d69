//! What each cgroup is worth within its tier, by `cpu.weight`.
//!
//! The cgroups of a tier's threads are a tree. Siblings share by weight what their parent has, as far as
//! they are active, and runnable threads share with the cgroups beside them by nice weight, as under the stock scheduler. The
//! kernel side counts what is runnable, and this computes from it, every 50 ms, what each cgroup is worth. A thread's weight is
//! then its part of that: [`TaskView::weight`](crate::TaskView::weight).

/// Levels of cgroups, at most.
const MAX_DEPTH: usize = 32;

/// Of the difference between what is counted now and the average, the part by which the average follows: threads that sleep
/// and wake are counted at one moment of many. At 50 ms a step, a cgroup that becomes busy counts in full after half a second.
const FOLLOW: f64 = 0.25;

/// An average below this is none.
const NONE: f64 = 1e-3;

/// What nice 0, and a `cpu.weight` of 100, are.
const UNIT: f64 = 100.0;

/// A cgroup as it is counted. Those of one tier are a tree, and several trees may be in one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// Distinguishes it from another cgroup that takes its place; 0: there is no cgroup here.
    pub key: u64,
    /// Where its parent is.
    pub parent: Option<usize>,
    /// Its `cpu.weight`, 100 by default.
    pub weight: f64,
    /// The sum of the nice weights of the runnable threads directly in it.
    pub runnable: f64,
}

/// What a cgroup is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The sum of the weights of all that is runnable in it, where the mean of the tier's runnable threads is 100;
    /// 0: its threads weigh what their nice values say.
    pub share: f64,
    /// Among how much weight it is divided, beside that of the threads directly in it: of its active children.
    pub parts: f64,
}

/// The averages that shares are computed from.
#[derive(Default)]
pub struct Shares {
    nodes: Vec<Node>,
    /// Places of nodes, parents before children.
    order: Vec<usize>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    group: Group,
    depth: usize,
    root: usize,
    /// Something in it is runnable now.
    busy: bool,
    /// For which part of the time something in it was runnable.
    active: f64,
    /// The average of [`Group::runnable`].
    direct: f64,
    /// The weight of its children, as far as they are active.
    children: f64,
    /// Its part of the tier, 0 to 1, were it active.
    part: f64,
    /// Of a root: runnable nice weights in the tree, on average and now, and in how many cgroups.
    runnable: f64,
    now: f64,
    groups: usize,
}

impl Shares {
    /// With room for this many cgroups; more make it allocate.
    #[must_use]
    pub fn with_capacity(groups: usize) -> Shares {
        Shares {
            nodes: Vec::with_capacity(groups),
            order: Vec::with_capacity(groups),
        }
    }

    /// Takes in what is counted now, and says what each is worth.
    pub fn update<'a>(
        &'a mut self,
        groups: impl ExactSizeIterator<Item = Group>,
    ) -> impl Iterator<Item = Share> + 'a {
        self.nodes.resize(groups.len(), Node::default());
        for (node, group) in self.nodes.iter_mut().zip(groups) {
            if node.group.key != group.key {
                *node = Node::default();
            }
            node.group = group;
            node.busy = false;
            node.children = 0.0;
            node.runnable = 0.0;
            node.now = 0.0;
            node.groups = 0;
        }
        self.find_places();
        self.follow();
        self.divide();
        self.nodes.iter().map(|node| node.share(&self.nodes))
    }

    /// The parent of what is at `at`, if it is still there.
    fn parent(&self, at: usize) -> Option<usize> {
        let parent = self.nodes[at].group.parent?;
        let node = self.nodes.get(parent)?;
        (node.group.key != 0 && parent != at).then_some(parent)
    }

    /// Finds roots, and what is above what; marks what is busy.
    fn find_places(&mut self) {
        self.order.clear();
        for at in 0..self.nodes.len() {
            let group = self.nodes[at].group;
            if group.key == 0 {
                continue;
            }
            let (mut root, mut depth) = (at, 0);
            // A parent that is gone, whose place another has, may be in a circle.
            while let Some(parent) = self.parent(root)
                && depth < MAX_DEPTH
            {
                if group.runnable > 0.0 {
                    self.nodes[root].busy = true;
                }
                root = parent;
                depth += 1;
            }
            self.nodes[root].busy |= group.runnable > 0.0;
            self.nodes[at].depth = depth;
            self.nodes[at].root = root;
            self.order.push(at);
        }
        let nodes = &self.nodes;
        self.order.sort_unstable_by_key(|at| nodes[*at].depth);
    }

    /// Lets the averages follow, and sums them up.
    fn follow(&mut self) {
        for &at in &self.order {
            let node = &mut self.nodes[at];
            let follow = |average: f64, now: f64| {
                let next = average + (now - average) * FOLLOW;
                if next < NONE { 0.0 } else { next }
            };
            node.active = follow(node.active, f64::from(u8::from(node.busy)));
            node.direct = follow(node.direct, node.group.runnable);
        }
        for index in 0..self.order.len() {
            let at = self.order[index];
            let node = self.nodes[at];
            if node.depth > 0
                && let Some(parent) = self.parent(at)
            {
                self.nodes[parent].children += node.active * node.group.weight;
            }
            let root = &mut self.nodes[node.root];
            root.runnable += node.direct;
            root.now += node.group.runnable;
            root.groups += usize::from(node.direct > 0.0);
        }
    }

    /// Divides each tier from the root down. What is not active has the part that it would have, were it the next to be.
    fn divide(&mut self) {
        for index in 0..self.order.len() {
            let at = self.order[index];
            let Node {
                group,
                depth,
                active,
                ..
            } = self.nodes[at];
            self.nodes[at].part = match self.parent(at) {
                Some(parent) if depth > 0 => {
                    let above = &self.nodes[parent];
                    let others = (above.children - active * group.weight).max(0.0) + above.direct;
                    above.part * group.weight / (others + group.weight)
                }
                _ => 1.0,
            };
        }
    }
}

impl Node {
    fn share(&self, nodes: &[Node]) -> Share {
        if self.group.key == 0 {
            return Share::default();
        }
        let root = &nodes[self.root];
        // Nothing is beside it: the nice weights are the shares. A cgroup that sleeps has others beside it once it wakes.
        let others = root.groups - usize::from(self.direct > 0.0);
        if others == 0 {
            return Share::default();
        }
        Share {
            // A crowd that has just come divides its share already, and the average follows: measured by that alone, its threads
            // would weigh a fraction of the mean for half a second, and whatever ran then would be ahead of the others for long.
            share: self.part * root.runnable.max(root.now).max(UNIT),
            parts: self.children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(key: u64, parent: Option<usize>, weight: f64, runnable: f64) -> Group {
        Group {
            key,
            parent,
            weight,
            runnable,
        }
    }

    /// What they are worth when the averages have settled.
    fn settled(groups: &[Group]) -> Vec<Share> {
        let mut shares = Shares::with_capacity(groups.len());
        for _ in 0..100 {
            shares.update(groups.iter().copied()).for_each(drop);
        }
        shares.update(groups.iter().copied()).collect()
    }

    /// The weight of a thread at nice 0 in it.
    fn thread(group: &Group, share: &Share) -> f64 {
        UNIT * share.share / (group.runnable.max(UNIT) + share.parts)
    }

    #[test]
    fn the_number_of_threads_plays_no_part() {
        let groups = [
            group(1, None, 100.0, 0.0),
            group(2, Some(0), 100.0, 6_400.0),
            group(3, Some(0), 100.0, 100.0),
        ];
        let shares = settled(&groups);
        let (many, one) = (
            thread(&groups[1], &shares[1]),
            thread(&groups[2], &shares[2]),
        );
        assert!((64.0 * many / one - 1.0).abs() < 1e-3, "{many} {one}");
        assert!(((64.0 * many + one) / 65.0 - 100.0).abs() < 0.1, "the mean");
    }

    #[test]
    fn one_cgroup_alone_leaves_nice_weights_as_they_are() {
        let groups = [
            group(1, None, 100.0, 0.0),
            group(2, Some(0), 50.0, 0.0),
            group(3, Some(1), 50.0, 1_700.0),
            group(4, Some(1), 50.0, 0.0),
        ];
        assert_eq!(settled(&groups)[2].share, 0.0);
    }

    #[test]
    fn a_sleeper_beside_one_busy_cgroup_is_worth_its_share() {
        let groups = [
            group(1, None, 100.0, 0.0),
            group(2, Some(0), 100.0, 1_600.0),
            group(3, Some(0), 100.0, 0.0),
        ];
        let shares = settled(&groups);
        assert_eq!(shares[1].share, 0.0, "it is alone");
        assert!((shares[2].share - 800.0).abs() < 1.0, "half of 1,600");
    }

    #[test]
    fn a_sleeper_does_not_count_but_is_worth_its_share() {
        let groups = [
            group(1, None, 100.0, 0.0),
            group(2, Some(0), 100.0, 400.0),
            group(3, Some(0), 100.0, 400.0),
            group(4, Some(0), 200.0, 0.0),
        ];
        let shares = settled(&groups);
        assert!((shares[1].share - 400.0).abs() < 1.0);
        assert!((shares[3].share - 400.0).abs() < 1.0, "200 of 400 of 800");
    }

    #[test]
    fn a_crowd_that_has_just_come_weighs_the_mean() {
        let tree = |crowd| [group(1, None, 100.0, 50.0), group(2, Some(0), 100.0, crowd)];
        let mut shares = Shares::with_capacity(2);
        for _ in 0..100 {
            shares.update(tree(100.0).into_iter()).for_each(drop);
        }
        let now = tree(1_600.0);
        let share: Vec<Share> = shares.update(now.into_iter()).collect();
        let [root, crowd] = [0, 1].map(|at| thread(&now[at], &share[at]));
        let mean = (root * 50.0 + crowd * 1_600.0) / 1_650.0;
        assert!((80.0..125.0).contains(&mean), "{mean}");
    }

    #[test]
    fn two_tiers_are_two_trees() {
        let groups = [
            group(1, None, 100.0, 0.0),
            group(2, Some(0), 100.0, 300.0),
            group(3, Some(0), 100.0, 100.0),
            group(4, None, 100.0, 0.0),
            group(5, Some(3), 100.0, 700.0),
        ];
        let shares = settled(&groups);
        assert!((shares[1].share - 200.0).abs() < 1.0);
        assert_eq!(shares[4].share, 0.0, "it is alone in its tier");
    }

    #[test]
    fn parents_that_are_gone_or_in_a_circle_harm_none() {
        let groups = [
            group(1, Some(1), 100.0, 100.0),
            group(2, Some(0), 100.0, 100.0),
            group(3, Some(7), 100.0, 100.0),
            group(0, None, 0.0, 0.0),
            group(4, Some(3), 100.0, 100.0),
            group(5, Some(5), 100.0, 100.0),
        ];
        for share in settled(&groups) {
            assert!(share.share.is_finite() && share.parts.is_finite());
        }
    }

    #[test]
    fn another_cgroup_in_its_place_begins_anew() {
        let tree = |key| {
            [
                group(1, None, 100.0, 0.0),
                group(2, Some(0), 100.0, 100.0),
                group(key, Some(0), 100.0, 100.0),
            ]
        };
        let mut shares = Shares::with_capacity(3);
        for _ in 0..100 {
            shares.update(tree(3).into_iter()).for_each(drop);
        }
        let settled = shares.update(tree(3).into_iter()).nth(1).unwrap().share;
        let begun = shares.update(tree(4).into_iter()).nth(1).unwrap().share;
        assert!((settled - 100.0).abs() < 1.0);
        assert!(begun > 1.2 * settled / 2.0, "the other is not active yet");
    }

    proptest! {
        /// By the definition: at each level by weight among what is active.
        #[test]
        fn nested_trees_are_divided_level_by_level(
            pods in prop::collection::vec(
                (1.0..1_000.0f64, prop::collection::vec((1.0..1_000.0f64, 1..200u32), 1..5)),
                2..10,
            ),
        ) {
            let mut groups = vec![group(1, None, 100.0, 0.0)];
            let mut parts = vec![];
            let pods_weight: f64 = pods.iter().map(|(weight, _)| weight).sum();
            for (weight, containers) in &pods {
                let pod = groups.len();
                groups.push(group(groups.len() as u64 + 1, Some(0), *weight, 0.0));
                let all: f64 = containers.iter().map(|(weight, _)| weight).sum();
                for (container, threads) in containers {
                    let at = groups.len();
                    let runnable = f64::from(*threads) * UNIT;
                    groups.push(group(at as u64 + 1, Some(pod), *container, runnable));
                    parts.push((at, weight / pods_weight * container / all));
                }
            }
            let shares = settled(&groups);
            let sum: f64 = parts.iter().map(|(at, _)| shares[*at].share).sum();
            for (at, part) in parts {
                let got = thread(&groups[at], &shares[at]) * groups[at].runnable / UNIT / sum;
                prop_assert!((got / part - 1.0).abs() < 0.01, "{got} of {part}");
            }
        }
    }
}
