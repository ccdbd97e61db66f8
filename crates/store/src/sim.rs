//! A disk in memory whose power can be cut between any two operations, or in the middle of one.
//!
//! It forgets what was not synced as a real one does: after a power cut each unsynced write is there, absent or torn as a
//! seed decides, and a deleted file may be back. It may also fail for a while: what a failed sync was to make durable is
//! then seen by readers, but may never reach the disk, whatever later syncs say.

use crate::disk::{Disk, SegmentFile};
use parking_lot::{Condvar, Mutex};
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    changed: Condvar,
}

#[derive(Default)]
struct World {
    segments: BTreeMap<u64, SimFile>,
    removed: Vec<(u64, SimFile)>,
    database: SimFile,
    /// The database got its name: until then a start begins it anew.
    born: bool,
    alive: Option<i64>,
    operations: u64,
    /// The power goes, or the disk begins to fail, during the operation of this number.
    cut_at: Option<u64>,
    /// Only that operation fails.
    once: bool,
    /// Writes to the database fail.
    database_fails: bool,
    /// Appends to segments wait.
    held: bool,
    /// Appends that wait.
    waiting: usize,
    appends: usize,
}

#[derive(Clone, Default)]
struct SimFile {
    /// What a reader sees.
    current: Vec<u8>,
    /// What was synced.
    durable: Vec<u8>,
    /// What was done to `current` since.
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::of(World::default())
    }

    fn of(world: World) -> Self {
        Self { shared: Arc::new(Shared { world: Mutex::new(world), changed: Condvar::new() }) }
    }

    /// The power goes during the `count`-th operation from now on, counted from 0; that one and all later ones fail.
    pub(crate) fn cut_after(&self, count: u64) {
        let mut world = self.shared.world.lock();
        world.cut_at = Some(world.operations + count);
    }

    /// As [`SimDisk::cut_after`], but the operations after it succeed.
    pub(crate) fn fail_once_after(&self, count: u64) {
        self.cut_after(count);
        self.shared.world.lock().once = true;
    }

    /// From now on writes to the database fail, or no longer do.
    pub(crate) fn fail_database(&self, fails: bool) {
        self.shared.world.lock().database_fails = fails;
    }

    /// The disk works again.
    pub(crate) fn lift(&self) {
        self.shared.world.lock().cut_at = None;
    }

    /// Whether the power went.
    pub(crate) fn is_cut(&self) -> bool {
        let world = self.shared.world.lock();
        world.cut_at.is_some_and(|cut| world.operations > cut)
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.shared.world.lock().operations
    }

    /// Writes of frames so far.
    pub(crate) fn appends(&self) -> usize {
        self.shared.world.lock().appends
    }

    /// The disk as the next start finds it after the process was killed: all that was written is there.
    pub(crate) fn after_kill(&self) -> Self {
        let world = self.shared.world.lock();
        let segments =
            world.segments.iter().map(|(number, file)| (*number, SimFile::of(&file.current))).collect();
        let database = SimFile::of(&world.database.current);
        Self::of(World { segments, database, born: world.born, alive: world.alive, ..World::default() })
    }

    /// The disk as the next start finds it after the power went.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let world = self.shared.world.lock();
        let mut segments: BTreeMap<u64, SimFile> = BTreeMap::new();
        for (number, file) in world.removed.iter().filter(|_| dice.next(2) == 0) {
            segments.insert(*number, SimFile::of(&file.durable));
        }
        for (number, file) in &world.segments {
            segments.insert(*number, SimFile::of(&file.after_power_cut(&mut dice)));
        }
        let database = SimFile::of(&world.database.after_power_cut(&mut dice));
        Self::of(World { segments, database, born: world.born, alive: world.alive, ..World::default() })
    }

    /// The only segment's bytes, to be spoilt.
    pub(crate) fn edit_segment(&self, number: u64, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.shared.world.lock();
        let file = world.segments.get_mut(&number).expect("the test knows its segments");
        edit(&mut file.current);
        file.durable.clone_from(&file.current);
    }

    pub(crate) fn segment_numbers(&self) -> Vec<u64> {
        self.shared.world.lock().segments.keys().copied().collect()
    }

    pub(crate) fn set_alive(&self, unix_us: i64) {
        self.shared.world.lock().alive = Some(unix_us);
    }

    /// Appends to segments wait until [`SimDisk::release`].
    pub(crate) fn hold(&self) {
        self.shared.world.lock().held = true;
    }

    pub(crate) fn release(&self) {
        self.shared.world.lock().held = false;
        self.shared.changed.notify_all();
    }

    /// Returns when an append waits.
    pub(crate) fn wait_for_append(&self) {
        let mut world = self.shared.world.lock();
        while world.waiting == 0 {
            self.shared.changed.wait(&mut world);
        }
    }

    fn fails(&self) -> io::Result<()> {
        if self.shared.world.lock().database_fails { Err(power_cut()) } else { Ok(()) }
    }

    /// Counts an operation, and does it as far as the power lasts: wholly, in part, or not at all.
    fn operate<T>(
        &self,
        whole: impl FnOnce(&mut World) -> T,
        partial: impl FnOnce(&mut World),
    ) -> io::Result<T> {
        let mut world = self.shared.world.lock();
        let operation = world.operations;
        world.operations += 1;
        match world.cut_at {
            Some(cut) if operation > cut && !world.once => Err(power_cut()),
            Some(cut) if operation == cut => {
                partial(&mut world);
                Err(power_cut())
            }
            _ => Ok(whole(&mut world)),
        }
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power went")
}

impl SimFile {
    fn of(bytes: &[u8]) -> Self {
        Self { current: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.change(Change::Write(self.current.len(), bytes.to_vec()));
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// The bytes are lost, torn or written, and nobody will try again; a length is not forgotten.
    fn fail_to_sync(&mut self, dice: &mut Dice) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let (lengths, writes): (Vec<_>, Vec<_>) =
            unsynced.into_iter().partition(|change| matches!(change, Change::Length(_)));
        writes.iter().for_each(|change| change.apply_by_chance(&mut self.durable, dice));
        self.unsynced = lengths;
    }

    fn after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.unsynced.iter().for_each(|change| change.apply_by_chance(&mut bytes, dice));
        bytes
    }
}

impl Change {
    /// Wholly, in part, or not at all.
    fn apply_by_chance(&self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        match (dice.next(3), self) {
            (0, _) => {}
            (1, Change::Write(at, data)) => {
                let torn = dice.next(data.len() as u64 + 1) as usize;
                Change::Write(*at, data[..torn].to_vec()).apply(bytes);
            }
            _ => self.apply(bytes),
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Length(length) => bytes.resize(*length, 0),
            Change::Write(at, data) => {
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % below
    }
}

impl Disk for SimDisk {
    fn dir(&self) -> &Path {
        Path::new("simulated")
    }

    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError> {
        if !self.shared.world.lock().born {
            if !may_make {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            self.operate(|world| world.database = SimFile::default(), |_| {})?;
            builder.create_with_backend(SimDatabase(self.clone()))?.close()?;
            self.operate(|world| world.database.sync(), |_| {})?;
            self.operate(|world| world.born = true, |_| {})?;
        }
        builder.create_with_backend(SimDatabase(self.clone()))
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.segment_numbers())
    }

    fn read_segment(&self, number: u64) -> io::Result<Vec<u8>> {
        let world = self.shared.world.lock();
        Ok(world.segments.get(&number).ok_or(io::ErrorKind::NotFound)?.current.clone())
    }

    fn create_segment(&self, number: u64, header: &[u8]) -> io::Result<Box<dyn SegmentFile>> {
        let half = header[..header.len() / 2].to_vec();
        self.operate(
            |world| drop(world.segments.insert(number, SimFile::of(header))),
            |world| {
                let mut file = SimFile::default();
                file.append(&half);
                world.segments.insert(number, file);
            },
        )?;
        Ok(Box::new(SimSegment { disk: self.clone(), number, len: header.len() }))
    }

    fn remove_segment(&self, number: u64) -> io::Result<()> {
        let remove = move |world: &mut World| {
            if let Some(file) = world.segments.remove(&number) {
                world.removed.push((number, file));
            }
        };
        self.operate(remove, |_| {})
    }

    fn mark_alive(&self, unix_us: i64) -> io::Result<()> {
        self.operate(|world| world.alive = Some(unix_us), |_| {})
    }

    fn last_alive(&self) -> io::Result<Option<i64>> {
        Ok(self.shared.world.lock().alive)
    }
}

struct SimSegment {
    disk: SimDisk,
    number: u64,
    len: usize,
}

impl SegmentFile for SimSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shared = Arc::clone(&self.disk.shared);
        let mut world = shared.world.lock();
        world.waiting += 1;
        shared.changed.notify_all();
        while world.held {
            shared.changed.wait(&mut world);
        }
        world.waiting -= 1;
        world.appends += 1;
        drop(world);
        self.change(
            Change::Write(self.len, bytes.to_vec()),
            Change::Write(self.len, bytes[..bytes.len() / 2].to_vec()),
        )?;
        self.len += bytes.len();
        self.sync()
    }

    fn truncate(&mut self, len: usize) -> io::Result<()> {
        self.change(Change::Length(len), Change::Length(len))?;
        self.sync()
    }
}

impl SimSegment {
    fn change(&self, whole: Change, partial: Change) -> io::Result<()> {
        let file = |world: &mut World, change| {
            world
                .segments
                .get_mut(&self.number)
                .expect("a segment being written is not deleted")
                .change(change);
        };
        self.disk.operate(|world| file(world, whole), |world| file(world, partial))
    }

    fn sync(&self) -> io::Result<()> {
        let file = |world: &mut World, then: &dyn Fn(&mut SimFile)| {
            then(world.segments.get_mut(&self.number).expect("a segment being written is not deleted"));
        };
        self.disk.operate(
            |world| file(world, &SimFile::sync),
            |world| {
                let seed = world.operations;
                file(world, &|file| file.fail_to_sync(&mut Dice(seed)));
            },
        )
    }
}

struct SimDatabase(SimDisk);

impl std::fmt::Debug for SimDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDatabase")
    }
}

impl StorageBackend for SimDatabase {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.shared.world.lock().database.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let world = self.0.shared.world.lock();
        let at = offset as usize;
        let bytes = world.database.current.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.fails()?;
        self.0.operate(|world| world.database.change(Change::Length(len as usize)), |_| {})
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.fails()?;
        self.0.operate(
            |world| world.database.sync(),
            |world| world.database.fail_to_sync(&mut Dice(world.operations)),
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.fails()?;
        let write = |part: &[u8]| Change::Write(offset as usize, part.to_vec());
        self.0.operate(
            |world| world.database.change(write(data)),
            |world| world.database.change(write(&data[..data.len() / 2])),
        )
    }

    fn try_lock_range(
        &self,
        _start: std::ops::Bound<u64>,
        _end: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        Ok(true)
    }

    fn unlock_range(
        &self,
        _start: std::ops::Bound<u64>,
        _end: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        Ok(())
    }
}
