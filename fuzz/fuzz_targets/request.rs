//! What the guard is asked: accepted requests are bounded and survive being sent on.
#![no_main]

use infera_control::{MAX_REASON, MAX_REQUEST, MAX_SOURCE, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    match Request::parse(line) {
        Ok(request) => check(&request),
        Err(sentence) => assert!(!sentence.is_empty()),
    }
});

fn check(request: &Request) {
    let again = serde_json::to_vec(request).unwrap();
    assert!(again.len() < MAX_REQUEST, "no room for the line end");
    assert_eq!(Request::parse(&again).as_ref(), Ok(request));
    let (source, reason) = match request {
        Request::SafeModeOn { source, reason } => (Some(source), Some(reason)),
        Request::SafeModeOff { source } => (source.as_ref(), None),
        Request::Status | Request::Reload => (None, None),
    };
    if let Some(source) = source {
        assert!((1..=MAX_SOURCE).contains(&source.len()));
        assert!(source.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some(reason) = reason {
        assert!(reason.len() <= MAX_REASON);
        // It goes to the log, where a line is a line, and to terminals.
        assert!(!reason.contains(char::is_control));
    }
}
