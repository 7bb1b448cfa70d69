//! `infera.toml`: it is refused with file, line and key, or everything in it is in range.
#![no_main]

use infera_plan::{Config, ConfigError, Fence, Rule};
use infera_policy::{Nanos, Tier};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    match Config::parse(Path::new("infera.toml"), text) {
        Ok(config) => in_range(&config),
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
            let ConfigError::Line { line, message, .. } = error else {
                panic!("not about a line: {sentence}");
            };
            assert!((1..=text.split('\n').count()).contains(&line));
            assert!(!message.is_empty());
        }
    }
});

fn in_range(config: &Config) {
    let ms = Nanos::from_millis;
    assert!((ms(1)..=ms(2_000)).contains(&config.user_bound));
    for row in &config.tiers.0 {
        assert!((1..=10_000).contains(&row.weight));
        assert!((Nanos::from_micros(100)..=ms(1_000)).contains(&row.slice));
        assert!(row.min_share <= 500);
        assert!((ms(1)..=ms(2_000)).contains(&row.max_wait));
    }
    match &config.fence {
        Fence::None => {}
        Fence::Cores(count) => assert!(*count > 0),
        Fence::Cpus(cpus) => {
            assert!(!cpus.is_empty());
            assert!(cpus.iter().all(|cpu| *cpu < 1024));
        }
    }
    let mut again = config.clone();
    for rule in &config.rules {
        check_rule(rule, &mut again);
    }
    assert_eq!(&again, config, "what was refused changed something");
}

/// The scheduler can look for what the rule names, and each is there once.
fn check_rule(rule: &Rule, config: &mut Config) {
    assert!(rule.pattern.starts_with('/'));
    for part in rule.pattern.split('/') {
        assert_ne!(part, "..");
        glob::Pattern::new(part).unwrap();
    }
    let twice = format!("{}=/sys/fs/cgroup{}", Tier::Low, rule.pattern);
    assert!(config.add_arguments(&[twice]).is_err());
}
