//! Zip files without compression, part by part: what goes into them is compressed already.
//!
//! In: names and octets. Out: the parts of the file, in order. Nothing is ever unpacked here. (PKWARE's APPNOTE, 4.3.)

use jiff::civil::DateTime;

/// Octets of a local header before the name.
const LOCAL: u32 = 30;
/// Names are in UTF-8.
const UTF8: u16 = 1 << 11;
/// What it takes to unpack: version 2.0.
const VERSION: u16 = 20;

/// A zip file while it is written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    directory: Vec<u8>,
    length: u32,
    count: u16,
}

impl Archive {
    /// What stands before the content of the next file; none: the archive is full.
    pub(super) fn header(&mut self, name: &str, content: &[u8], at: DateTime) -> Option<Vec<u8>> {
        let size = u32::try_from(content.len()).ok()?;
        let name_length = u16::try_from(name.len()).ok()?;
        let length =
            self.length.checked_add(LOCAL)?.checked_add(u32::from(name_length))?.checked_add(size)?;
        let count = self.count.checked_add(1)?;
        let mut common = Vec::new();
        let (date, time) = dos(at);
        // Flags, no compression, when, checksum, sizes, length of the name, no extra field.
        [UTF8, 0, time, date].iter().for_each(|word| common.extend(word.to_le_bytes()));
        [crc32fast::hash(content), size, size].iter().for_each(|word| common.extend(word.to_le_bytes()));
        [name_length, 0].iter().for_each(|word| common.extend(word.to_le_bytes()));
        let mut header = Vec::from(*b"PK\x03\x04");
        header.extend(VERSION.to_le_bytes());
        header.extend(&common);
        header.extend(name.as_bytes());
        self.directory.extend(b"PK\x01\x02");
        [VERSION, VERSION].iter().for_each(|word| self.directory.extend(word.to_le_bytes()));
        self.directory.extend(&common);
        // No comment, first disk, no attributes, where its header is.
        self.directory.extend([0; 10]);
        self.directory.extend(self.length.to_le_bytes());
        self.directory.extend(name.as_bytes());
        (self.length, self.count) = (length, count);
        Some(header)
    }

    /// What stands after the content of the last file.
    pub(super) fn end(self) -> Vec<u8> {
        let mut end = self.directory;
        let size = u32::try_from(end.len()).unwrap_or(u32::MAX);
        end.extend(b"PK\x05\x06");
        [0, 0, self.count, self.count].iter().for_each(|word| end.extend(word.to_le_bytes()));
        [size, self.length].iter().for_each(|word| end.extend(word.to_le_bytes()));
        end.extend([0; 2]);
        end
    }
}

/// A name that is safe to unpack anywhere: no directories, nothing that hides.
pub(super) fn safe_name(name: &str) -> String {
    let plain = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c };
    let name: String = name.chars().map(plain).take(200).collect();
    let name = name.trim_matches([' ', '.']);
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

/// Date and time in the form of FAT file systems, which begin with 1980.
fn dos(at: DateTime) -> (u16, u16) {
    let word = |number: i16| u16::try_from(number).unwrap_or(0);
    let part = |number: i8| u16::try_from(number).unwrap_or(0);
    let year = word(at.year()).clamp(1980, 2107) - 1980;
    let date = (year << 9) | (part(at.month()) << 5) | part(at.day());
    let time = (part(at.hour()) << 11) | (part(at.minute()) << 5) | (part(at.second()) / 2);
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_octets_of_a_zip_file() {
        let at = jiff::civil::date(2017, 1, 5).at(1, 15, 16, 0);
        let mut archive = Archive::default();
        let mut whole = Vec::new();
        for (name, content) in [("a.txt", "hello"), ("ñ.txt", "")] {
            whole.extend(archive.header(name, content.as_bytes(), at).unwrap());
            whole.extend(content.as_bytes());
        }
        let directory = whole.len();
        whole.extend(archive.end());
        assert_eq!(&whole[..4], b"PK\x03\x04");
        // Checksum and sizes of the first file.
        assert_eq!(&whole[14..18], &0x3610_a686_u32.to_le_bytes());
        assert_eq!(&whole[18..26], &[5, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(&whole[30..40], b"a.txthello");
        assert_eq!(&whole[directory..directory + 4], b"PK\x01\x02");
        let end = whole.len() - 22;
        assert_eq!(&whole[end..end + 12], b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
        assert_eq!(&whole[end + 16..end + 20], &u32::try_from(directory).unwrap().to_le_bytes());
        // 2017-01-05 01:15:16.
        assert_eq!(dos(at), ((37 << 9) | (1 << 5) | 5, (1 << 11) | (15 << 5) | 8));
    }

    #[test]
    fn names_stay_within_their_directory() {
        assert_eq!(safe_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(safe_name("..\\x\n"), "_x_");
        assert_eq!(safe_name(" .. "), "file");
        assert_eq!(safe_name("7602.0.mp3"), "7602.0.mp3");
    }
}
