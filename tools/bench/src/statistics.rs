//! Medians, ranges, and whether two samples differ.

/// Of a sample, sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one, or between the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// `None` of an empty sample.
pub fn spread(sample: &[f64]) -> Option<Spread> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    Some(Spread {
        median: (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0,
        least: *first,
        most: *last,
    })
}

/// How probable a difference of means as large as that of `a` and `b` is where both are of one kind: the
/// exact permutation test, two-sided. At most twenty together.
pub fn permutation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n, all) = (a.len(), a.len() + b.len());
    if a.is_empty() || b.is_empty() || all > 20 {
        return None;
    }
    let values: Vec<f64> = a.iter().chain(b).copied().collect();
    let total: f64 = values.iter().sum();
    let difference = |sum: f64| (sum / n as f64 - (total - sum) / b.len() as f64).abs();
    let observed = difference(a.iter().sum());
    let (mut as_far, mut count) = (0_u64, 0_u64);
    for chosen in 0_u32..1 << all {
        if chosen.count_ones() as usize != n {
            continue;
        }
        let sum = values
            .iter()
            .enumerate()
            .filter(|(at, _)| chosen & (1 << at) != 0);
        count += 1;
        // What differs by rounding alone is as far.
        as_far +=
            u64::from(difference(sum.map(|(_, value)| value).sum()) >= observed * (1.0 - 1e-12));
    }
    Some(as_far as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        assert_eq!(spread(&[]), None);
        let odd = spread(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[1.0, 2.0]).unwrap().median, 1.5);
    }

    #[test]
    fn the_permutation_test_is_exact() {
        // Of 20 ways to choose three of six, two are as far as this.
        let far = permutation(&[1.0, 2.0, 3.0], &[11.0, 12.0, 13.0]).unwrap();
        assert!((far - 0.1).abs() < 1e-12, "{far}");
        assert_eq!(permutation(&[1.0, 1.0], &[1.0, 1.0]), Some(1.0));
        assert_eq!(permutation(&[], &[1.0]), None);
    }
}
