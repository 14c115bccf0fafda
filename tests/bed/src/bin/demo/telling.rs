use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use anyhow::Result;

/// What the demo says, on standard output: numbered steps, and under each what was seen.
pub(crate) struct Telling {
    colours: bool,
    steps: usize,
    since: Instant,
}

impl Telling {
    pub(crate) fn new() -> Self {
        Self { colours: io::stdout().is_terminal(), steps: 0, since: Instant::now() }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) -> Result<()> {
        self.steps += 1;
        self.since = Instant::now();
        let (bold, plain) = if self.colours { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("\n{bold}{}. {title}{plain}", self.steps))
    }

    /// Says what was seen, indented.
    pub(crate) fn seen(&self, text: impl AsRef<str>) -> Result<()> {
        for line in text.as_ref().trim_end().lines() {
            self.line(&format!("   {line}"))?;
        }
        Ok(())
    }

    /// Says how long it took since the step began.
    pub(crate) fn took(&self) -> Result<()> {
        self.seen(format!("took {:.2} s", self.since.elapsed().as_secs_f32()))
    }

    /// Says a line as it is.
    #[expect(clippy::unused_self, reason = "whoever tells has the telling")]
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}
