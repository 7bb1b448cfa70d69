//! `--monitor`: prints the statistics of a scheduler that another process attached.

use crate::exit_code::{Refusal, Status};
use crate::report::ANSWER;
use crate::stats::Metrics;
use anyhow::Result;
use log::info;
use scx_stats::StatsClient;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// How long until it looks again for a scheduler that is not there.
const RETRY: Duration = Duration::from_secs(1);

/// Prints every `period`, through restarts of the scheduler, until Ctrl-C ends the process or
/// the output is closed.
///
/// # Errors
///
/// The process may not connect to the socket, for which it needs root, or another handler for Ctrl-C is installed
/// already. A scheduler that is not there is no error: the monitor waits for it.
pub fn monitor(socket: &Path, period: Duration) -> Result<(), Refusal> {
    // Nothing is held that would have to be given back, so a sleep need not be waited for.
    ctrlc::set_handler(|| std::process::exit(Status::Done as i32))
        .map_err(|error| Refusal::new(Status::Internal, error.to_string()))?;
    let mut said = String::new();
    loop {
        let Err(error) = follow(socket, period) else {
            return Ok(());
        };
        let kind = error.downcast_ref().map(io::Error::kind);
        if kind == Some(io::ErrorKind::PermissionDenied) {
            let sentence = "reading the scheduler's statistics needs root: run this as root";
            return Err(Refusal::new(Status::NotRoot, sentence));
        }
        let why = format!("waiting for scx_infera at {}: {error:#}", socket.display());
        if why != said {
            info!("{why}");
            said = why;
        }
        std::thread::sleep(RETRY);
    }
}

/// Prints what one scheduler does; `Ok` when the output is closed.
fn follow(socket: &Path, period: Duration) -> Result<()> {
    // More than the server itself waits for the scheduler, so that its reason arrives.
    let patience = (ANSWER * 3).as_millis() as u64;
    let mut client = StatsClient::new()
        .set_path(socket)
        .connect(Some(patience))?;
    let mut read = || client.request::<Metrics>("stats", Vec::new());
    // The first answer covers the time before this client: it only begins an interval.
    read()?;
    loop {
        std::thread::sleep(period);
        if writeln!(io::stdout(), "{}", read()?).is_err() {
            return Ok(());
        }
    }
}
