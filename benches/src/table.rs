//! The table, as text that is a table in Markdown too.

use crate::{Outcome, Role};

const HEAD: [&str; 6] = ["scenario", "ours", "peers", "floor", "ratio", "limit"];

/// All outcomes; columns as wide as they need to be.
#[must_use]
pub fn draw(outcomes: &[Outcome]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(outcomes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if number == 0 {
            let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("| {} |\n", lines.join(" | ")));
        }
    }
    text
}

fn row(outcome: &Outcome) -> [String; 6] {
    let of = |role: Role| {
        let times = outcome.times.iter().filter(|(_, who, _)| *who == role);
        let cells: Vec<String> = times
            .map(|(name, _, time)| format!("{name} {}", time.time()))
            .collect();
        if cells.is_empty() {
            "-".to_owned()
        } else {
            cells.join("; ")
        }
    };
    let ratio = outcome
        .ratio
        .map_or_else(|| "-".to_owned(), |ratio| ratio.ratio());
    let limit = match outcome.limit {
        None => "-".to_owned(),
        Some(limit) if outcome.is_over() => format!("{limit:.2} OVER"),
        Some(limit) => format!("{limit:.2}"),
    };
    let name = outcome.name.to_owned();
    [
        name,
        of(Role::Ours),
        of(Role::Peer),
        of(Role::Floor),
        ratio,
        limit,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    #[test]
    fn rows_have_the_columns_of_the_head() {
        let time = |ns: f64| Figure {
            median: ns,
            low: ns,
            high: ns,
        };
        let times = vec![
            ("Lock", Role::Ours, time(6.0)),
            ("std", Role::Peer, time(3.0)),
        ];
        let ratio = Some(time(2.0));
        let outcome = Outcome {
            name: "lock x 1M",
            times,
            ratio,
            limit: Some(1.5),
        };
        let text = draw(&[outcome]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines.iter().all(|line| line.len() == lines[0].len()),
            "{text}"
        );
        assert!(lines[2].contains("Lock 6.00 ns +-0%"), "{text}");
        assert!(lines[2].contains("| 2.00  | 1.50 OVER |"), "{text}");
    }
}
