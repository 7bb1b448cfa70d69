//! The guard's side of a connection: whatever comes, one line goes back, and only a request
//! that the peer may make is acted on.
//!
//! The first byte decides what the peer does after sending the rest: if it is even, the peer
//! waits for the answer; if it is odd, the peer has closed the connection.
#![no_main]

use infera_control::{MAX_REPLY, Reply, Request, State, Status, serve};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

fuzz_target!(
    init: {
        // As Rust's runtime does for the guard; the fuzzer has its own.
        // SAFETY: no other thread runs yet, and ignoring a signal involves no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |input: &[u8]| {
        let Some((mode, sent)) = input.split_first() else {
            return;
        };
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        theirs.write_all(sent).unwrap();
        let line = sent.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let expected = Request::parse(line)
            .ok()
            .filter(|request| !request.needs_root() || rustix::process::geteuid().is_root());
        let mut acted_on = None;
        let answer = |request: Request| {
            acted_on = Some(request.clone());
            Reply::Done(Box::new(status(request)))
        };
        if mode % 2 == 1 {
            drop(theirs);
            serve(ours, answer);
        } else {
            theirs.shutdown(Shutdown::Write).unwrap();
            serve(ours, answer);
            let reply = read_reply(theirs);
            assert_eq!(matches!(reply, Reply::Done(_)), expected.is_some());
        }
        assert_eq!(acted_on, expected);
    }
);

/// The reply that the peer receives.
fn read_reply(mut stream: UnixStream) -> Reply {
    let mut line = Vec::new();
    stream.read_to_end(&mut line).unwrap();
    assert!(line.len() <= MAX_REPLY);
    assert_eq!(
        line.iter().position(|byte| *byte == b'\n'),
        Some(line.len() - 1)
    );
    Reply::parse(&line).unwrap()
}

/// A status that repeats what was asked.
fn status(request: Request) -> Status {
    let mut safe_mode = BTreeMap::new();
    if let Request::SafeModeOn { source, reason } = request {
        safe_mode.insert(source, reason);
    }
    Status {
        version: String::new(),
        state: State::SafeMode,
        since: 0,
        pid: None,
        safe_mode,
        generation: 0,
        policy_deposed: false,
        ejects: 0,
        history: Vec::new(),
    }
}
