//! A reply line as a client of the guard receives it: one that parses is the same reply after it is
//! serialized and parsed again.
#![no_main]

use infera_control::Reply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Ok(reply) = Reply::parse(line) {
        let again = serde_json::to_vec(&reply).unwrap();
        assert_eq!(Reply::parse(&again).unwrap(), reply);
    }
});
