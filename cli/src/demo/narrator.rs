//! What the demo prints: a line for everything that was checked, and a table at the end.

use std::time::{Duration, Instant};

use console::{measure_text_width, style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{failure::Failure, output};

/// Tells the story, and remembers how it went.
#[derive(Default)]
pub(crate) struct Narrator {
    chapters: Vec<Told>,
}

/// How a chapter went.
struct Told {
    begun: Instant,
    took: Duration,
    checks: usize,
    figures: Vec<String>,
    failed: bool,
}

impl Narrator {
    /// Before the first chapter.
    pub(crate) fn prologue(&self) -> Result<(), Failure> {
        let title =
            style("Holdfast, on one machine: an allocator, two relays, and alice's devices");
        output::result(&title.bold().to_string())
    }

    /// Begins a chapter.
    pub(crate) fn begin(&mut self, title: &str) -> Result<(), Failure> {
        self.chapters.push(Told {
            begun: Instant::now(),
            took: Duration::ZERO,
            checks: 0,
            figures: Vec::new(),
            failed: false,
        });
        let number = style(self.chapters.len()).cyan().bold();
        output::result(&format!("\n{number} {}", style(title).bold()))
    }

    /// Something held, or the story ends here.
    pub(crate) fn check(&mut self, held: bool, what: &str) -> Result<(), Failure> {
        if !held {
            return Err(Failure::Demo(format!("not true: {what}")));
        }
        if let Some(told) = self.chapters.last_mut() {
            told.checks += 1;
        }
        output::result(&format!("  {} {what}", style("✓").green().bold()))
    }

    /// A figure for the table.
    pub(crate) fn figure(&mut self, figure: String) {
        if let Some(told) = self.chapters.last_mut() {
            told.figures.push(figure);
        }
    }

    /// Ends a chapter.
    pub(crate) fn end(&mut self, failure: Option<&Failure>) -> Result<(), Failure> {
        if let Some(told) = self.chapters.last_mut() {
            told.took = told.begun.elapsed();
            told.failed = failure.is_some();
        }
        match failure {
            Some(failure) => output::result(&format!("  {} {failure}", style("✗").red().bold())),
            None => Ok(()),
        }
    }

    /// The table.
    pub(crate) fn summary(&self, titles: &[&str]) -> Result<(), Failure> {
        let width = titles.iter().map(|title| title.len()).max().unwrap_or(0);
        let head = format!("\n    {:<width$}  checks    time  figures", "");
        output::result(&style(head.trim_end()).dim().to_string())?;
        for (index, title) in titles.iter().enumerate() {
            output::result(&row(index + 1, title, width, self.chapters.get(index)))?;
        }
        output::result(&self.verdict(titles.len()))
    }

    fn verdict(&self, chapters: usize) -> String {
        let took: Duration = self.chapters.iter().map(|told| told.took).sum();
        let checks: usize = self.chapters.iter().map(|told| told.checks).sum();
        let held = self.chapters.iter().filter(|told| !told.failed).count();
        if held == chapters {
            let all = style("Everything held").green().bold();
            return format!("\n{all}: {checks} checks in {}.", seconds(took));
        }
        let not = style("Not everything held").red().bold();
        format!("\n{not}: the story ended in chapter {}.", held + 1)
    }
}

fn row(number: usize, title: &str, width: usize, told: Option<&Told>) -> String {
    let number = style(number).cyan().bold();
    let Some(told) = told else {
        let line = format!("{title:<width$}  not reached");
        return format!("  {number} {}", style(line).dim());
    };
    let mark = match told.failed {
        false => style("✓").green(),
        true => style("✗").red(),
    };
    let checks = format!("{} {mark}", told.checks);
    let padding = " ".repeat(6_usize.saturating_sub(measure_text_width(&checks)));
    let (took, figures) = (seconds(told.took), told.figures.join(", "));
    format!("  {number} {title:<width$}  {padding}{checks}  {took:>6}  {figures}")
}

/// A span as the table has it.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A short span.
pub(crate) fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

/// Shows how far something has come, on a terminal; it goes away when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(what: &'static str, of: usize) -> Self {
        let bar = ProgressBar::new(of as u64).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("    {msg} {bar:30.cyan/dim} {pos}/{len}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_the_chapter_that_did_not_hold() {
        let mut narrator = Narrator::default();
        narrator.begin("first").unwrap();
        narrator.check(true, "it held").unwrap();
        narrator.end(None).unwrap();
        assert!(narrator.verdict(1).contains("1 checks"));
        narrator.begin("second").unwrap();
        let failure = narrator.check(false, "it held").unwrap_err();
        narrator.end(Some(&failure)).unwrap();
        assert!(narrator.verdict(3).contains("ended in chapter 2"));
        assert!(row(2, "second", 10, narrator.chapters.get(1)).contains('✗'));
        assert!(row(3, "third", 10, narrator.chapters.get(2)).contains("not reached"));
    }

    #[test]
    fn a_story_that_was_cut_short_did_not_hold() {
        let mut narrator = Narrator::default();
        narrator.begin("first").unwrap();
        narrator.end(None).unwrap();
        assert!(narrator.verdict(2).contains("ended in chapter 2"));
    }
}
