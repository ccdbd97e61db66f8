//! Figures of a run: medians over rounds, and the Markdown table of ours, peer and ratio.

use std::fmt::Write as _;

/// One figure measured in several rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    /// Adds the figure of another round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The median, `None` without a round.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    fn spread(&self) -> Option<(f64, f64)> {
        let low = self.0.iter().copied().min_by(f64::total_cmp)?;
        Some((low, self.0.iter().copied().max_by(f64::total_cmp)?))
    }
}

/// The table of a run.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    ours: Figure,
    peer: Figure,
    peer_name: &'static str,
}

impl Table {
    /// Adds a row. A side that was not measured has no rounds.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: Figure,
        peer_name: &'static str,
        peer: Figure,
    ) {
        self.rows.push(Row { what: what.into(), unit, ours, peer, peer_name });
    }

    /// The table as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| what | unit | ours (spread) | peer (spread) | | ours / peer |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let ratio = match (row.ours.median(), row.peer.median()) {
                (Some(ours), Some(peer)) if peer != 0.0 => format!("{:.2}", ours / peer),
                _ => "-".to_owned(),
            };
            let (ours, peer) = (shown(&row.ours), shown(&row.peer));
            let _ = writeln!(
                text,
                "| {} | {} | {ours} | {peer} | {} | {ratio} |",
                row.what, row.unit, row.peer_name
            );
        }
        text
    }
}

fn shown(figure: &Figure) -> String {
    match (figure.median(), figure.spread()) {
        (Some(median), Some((low, high))) if low < high => {
            format!("{} ({}-{})", digits(median), digits(low), digits(high))
        }
        (Some(median), _) => digits(median),
        (None, _) => "-".to_owned(),
    }
}

/// Three significant digits below a thousand, whole numbers above.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_rounds_is_shown_with_its_spread_and_ratio() {
        let (mut ours, mut peer, mut table) = (Figure::default(), Figure::default(), Table::default());
        for value in [3.0, 1.0, 2.0] {
            ours.push(value);
        }
        peer.push(4.0);
        table.row("calls", "s", ours, "Kamailio", peer);
        assert!(table.markdown().ends_with("| calls | s | 2.00 (1.00-3.00) | 4.00 | Kamailio | 0.50 |\n"));
    }
}
