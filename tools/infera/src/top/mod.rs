//! `infera top`: what runs where, now.

mod frame;
mod history;
mod view;

use crate::Output;
use anyhow::{Context, Result};
use clap::Args;
use frame::{Collector, Frame};
use history::History;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Columns of a screen that is no terminal.
const COLUMNS: u16 = 100;

/// How to look.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// How long a look takes, in seconds: 0.2 to 60.
    #[arg(short, long, value_name = "SEC", default_value_t = 2.0, value_parser = seconds)]
    interval: f64,
    /// One look, without colours, and no more: for a log.
    #[arg(long)]
    once: bool,
    /// How to print; json: a line each look.
    #[arg(short, long, default_value = "text")]
    output: Output,
    /// The scheduler's configuration: the tiers of cgroups, and the fence.
    #[arg(long, value_name = "FILE", default_value = "/etc/infera/infera.toml")]
    config: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match (0.2..=60.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("0.2 to 60 seconds".into()),
    }
}

/// Prints one frame with `--once`; otherwise text until a key ends it, and JSON until the pipe is closed.
///
/// # Errors
///
/// The CPUs cannot be read ([`Collector::new`]), the standard output is no terminal and neither `--once` nor JSON is
/// asked for, or the terminal cannot be set up, drawn on or read from.
pub fn run(args: &TopArgs) -> Result<ExitCode> {
    let interval = Duration::from_secs_f64(args.interval);
    let mut collector = Collector::new(&args.config)?;
    // A look is what has happened since the one before.
    let _ = collector.look();
    match (args.output, args.once) {
        (Output::Json, once) => loop {
            sleep(interval);
            let line = serde_json::to_string(&collector.look())?;
            if writeln!(io::stdout(), "{line}").is_err() || once {
                break;
            }
        },
        (Output::Text, true) => {
            sleep(interval);
            let frame = collector.look();
            let mut history = History::default();
            history.add(&frame);
            let area = Rect::new(0, 0, COLUMNS, view::height(&frame));
            let mut screen = Buffer::empty(area);
            view::draw(&frame, &history, area, &mut screen);
            print!("{}", text_of(&screen));
        }
        (Output::Text, false) => {
            anyhow::ensure!(
                io::stdout().is_terminal(),
                "this is no terminal: add --once, or -o json"
            );
            let mut terminal = ratatui::try_init().context("cannot take over the terminal")?;
            let result = live(&mut terminal, &mut collector, interval);
            ratatui::restore();
            result?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    collector: &mut Collector,
    interval: Duration,
) -> io::Result<()> {
    let mut history = History::default();
    let mut shown: Option<Frame> = None;
    let mut next = Instant::now() + Duration::from_millis(200);
    loop {
        terminal.draw(|screen| {
            let area = screen.area();
            match &shown {
                Some(frame) => view::draw(frame, &history, area, screen.buffer_mut()),
                None => screen.render_widget("looking ...", area),
            }
        })?;
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if ends(key) => return Ok(()),
                // Drawn again at once: the size may be another.
                _ => continue,
            }
        }
        let frame = collector.look();
        history.add(&frame);
        shown = Some(frame);
        next = Instant::now() + interval;
    }
}

fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

/// The characters of a screen, without colours and without blanks at the ends of lines.
fn text_of(screen: &Buffer) -> String {
    let width = usize::from(screen.area.width);
    let lines = screen.content.chunks(width).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}
