//! A store on a real directory: lock, modes, damage, configuration, and what a restart finds.

use crate::common::{cdr, open_call, put, put_cdrs};
use model::{Aor, BindingRecord, FlowRecord};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use store::{Record, Store, StoreError};

fn binding(aor: u32, contact: &str, cseq: u32) -> BindingRecord {
    BindingRecord {
        aor: Aor::from_bits(aor),
        contact: contact.into(),
        instance: Some("<urn:uuid:00000000-0000-1000-8000-000A95A0E128>".into()),
        reg_id: Some(1),
        call_id: "a84b4c76e66710".into(),
        cseq,
        q: 500,
        expires_at: 1_800_000_000,
        path: vec!["<sip:edge.example.com;lr>".into()],
        user_agent: "phone/1".into(),
        flow: FlowRecord {
            transport: "UDP".into(),
            listener: 0,
            remote: "[2001:db8::1]:5060".parse().unwrap(),
        },
        nat: true,
    }
}

#[test]
fn a_restart_finds_records_bindings_and_their_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.seen_revision("here").unwrap(), None);
    store.put_seen_revision("here", 1).unwrap();
    store.put_seen_revision("here", 7).unwrap();
    put_cdrs(&store, 1..=3);
    put(&store, Record::Bind(binding(1, "sip:a", 1))).unwrap();
    put(&store, Record::Bind(binding(1, "sip:b", 1))).unwrap();
    put(&store, Record::Bind(binding(2, "sip:a", 1))).unwrap();
    assert_eq!(store.bindings().unwrap().len(), 3);
    put(&store, Record::Bind(binding(1, "sip:a", 2))).unwrap();
    put(&store, Record::Unbind { aor: Aor::from_bits(1), contact: "sip:b".into() }).unwrap();
    put(&store, Record::Unbind { aor: Aor::from_bits(9), contact: "sip:b".into() }).unwrap();
    let kept = [binding(1, "sip:a", 2), binding(2, "sip:a", 1)];
    assert_eq!(store.bindings().unwrap(), kept);
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.seen_revision("here").unwrap(), Some(7));
    assert_eq!(store.bindings().unwrap(), kept);
    assert_eq!((store.cdr_count().unwrap(), store.cdr("c2").unwrap()), (3, Some(cdr(2))));
}

#[test]
fn a_call_that_was_open_at_a_stop_gets_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, Record::CallBegan(open_call(1))).unwrap();
    assert_eq!(store.cdr_count().unwrap(), 0);
    drop(store);
    for _ in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.cdr_count().unwrap(), 1);
        let lost = store.cdr("c1").unwrap().unwrap();
        assert_eq!((lost.cause.status, lost.cause.text.as_str()), (500, "Node lost"));
        assert!(lost.ended_us > open_call(1).answered_us.unwrap(), "it ended when the store was last alive");
    }
}

#[test]
fn a_second_opener_is_told_which_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    let text = error.to_string();
    assert!(
        text.contains(dir.path().to_str().unwrap()) && text.contains("choose another directory"),
        "{text}"
    );
    put_cdrs(&store, [1]);
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().cdr_count().unwrap(), 1);
}

#[test]
fn the_directory_and_its_files_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/by/us");
    let _store = Store::open(&data).unwrap();
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
    let files: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 3, "database, journal, sign of life");
    for file in files {
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_path_that_is_no_directory_is_an_error_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = Store::open(file.path()).unwrap_err().to_string();
    assert!(text.contains(file.path().to_str().unwrap()), "{text}");
}

#[test]
fn a_database_that_was_left_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("carillon.redb.new"), [7; 5000]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_cdrs(&store, [1]);
    assert!(!dir.path().join("carillon.redb.new").exists());
}

#[test]
fn a_damaged_database_is_an_error_with_its_name_and_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    put_cdrs(&Store::open(dir.path()).unwrap(), 1..=500);
    let path = dir.path().join("carillon.redb");
    let intact = fs::read(&path).unwrap();
    let spoil = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match Store::open(dir.path()) {
            Err(error @ StoreError::Damaged { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let mut other_file = intact.clone();
    other_file[..64].fill(b'x');
    for bytes in [&other_file[..], &intact[..1000], b"hello"] {
        let text = spoil(bytes);
        assert!(text.contains("carillon.redb is damaged") && text.contains("backup"), "{text}");
    }
    fs::write(&path, &intact).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().cdr_count().unwrap(), 500);
}

#[test]
fn a_journal_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let mut header = b"CARILJRN".to_vec();
    header.extend_from_slice(&2_u32.to_le_bytes());
    header.extend_from_slice(&0_u64.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    let file = fs::File::create(dir.path().join("journal-000000000000.log")).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let text = Store::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("has format 2, this program knows format 1"), "{text}");
}
