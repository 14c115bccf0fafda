use std::fmt::Write as _;

use serde::Serialize;

/// One line of the table, and one entry of `target/bench.json`. All numbers of a row have the same unit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// What the design asks for; `None` where it asks for nothing.
    pub(crate) target: Option<f64>,
    /// What it is compared with, measured in the same run.
    pub(crate) baseline: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str, better: Better) -> Self {
        Self { name: name.into(), value, unit, better, target: None, baseline: None }
    }

    /// A value as a multiple of a baseline.
    pub(crate) fn ratio(name: impl Into<String>, value: f64, better: Better) -> Self {
        Self::new(name, value, "x", better).against(1.0)
    }

    pub(crate) fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    pub(crate) fn against(self, baseline: f64) -> Self {
        Self { baseline: Some(baseline), ..self }
    }

    /// By which factor the target is missed; `None` where it is met or there is none.
    fn missed_by(&self) -> Option<f64> {
        let target = self.target?;
        let factor = match self.better {
            Better::Lower => self.value / target,
            Better::Higher => target / self.value,
        };
        (factor > 1.0).then_some(factor)
    }

    fn verdict(&self) -> String {
        match (self.target, self.missed_by()) {
            (None, _) => String::new(),
            (Some(_), None) => "met".to_owned(),
            (Some(_), Some(factor)) => format!("**missed** by {:.0} %", (factor - 1.0) * 100.0),
        }
    }
}

/// The rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let bound = |row: &Row| {
        let sign = if row.better == Better::Lower { "≤" } else { "≥" };
        row.target.map_or(String::new(), |target| format!("{sign} {}", number(target)))
    };
    let header = ["what", "measured", "baseline", "target", "verdict"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        [
            row.name.clone(),
            format!("{} {}", number(row.value), row.unit),
            row.baseline.map_or(String::new(), number),
            bound(row),
            row.verdict(),
        ]
    });
    let lines: Vec<_> = [header].into_iter().chain(cells).collect();
    let widths: Vec<_> = (0..5).map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let _ = writeln!(text, "|{}|", rule.join("|"));
        }
    }
    text
}

/// Three significant digits, so that noise does not look like knowledge.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle one; the mean of the middle two where there are two. 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The median of each round's ratio: what the machine did meanwhile is in both numbers of a round.
pub(crate) fn median_ratio(values: &[f64], baselines: &[f64]) -> f64 {
    median(values.iter().zip(baselines).map(|(value, baseline)| value / baseline).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert_eq!(median_ratio(&[2.0, 30.0, 9.0], &[1.0, 10.0, 9.0]).to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn a_missed_target_is_said() {
        let rows = [
            Row::ratio("latency", 1.5, Better::Lower).target(1.25),
            Row::ratio("throughput", 1.1, Better::Higher).target(1.0),
            Row::new("size", 1234.5, "MiB", Better::Lower).against(12.25),
        ];
        assert_eq!(
            table(&rows),
            "| what       | measured | baseline | target | verdict            |\n\
             |------------|----------|----------|--------|--------------------|\n\
             | latency    | 1.50 x   | 1.00     | ≤ 1.25 | **missed** by 20 % |\n\
             | throughput | 1.10 x   | 1.00     | ≥ 1.00 | met                |\n\
             | size       | 1234 MiB | 12.2     |        |                    |\n"
        );
    }
}
