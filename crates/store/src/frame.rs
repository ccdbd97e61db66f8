//! A journal segment's bytes: a header, then frames; a frame is one group of records that was written and synced as one.
//!
//! ```text
//! header  "CARILJRN"  format u32  first u64  crc32 u32                 first: ordinal of the segment's first record
//! frame   mark  length u32  crc32 u32  first u64  (length u32, record)*    the crc covers all that follows it
//! ```
//! All numbers little-endian. A frame is written only after the one before it was synced, so only the last frame of the
//! last segment can be torn by a crash: anything valid after something broken means damage, and is reported as such.
//! The mark's bytes cannot stand in UTF-8, so that text of strangers within a record never looks like a frame.

use crate::record::RECORD_MAX;
use std::ops::Range;

/// Records of one frame are this long together at most, save a single longer one.
pub(crate) const FRAME_RECORDS_MAX: usize = 1024 * 1024;
pub(crate) const HEADER_LEN: usize = 24;
pub(crate) const FORMAT: u32 = 1;

const FRAME_HEAD_LEN: usize = 12;
const BODY_MIN: usize = 8 + 4 + 1;
const BODY_MAX: usize = 8 + 2 * FRAME_RECORDS_MAX + 5 * RECORD_MAX;
const MAGIC: &[u8; 8] = b"CARILJRN";
const MARK: [u8; 4] = [0xF5, 0xC0, 0xFF, 0xFE];

/// The first bytes of a segment whose first record will have this ordinal.
pub(crate) fn header(first: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

/// Writes one frame into a buffer that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    buf: Vec<u8>,
}

impl FrameWriter {
    pub(crate) fn start(&mut self, first: u64) {
        self.buf.clear();
        self.buf.extend_from_slice(&MARK);
        self.buf.extend_from_slice(&[0; 8]);
        self.buf.extend_from_slice(&first.to_le_bytes());
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        let len = u32::try_from(record.len()).expect("records are at most RECORD_MAX long");
        self.buf.extend_from_slice(&len.to_le_bytes());
        self.buf.extend_from_slice(record);
    }

    pub(crate) fn finish(&mut self) -> &[u8] {
        let (head, body) = self.buf.split_at_mut(FRAME_HEAD_LEN);
        let len = u32::try_from(body.len()).expect("frames are bounded far below 4 GiB");
        head[4..8].copy_from_slice(&len.to_le_bytes());
        head[8..12].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        &self.buf
    }
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Ordinal of its first record.
    pub(crate) first: u64,
    /// Where its records stand, in order.
    pub(crate) records: Vec<Range<usize>>,
    /// Where a frame begins that is not whole; nothing valid follows.
    pub(crate) torn_at: Option<usize>,
}

impl Segment {
    /// The ordinal after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not even a header: the crash came while the segment was made, and it never held a record.
    Unborn,
    /// Another format.
    Format(u32),
    /// Not what was written.
    Damaged(String),
}

/// Finds the records of a segment. Never panics, whatever the bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<Segment, Unreadable> {
    let first = read_header(bytes)?;
    let mut segment = Segment { first, records: Vec::new(), torn_at: None };
    let mut at = HEADER_LEN;
    while at < bytes.len() {
        let Some(frame) = read_frame(bytes, at, |ordinal| ordinal == segment.end()) else {
            let next = segment.end();
            if let Some(later) = find_frame(bytes, at + 1, next) {
                return Err(Unreadable::Damaged(format!(
                    "the bytes from {at} to {later} are not what was written (record {next} and on)"
                )));
            }
            segment.torn_at = Some(at);
            break;
        };
        segment.records.extend(frame.records);
        at = frame.end;
    }
    Ok(segment)
}

fn read_header(bytes: &[u8]) -> Result<u64, Unreadable> {
    let crc = bytes.get(..HEADER_LEN - 4).map(crc32fast::hash);
    let intact = bytes.starts_with(MAGIC) && crc.is_some() && u32_at(bytes, HEADER_LEN - 4) == crc;
    match (intact, u32_at(bytes, 8), u64_at(bytes, 12)) {
        (true, Some(FORMAT), Some(first)) => Ok(first),
        (true, Some(other), _) => Err(Unreadable::Format(other)),
        _ if bytes.len() <= HEADER_LEN => Err(Unreadable::Unborn),
        _ => Err(Unreadable::Damaged("its header is not what was written".to_owned())),
    }
}

struct Frame {
    records: Vec<Range<usize>>,
    end: usize,
}

/// The frame at `at`, when it is whole and its first record's ordinal is acceptable.
fn read_frame(bytes: &[u8], at: usize, acceptable: impl FnOnce(u64) -> bool) -> Option<Frame> {
    if bytes.get(at..at + MARK.len())? != MARK {
        return None;
    }
    let len = u32_at(bytes, at + 4)? as usize;
    let crc = u32_at(bytes, at + 8)?;
    if !(BODY_MIN..=BODY_MAX).contains(&len) {
        return None;
    }
    let start = at + FRAME_HEAD_LEN;
    let end = start + len;
    let body = bytes.get(start..end)?;
    if !acceptable(u64_at(bytes, start)?) || crc32fast::hash(body) != crc {
        return None;
    }
    let mut records = Vec::new();
    let mut at = start + 8;
    while at < end {
        let len = u32_at(bytes, at)? as usize;
        let record = at + 4..(at + 4).checked_add(len)?;
        if len == 0 || record.end > end {
            return None;
        }
        at = record.end;
        records.push(record);
    }
    Some(Frame { records, end })
}

/// The place of any whole frame from `at` on that follows record `next`.
fn find_frame(bytes: &[u8], at: usize, next: u64) -> Option<usize> {
    let rest = bytes.get(at..)?;
    rest.windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .map(|(offset, _)| at + offset)
        .find(|&place| read_frame(bytes, place, |ordinal| ordinal > next).is_some())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A segment of these groups from ordinal 7 on, and where each frame ends.
    fn segment(groups: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(7);
        let mut ends = Vec::new();
        let mut ordinal = 7;
        let mut writer = FrameWriter::default();
        for group in groups {
            writer.start(ordinal);
            group.iter().for_each(|record| writer.push(record));
            ordinal += group.len() as u64;
            bytes.extend_from_slice(writer.finish());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn groups() -> Vec<Vec<Vec<u8>>> {
        vec![vec![b"one".to_vec()], vec![b"two".to_vec(), b"three".to_vec()], vec![b"four".to_vec()]]
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let segment = read(bytes).unwrap();
        segment.records.into_iter().map(|place| String::from_utf8(bytes[place].to_vec()).unwrap()).collect()
    }

    #[test]
    fn cut_at_any_byte_every_whole_frame_is_kept() {
        let (bytes, ends) = segment(&groups());
        let kept = [0, 1, 3, 4];
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            match read(&bytes[..cut]) {
                Ok(segment) => {
                    assert_eq!((segment.first, segment.records.len()), (7, kept[whole]), "cut at {cut}");
                    assert_eq!(segment.torn_at.is_some(), !(cut == HEADER_LEN || ends.contains(&cut)));
                }
                Err(error) => {
                    assert_eq!((error, cut < HEADER_LEN), (Unreadable::Unborn, true), "cut at {cut}")
                }
            }
        }
        assert_eq!(texts(&bytes), ["one", "two", "three", "four"]);
    }

    #[test]
    fn a_flipped_bit_is_damage_unless_it_is_in_the_last_frame() {
        let (bytes, ends) = segment(&groups());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let found = read(&flipped);
            if at >= ends[1] {
                let segment = found.unwrap();
                assert_eq!((segment.records.len(), segment.torn_at), (3, Some(ends[1])), "flipped {at}");
            } else {
                assert!(matches!(found, Err(Unreadable::Damaged(_))), "flipped {at}: {found:?}");
            }
        }
    }

    #[test]
    fn zeros_after_the_last_frame_are_a_torn_tail() {
        let (mut bytes, ends) = segment(&groups());
        bytes.extend_from_slice(&[0; 4096]);
        let segment = read(&bytes).unwrap();
        assert_eq!((segment.records.len(), segment.torn_at), (4, Some(ends[2])));
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut bytes = header(1);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&bytes), Err(Unreadable::Format(2)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            groups in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 1..5), 0..5)
        ) {
            let (bytes, _) = segment(&groups);
            let segment = read(&bytes).unwrap();
            let records: Vec<_> = segment.records.iter().map(|place| bytes[place.clone()].to_vec()).collect();
            prop_assert_eq!(segment.torn_at, None);
            prop_assert_eq!(records, groups.concat());
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            junk in proptest::collection::vec(any::<u8>(), 0..200),
            places in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        ) {
            let mut bytes = header(0);
            bytes.extend_from_slice(&junk);
            for place in places {
                let at = place.index(bytes.len());
                bytes.splice(at..at, MARK);
            }
            let _ = read(&bytes);
            let _ = read(&junk);
        }
    }
}
