//! What opening a store does before anything new is taken: all that the journal holds goes to the tables, calls that
//! were open get their records, old segments are deleted.
//!
//! In: files as the last process, or a crash, left them. Out: the ordinal to go on with. One transaction does it all, so
//! that a crash in the middle changes nothing and one after it has nothing to do.

use crate::apply::now_us;
use crate::disk::{Disk, segment_name};
use crate::error::StoreError;
use crate::frame::{self, Segment, Unreadable};
use crate::record::Entry;
use crate::tables::Tables;

/// Returns the ordinal of the next record: the new journal begins with it. In a cluster open calls get no records.
pub(crate) fn recover(disk: &dyn Disk, tables: &Tables, is_clustered: bool) -> Result<u64, StoreError> {
    let failed = |action: &str| StoreError::io(format!("{action} the journal in {}", disk.dir().display()));
    let applied = tables.applied()?;
    let numbers = disk.segments().map_err(failed("list"))?;
    let mut entries = Vec::new();
    let mut next = applied;
    for (place, &number) in numbers.iter().enumerate() {
        let bytes = disk.read_segment(number).map_err(failed("read"))?;
        let Some(segment) = read_segment(disk, number, &bytes, numbers.get(place + 1).copied())? else {
            continue;
        };
        if segment.end() <= applied {
            continue; // a crash came between the transaction and the deletion
        }
        if segment.first > next {
            return Err(damaged(
                disk,
                number,
                format!("the records {next} to {} before it are missing", segment.first),
            ));
        }
        let count = |records: u64| usize::try_from(records).expect("records were counted in memory");
        // A segment begins where the acknowledged records ended when it was made. What the one before has beyond was
        // refused, and was to be cut away when the disk failed.
        next = next.min(segment.first).max(applied);
        entries.truncate(count(next - applied));
        let known = count(next - segment.first);
        for place in segment.records.iter().skip(known) {
            let entry = Entry::from_stored(&bytes[place.clone()])
                .map_err(|what| damaged(disk, number, format!("byte {} begins {what}", place.start)))?;
            entries.push(entry);
        }
        next = segment.end();
    }
    let now = now_us();
    let lost_us =
        disk.last_alive().map_err(failed("read the sign of life beside"))?.map_or(now, |mark| mark.min(now));
    let lost = if is_clustered {
        tables.recover_for_cluster(&entries, next, lost_us)?;
        0
    } else {
        tables.recover(&entries, next, lost_us)?
    };
    if !entries.is_empty() || lost > 0 {
        tracing::info!(records = entries.len(), lost_calls = lost, "the journal of the last run is applied");
    }
    for &number in &numbers {
        disk.remove_segment(number).map_err(failed("delete an old segment of"))?;
    }
    Ok(next)
}

/// `None` when the segment never held a record. `following` is the number of the next one.
fn read_segment(
    disk: &dyn Disk,
    number: u64,
    bytes: &[u8],
    following: Option<u64>,
) -> Result<Option<Segment>, StoreError> {
    let is_last = following.is_none();
    match frame::read(bytes) {
        Ok(segment) if segment.first != number => {
            Err(damaged(disk, number, format!("it begins with record {}", segment.first)))
        }
        Ok(segment) => match segment.torn_at {
            // Nothing is missing if the next one goes on there.
            Some(at) if following.is_some_and(|following| following > segment.end()) => {
                Err(damaged(disk, number, format!("it breaks off at byte {at}")))
            }
            Some(at) => {
                // Nobody was told that these bytes are safe, so dropping them breaks no promise.
                tracing::info!(segment = segment_name(number), at, "a write that was cut short is dropped");
                Ok(Some(segment))
            }
            None => Ok(Some(segment)),
        },
        Err(Unreadable::Unborn) if is_last => Ok(None),
        Err(Unreadable::Unborn) => Err(damaged(disk, number, "it is empty".to_owned())),
        Err(Unreadable::Damaged(what)) => Err(damaged(disk, number, what)),
        Err(Unreadable::Format(found)) => Err(StoreError::Format {
            file: disk.dir().join(segment_name(number)),
            found,
            known: frame::FORMAT,
        }),
    }
}

fn damaged(disk: &dyn Disk, number: u64, what: String) -> StoreError {
    StoreError::Damaged { file: disk.dir().join(segment_name(number)), what }
}
