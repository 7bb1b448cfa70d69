//! The scheduler's statistics, over its scx_stats socket: a line of JSON each way.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the scheduler listens.
pub const STATS_SOCKET: &str = "/var/run/scx/root/stats";

/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 256 * 1024;

/// What one tier did since the last reading.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct TierStats {
    /// CPUs it kept busy on average.
    pub cpus: f64,
    /// Tasks that went straight to an idle CPU.
    pub idle: u64,
    /// That took a CPU from a lower tier.
    pub preempt: u64,
    /// That came through the tier's queue in the kernel.
    pub queue: u64,
    /// That the policy ordered.
    pub user: u64,
    /// That ran in arrival order, the ring to the policy being full.
    pub full: u64,
    /// That took a CPU from a task of their tier that had run more.
    pub peer: u64,
    /// Waits for the budget of a cgroup with a CPU limit.
    pub throttled: u64,
    /// How long those were, in seconds, over all tasks.
    pub throttled_s: f64,
    /// 99 % of wakeups waited less than this.
    pub p99_wake_us: f64,
    /// Wakeups by latency: entry `b` counts those of 2^b to 2^(b+1) nanoseconds.
    pub wake_log2_ns: Vec<u64>,
}

/// What happened since the last reading of this client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Stats {
    /// Length of that time.
    pub interval_s: f64,
    /// By name.
    pub tiers: BTreeMap<String, TierStats>,
    /// Turns given because a wait bound was reached.
    pub guaranteed: u64,
    /// Decisions that came too late.
    pub cancelled: u64,
    /// Tasks that found the ring full.
    pub ring_full: u64,
    /// Tasks in the policy's hands.
    pub waiting: u64,
    /// What the kernel counted of sched_ext itself, by name; none on kernels that count nothing, such as 6.12.
    pub kernel_events: BTreeMap<String, u64>,
    /// Periods in which a cgroup with a CPU limit ran or waited.
    pub cfs_periods: u64,
    /// Of those, in which its tasks waited for budget.
    pub cfs_throttled_periods: u64,
    /// Times that a cgroup's CPU limit was not in force for want of room.
    pub limits_refused: u64,
}

#[derive(Deserialize)]
struct Answer {
    errno: i32,
    args: BTreeMap<String, serde_json::Value>,
}

/// A client, whose first reading is of all since the scheduler attached.
pub struct StatsClient {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl StatsClient {
    /// Of the socket at `path`; connects when it is asked.
    #[must_use]
    pub fn new(path: &Path) -> StatsClient {
        let (path, stream) = (path.to_owned(), None);
        StatsClient { path, stream }
    }

    /// Reads. Blocks for at most a second.
    ///
    /// # Errors
    ///
    /// The scheduler's socket is not there, does not answer within a second, or answers something else than
    /// statistics.
    pub fn read(&mut self) -> io::Result<Stats> {
        let result = self.exchange();
        if result.is_err() {
            // Another scheduler may listen there the next time.
            self.stream = None;
        }
        result
    }

    fn exchange(&mut self) -> io::Result<Stats> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = UnixStream::connect(&self.path)?;
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.set_write_timeout(Some(Duration::from_secs(1)))?;
                none.insert(BufReader::new(stream))
            }
        };
        stream
            .get_mut()
            .write_all(b"{\"req\":\"stats\",\"args\":{}}\n")?;
        let mut line = String::new();
        stream.take(MAX_ANSWER).read_line(&mut line)?;
        let answer: Answer = serde_json::from_str(&line)?;
        let value = answer.args.into_iter().find(|(key, _)| key == "resp");
        match (answer.errno, value) {
            (0, Some((_, value))) => Ok(serde_json::from_value(value)?),
            (error, _) => Err(io::Error::other(format!("the statistics' error {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_answer_is_read_and_a_restart_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [
                "{\"errno\":0,\"args\":{\"resp\":{\"interval_s\":2.0,\"tiers\":{\"high\":{\"cpus\":1.5,\"user\":3}},\"waiting\":4}}}\n",
                "{\"errno\":22,\"args\":{}}\n",
                "nonsense\n",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut line)
                    .unwrap();
                assert!(line.contains("\"stats\""));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut client = StatsClient::new(&path);
        let stats = client.read().unwrap();
        assert_eq!((stats.tiers["high"].user, stats.waiting), (3, 4));
        client.stream = None;
        assert!(client.read().is_err());
        assert!(client.read().is_err());
        server.join().unwrap();
        assert!(client.read().is_err());
    }
}
