//! What answers show beside the fields of a row: sets of related rows, derived values, the state of the living system.
//!
//! Plain data, written as a const beside each entity.

use super::access::Level;
use super::table::{Record, Table, View};
use crate::rows::Rows;
use serde_json::Value as Json;

/// A value that is shown with a row and is not a field of it.
#[derive(Debug)]
pub struct Computed {
    /// Its name in answers.
    pub name: &'static str,
    /// What it means.
    pub docs: &'static str,
    /// Where it comes from.
    pub how: How,
    /// Who sees and writes it, by [`Level`].
    pub views: [View; 4],
    /// Whether it is shown, too, where the row stands in place of a reference to it, by [`Level`]; sets are empty there.
    pub nested: [bool; 4],
}

/// A derived value of a row.
pub type Derive = fn(&dyn Record, &Rows) -> Json;

/// Where a computed value comes from.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The ids of the rows on the far side of a table of pairs; writing them replaces the whole set. The fields are those
    /// of the table of pairs: the one that names this row, and the one that names the other.
    Pairs(fn() -> &'static Table, &'static str, &'static str),
    /// The ids of the rows of a table whose reference names this row; writing them moves rows here and away.
    Members(fn() -> &'static Table, &'static str),
    /// Worked out from the configuration.
    Derived(Derive),
    /// Asked of the living system, by this name: registrations, the state of a trunk.
    Live(&'static str),
}

const NOTHING: View = View {
    list: false,
    detail: false,
    changed: false,
    created: false,
    create: false,
    change: false,
    brief: false,
};

impl Computed {
    /// A computed value that nobody sees yet.
    pub const fn new(name: &'static str, docs: &'static str, how: How) -> Self {
        const NONE: View = NOTHING;
        Self { name, docs, how, views: [NONE; 4], nested: [false; 4] }
    }

    /// Lets a level see it; letters as in `#[field(brand = "ldw")]`, `g` where only reading
    /// a row shows it and `p` where only changing one does, and `n` where the row stands in place of a reference to it.
    pub const fn at(mut self, level: Level, letters: &str) -> Self {
        let bytes = letters.as_bytes();
        let mut view = NOTHING;
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'l' => view.list = true,
                b'd' => {
                    view.detail = true;
                    view.changed = true;
                    view.created = true;
                }
                b'g' => view.detail = true,
                b'p' => view.changed = true,
                b'w' => {
                    view.create = true;
                    view.change = true;
                }
                b'n' => self.nested[level as usize] = true,
                b'c' => view.create = true,
                b'u' => view.change = true,
                _ => panic!("letters are of ldgpnwcu"),
            }
            at += 1;
        }
        self.views[level as usize] = view;
        self
    }

    /// Who sees and writes it at this level.
    pub const fn view(&self, level: Level) -> View {
        self.views[level as usize]
    }
}
