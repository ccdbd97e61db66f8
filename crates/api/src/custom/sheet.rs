//! Comma-separated values as spreadsheets write them: any delimiter, enclosure and escape character.
//!
//! In: a text. Out: its lines with their cells and numbers, or what is wrong with its form. Elsewhere: what the cells mean.

/// Most cells of a line.
const MOST_CELLS: usize = 64;

/// How values are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// What stands between two cells.
    pub(super) delimiter: char,
    /// What may stand around a cell; written twice within it, it means itself.
    pub(super) enclosure: Option<char>,
    /// What takes the meaning of the next character within an enclosure; both of them stay in the cell.
    pub(super) escape: Option<char>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: ',', enclosure: Some('"'), escape: Some('\\') }
    }
}

/// A line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    /// Its cells, without blanks around them.
    pub(super) cells: Vec<String>,
}

impl Line {
    /// The cell at this place; empty when there is none.
    pub(super) fn cell(&self, place: usize) -> &str {
        self.cells.get(place).map_or("", String::as_str)
    }
}

/// Something wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong and how to make it right.
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(line: usize, remedy: impl Into<String>) -> Self {
        Self { line, remedy: remedy.into() }
    }
}

struct Reader {
    lines: Vec<Line>,
    cells: Vec<String>,
    cell: String,
    /// The cell stood in an enclosure.
    enclosed: bool,
    begins: usize,
}

impl Reader {
    fn end_cell(&mut self) -> Result<(), Wrong> {
        if self.cells.len() >= MOST_CELLS {
            return Err(Wrong::new(self.begins, format!("a line has at most {MOST_CELLS} cells")));
        }
        self.cells.push(self.cell.trim().to_owned());
        self.cell.clear();
        self.enclosed = false;
        Ok(())
    }

    fn end_line(&mut self, most: usize) -> Result<(), Wrong> {
        let blank = self.cells.is_empty() && !self.enclosed && self.cell.trim().is_empty();
        if blank {
            self.cell.clear();
            return Ok(());
        }
        self.end_cell()?;
        if self.lines.len() >= most {
            return Err(Wrong::new(
                self.begins,
                format!("a file has at most {most} lines; send the rest in another"),
            ));
        }
        self.lines.push(Line { number: self.begins, cells: std::mem::take(&mut self.cells) });
        Ok(())
    }
}

/// Reads a text of at most this many lines; blank ones are left out.
pub(super) fn read(text: &str, dialect: Dialect, most: usize) -> Result<Vec<Line>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { lines: Vec::new(), cells: Vec::new(), cell: String::new(), enclosed: false, begins: 1 };
    let mut number = 1;
    let mut inside = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_enclosure = Some(character) == dialect.enclosure;
        // A line ends with LF, CR LF, or CR alone.
        let ends = character == '\n' || (character == '\r' && characters.peek() != Some(&'\n'));
        number += usize::from(ends);
        if inside {
            if Some(character) == dialect.escape && !is_enclosure {
                reader.cell.push(character);
                if let Some(next) = characters.next() {
                    number += usize::from(next == '\n');
                    reader.cell.push(next);
                }
            } else if is_enclosure && characters.peek() == dialect.enclosure.as_ref() {
                characters.next();
                reader.cell.push(character);
            } else if is_enclosure {
                inside = false;
            } else {
                reader.cell.push(character);
            }
        } else if character == dialect.delimiter {
            reader.end_cell()?;
        } else if ends {
            reader.end_line(most)?;
            reader.begins = number;
        } else if character == '\r' {
            // The line feed after it ends the line.
        } else if is_enclosure && !reader.enclosed && reader.cell.trim().is_empty() {
            reader.cell.clear();
            reader.enclosed = true;
            inside = true;
        } else {
            reader.cell.push(character);
        }
    }
    if inside {
        return Err(Wrong::new(
            reader.begins,
            "a value that begins with a quotation mark does not end with one",
        ));
    }
    reader.end_line(most)?;
    Ok(reader.lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str, dialect: Dialect) -> Vec<(usize, Vec<String>)> {
        let lines = read(text, dialect, 100).unwrap();
        lines.into_iter().map(|line| (line.number, line.cells)).collect()
    }

    fn line(number: usize, cells: &[&str]) -> (usize, Vec<String>) {
        (number, cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn lines_are_read_with_their_numbers() {
        let text = "\u{feff}\"Christmas eve\",\"2018-12-24\"\r\n\r\n a , b,\rlast";
        let expected =
            [line(1, &["Christmas eve", "2018-12-24"]), line(3, &["a", "b", ""]), line(4, &["last"])];
        assert_eq!(cells(text, Dialect::default()), expected);
    }

    #[test]
    fn enclosed_cells_hold_delimiters_and_line_ends() {
        let text = "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\nnext\n";
        let expected = [line(1, &["a,b", "say \"x\"", "two\nlines"]), line(3, &["next"])];
        assert_eq!(cells(text, Dialect::default()), expected);
    }

    #[test]
    fn an_escape_character_stays_with_what_it_escapes() {
        let dialect = Dialect { delimiter: ';', enclosure: Some('\''), escape: Some('\\') };
        assert_eq!(
            cells("'New year\\'s day';'2019-01-01'", dialect),
            [line(1, &["New year\\'s day", "2019-01-01"])]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(read("a\n\"b", Dialect::default(), 100).unwrap_err().line, 2);
        assert_eq!(read("a\nb\nc", Dialect::default(), 2).unwrap_err().line, 3);
        assert_eq!(read(&",".repeat(MOST_CELLS), Dialect::default(), 2).unwrap_err().line, 1);
        assert!(read("", Dialect::default(), 0).unwrap().is_empty());
    }
}
