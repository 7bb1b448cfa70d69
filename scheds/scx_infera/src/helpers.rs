//! The threads beside the loop. They start before the scheduler attaches, because afterwards the process cannot make threads, and wait until
//! it has.

use crate::exit_code::{Refusal, Status};
use crate::intent::Intent;
use crate::report::{self, Meter, SOCKET};
use crate::vitals::{self, Eyes};
use crate::watch::{Helper, Order};
use crate::{CGROUP_ROOT, internal, privileges, signals};
use crossbeam::channel::{Receiver, Sender, bounded};
use infera_heartbeat::Page;
use infera_policy::Fault;
use libbpf_rs::MapHandle;
use log::{error, warn};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How many orders may wait for the loop.
const ORDERS: usize = 16;

/// The channels on which the helper threads wait for the scheduler. When it is not attached after all, dropping this ends the threads.
pub struct Helpers {
    cgroups: Sender<MapHandle>,
    eyes: Sender<Eyes>,
    attached: Sender<()>,
}

/// The loop's ends of its channels to the helper threads.
pub struct Ends {
    /// Orders to the loop.
    pub orders: Receiver<Order>,
    /// Where a fault of the policy is reported.
    pub faults: Sender<Fault>,
}

impl Helpers {
    /// Starts all: what follows cgroups and configuration, what watches the overlay, what prints statistics every `stats` seconds, and
    /// what serves them.
    ///
    /// # Errors
    ///
    /// Where the process may have no more threads, or no more open files.
    pub fn start(
        intent: &Intent,
        stats: Option<u64>,
        page: &Page,
        guarded: bool,
    ) -> Result<(Helpers, Ends), Refusal> {
        let (orders_in, orders) = bounded(ORDERS);
        let (faults_in, faults) = bounded(1);
        let cgroups = start_watch(intent, orders_in.clone())?;
        let eyes = start_vitals(page.clone(), faults, guarded)?;
        if let Some(seconds) = stats {
            let meter = Meter::new(orders_in.clone());
            spawn("infera-stats", move || {
                privileges::drop_most();
                report::print(meter, Duration::from_secs(seconds));
            })?;
        }
        let attached = start_server(orders_in)?;
        let helpers = Helpers {
            cgroups,
            eyes,
            attached,
        };
        let ends = Ends {
            orders,
            faults: faults_in,
        };
        Ok((helpers, ends))
    }

    /// The overlay is loaded: cgroups get their tiers in `map`.
    pub fn follow(&self, map: MapHandle) {
        let _ = self.cgroups.send(map);
    }

    /// The scheduler is attached: statistics are served, and the overlay is watched.
    pub fn watch(&self, eyes: Eyes) {
        let _ = self.attached.send(());
        let _ = self.eyes.send(eyes);
    }
}

fn start_watch(intent: &Intent, orders: Sender<Order>) -> Result<Sender<MapHandle>, Refusal> {
    let (cgroups, attached) = bounded(1);
    let helper = Helper {
        attached,
        hangup: signals::wake().map_err(|error| internal(error.into()))?,
        orders,
        source: intent.source.clone(),
        wanted: intent.wanted.clone(),
        root: CGROUP_ROOT.into(),
        topology: intent.topology.clone(),
    };
    spawn("infera-watch", move || helper.run())?;
    Ok(cgroups)
}

fn start_vitals(
    page: Page,
    faults: Receiver<Fault>,
    guarded: bool,
) -> Result<Sender<Eyes>, Refusal> {
    let (eyes_in, eyes) = bounded(1);
    spawn("infera-vitals", move || {
        if let Ok(eyes) = eyes.recv()
            && let Err(error) = vitals::publish(&eyes, &faults, &page, guarded)
        {
            error!("the guard learns nothing: {error:#}");
        }
    })?;
    Ok(eyes_in)
}

fn start_server(orders: Sender<Order>) -> Result<Sender<()>, Refusal> {
    let (attached_in, attached) = bounded::<()>(1);
    spawn("infera-server", move || {
        // Not before: who is refused because another is attached must not take its socket.
        if attached.recv().is_err() {
            return;
        }
        privileges::drop_most();
        // It makes a thread for each client.
        match report::serve(Path::new(SOCKET), orders) {
            Ok(_server) => loop {
                thread::park();
            },
            Err(error) => warn!("no statistics for --monitor: {error:#}"),
        }
    })?;
    Ok(attached_in)
}

/// Bytes of a helper thread's stack, which is locked as a whole.
const STACK: usize = 512 * 1024;

/// Starts a helper thread: only possible before attaching.
///
/// # Errors
///
/// Where a limit on threads or memory is used up by others.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(run)
        .map(drop)
        .map_err(|error| {
            // EAGAIN or ENOMEM.
            Refusal::new(Status::Later, format!("cannot start {name}: {error}"))
        })
}
