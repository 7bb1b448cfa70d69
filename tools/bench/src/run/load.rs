//! The processes of a workload: started, read, ended.

use crate::arm::Arm;
use crate::machine::cgroup;
use crate::record::Cdf;
use crate::scenario::{Load, Workload};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A workload that runs.
pub struct Running<'a> {
    pub work: &'a Workload,
    pub child: Child,
    /// Where hogs count.
    progress: Option<PathBuf>,
    /// Why it cannot be measured though its process runs.
    pub failed: Option<String>,
}

impl Running<'_> {
    /// Units of work so far, of each hog.
    pub fn units(&self) -> Vec<u64> {
        let bytes = self.progress.as_ref().and_then(|path| fs::read(path).ok());
        let counters = bytes.unwrap_or_default();
        let counters = counters
            .chunks_exact(8)
            .map(|counter| u64::from_ne_bytes(counter.try_into().unwrap_or_default()));
        counters.collect()
    }

    /// Why the workload failed, of one that was to run until the window's end.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn ended_early(&mut self) -> Result<Option<String>> {
        let status = self.child.try_wait()?;
        let ended = status.map(|status| format!("ended before the window's end: {status}"));
        Ok(self.failed.clone().or(ended))
    }

    /// What a workload measured that was to end by itself.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for, or its output was taken by an earlier call. A load that fails, or prints no
    /// figures, is in what it returns.
    pub fn measured(&mut self) -> Result<Measured> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(Measured::failed(
                "did not end within a minute of the window's end",
            ));
        };
        let (mut text, mut complaint) = (String::new(), String::new());
        let out = self.child.stdout.take().context("no output")?;
        // What is not text is no figure; `figures` refuses it.
        let _ = BufReader::new(out).read_to_string(&mut text);
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut complaint);
        }
        if !status.success() {
            let complaint = complaint.trim().lines().collect::<Vec<_>>().join(" ");
            return Ok(Measured::failed(&format!("{status}: {complaint}")));
        }
        Ok(figures(self.work.load, &text).unwrap_or_else(|error| {
            Measured::failed(&format!("no figures ({error:#}) in its output: {text}"))
        }))
    }
}

/// What a workload measured of itself.
#[derive(Debug, Default, PartialEq)]
pub struct Measured {
    pub values: BTreeMap<String, f64>,
    pub cdf_us: Cdf,
    pub failed: Option<String>,
}

impl Measured {
    fn failed(why: &str) -> Measured {
        Measured {
            failed: Some(why.to_owned()),
            ..Measured::default()
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return; // It ended by itself.
        }
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// A command of a workload: joins its cgroup, takes what the arm gives its tier.
fn load(arm: &Arm, work: &Workload, words: &[String]) -> Command {
    let mut command = Command::new("infera-load");
    command
        .arg(&words[0])
        .arg("--cgroup")
        .arg(cgroup(&work.name))
        .args(arm.load_options(work.tier))
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What runs all through the window, and is not waited for: `None` for the rest, and for none of it.
///
/// # Errors
///
/// `infera-load` cannot be started. A PostgreSQL that cannot be prepared is in [`Running::failed`].
pub fn background<'a>(arm: &Arm, work: &'a Workload, rung: u32) -> Result<Option<Running<'a>>> {
    let count = work.count.unwrap_or(rung);
    let (mut line, progress) = match work.load {
        Load::Hogs | Load::Idle if count == 0 => return Ok(None),
        Load::Hogs => {
            let path = PathBuf::from(format!("/tmp/infera-bench-{}", work.name));
            let _ = fs::remove_file(&path);
            let text = path.display().to_string();
            (
                words(&["hogs", "--count", &count.to_string(), "--progress", &text]),
                Some(path),
            )
        }
        Load::Idle => (words(&["idle", "--threads", &count.to_string()]), None),
        Load::Memcached => (
            words(&[
                "run",
                "--",
                "memcached",
                "-u",
                "root",
                "-l",
                "127.0.0.1",
                "-p",
                "11211",
                "-t",
                "2",
            ]),
            None,
        ),
        Load::Pgbench => (words(&["postgres"]), None),
        _ => return Ok(None),
    };
    if matches!(work.load, Load::Hogs | Load::Idle) {
        line.extend(work.args.iter().cloned());
    }
    let child = load(arm, work, &line).stdout(Stdio::null()).spawn();
    let child = child.context("cannot start infera-load: is it installed?")?;
    let mut failed = None;
    if work.load == Load::Pgbench {
        let prepare = words(&["pgbench", "--prepare"]);
        let status = load(arm, work, &prepare).stdout(Stdio::null()).status()?;
        failed = (!status.success()).then(|| format!("PostgreSQL cannot be prepared: {status}"));
    }
    Ok(Some(Running {
        work,
        child,
        progress,
        failed,
    }))
}

/// What is started with the window and ends by itself.
///
/// # Errors
///
/// `infera-load` cannot be started.
pub fn measured<'a>(
    arm: &Arm,
    work: &'a Workload,
    ms: u64,
    seed: u64,
) -> Result<Option<Running<'a>>> {
    let (ms, seed) = (ms.to_string(), seed.to_string());
    let timed = |name: &str| words(&[name, "--duration-ms", &ms]);
    let seeded = |name: &str| words(&[name, "--duration-ms", &ms, "--seed", &seed]);
    let mut line = match work.load {
        Load::Wake => seeded("wake"),
        Load::Pingpong => timed("pingpong"),
        Load::Compile => words(&["compile"]),
        Load::Burst => seeded("burst"),
        Load::Chain => seeded("chain"),
        Load::Memcached => seeded("memcached"),
        Load::Pgbench => seeded("pgbench"),
        Load::Hackbench => words(&["run", "--", "hackbench"]),
        Load::Hogs | Load::Idle => return Ok(None),
    };
    line.extend(work.args.iter().cloned());
    let child = load(arm, work, &line).stderr(Stdio::piped()).spawn();
    let child = child.context("cannot start infera-load: is it installed?")?;
    Ok(Some(Running {
        work,
        child,
        progress: None,
        failed: None,
    }))
}

/// What a load printed: a line of JSON, or hackbench's time.
fn figures(load: Load, text: &str) -> Result<Measured> {
    if load == Load::Hackbench {
        let time = text.lines().find_map(|line| line.strip_prefix("Time: "));
        let seconds: f64 = time.context("no time")?.trim().parse()?;
        return Ok(Measured {
            values: [("seconds".to_owned(), seconds)].into(),
            ..Measured::default()
        });
    }
    let line: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let object = line.as_object().context("no object")?;
    let values = object
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
    let mut values: BTreeMap<String, f64> = values.collect();
    if values.get("count") == Some(&0.0) {
        // The percentiles of nothing are 0, the best there are: they must not get into a report.
        values.retain(|name, _| !name.ends_with("_us"));
        let counts: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        return Ok(Measured {
            failed: Some(format!("no event was measured: {}", counts.join(", "))),
            values,
            ..Measured::default()
        });
    }
    let cdf = object.get("cdf_us").cloned().unwrap_or(json!([]));
    Ok(Measured {
        values,
        cdf_us: serde_json::from_value(cdf)?,
        failed: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str) -> Measured {
        let work = crate::Scenario::find("untouched-memcached").unwrap().work;
        let child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut running = Running {
            work: &work[0],
            child: child.unwrap(),
            progress: None,
            failed: None,
        };
        running.child.wait().unwrap();
        running.measured().unwrap()
    }

    #[test]
    fn what_loads_print_is_read() {
        let wake = figures(
            Load::Wake,
            "{\"kind\":\"wake\",\"count\":3,\"p99_us\":4.5,\"cdf_us\":[[0.5,1.0],[0.9,2.0]]}\n",
        )
        .unwrap();
        assert_eq!(
            (wake.values["p99_us"], wake.values.len(), wake.cdf_us.len()),
            (4.5, 2, 2)
        );
        let hackbench = figures(Load::Hackbench, "Running in process mode\nTime: 0.693\n").unwrap();
        assert_eq!(hackbench.values["seconds"], 0.693);
        assert!(figures(Load::Wake, "").is_err());
        assert!(figures(Load::Hackbench, "Killed").is_err());
    }

    #[test]
    fn a_load_that_fails_is_recorded_with_its_reason() {
        let refused = ran("echo 'Error: connecting to 127.0.0.1:11211' >&2; exit 1");
        assert_eq!(
            refused.failed.as_deref(),
            Some("exit status: 1: Error: connecting to 127.0.0.1:11211")
        );
        let silent = ran("true");
        assert!(silent.failed.unwrap().starts_with("no figures"));
        let well = ran("echo '{\"count\":2,\"p99_us\":4.5}'");
        assert_eq!((well.failed, well.values["p99_us"]), (None, 4.5));
    }

    #[test]
    fn a_service_that_answers_nothing_has_failed_and_has_no_percentiles() {
        let nothing = ran("echo '{\"count\":0,\"p99_us\":0.0,\"errors\":4,\"unsent\":1596}'");
        assert_eq!(
            nothing.failed.as_deref(),
            Some("no event was measured: count 0, errors 4, unsent 1596")
        );
        assert!(!nothing.values.contains_key("p99_us"));
    }
}
