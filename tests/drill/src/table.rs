use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use cache_registry_e2e::Tally;

use crate::Found;

/// What the drills have found.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) outcome: Result<Found>,
}

impl Table {
    /// Adds a row, and says that it is there: the table comes at the end.
    pub(crate) fn row(&mut self, row: Row) -> Result<()> {
        writeln!(io::stderr(), "  {}", row.shown())?;
        self.rows.push(row);
        Ok(())
    }

    /// Writes all of it, and the last line. An error where anything failed.
    pub(crate) fn end(self) -> Result<()> {
        let mut out = io::stdout();
        let title = "drill";
        writeln!(out, "{title:<48} pulls  failed   slowest")?;
        for row in &self.rows {
            writeln!(out, "{:<48} {}", row.name, row.shown())?;
        }
        let bad = self.rows.iter().filter(|row| !row.is_good()).count();
        if self.rows.is_empty() {
            bail!("no drill has such a name");
        }
        if bad > 0 {
            bail!("{bad} of {} drills went wrong", self.rows.len());
        }
        writeln!(out, "drill: ok")?;
        Ok(())
    }
}

impl Row {
    fn is_good(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|found| found.tally.failed.is_empty())
    }

    fn shown(&self) -> String {
        match &self.outcome {
            Ok(Found { tally: Tally { tried, failed, slowest }, note }) => {
                let note = if note.is_empty() { String::new() } else { format!("  {note}") };
                format!("{tried:>5}  {:>6}  {:>6.2} s{note}", failed.len(), slowest.as_secs_f32())
            }
            Err(error) => {
                let first = error.to_string();
                let first = first.lines().next().unwrap_or_default();
                format!("went wrong after {:.0} s: {first}", self.took.as_secs_f32())
            }
        }
    }
}
