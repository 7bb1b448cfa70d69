//! CPU lists, the kernel's and the configuration's: bounded, and the same when written again.
#![no_main]

use infera_plan::{format_cpu_list, parse_cpu_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(set) = parse_cpu_list(text) {
        assert!(set.iter().all(|cpu| *cpu < 1024));
        let written = format_cpu_list(&set);
        assert_eq!(parse_cpu_list(&written).unwrap(), set);
        assert_eq!(
            written.contains(','),
            set.iter().zip(set.iter().skip(1)).any(|(a, b)| a + 1 != *b)
        );
    }
});
