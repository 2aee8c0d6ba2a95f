//! The table, as text that is a table in Markdown too.

use crate::{Outcome, Role, Time};

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
        let times = outcome.times.iter().filter(|time| time.role == role);
        let cells: Vec<String> = times.map(cell).collect();
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

/// A contender with its time, and of a peer what part of that ours takes.
fn cell(time: &Time) -> String {
    let ratio = time.ratio.map(|ratio| format!(" (x{})", ratio.ratio()));
    let ratio = ratio.unwrap_or_default();
    format!("{} {}{ratio}", time.name, time.figure.time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    #[test]
    fn rows_have_the_columns_of_the_head() {
        let figure = |value: f64| Figure {
            median: value,
            low: value,
            high: value,
        };
        let ratio = Some(figure(2.0));
        let time = |name, role, value, ratio| Time {
            name,
            role,
            figure: figure(value),
            ratio,
        };
        let times = vec![
            time("Lock", Role::Ours, 6.0, None),
            time("std", Role::Peer, 3.0, ratio),
        ];
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
        assert!(lines[2].contains("Lock 6.00 ns +-0% |"), "{text}");
        assert!(lines[2].contains("std 3.00 ns +-0% (x2.00)"), "{text}");
        assert!(lines[2].contains("| 2.00  | 1.50 OVER |"), "{text}");
    }
}
