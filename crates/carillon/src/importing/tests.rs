//! Files of rates: what is uploaded becomes rates and a word in its list, by line where it does not; and what `carillon ctl` sends.
//!
//! Elsewhere: what a line may say (crate `rating`).

use super::*;
use crate::apart::Apart;
use crate::config::NodeConfig;
use crate::kept;
use crate::node::Users;
use model::define::{File, Translated};
use model::entities::{Brand, Destination, DestinationRate};
use std::fmt::Write as _;
use tempfile::TempDir;

struct World {
    live: Arc<Live>,
    list: List,
    dir: TempDir,
    _kept: kept::Opened,
    _apart: Apart,
}

impl World {
    async fn new() -> Self {
        let (dir, apart) = (TempDir::new().unwrap(), Apart::start().unwrap());
        let text = "[sip]\nlisten = [\"udp:127.0.0.1:5060\"]";
        let (config, mistakes) = crate::config::read(text);
        assert_eq!(mistakes, []);
        let config = NodeConfig { data: dir.path().join("data"), ..config };
        std::fs::create_dir(&config.data).unwrap();
        let opened = kept::open(&config, Users::Demo, None, &apart).await.unwrap();
        let live = Arc::clone(&opened.live);
        let brand = live.rows().each::<Brand>().next().unwrap().id;
        let make = |draft: &mut model::draft::Draft<'_>| {
            draft.create(DestinationRateGroup {
                name: Translated::same("Retail"),
                brand,
                ..Default::default()
            })
        };
        let (list, _) = live.change(None, &Who::system(), make).await.unwrap();
        Self { live, list, dir, _kept: opened, _apart: apart }
    }

    fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn group(&self) -> DestinationRateGroup {
        self.live.rows().get(self.list).unwrap().clone()
    }

    /// As an upload does: the row first, then the file.
    async fn upload(&self, content: &str) -> PathBuf {
        let (list, size) = (self.list, u32::try_from(content.len()).unwrap());
        let make = move |draft: &mut model::draft::Draft<'_>| {
            draft.change(list, |row| {
                row.file.file = File {
                    size: Some(size),
                    mime_type: Some("text/plain".to_owned()),
                    base_name: Some("rates.csv".to_owned()),
                };
                row.wait_for_import();
            })
        };
        self.live.change(None, &Who::system(), make).await.unwrap();
        let table = DestinationRateGroup::definition();
        let path = api::file_place(&self.files(), table, "file", list.get());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn rates(&self) -> Vec<String> {
        let rows = self.live.rows();
        let told = |rate: &DestinationRate| {
            format!("{} {} {}", rows.get(rate.destination).unwrap().prefix, rate.cost, rate.rate_increment)
        };
        rows.of::<DestinationRate>("destinationRateGroup", self.list.get()).map(told).collect()
    }
}

const GOOD: &str = "name,prefix,minute,connection,period\nSpain,+34,0.01,0.1,1\nPortugal,+351,0.02,0,60\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_becomes_rates_or_a_list_of_its_bad_lines() {
    let world = World::new().await;
    let path = world.upload(GOOD).await;
    import_file(&world.live, world.list, &world.group(), path).await;
    let group = world.group();
    assert_eq!((group.status, group.last_execution_error), (Some(Status::Imported), None));
    assert_eq!(world.rates(), ["+34 0.01 1s", "+351 0.02 60s"]);

    let bad = "name,prefix,minute,connection,period\nSpain,+34,0.09,0,1\nMalta,356,x,0,1\nItaly,+39,1,1,0\n";
    let path = world.upload(bad).await;
    import_file(&world.live, world.list, &world.group(), path).await;
    let group = world.group();
    assert_eq!(group.status, Some(Status::Error));
    assert!(
        group.last_execution_error.as_ref().unwrap().starts_with("3 mistakes, nothing is imported. line 3: ")
    );
    let mistakes = group.import_mistakes.unwrap();
    let lines: Vec<String> = mistakes["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {}", line["line"], line["column"].as_str().unwrap()))
        .collect();
    assert_eq!(lines, ["3 destinationPrefix", "3 rateCost", "4 rateIncrement"]);
    assert_eq!(world.rates(), ["+34 0.01 1s", "+351 0.02 60s"], "nothing is imported");

    // Put right, of the same length and name.
    let path = world.upload(&GOOD.replace("0.02", "0.03")).await;
    let waits = world.group();
    assert_eq!((waits.status, waits.import_mistakes.clone()), (Some(Status::Waiting), None));
    import_file(&world.live, world.list, &waits, path).await;
    assert_eq!(world.rates(), ["+34 0.01 1s", "+351 0.03 60s"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_while_it_is_imported_says_nothing_of_the_new_one() {
    let world = World::new().await;
    let path = world.upload(GOOD).await;
    let old = world.group();
    note(&world.live, world.list, &old, (Status::Waiting, Status::InProgress), None).await;
    world.upload(&GOOD.replace("0.02", "0.04")).await;
    let mut also = false;
    let sheet = Arc::new(read(&path, &old.file.importer_arguments).unwrap());
    let file = old.file.clone();
    let checked = move |now: &DestinationRateGroup| {
        (now.file == file && now.status == Some(Status::InProgress)).then(|| now.clone())
    };
    if import(&world.live, sheet, world.list, &Who::system(), checked).await.is_ok() {
        also = true;
    }
    assert!(!also && world.rates().is_empty());
    note(&world.live, world.list, &old, (Status::InProgress, Status::Error), None).await;
    assert_eq!(world.group().status, Some(Status::Waiting), "the new one waits");
}

/// The worker finds what is uploaded, and what an earlier process began with.
#[tokio::test(start_paused = true)]
async fn the_worker_imports_what_waits() {
    let world = World::new().await;
    world.upload(GOOD).await;
    note(&world.live, world.list, &world.group(), (Status::Waiting, Status::InProgress), None).await;
    let working = tokio::spawn(work(Arc::downgrade(&world.live), world.files(), true));
    let mut rows = world.live.watch();
    while world.group().status != Some(Status::Imported) {
        rows.recv().await.unwrap();
    }
    assert_eq!(world.rates().len(), 2);
    // One that never comes.
    let path = world.upload(GOOD).await;
    std::fs::remove_file(path).unwrap();
    while world.group().status != Some(Status::Error) {
        rows.recv().await.unwrap();
    }
    assert!(world.group().last_execution_error.unwrap().contains("send it again"));
    working.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_lines_are_one_change() {
    all_at_once(5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same with more, a minute where nothing is optimized: cargo test --release -p carillon a_hundred_thousand -- --ignored"]
async fn a_hundred_thousand_lines_are_one_change() {
    all_at_once(100_000).await;
}

async fn all_at_once(lines: usize) {
    let world = World::new().await;
    let mut text = String::from("titles\n");
    for number in 0..lines {
        let _ = writeln!(text, "Destination {number},+9{number:06},0.{:04},0,60", number % 10_000);
    }
    let before = world.live.rows().revision;
    let path = world.upload(&text).await;
    import_file(&world.live, world.list, &world.group(), path).await;
    assert_eq!(world.group().status, Some(Status::Imported), "{:?}", world.group().last_execution_error);
    let rows = world.live.rows();
    assert_eq!(rows.revision, before + 3, "the upload, that it is in progress, and all rates");
    assert_eq!(rows.of::<DestinationRate>("destinationRateGroup", world.list.get()).count(), lines);
    assert_eq!(rows.each::<Destination>().count(), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_found_by_name_or_id() {
    let world = World::new().await;
    let rows = world.live.rows();
    assert_eq!(list_of(&rows, "Retail"), Ok(world.list));
    assert_eq!(list_of(&rows, &world.list.to_string()), Ok(world.list));
    assert!(list_of(&rows, "Wholesale").unwrap_err().starts_with("--list Wholesale: "));
}
