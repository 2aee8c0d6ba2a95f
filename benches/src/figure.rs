//! A median with its spread.

/// The middle of the figures of all rounds, and how far half of them lie around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// A quarter of the figures lie below.
    pub low: f64,
    /// A quarter of the figures lie above.
    pub high: f64,
}

impl Figure {
    /// The figure of these rounds; zero when there is none.
    #[must_use]
    pub fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let place = (sorted.len().saturating_sub(1)) * part;
            // Between two figures: their mean.
            let (below, above) = (place / 4, place.div_ceil(4));
            let value = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
            f64::midpoint(value(below), value(above))
        };
        Self {
            median: at(2),
            low: at(1),
            high: at(3),
        }
    }

    /// Half the width of the middle half, in per cent of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.median > 0.0 {
            (self.high - self.low) / 2.0 / self.median * 100.0
        } else {
            0.0
        }
    }

    /// As a time in nanoseconds, in the unit that a person would use: `6.1 ns +- 2 %`.
    #[must_use]
    pub fn time(&self) -> String {
        let (value, unit) = match self.median {
            time if time >= 1e9 => (time / 1e9, "s"),
            time if time >= 1e6 => (time / 1e6, "ms"),
            time if time >= 1e3 => (time / 1e3, "us"),
            time => (time, "ns"),
        };
        format!("{value:.*} {unit} +-{:.0}%", decimals(value), self.spread())
    }

    /// As a ratio: `1.24`.
    #[must_use]
    pub fn ratio(&self) -> String {
        format!("{:.*}", decimals(self.median).max(1), self.median)
    }
}

/// Three digits that mean something.
fn decimals(value: f64) -> usize {
    match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quarters_are_those_of_the_sorted_rounds() {
        let figure = Figure::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            figure,
            Figure {
                median: 3.0,
                low: 2.0,
                high: 4.0
            }
        );
        assert_eq!(Figure::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(Figure::of(&[]).median, 0.0);
    }

    #[test]
    fn figures_are_written_with_three_digits() {
        let figure = Figure {
            median: 1234.0,
            low: 1234.0,
            high: 1234.0,
        };
        assert_eq!(figure.time(), "1.23 us +-0%");
        assert_eq!(
            Figure {
                median: 0.5,
                low: 0.4,
                high: 0.6
            }
            .ratio(),
            "0.50"
        );
    }
}
