//! A look as a screen.

use super::frame::{Cpu, Frame};
use super::history::History;
use crate::status::age;
use infera_control::State;
use infera_policy::Tier;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget};

/// Columns of a CPU: number, bar, per cent, what runs there.
const CPU: u16 = 33;
/// Lines of the tiers: a heading, one each, a blank one.
const TIERS: usize = Tier::COUNT + 2;
/// Cells of a CPU's bar.
const BAR: usize = 10;

/// Lines that a whole look takes.
pub fn height(frame: &Frame) -> u16 {
    let lines = head(frame).len() + TIERS + 2 + cpu_lines(frame, super::COLUMNS);
    u16::try_from(lines + 1 + frame.busiest.len().min(10)).unwrap_or(u16::MAX)
}

/// Draws it.
pub fn draw(frame: &Frame, history: &History, area: Rect, screen: &mut Buffer) {
    let head = head(frame);
    let cpus = cpu_lines(frame, area.width);
    let [top, tiers, middle, threads] = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Length(TIERS as u16),
        Constraint::Length(2 + cpus as u16),
        Constraint::Fill(1),
    ])
    .spacing(0)
    .areas(area);
    Paragraph::new(head).render(top, screen);
    tier_table(frame, history, tiers.width).render(tiers, screen);
    draw_cpus(frame, middle, screen);
    thread_table(frame).render(threads, screen);
}

fn colour(tier: Tier) -> Color {
    match tier {
        Tier::System => Color::Gray,
        Tier::Critical => Color::Red,
        Tier::High => Color::Yellow,
        Tier::Normal => Color::Green,
        Tier::Low => Color::Cyan,
        Tier::Background => Color::Blue,
    }
}

fn heading() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// Without the machine that it was built for.
fn short(kernel: &str) -> &str {
    let cut = ["_x86_64", "_aarch64"]
        .iter()
        .find_map(|arch| kernel.find(arch));
    &kernel[..cut.unwrap_or(kernel.len())]
}

/// Who schedules, and what could not be seen; a blank line ends it.
fn head(frame: &Frame) -> Vec<Line<'_>> {
    let guard = frame.guard.as_ref();
    let doing = guard.map_or(String::new(), |status| {
        let what = match status.state {
            State::Starting => "starting",
            State::Attached => "attached",
            State::Leaving => "leaving",
            State::BackingOff => "backing off",
            State::SafeMode => "SAFE MODE",
            State::Ended => "ended",
        };
        format!(
            "   {what} for {}   ejects {}   pods' generation {}",
            age(frame.at, status.since),
            status.ejects,
            status.generation
        )
    });
    let mut lines = vec![Line::from(vec![
        Span::styled("infera top", Modifier::BOLD),
        Span::raw(format!("   {}", short(&frame.kernel))),
        Span::raw(doing),
    ])];
    for (source, reason) in guard.iter().flat_map(|status| &status.safe_mode) {
        let text = format!("safe mode of {source}: {reason}");
        lines.push(Line::styled(text, Color::Red));
    }
    for sentence in &frame.missing {
        lines.push(Line::styled(sentence.as_str(), Color::Yellow));
    }
    lines.push(Line::default());
    lines
}

fn tier_table(frame: &Frame, history: &History, width: u16) -> Table<'static> {
    let rows = Tier::ALL.map(|tier| {
        let stats = frame.stats.as_ref();
        let row = stats.and_then(|stats| stats.tiers.get(tier.name()));
        let style = Style::new().fg(colour(tier));
        let Some(row) = row else {
            return Row::new([Cell::from(tier.name()).style(style), Cell::from("     -")]);
        };
        let seconds = stats.map_or(1.0, |stats| stats.interval_s.max(0.001));
        let each = |count: u64| format!("{:>7.0}", count as f64 / seconds);
        let p99 = match row.p99_wake_us {
            0.0 => "-".into(),
            us if us < 1000.0 => format!("< {us:.0} us"),
            us => format!("< {:.0} ms", us / 1000.0),
        };
        Row::new([
            Cell::from(tier.name()).style(style),
            Cell::from(format!("{:>6.2}", row.cpus)),
            Cell::from(each(row.wake_log2_ns.iter().sum())),
            Cell::from(format!("{p99:>10}")),
            Cell::from(each(row.idle)),
            Cell::from(each(row.preempt + row.peer)),
            Cell::from(each(row.queue)),
            Cell::from(format!(" {}", each(row.user + row.full))),
            Cell::from(history.sparkline(tier, usize::from(width.saturating_sub(71)).max(10)))
                .style(style),
        ])
    });
    let columns = [
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let titles = [
        "tier",
        "  cpus",
        "wakes/s",
        "  p99 wake",
        " idle/s",
        "takes/s",
        "queue/s",
        "policy/s",
        "p99 wake, the newest last",
    ];
    Table::new(rows, columns)
        .header(Row::new(titles).style(heading()))
        .column_spacing(1)
}

fn per_line(width: u16) -> usize {
    usize::from(width / CPU).max(1)
}

fn cpu_lines(frame: &Frame, width: u16) -> usize {
    frame.cpus.len().div_ceil(per_line(width))
}

/// In columns, so that those of a core stand below each other where their numbers do.
fn draw_cpus(frame: &Frame, area: Rect, screen: &mut Buffer) {
    let title = Line::raw(format!("{:<1$}", "CPUs", usize::from(area.width)));
    title
        .style(heading())
        .render(Rect { height: 1, ..area }, screen);
    let lines = cpu_lines(frame, area.width).max(1);
    for (at, cpu) in frame.cpus.iter().enumerate() {
        let (column, line) = (at / lines, at % lines);
        let place = Rect {
            x: area.x + column as u16 * CPU,
            y: area.y + 1 + line as u16,
            width: CPU,
            height: 1,
        };
        cpu_line(cpu).render(place.intersection(area), screen);
    }
}

fn cpu_line(cpu: &Cpu) -> Line<'static> {
    let full = (cpu.busy * BAR as f64).round() as usize;
    let bar = format!(
        "{}{}",
        "█".repeat(full.min(BAR)),
        "·".repeat(BAR - full.min(BAR))
    );
    let tier = Tier::ALL
        .into_iter()
        .find(|tier| Some(tier.name()) == cpu.tier);
    let state = match (cpu.fenced, cpu.lent) {
        (true, true) => "lent",
        (true, false) => "fence",
        _ => "",
    };
    // Who kept it busy may have left it in the moment of the look.
    let what_else = if cpu.busy < 0.05 { "idle" } else { "" };
    let style = tier.map_or(Style::new(), |tier| Style::new().fg(colour(tier)));
    Line::from(vec![
        Span::raw(format!("{:>3} ", cpu.cpu)),
        Span::styled(bar, style),
        Span::raw(format!("{state:>6} ")),
        Span::styled(cpu.tier.unwrap_or(what_else), style),
    ])
}

fn thread_table(frame: &Frame) -> Table<'_> {
    let rows = frame.busiest.iter().map(|busy| {
        let thread = &busy.thread;
        let style = Style::new().fg(colour(thread.tier));
        Row::new([
            Cell::from(format!("{:>8}", thread.tid)),
            Cell::from(format!("{:>6.2}", busy.cpus)),
            Cell::from(format!("{:>4}", thread.cpu)),
            Cell::from(thread.tier.name()).style(style),
            Cell::from(thread.name.as_str()),
        ])
    });
    let columns = [
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(10),
        Constraint::Fill(1),
    ];
    let titles = ["  thread", "  cpus", " CPU", "tier", "name"];
    Table::new(rows, columns)
        .header(Row::new(titles).style(heading()))
        .column_spacing(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_control::Status;
    use infera_node::{Busy, Stats, Thread, TierStats};

    fn node() -> Frame {
        let row = |cpus, p99_wake_us| TierStats {
            cpus,
            p99_wake_us,
            idle: 200,
            preempt: 100,
            user: 4,
            wake_log2_ns: vec![400, 0, 2],
            ..TierStats::default()
        };
        let thread = |tid, tier, cpu, name: &str| Thread {
            tid,
            name: name.into(),
            pod: String::new(),
            tier,
            pod_tier: None,
            cpu,
            runnable: true,
            allowed: None,
            ticks: 0,
        };
        let cpu = |cpu, busy, state: &str, tier| Cpu {
            cpu,
            busy,
            fenced: !state.is_empty(),
            lent: state == "lent",
            tier,
        };
        Frame {
            at: 1000,
            kernel: "infera_0.1.0_x86_64_unknown_linux_gnu".into(),
            guard: Some(Status {
                version: "0.1.0".into(),
                state: State::Attached,
                since: 940,
                pid: Some(7),
                safe_mode: [("operator".to_owned(), "a trial".to_owned())].into(),
                generation: 4,
                policy_deposed: false,
                ejects: 1,
                eject_kinds: std::collections::BTreeMap::new(),
                history: Vec::new(),
            }),
            stats: Some(Stats {
                interval_s: 2.0,
                tiers: [
                    ("critical".to_owned(), row(1.25, 32.768)),
                    ("background".to_owned(), row(2.5, 16_777.216)),
                ]
                .into(),
                ..Stats::default()
            }),
            cpus: vec![
                cpu(0, 1.0, "", Some("background")),
                cpu(1, 0.52, "", Some("normal")),
                cpu(2, 0.0, "fence", None),
                cpu(3, 0.9, "lent", Some("low")),
            ],
            busiest: vec![
                Busy {
                    thread: thread(42, Tier::Background, 0, "batch"),
                    cpus: 0.99,
                },
                Busy {
                    thread: thread(4711, Tier::Critical, 3, "memcached"),
                    cpus: 0.5,
                },
            ],
            missing: Vec::new(),
        }
    }

    fn screen(frame: &Frame, width: u16) -> String {
        let mut history = History::default();
        for _ in 0..3 {
            history.add(frame);
        }
        let area = Rect::new(0, 0, width, height(frame));
        let mut screen = Buffer::empty(area);
        draw(frame, &history, area, &mut screen);
        super::super::text_of(&screen)
    }

    #[test]
    fn a_node_at_work() {
        insta::assert_snapshot!(screen(&node(), 100));
    }

    #[test]
    fn a_node_without_infera() {
        let frame = Frame {
            kernel: "stock scheduler".into(),
            missing: vec!["no statistics of tiers: scx_infera does not run".into()],
            cpus: node().cpus.into_iter().take(2).collect(),
            ..Frame::default()
        };
        insta::assert_snapshot!(screen(&frame, 100));
    }

    #[test]
    fn no_screen_is_too_small() {
        for (width, height) in [(0, 0), (1, 1), (20, 3), (40, 12), (500, 4)] {
            let area = Rect::new(0, 0, width, height);
            let mut screen = Buffer::empty(area);
            draw(&node(), &History::default(), area, &mut screen);
        }
    }
}
