//! The screen, drawn: a function of the view alone.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Sparkline, Table};

use super::super::shown::plain;
use super::super::table::Side;
use super::sample::{Row, Tone};
use super::view::View;

const KEYS: &str = "q quit   p pause   s sort   r reverse   arrows scroll";

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let parts = [Constraint::Length(1), Constraint::Length(1), Constraint::Length(3), Constraint::Min(2), Constraint::Length(1)];
    let [title, summary, rates, table, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(head(view), title);
    frame.render_widget(Paragraph::new(view.board.summary.as_str()), summary);
    draw_rates(frame, view, rates);
    draw_rows(frame, view, table);
    frame.render_widget(Paragraph::new(KEYS).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn head(view: &View) -> Paragraph<'static> {
    let mut spans = vec![Span::styled(format!("imperator top  {}", plain(&view.title)), Style::new().add_modifier(Modifier::BOLD))];
    if view.paused {
        spans.push(Span::styled("  PAUSED", Style::new().fg(Color::Yellow)));
    }
    if let Some(trouble) = &view.trouble {
        spans.push(Span::styled(format!("  {}", plain(trouble)), Style::new().fg(Color::Red)));
    }
    Paragraph::new(Line::from(spans))
}

/// The newest at the right edge.
fn draw_rates(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let shown = view.rates.iter().skip(view.rates.len().saturating_sub(area.width.into()));
    let data: Vec<u64> = shown.map(|rate| rate.round() as u64).collect();
    frame.render_widget(Sparkline::default().data(&data).style(Style::new().fg(Color::Cyan)), area);
}

fn draw_rows(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let columns = view.board.columns;
    let names = columns.iter().enumerate().map(|(index, (name, side, _))| {
        let arrow = if view.falling { "v" } else { "^" };
        let name = if index == view.sort { format!("{name}{arrow}") } else { (*name).to_owned() };
        cell(name, *side)
    });
    let header = TableRow::new(names).style(Style::new().add_modifier(Modifier::REVERSED));
    let room = usize::from(area.height.saturating_sub(1));
    let rows = view.sorted().into_iter().skip(view.offset).take(room).map(|row| of_row(row, columns));
    let widths = columns.iter().map(|(_, _, width)| if *width == 0 { Constraint::Min(10) } else { Constraint::Length(*width) });
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn of_row(row: &Row, columns: &[super::sample::Column]) -> TableRow<'static> {
    let cells = row.cells.iter().zip(columns).map(|(text, (_, side, _))| cell(text.clone(), *side));
    TableRow::new(cells).style(match row.tone {
        Tone::Quiet => Style::new(),
        Tone::Busy => Style::new().fg(Color::Green),
        Tone::Ill => Style::new().fg(Color::Red),
    })
}

fn cell(text: String, side: Side) -> Cell<'static> {
    let alignment = if side == Side::Right { Alignment::Right } else { Alignment::Left };
    Cell::from(Text::from(text).alignment(alignment))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::sample::{Look, Seen};
    use super::*;
    use crate::cli::operator::ask::{Core, Figures, RequestInfo, Worker};

    fn figures(requests: u64) -> Figures {
        let core = Core {
            in_request: 1,
            vars: vec!["REQUEST_METHOD=GET".into(), "REQUEST_URI=/slow\u{1b}[2J".into()],
            req_info: RequestInfo { request_start: Some(93) },
        };
        let busy = Worker { id: 1, pid: 71, status: "busy".into(), requests, last_spawn: 40, cores: vec![core], ..Worker::default() };
        let idle = Worker { id: 2, pid: 72, status: "idle".into(), requests: 5, last_spawn: 40, ..Worker::default() };
        Figures { pid: 70, workers: vec![busy, idle], ..Figures::default() }
    }

    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, view)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn an_instance_on_the_screen() {
        let mut view = View::new("a.ini");
        view.see(Ok(Look { at: 0, epoch: 99, seen: Seen::Instance(figures(10)) }));
        view.see(Ok(Look { at: 1000, epoch: 100, seen: Seen::Instance(figures(30)) }));
        let lines = screen(&view, 120, 9);
        assert_eq!(lines[0], "imperator top  a.ini");
        assert_eq!(lines[1], "master 70   20.0 requests/s   1 of 2 workers busy   queue 0   rss 0 B");
        assert!(lines[4].starts_with('█'), "{lines:#?}");
        assert!(lines[5].starts_with("WORKER^") && lines[5].ends_with("NOW"), "{lines:#?}");
        assert!(lines[6].contains("71 busy         20.0") && lines[6].ends_with("7 s GET /slow\\u{1b}[2J"), "{lines:#?}");
        assert!(lines[7].contains("72 idle          0.0"), "{lines:#?}");
        assert_eq!(lines[8], KEYS);
    }

    #[test]
    fn pause_and_trouble_are_told_and_any_size_will_do() {
        let mut view = View::new("a.ini");
        view.see(Err("nothing answers".into()));
        view.paused = true;
        assert_eq!(screen(&view, 80, 8)[0], "imperator top  a.ini  PAUSED  nothing answers");
        for (width, height) in [(1, 1), (3, 2), (10, 5), (300, 100)] {
            screen(&view, width, height);
        }
    }
}
