//! An open-loop memcached client.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::clock::{self, MS};
use crate::protocol::{self, Reply};
use crate::report::{Latencies, Summary};
use crate::rng::SplitMix64;
use crate::signal;
use crate::window::{LEAD, Turn, Window};

/// How long a server that is just starting is waited for.
const PATIENCE: u64 = 10_000 * MS;
/// How long a reply is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How late a send is called late.
const LATE: u64 = MS;

/// Options of `memcached`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The server's address.
    #[arg(long, default_value = "127.0.0.1:11211")]
    pub connect: SocketAddr,
    /// Requests a second, over all connections.
    #[arg(long, default_value = "2000", value_parser = parse_rate)]
    pub rate: f64,
    /// How many connections, each with its thread and its share of the rate.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// How long to measure.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
    /// Seed of the intervals, keys and operations.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many keys are stored beforehand, and used.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Size of each value.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
}

fn parse_rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse()?;
    ensure!(
        rate.is_finite() && rate > 0.0,
        "a rate is a number above zero"
    );
    Ok(rate)
}

/// What the client measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From the intended send time to the reply's end, for requests that succeeded.
    #[serde(flatten)]
    pub latencies: Summary,
    /// Sends that started more than 1 ms late.
    pub late: u64,
    /// Requests that failed, misses included.
    pub errors: u64,
    /// Requests still waiting for their connection at the end, never sent.
    pub unsent: u64,
}

/// Stores the keys, then measures.
///
/// # Errors
///
/// The server does not listen within ten seconds, or does not store a key, or a stop is requested before all are
/// stored. Failures while it measures are counted in [`Report::errors`].
pub fn run(args: &Args) -> Result<Report> {
    clock::tighten_timers()?;
    let value = vec![b'x'; args.value_bytes];
    let mut connections = (0..args.connections)
        .map(|_| Connection::patiently(args.connect))
        .collect::<Result<Vec<_>>>()?;
    preload(&mut connections[0], args.keys, &value)
        .with_context(|| format!("storing the keys at {}", args.connect))?;

    let start = clock::monotonic() + LEAD;
    let window = Window::until(start.saturating_add(args.duration_ms.saturating_mul(MS)));
    let value = &value;
    let measured = thread::scope(|scope| {
        let workers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(i, connection)| {
                let client = Client {
                    args,
                    value,
                    connection: Some(connection),
                    rng: SplitMix64::for_thread(args.seed, i),
                };
                scope.spawn(move || client.measure(window, start))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("the client does not panic"))
            .collect::<Vec<_>>()
    });

    let mut all = Tally::new();
    for tally in &measured {
        all.merge(tally);
    }
    Ok(Report {
        latencies: all.latencies.summary(),
        late: all.late,
        errors: all.errors,
        unsent: all.unsent,
    })
}

fn preload(connection: &mut Connection, keys: u64, value: &[u8]) -> Result<()> {
    for key in 0..keys {
        ensure!(!signal::stop_requested(), "stopped");
        let reply = connection.set(key, value)?;
        ensure!(reply == Reply::Done, "key {key} was not stored");
    }
    Ok(())
}

struct Tally {
    latencies: Latencies,
    late: u64,
    errors: u64,
    unsent: u64,
}

impl Tally {
    fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            late: 0,
            errors: 0,
            unsent: 0,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.late += other.late;
        self.errors += other.errors;
        self.unsent += other.unsent;
    }
}

/// One connection's thread.
struct Client<'a> {
    args: &'a Args,
    value: &'a [u8],
    /// None after a failure, until the next request connects anew.
    connection: Option<Connection>,
    rng: SplitMix64,
}

impl Client<'_> {
    fn measure(mut self, mut window: Window, start: u64) -> Tally {
        let mut tally = Tally::new();
        let mean = 1e9 * f64::from(self.args.connections) / self.args.rate;
        let mut wanted = start;
        loop {
            // Drawn whatever becomes of the request, so that the seed alone makes the schedule.
            wanted = wanted.saturating_add(self.rng.exponential(mean) as u64);
            let key = self.rng.below(self.args.keys);
            let is_set = self.rng.below(10) == 0;
            match window.wait(wanted) {
                Turn::Go(now) => {
                    tally.late += u64::from(now - wanted > LATE);
                    match self.request(key, is_set) {
                        Ok(Reply::Done) => tally.latencies.record(clock::monotonic() - wanted),
                        Ok(Reply::Refused) => tally.errors += 1,
                        Err(_) => {
                            tally.errors += 1;
                            self.connection = None;
                        }
                    }
                }
                Turn::Missed => tally.unsent += 1,
                Turn::Over => return tally,
            }
        }
    }

    fn request(&mut self, key: u64, is_set: bool) -> io::Result<Reply> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.args.connect)?),
        };
        if is_set {
            connection.set(key, self.value)
        } else {
            connection.get(key, self.value.len())
        }
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            request: Vec::new(),
        })
    }

    /// Opens a connection to a server that may not listen yet.
    fn patiently(address: SocketAddr) -> Result<Self> {
        let end = clock::monotonic() + PATIENCE;
        loop {
            match Self::open(address) {
                Err(_) if clock::monotonic() < end && !signal::stop_requested() => {
                    clock::sleep_until(clock::monotonic() + 50 * MS);
                }
                outcome => return outcome.with_context(|| format!("connecting to {address}")),
            }
        }
    }

    fn set(&mut self, key: u64, value: &[u8]) -> io::Result<Reply> {
        self.request.clear();
        protocol::write_set(&mut self.request, key, value);
        self.stream.get_mut().write_all(&self.request)?;
        protocol::read_set(&mut self.stream)
    }

    fn get(&mut self, key: u64, bytes: usize) -> io::Result<Reply> {
        self.request.clear();
        protocol::write_get(&mut self.request, key);
        self.stream.get_mut().write_all(&self.request)?;
        protocol::read_get(&mut self.stream, key, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(parse_rate("0.5").unwrap(), 0.5);
        for wrong in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
