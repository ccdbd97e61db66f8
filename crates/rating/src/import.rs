//! Rates from a file of comma-separated values (manual 9.4.3, "Importing a CSV file").
//!
//! In: the file's bytes as they come, which column holds what, the list that the rates are for. Out: the rows with the rates in
//! them and what changed, or all bad lines; nothing is half imported. Elsewhere: keeping rows (`store`), the list's
//! status (whoever imports).

mod options;
mod sheet;

pub use options::{COLUMNS_MAX, Columns, Options, WrongOptions};
pub use sheet::{LINE_MAX, LINES_MAX, MISTAKES_MAX, Mistake, Mistakes, Reader, Sheet};

use crate::rate;
use model::Id;
use model::define::{Entity, Translated, Value};
use model::draft::Change;
use model::entities::{Brand, Destination, DestinationRate, DestinationRateGroup};
use model::rows::{Row, Rows};
use sheet::Line;
use std::sync::Arc;

/// The place of `unique(prefix, brand)` among the unique sets of destinations.
const BY_PREFIX: usize = 0;
/// The place of `unique(destination_rate_group, destination)` among those of rates.
const BY_DESTINATION: usize = 0;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Destinations that the brand did not have.
    pub destinations: usize,
    /// Rates of prefixes that the list did not have.
    pub added: usize,
    /// Rates that are others now.
    pub updated: usize,
    /// Rates that the list had just so.
    pub unchanged: usize,
    /// Prices of more than four decimals, which were rounded as everywhere else where a price is written.
    pub rounded: usize,
}

/// There is no such list (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no list of rates {0}; make one and import into it")]
pub struct NoList(pub Id<DestinationRateGroup>);

impl Sheet {
    /// Puts the rates into a list (manual 9.4.3, "Re-importing a CSV file"): those of prefixes that the list has are replaced,
    /// others are added, and what the file does not name stays. Rates of a file count from the first second: it has no
    /// column for the interval start. Prefixes that the brand does not have become destinations; others keep their names.
    ///
    /// What comes out keeps all rules that saving row by row would look at. It costs some microseconds a line.
    ///
    /// # Errors
    ///
    /// There is no such list.
    pub fn onto(
        &self,
        rows: &Rows,
        list: Id<DestinationRateGroup>,
    ) -> Result<(Rows, Vec<Change>, Imported), NoList> {
        let brand = rows.get(list).ok_or(NoList(list))?.brand;
        let imported = Imported { rounded: self.rounded(), ..Imported::default() };
        let mut onto = Onto { rows: rows.clone(), changes: Vec::new(), imported };
        for line in self.lines() {
            let destination = onto.destination(line, brand);
            onto.rate(line, list, destination);
        }
        Ok((onto.rows, onto.changes, onto.imported))
    }
}

struct Onto {
    rows: Rows,
    changes: Vec<Change>,
    imported: Imported,
}

impl Onto {
    fn destination(&mut self, line: &Line, brand: Id<Brand>) -> Id<Destination> {
        let named = [Value::Text(&line.prefix), number(brand)];
        if let Some(known) = self.rows.find::<Destination>(BY_PREFIX, &named) {
            return known.id;
        }
        self.imported.destinations += 1;
        let id = Id::new(self.rows.next_id(Destination::definition()));
        let name = Translated::same(&line.name);
        self.put(None, Destination { id, prefix: line.prefix.to_string(), name, brand });
        id
    }

    fn rate(&mut self, line: &Line, list: Id<DestinationRateGroup>, destination: Id<Destination>) {
        let table = DestinationRate::definition();
        let known = self.rows.find::<DestinationRate>(BY_DESTINATION, &[number(list), number(destination)]);
        let known = known.and_then(|known| self.rows.row(table, known.id.get()).cloned());
        let id = known.as_ref().map_or_else(|| self.rows.next_id(table), |known| known.id());
        let row = DestinationRate {
            id: Id::new(id),
            cost: rate::decimal(line.cost.into()).normalize(),
            connect_fee: rate::decimal(line.connect_fee.into()).normalize(),
            rate_increment: format!("{}s", line.charge_period),
            group_interval_start: "0s".to_owned(),
            destination_rate_group: list,
            destination,
        };
        match &known {
            Some(known) if model::draft::alike(&**known, &row) => {
                self.imported.unchanged += 1;
                return;
            }
            Some(_) => self.imported.updated += 1,
            None => self.imported.added += 1,
        }
        self.put(known, row);
    }

    fn put<E: Entity>(&mut self, before: Option<Row>, row: E) {
        let row: Row = Arc::new(row);
        self.rows.insert(Arc::clone(&row));
        self.changes.push(Change { table: E::definition(), id: row.id(), before, after: Some(row) });
    }
}

fn number<E>(id: Id<E>) -> Value<'static> {
    Value::Int(i64::from(id.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use model::define::SecretHasher;
    use model::draft::{Draft, Env};
    use rust_decimal::Decimal;

    fn sheet(text: &str) -> Sheet {
        let mut reader = Reader::new(&Options::default()).unwrap();
        reader.feed(text.as_bytes());
        reader.finish().unwrap()
    }

    /// The rates of a list: prefix, name of the destination, price of a minute, fee, increment and start.
    fn rates(rows: &Rows, list: Id<DestinationRateGroup>) -> Vec<String> {
        let line = |rate: &DestinationRate| {
            let destination = rows.get(rate.destination).unwrap();
            let (DestinationRate { cost, connect_fee, rate_increment, group_interval_start, .. }, to) =
                (rate, &destination.prefix);
            let name = &destination.name;
            assert_eq!(name.en, name.eu);
            format!("{to} {} {cost} {connect_fee} {rate_increment} {group_interval_start}", name.en)
        };
        rows.of("destinationRateGroup", list.get()).map(line).collect()
    }

    const FIRST: &str = "name,prefix,minute,connection,period\n\
        \"Spain, all\",+34,0.01,0.1,1\n\
        Portugal,+351,0.02,0,60\n";
    const SECOND: &str = "name,prefix,minute,connection,period\n\
        Lusitania,+351,0.03,0,30\n\
        Malta,+356,0.04,0,1\n";

    #[test]
    fn a_file_adds_its_rates_and_the_destinations_that_are_missing() {
        let mut world = World::new();
        let (list, elsewhere) = (world.list(1, ""), world.list(2, ""));
        world.rate(elsewhere, "+34", "7");
        let (rows, changes, imported) = sheet(FIRST).onto(&world.rows, list).unwrap();
        let want = ["+34 Spain, all 0.01 0.1 1s 0s", "+351 Portugal 0.02 0 60s 0s"];
        assert_eq!(rates(&rows, list), want);
        assert_eq!(imported, Imported { destinations: 2, added: 2, ..Imported::default() });
        assert_eq!(changes.len(), 4);
        assert_eq!(rates(&world.rows, list), [""; 0], "the rows before stay as they were");
        let other = rows.of::<DestinationRate>("destinationRateGroup", elsewhere.get());
        assert_eq!(other.count(), 1, "another brand's +34 is another destination");
    }

    #[test]
    fn importing_again_updates_what_is_in_both_keeps_and_adds() {
        let mut world = World::new();
        let list = world.list(1, "");
        let (mut rows, ..) = sheet(FIRST).onto(&world.rows, list).unwrap();
        let mut row = rows.get(Id::<DestinationRate>::new(2)).unwrap().clone();
        row.group_interval_start = "10s".to_owned();
        rows.insert(Arc::new(row));
        let (rows, changes, imported) = sheet(SECOND).onto(&rows, list).unwrap();
        let want =
            ["+34 Spain, all 0.01 0.1 1s 0s", "+351 Portugal 0.03 0 30s 0s", "+356 Malta 0.04 0 1s 0s"];
        assert_eq!(rates(&rows, list), want);
        assert_eq!(imported, Imported { destinations: 1, added: 1, updated: 1, ..Imported::default() });
        assert_eq!(changes.len(), 3);
        let (same, changes, imported) = sheet(SECOND).onto(&rows, list).unwrap();
        assert_eq!((rates(&same, list), changes.len()), (rates(&rows, list), 0));
        assert_eq!(imported, Imported { unchanged: 2, ..Imported::default() });
    }

    #[test]
    fn another_list_shares_the_destinations() {
        let mut world = World::new();
        let (list, other) = (world.list(1, ""), world.list(1, ""));
        let (rows, ..) = sheet(FIRST).onto(&world.rows, list).unwrap();
        let (rows, _, imported) = sheet(FIRST).onto(&rows, other).unwrap();
        assert_eq!(imported, Imported { added: 2, ..Imported::default() });
        assert_eq!(rates(&rows, list), rates(&rows, other));
        assert_eq!(sheet(FIRST).onto(&rows, Id::new(99)).map(|_| ()), Err(NoList(Id::new(99))));
    }

    #[derive(Debug)]
    struct NoHasher;

    impl SecretHasher for NoHasher {
        fn hash(&self, _: &str) -> String {
            String::new()
        }
    }

    #[test]
    fn imported_rows_are_what_saving_them_one_by_one_makes() {
        let mut world = World::new();
        let list = world.list(1, "");
        let (rows, ..) = sheet(FIRST).onto(&world.rows, list).unwrap();
        let extremes = format!(
            "x\n{},+{},999999,999999.0000,4294967295\na,+1,0.00005,.5,1\nb,+351,1,1,1\n",
            "é".repeat(100),
            "9".repeat(23)
        );
        let (new, changes, imported) = sheet(&extremes).onto(&rows, list).unwrap();
        assert_eq!((imported.added, imported.updated, imported.rounded), (2, 1, 1));
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let env = Env { now, level: None, hasher: &NoHasher, random: &|| 4, is_over: &|| false };
        let mut draft = Draft::new(&rows, &env);
        for change in &changes {
            let row = change.after.as_ref().unwrap().copy();
            if change.before.is_some() {
                draft.save(row).unwrap()
            } else {
                assert_eq!(draft.create_row(row), Ok(change.id))
            }
        }
        let (saved, _) = draft.finish().unwrap();
        for table in [Destination::definition(), DestinationRate::definition()] {
            assert_eq!(saved.since(&new, table).count(), 0, "{}", table.name);
        }
        assert_eq!(rates(&new, list)[3], "+1 a 0.0001 0.5 1s 0s");
    }

    #[test]
    fn prices_are_looked_up_in_what_was_imported() {
        let mut world = World::new();
        let (list, plan) = (world.list(1, ""), world.plan(1));
        world.part(plan, list, 10);
        let (rows, ..) = sheet(FIRST).onto(&world.rows, list).unwrap();
        let at = "2026-03-02T12:00:00Z".parse().unwrap();
        let basis =
            crate::Tariffs::new(&rows).by_plan(plan, &crate::Call { number: "+34600", at, tag: None });
        assert_eq!(basis.unwrap().rate.per_minute(), Decimal::new(1, 2));
    }
}
