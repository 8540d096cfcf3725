//! The live progress line: on a terminal one line that rewrites itself, elsewhere a line now and then, so that a CI log
//! shows that something is going on and stays short. Always on standard error; standard output belongs to results.
use crate::stopwatch::Stopwatch;
use crate::table::thousands;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// How often a log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Progress of one command.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    failing: u64,
    began: Stopwatch,
    /// Time of the last line of a log.
    last_line: Duration,
}

impl Progress {
    /// For `total` seeds.
    pub fn new(total: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}");
            // The template is a constant; were it wrong, the default style shows the same numbers.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress {
            bar,
            total,
            done: 0,
            failing: 0,
            began: Stopwatch::start(),
            last_line: Duration::ZERO,
        }
    }

    /// One seed is done.
    pub fn done(&mut self, what: &str, fails: bool) {
        self.done += 1;
        self.failing += u64::from(fails);
        match &self.bar {
            Some(bar) => {
                let failing = if self.failing > 0 {
                    format!("  {} fail", thousands(self.failing))
                } else {
                    String::new()
                };
                bar.set_message(format!("{what}{failing}"));
                bar.inc(1);
            }
            None => self.log(),
        }
    }

    /// Nothing happened; the clock goes on.
    pub fn tick(&mut self) {
        match &self.bar {
            Some(bar) => bar.tick(),
            None => self.log(),
        }
    }

    fn log(&mut self) {
        let now = self.began.elapsed();
        if now < self.last_line + LOG_EVERY {
            return;
        }
        self.last_line = now;
        let (done, total) = (thousands(self.done), thousands(self.total));
        eprintln!(
            "{done} of {total} seeds after {} s, {} fail",
            now.as_secs(),
            thousands(self.failing)
        );
    }

    /// Takes the line away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    /// Wall time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
