//! A figure, the goal it is held against, and how both are written for people and for programs.

use std::fmt;

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// From the first to the second.
    Within(f64, f64),
    /// It is told for comparison only.
    None,
}

impl Goal {
    /// Whether a value meets it. What is not a number meets none.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
            Self::Within(least, most) => (least..=most).contains(&value),
            Self::None => true,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::Within(least, most) => format!("{least} to {most}"),
            Self::None => String::new(),
        };
        f.pad(&text)
    }
}

/// Something that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What, in words with a point between: `migration.p99_ms`.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what: `us`, `ms`, `s`, `rtt`, `ratio`, `intervals`, `count`, `KiB`, `MiB`, or what of it a
    /// second.
    pub unit: &'static str,
    /// What it is to be.
    pub goal: Goal,
}

impl Figure {
    /// The line above a table of figures.
    pub const HEAD: &'static str =
        "figure                           value  unit       goal            holds";

    /// A figure.
    pub fn new(name: &'static str, value: f64, unit: &'static str, goal: Goal) -> Self {
        Self {
            name,
            value,
            unit,
            goal,
        }
    }

    /// Whether it meets its goal.
    pub fn holds(&self) -> bool {
        self.goal.is_met(self.value)
    }

    /// For programs: one line of JSON, the value rounded to thousandths.
    pub fn json(&self) -> String {
        let value = (self.value * 1000.0).round() / 1000.0;
        serde_json::json!({"figure": self.name, "value": value, "unit": self.unit}).to_string()
    }
}

/// A row of the table.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = match (self.goal, self.holds()) {
            (Goal::None, _) => "",
            (_, true) => "yes",
            (_, false) => "NO",
        };
        let Self {
            name,
            value,
            unit,
            goal,
        } = self;
        let row = format!("{name:<26} {value:>11.2}  {unit:<9}  {goal:<14}  {holds}");
        f.write_str(row.trim_end())
    }
}

/// The value below which this share of them lies, from 0 to 1: the nearest rank, so it was measured.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let found = sorted.get(rank.saturating_sub(1));
    found.copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_very_edge_and_by_no_nonsense() {
        let goals = [
            (Goal::AtMost(5.0), 5.0, 5.1),
            (Goal::AtLeast(5.0), 5.0, 4.9),
            (Goal::Within(0.75, 1.0), 0.75, 0.74),
            (Goal::Within(0.75, 1.0), 1.0, 1.01),
        ];
        for (goal, meets, misses) in goals {
            assert!(goal.is_met(meets), "{goal:?}");
            assert!(!goal.is_met(misses), "{goal:?}");
            assert!(!goal.is_met(f64::NAN), "{goal:?}");
        }
    }

    #[test]
    fn a_figure_is_written_for_people_and_for_programs() {
        let figure = Figure::new("migration.p99_ms", 500.12345, "ms", Goal::AtMost(500.0));
        assert_eq!(
            figure.json(),
            r#"{"figure":"migration.p99_ms","unit":"ms","value":500.123}"#
        );
        assert_eq!(
            figure.to_string(),
            "migration.p99_ms                500.12  ms         <= 500          NO"
        );
    }

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&values, 1.0), 100.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
