//! Quantities as Kubernetes writes them.

/// A quantity of CPUs in thousandths: `2`, `1500m`, `0.5`, `1e3m`, `2k`.
#[must_use]
pub fn parse_millis(text: &str) -> Option<u64> {
    let (number, scale) = match text.find(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E')
    {
        Some(at) => (
            &text[..at],
            match &text[at..] {
                "n" => 1e-6,
                "u" => 1e-3,
                "m" => 1.0,
                "k" => 1e6,
                _ => return None,
            },
        ),
        None => (text, 1e3),
    };
    let millis = (number.parse::<f64>().ok()? * scale).ceil();
    // No node has a million CPUs.
    (0.0..=1e9).contains(&millis).then_some(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_thousandths() {
        for (text, millis) in [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1500m", Some(1500)),
            ("100u", Some(1)),
            ("1e3m", Some(1000)),
            ("2k", Some(2_000_000)),
            ("", None),
            ("-1", None),
            ("1Gi", None),
            ("nan", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_millis(text), millis, "{text}");
        }
    }
}
