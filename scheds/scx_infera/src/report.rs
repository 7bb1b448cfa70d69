//! Who reads the counters of an attached scheduler: the printer of `--stats`, and the clients
//! of the scx_stats socket.
//!
//! Each has a [`Meter`] of its own and runs on a thread of its own, so one that stops reading
//! holds up neither the others nor the loop, which answers a question and never waits.

use crate::events::{self, Events};
use crate::stats::{Counters, Metrics, TierMetrics};
use crate::watch::Order;
use anyhow::{Context, Result};
use crossbeam::channel::{Sender, bounded};
use scx_stats::{Meta, StatsOps, StatsReader, StatsServer, StatsServerData, ToJson};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Where every scx tool looks for the attached scheduler's statistics.
pub const SOCKET: &str = "/var/run/scx/root/stats";

/// The loop answers within a round. One that does not answer for this long is about to be
/// detached, or not attached yet.
pub const ANSWER: Duration = Duration::from_secs(1);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum NoFigures {
    /// No answer in time.
    #[error("the scheduler did not answer within {} s", ANSWER.as_secs())]
    Late,
    /// The loop has ended.
    #[error("the scheduler has ended")]
    Ended,
}

/// One reader's view: what happened since it last looked.
pub struct Meter {
    orders: Sender<Order>,
    before: Option<Counters>,
    kernel_events: Events,
}

impl Meter {
    /// A view that begins at attach.
    pub fn new(orders: Sender<Order>) -> Meter {
        Meter {
            orders,
            before: None,
            kernel_events: Events::new(),
        }
    }

    /// What happened since the last call, or since attach.
    ///
    /// # Errors
    ///
    /// The loop accepts no order, or does not reply to it, within [`ANSWER`] ([`NoFigures::Late`]), or it has ended.
    pub fn read(&mut self) -> Result<Metrics, NoFigures> {
        // A channel a question: a late answer cannot be taken for the next one's.
        let (reply, answer) = bounded(1);
        self.orders
            .send_timeout(Order::Report(reply), ANSWER)
            .map_err(|error| match error.is_timeout() {
                true => NoFigures::Late,
                false => NoFigures::Ended,
            })?;
        let now = answer
            .recv_timeout(ANSWER)
            .map_err(|error| match error.is_timeout() {
                true => NoFigures::Late,
                false => NoFigures::Ended,
            })?;
        let attached = Counters::zero(now.attached, now.attached);
        let before = self.before.take().unwrap_or(attached);
        let mut metrics = Metrics::between(&before, &now);
        self.before = Some(now);
        let now = events::read(Path::new(events::FILE));
        metrics.kernel_events = events::between(&self.kernel_events, &now);
        self.kernel_events = now;
        Ok(metrics)
    }
}

/// Prints every `period` until the loop is gone or the output is closed.
pub fn print(mut meter: Meter, period: Duration) {
    // The first reading ends the time before attaching, and begins the first interval.
    let mut shown = false;
    loop {
        match meter.read() {
            Ok(metrics) if shown => {
                if writeln!(std::io::stdout(), "{metrics}").is_err() {
                    return;
                }
            }
            Ok(_) => shown = true,
            Err(NoFigures::Late) => continue,
            Err(NoFigures::Ended) => return,
        }
        std::thread::sleep(period);
    }
}

fn described() -> StatsServerData<(), ()> {
    StatsServerData::new()
        .add_meta(Metrics::meta())
        .add_meta(TierMetrics::meta())
}

/// Describes every statistic.
///
/// # Errors
///
/// `to` cannot be written, for example a pipe whose reader has gone.
pub fn describe(to: &mut impl Write) -> Result<()> {
    described().describe_meta(to, None)
}

/// Serves statistics at `socket`, from threads that it starts. Only root may connect: each
/// client costs a thread, and memory of the scheduler's own arena.
///
/// # Errors
///
/// The socket's directory cannot be created, another file at its path cannot be removed, or the socket cannot be bound
/// or given its mode.
pub fn serve(socket: &Path, orders: Sender<Order>) -> Result<StatsServer<(), ()>> {
    let data = described().add_ops(
        "top",
        StatsOps {
            open: Box::new(move |_| {
                let mut meter = Meter::new(orders.clone());
                let read: Box<dyn StatsReader<(), ()>> =
                    Box::new(move |_, _| meter.read()?.to_json());
                Ok(read)
            }),
            close: None,
        },
    );
    let server = StatsServer::new(data).set_path(socket).launch()?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))
        .with_context(|| format!("closing {} to others", socket.display()))?;
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::Receiver;
    use infera_policy::{Nanos, Tier};
    use scx_stats::StatsClient;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// A loop that counts one guaranteed turn and one second of High at each question.
    fn loop_answers(orders: Receiver<Order>) {
        let mut now = Counters::zero(Nanos(0), Nanos(0));
        for order in orders {
            if let Order::Report(reply) = order {
                now.at.0 += 1_000_000_000;
                now.guaranteed += 1;
                now.tiers[Tier::High.index()].cpu_ns += 1_000_000_000;
                let _ = reply.try_send(now.clone());
            }
        }
    }

    struct Served {
        _dir: tempfile::TempDir,
        _server: StatsServer<(), ()>,
        socket: PathBuf,
        orders: Sender<Order>,
    }

    fn served() -> Served {
        let (orders, received) = bounded(16);
        std::thread::spawn(move || loop_answers(received));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("missing/root/stats");
        Served {
            _server: serve(&socket, orders.clone()).unwrap(),
            _dir: dir,
            socket,
            orders,
        }
    }

    fn client(served: &Served) -> StatsClient {
        let client = StatsClient::new().set_path(&served.socket);
        client.connect(Some(5_000)).unwrap()
    }

    fn turns(client: &mut StatsClient) -> u64 {
        let metrics: Metrics = client.request("stats", vec![]).unwrap();
        assert_eq!(metrics.tiers["high"].cpus, 1.0);
        metrics.guaranteed
    }

    #[test]
    fn two_clients_do_not_disturb_each_other() {
        let served = served();
        let (mut a, mut b) = (client(&served), client(&served));
        // The first answer is since attach, and the loop counts every question.
        assert_eq!((turns(&mut a), turns(&mut b)), (1, 2));
        assert_eq!((turns(&mut a), turns(&mut a), turns(&mut a)), (2, 1, 1));
        assert_eq!((turns(&mut b), turns(&mut a)), (4, 2));
    }

    #[test]
    fn a_client_that_hangs_does_not_disturb_others() {
        let served = served();
        let _silent = UnixStream::connect(&served.socket).unwrap();
        // Asks until the server cannot write its answers any more, and reads none.
        let mut deaf = UnixStream::connect(&served.socket).unwrap();
        deaf.set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        while deaf.write_all(b"{\"req\":\"stats\"}\n").is_ok() {}
        let mut meter = Meter::new(served.orders.clone());
        meter.read().unwrap();
        assert_eq!(meter.read().unwrap().guaranteed, 1);
        let mut other = client(&served);
        turns(&mut other);
        assert_eq!(turns(&mut other), 1);
    }

    #[test]
    fn a_loop_that_does_not_answer_is_late_and_one_that_ended_has_ended() {
        let (orders, received) = bounded(1);
        let mut meter = Meter::new(orders);
        assert!(matches!(meter.read(), Err(NoFigures::Late)));
        // The queue is full now.
        assert!(matches!(meter.read(), Err(NoFigures::Late)));
        drop(received);
        assert!(matches!(meter.read(), Err(NoFigures::Ended)));
    }

    #[test]
    fn every_statistic_is_described() {
        for meta in [Metrics::meta(), TierMetrics::meta()] {
            for (name, field) in &meta.fields {
                assert!(field.attrs.desc.is_some(), "{}.{name}", meta.name);
            }
        }
        let mut text = Vec::new();
        describe(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("p99_wake_us"), "{text}");
    }

    #[test]
    fn only_root_may_connect() {
        let served = served();
        let mode = fs::metadata(&served.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
