//! The lines of a file of rates: read as bytes come, each bad one listed.
//! In: bytes, which column holds what. Out: what each line says, in bounds. Elsewhere: rows ([`super`]).

use super::options::{
    CHARGE, COLUMNS_MAX, COST, Columns, INCREMENT, NAME, NAMES, Options, PREFIX, WrongOptions,
};
use crate::rate::{DECIMALS, PRICE_MAX, UNITS};
use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use std::fmt;

/// Bytes of a line. What is longer is no rate, or lacks a quote.
pub const LINE_MAX: usize = 4096;
/// Lines of a file.
pub const LINES_MAX: u32 = 5_000_000;
/// More mistakes than anybody reads at once; the others are counted.
pub const MISTAKES_MAX: usize = 1000;

/// Characters of a destination's name and of a prefix with its plus sign, as rows have them.
const NAME_MAX: usize = 100;
const PREFIX_MAX: usize = 24;

/// A bad line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Which, from 1; blank ones count, too.
    pub line: u32,
    /// The column by its name in `importerArguments`; empty when it is about the whole line.
    pub column: &'static str,
    /// What is wrong and how to make it right.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, remedy } = self;
        let colon = if column.is_empty() { "" } else { ": " };
        write!(f, "line {line}: {column}{colon}{remedy}")
    }
}

/// All bad lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// The first [`MISTAKES_MAX`], by line.
    pub list: Vec<Mistake>,
    /// How many more there are.
    pub more: usize,
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.list.iter().enumerate() {
            let between = if place == 0 { "" } else { "\n" };
            write!(f, "{between}{mistake}")?;
        }
        if self.more > 0 { write!(f, "\nand {} more", self.more) } else { Ok(()) }
    }
}

impl Mistakes {
    fn add(&mut self, mistake: Mistake) {
        if self.list.len() < MISTAKES_MAX {
            self.list.push(mistake);
        } else {
            self.more += 1;
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    number: u32,
    pub(super) name: Box<str>,
    pub(super) prefix: Box<str>,
    /// In units of four decimals, as is the fee.
    pub(super) cost: u64,
    pub(super) connect_fee: u64,
    /// Seconds.
    pub(super) charge_period: u32,
}

/// A file without mistakes.
#[derive(Debug)]
pub struct Sheet {
    lines: Vec<Line>,
    rounded: usize,
}

impl Sheet {
    /// How many rates it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Never: such a file is a mistake.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn rounded(&self) -> usize {
        self.rounded
    }
}

/// Reads a file piece by piece. It keeps a line at most of what it has not understood yet.
pub struct Reader {
    csv: csv_core::Reader,
    columns: Columns,
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The line is longer than that.
    too_long: bool,
    ignore: bool,
    number: u32,
    cells: Box<[u8; LINE_MAX + 1]>,
    lines: Vec<Line>,
    rounded: usize,
    mistakes: Mistakes,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("line", &self.number).finish_non_exhaustive()
    }
}

impl Reader {
    /// Begins with a file.
    ///
    /// # Errors
    ///
    /// Options by which none can be read.
    pub fn new(options: &Options) -> Result<Self, WrongOptions> {
        options.check()?;
        let Options { delimiter, enclosure, escape, columns, ignore_first } = options;
        let mut csv = ReaderBuilder::new();
        csv.delimiter(*delimiter).terminator(Terminator::Any(b'\n')).escape(*escape);
        match enclosure {
            Some(enclosure) => csv.quote(*enclosure),
            None => csv.quoting(false),
        };
        Ok(Self {
            csv: csv.build(),
            columns: *columns,
            line: Vec::new(),
            too_long: false,
            ignore: *ignore_first,
            number: 0,
            cells: Box::new([0; LINE_MAX + 1]),
            lines: Vec::new(),
            rounded: 0,
            mistakes: Mistakes::default(),
        })
    }

    /// Takes the next piece of the file, of any size.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while !self.is_full() {
            let end = piece.iter().position(|byte| *byte == b'\n');
            let part = &piece[..end.unwrap_or(piece.len())];
            // One byte more, for the carriage return.
            let room = (LINE_MAX + 1).saturating_sub(self.line.len());
            self.too_long |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let Some(end) = end else { return };
            self.end_of_line();
            piece = &piece[end + 1..];
        }
    }

    /// Whether the file has more lines than are read: the rest makes no difference.
    pub fn is_full(&self) -> bool {
        self.number > LINES_MAX
    }

    /// The file is over.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; nothing may be imported then.
    pub fn finish(mut self) -> Result<Sheet, Mistakes> {
        if !self.line.is_empty() && !self.is_full() {
            self.end_of_line();
        }
        self.find_twins();
        let Self { lines, rounded, mut mistakes, number, .. } = self;
        if lines.is_empty() && mistakes.list.is_empty() {
            let remedy = "there are no rates in the file; write a line for each prefix".to_owned();
            mistakes.add(Mistake { line: number.max(1), column: "", remedy });
        }
        mistakes.list.sort();
        if mistakes.list.is_empty() { Ok(Sheet { lines, rounded }) } else { Err(mistakes) }
    }

    fn end_of_line(&mut self) {
        self.number += 1;
        let mut line = std::mem::take(&mut self.line);
        let too_long = std::mem::take(&mut self.too_long);
        let ignored = std::mem::take(&mut self.ignore);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let mark = if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        if self.is_full() {
            self.wrong("", format!("a file has at most {LINES_MAX} lines; import the rest from another"));
        } else if ignored || line[mark..].trim_ascii().is_empty() {
            // Titles, or nothing.
        } else if too_long || line.len() > LINE_MAX {
            self.wrong("", format!("it has more than {LINE_MAX} bytes; shorten it"));
        } else {
            line.push(b'\n');
            self.read(&line[mark..]);
        }
        line.clear();
        self.line = line;
    }

    /// Reads a line with its end.
    fn read(&mut self, line: &[u8]) {
        let mut ends = [0; COLUMNS_MAX];
        self.csv.reset();
        // The cells of a line are not longer than the line.
        let (result, _, written, columns) = self.csv.read_record(line, &mut self.cells[..], &mut ends);
        match result {
            ReadRecordResult::Record => {}
            ReadRecordResult::OutputEndsFull => {
                return self.wrong("", format!("it has more than {COLUMNS_MAX} columns; leave some out"));
            }
            _ => return self.wrong("", "a quote is not closed; close it on the same line".to_owned()),
        }
        let most = self.columns.0.iter().max().map_or(0, |place| place + 1);
        if columns < most {
            return self.wrong("", format!("it has {columns} columns; write {most}"));
        }
        let Ok(cells) = std::str::from_utf8(&self.cells[..written]) else {
            return self.wrong("", "it is not in UTF-8; save the file so".to_owned());
        };
        let begin = |place: usize| place.checked_sub(1).map_or(0, |before| ends[before]);
        // A cell ends within a letter only where an odd escape took it apart; then it is empty, and told to be.
        let cell = |which: usize| {
            let place = self.columns.0[which];
            cells.get(begin(place)..ends[place]).unwrap_or_default().trim()
        };
        let parsed = parse(&cell);
        match parsed {
            Ok((line, rounded)) => {
                self.rounded += usize::from(rounded);
                self.lines.push(Line { number: self.number, ..line });
            }
            Err(mistakes) => {
                for (which, remedy) in mistakes {
                    self.wrong(NAMES[which], remedy);
                }
            }
        }
    }

    /// Lists each line whose prefix an earlier one has (manual 9.4.3: "If same prefix is used in multiple times in CSV file,
    /// import process will fail").
    fn find_twins(&mut self) {
        let mut order: Vec<&Line> = self.lines.iter().collect();
        order.sort_unstable_by(|a, b| (&a.prefix, a.number).cmp(&(&b.prefix, b.number)));
        let mut twins = Vec::new();
        for alike in order.chunk_by(|a, b| a.prefix == b.prefix) {
            let Some((first, others)) = alike.split_first() else { continue };
            for other in others {
                let remedy = format!("{} is in line {} already; write it once", other.prefix, first.number);
                twins.push(Mistake { line: other.number, column: NAMES[PREFIX], remedy });
            }
        }
        twins.sort();
        twins.into_iter().for_each(|twin| self.mistakes.add(twin));
    }

    fn wrong(&mut self, column: &'static str, remedy: String) {
        self.mistakes.add(Mistake { line: self.number, column, remedy });
    }
}

/// Reads the cells of a line, whose number is yet to be filled in, and whether a price of it was rounded; or says what is
/// wrong with each.
fn parse<'a>(cell: &impl Fn(usize) -> &'a str) -> Result<(Line, bool), Vec<(usize, String)>> {
    let mut mistakes = Vec::new();
    let name = cell(NAME);
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        mistakes.push((NAME, format!("{} is none; write a name of 1 to {NAME_MAX} characters", short(name))));
    }
    let prefix = cell(PREFIX);
    let digits = prefix.strip_prefix('+').is_some_and(model::checks::digits);
    if !digits || prefix.len() > PREFIX_MAX {
        let most = PREFIX_MAX - 1;
        let remedy =
            format!("{} is none; write a plus sign and 1 to {most} digits, such as +34", short(prefix));
        mistakes.push((PREFIX, remedy));
    }
    let mut price = |which: usize| {
        let price = price(cell(which));
        if price.is_none() {
            let remedy = format!(
                "{} is no price; write 0 to {PRICE_MAX} with a point before its decimals, such as 0.05",
                short(cell(which))
            );
            mistakes.push((which, remedy));
        }
        price.unwrap_or_default()
    };
    let (cost, cost_rounded) = price(COST);
    let (connect_fee, fee_rounded) = price(CHARGE);
    let period = Some(cell(INCREMENT)).filter(|text| model::checks::digits(text));
    let charge_period = period.and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    if charge_period.is_none() {
        let remedy = format!("{} is none; write whole seconds from 1 on", short(cell(INCREMENT)));
        mistakes.push((INCREMENT, remedy));
    }
    let Some(charge_period) = charge_period.filter(|_| mistakes.is_empty()) else { return Err(mistakes) };
    let line = Line { number: 0, name: name.into(), prefix: prefix.into(), cost, connect_fee, charge_period };
    Ok((line, cost_rounded || fee_rounded))
}

/// Reads a price in units of four decimals, and whether that is rounded: half up, as where rows are written otherwise.
fn price(text: &str) -> Option<(u64, bool)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > 40 || (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (kept, rest) = part.split_at(part.len().min(DECIMALS as usize));
    let kept = kept.bytes().chain(std::iter::repeat(b'0')).take(DECIMALS as usize);
    let kept = kept.fold(0, |units, digit| units * 10 + u64::from(digit - b'0'));
    let up = u64::from(rest.starts_with(|digit| digit >= '5'));
    let units = whole.checked_mul(UNITS)?.checked_add(kept + up)?;
    let rounded = rest.contains(|digit| digit != '0');
    (units <= u64::from(PRICE_MAX) * UNITS).then_some((units, rounded))
}

/// As much of a text as a message needs.
fn short(text: &str) -> String {
    const MOST: usize = 40;
    let begin: String = text.chars().take(MOST).collect();
    if begin.len() < text.len() { format!("{begin:?}…") } else { format!("{begin:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(options: &Options, text: &[u8]) -> Result<Sheet, Mistakes> {
        let mut reader = Reader::new(options).unwrap();
        reader.feed(text);
        reader.finish()
    }

    fn plain() -> Options {
        Options { ignore_first: false, ..Options::default() }
    }

    /// The first line of a file, as text.
    fn first(options: &Options, text: &str) -> String {
        match read(options, text.as_bytes()) {
            Ok(sheet) => {
                let Line { name, prefix, cost, connect_fee, charge_period, .. } = &sheet.lines[0];
                format!("{name}|{prefix}|{cost}|{connect_fee}|{charge_period}")
            }
            Err(mistakes) => mistakes.to_string(),
        }
    }

    #[test]
    fn good_lines_are_read_as_the_manual_has_them() {
        let wanted = "Spain|+34|500|1000|60";
        for line in [
            "Spain,+34,0.05,0.1,60",
            "\"Spain\",\"+34\",\"0.05\",\"0.1\",\"60\"",
            " Spain , +34 ,0.0500000,.1,060\r\n",
            "\n\r\n  \nSpain,+34,0.05,0.1,60\n\n",
            "\u{feff}Spain,+34,0.05,0.1,60",
            "Spain,+34,0.05,0.1,60,more,columns",
        ] {
            assert_eq!(first(&plain(), line), wanted, "{line:?}");
        }
        assert_eq!(first(&plain(), "\"Spain, \"\"all\"\"\",+34,1,0,1"), "Spain, \"all\"|+34|10000|0|1");
        assert_eq!(first(&Options::default(), "a,b,c,d,e\nSpain,+34,0.05,0.1,60"), wanted);
    }

    #[test]
    fn columns_are_where_they_are_said_to_be() {
        let names =
            ["note", "rateIncrement", "destinationPrefix", "rateCost", "connectionCharge", "destinationName"];
        let columns = Columns::named(&names).unwrap();
        let options = Options { delimiter: b';', enclosure: None, columns, ..plain() };
        assert_eq!(first(&options, "x;60;+34;0.05;0.1;\"Spain\""), "\"Spain\"|+34|500|1000|60");
        assert_eq!(first(&options, "x;60;+34;0.05;0.1"), "line 1: it has 5 columns; write 6");
        let escaped = Options { escape: Some(b'\\'), ..plain() };
        assert_eq!(first(&escaped, "\"a \\\" b\",+34,1,0,1"), "a \" b|+34|10000|0|1");
        assert_eq!(Columns::named(&names[1..3]), Err(WrongOptions::Column("destinationName")));
        let twice = [names.as_slice(), &["rateCost"]].concat();
        assert_eq!(Columns::named(&twice), Err(WrongOptions::Column("rateCost")));
        assert_eq!(Columns::named(&["x"; 65]), Err(WrongOptions::TooManyColumns));
        for (delimiter, enclosure, escape, wrong) in [
            (b'\n', None, None, "delimiter"),
            (b'"', Some(b'"'), None, "enclosure"),
            (b',', Some(b'\r'), None, "enclosure"),
            (b',', Some(b'"'), Some(b','), "escape"),
            (0xe4, None, None, "delimiter"),
        ] {
            let options = Options { delimiter, enclosure, escape, ..plain() };
            assert_eq!(Reader::new(&options).map(|_| ()).unwrap_err(), WrongOptions::Character(wrong));
        }
    }

    #[test]
    fn each_bad_line_is_listed_with_its_number_and_what_to_do() {
        let table = [
            (
                "Spain,34,1,0,1",
                "destinationPrefix: \"34\" is none; write a plus sign and 1 to 23 digits, such as +34",
            ),
            ("Spain,'+34',1,0,1", "destinationPrefix: \"'+34'\" is none"),
            ("Spain,+,1,0,1", "destinationPrefix: \"+\" is none"),
            ("Spain,+123456789012345678901234,1,0,1", "destinationPrefix: "),
            (",+34,1,0,1", "destinationName: \"\" is none; write a name of 1 to 100 characters"),
            ("Spain,+34,\"0,05\",0,1", "rateCost: \"0,05\" is no price; write 0 to 999999 with a point"),
            ("Spain,+34,-1,0,1", "rateCost: \"-1\" is no price"),
            ("Spain,+34,1e3,0,1", "rateCost: "),
            ("Spain,+34,.,0,1", "rateCost: "),
            ("Spain,+34,,0,1", "rateCost: "),
            ("Spain,+34,1,999999.0001,1", "connectionCharge: "),
            ("Spain,+34,1,99999999999999999999999,1", "connectionCharge: "),
            ("Spain,+34,1,0,0", "rateIncrement: \"0\" is none; write whole seconds from 1 on"),
            ("Spain,+34,1,0,1.5", "rateIncrement: "),
            ("Spain,+34,1,0,60s", "rateIncrement: "),
            ("Spain,+34,1,0,4294967296", "rateIncrement: "),
            ("Spain,+34,1,0", "it has 4 columns; write 5"),
            ("\"Spain,+34,1,0,1", "a quote is not closed"),
        ];
        let text: Vec<&str> = table.iter().map(|(line, _)| *line).collect();
        let mistakes = read(&plain(), text.join("\n").as_bytes()).unwrap_err();
        assert_eq!(mistakes.list.len(), table.len(), "{mistakes}");
        for ((number, (line, want)), mistake) in (1..).zip(table).zip(&mistakes.list) {
            assert!(mistake.to_string().starts_with(&format!("line {number}: {want}")), "{line}: {mistake}");
        }
        let several = read(&plain(), b"\nSpain,34,x,y,z").unwrap_err();
        let columns: Vec<_> = several.list.iter().map(|mistake| (mistake.line, mistake.column)).collect();
        assert_eq!(
            columns,
            [(2, "connectionCharge"), (2, "destinationPrefix"), (2, "rateCost"), (2, "rateIncrement")]
        );
        let foreign = read(&plain(), b"Espa\xf1a,+34,1,0,1").unwrap_err();
        assert_eq!(foreign.to_string(), "line 1: it is not in UTF-8; save the file so");
        assert_eq!(
            read(&plain(), b"").unwrap_err().to_string(),
            "line 1: there are no rates in the file; write a line for each prefix"
        );
        assert!(read(&Options::default(), b"only,titles,are,in,it\n\n").is_err());
    }

    #[test]
    fn a_prefix_that_is_there_twice_is_listed_at_each_line_but_the_first() {
        let text = b"a,+1,1,0,1\nb,+2,1,0,1\n\nc,+1,2,0,1\nd,+01,1,0,1\ne,x,1,0,1\nf,+1,1,0,1\n";
        let mistakes = read(&plain(), text).unwrap_err();
        let lines: Vec<_> = mistakes.list.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [4, 6, 7]);
        assert_eq!(
            mistakes.list[0].to_string(),
            "line 4: destinationPrefix: +1 is in line 1 already; write it once"
        );
    }

    #[test]
    fn prices_of_many_decimals_are_rounded_and_counted() {
        let sheet =
            read(&plain(), b"a,+1,0.00005,0,1\nb,+2,0.00004999,0,1\nc,+3,0.12345,0.10000,1\nd,+4,0.9,0,1")
                .unwrap();
        let costs: Vec<u64> = sheet.lines.iter().map(|line| line.cost).collect();
        assert_eq!((costs, sheet.rounded), (vec![1, 0, 1235, 9000], 3));
        assert!(read(&plain(), b"a,+1,999999.00004,0,1").is_ok());
        assert!(read(&plain(), b"a,+1,999999.00005,0,1").is_err());
    }

    #[test]
    fn long_lines_many_columns_and_many_mistakes_have_bounds() {
        let good = "Spain,+34,1,0,1\n";
        let long = format!("{},+35,1,0,1\n{good}", "x".repeat(1_000_000));
        let mistakes = read(&plain(), long.as_bytes()).unwrap_err();
        assert_eq!(mistakes.to_string(), "line 1: it has more than 4096 bytes; shorten it");
        let exact = format!("Spain,+34,1,0,1,{}\r\n", "x".repeat(LINE_MAX - 16));
        assert_eq!(read(&plain(), exact.as_bytes()).unwrap().len(), 1);
        let wide = format!("Spain,+34,1,0,1{}\n", ",".repeat(60));
        assert_eq!(
            read(&plain(), wide.as_bytes()).unwrap_err().to_string(),
            "line 1: it has more than 64 columns; leave some out"
        );
        let wide = format!("Spain,+34,1,0,1{}\n", ",".repeat(59));
        assert!(read(&plain(), wide.as_bytes()).is_ok());
        let mistakes = read(&plain(), "x\n".repeat(1500).as_bytes()).unwrap_err();
        assert_eq!((mistakes.list.len(), mistakes.more), (1000, 500));
        assert!(mistakes.to_string().ends_with("and 500 more"));
    }

    #[test]
    fn a_file_of_too_many_lines_is_refused_and_not_read_to_its_end() {
        let mut reader = Reader::new(&plain()).unwrap();
        let piece = "\n".repeat(1 << 20);
        while !reader.is_full() {
            reader.feed(piece.as_bytes());
        }
        let mistakes = reader.finish().unwrap_err();
        assert_eq!(mistakes.list.len(), 1);
        assert_eq!(mistakes.list[0].line, LINES_MAX + 1);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same_file(
            lines in proptest::collection::vec("[a,\"+0-9 \r.]{0,12}|Spain,\\+[1-4]{1,2},0\\.5,1,[0-9]", 0..12),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let text = lines.join("\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let mut reader = Reader::new(&plain()).unwrap();
            cuts.windows(2).for_each(|cut| reader.feed(&text.as_bytes()[cut[0]..cut[1]]));
            let whole = read(&plain(), text.as_bytes()).map(|sheet| sheet.lines);
            prop_assert_eq!(reader.finish().map(|sheet| sheet.lines), whole);
        }

        #[test]
        fn any_bytes_are_a_file_or_a_list_of_mistakes(bytes in proptest::collection::vec(any::<u8>(), 0..400), quote in any::<u8>(), escape in any::<u8>()) {
            let options = Options { enclosure: Some(quote), escape: Some(escape), ..plain() };
            if let Ok(mut reader) = Reader::new(&options) {
                reader.feed(&bytes);
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
                match reader.finish() {
                    Ok(sheet) => prop_assert!(sheet.len() <= lines),
                    Err(mistakes) => prop_assert!(mistakes.list.iter().all(|mistake| mistake.line as usize <= lines)),
                }
            }
        }
    }
}
