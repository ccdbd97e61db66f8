//! Call records of a node of a cluster: first in its own journal, then in the table that all nodes share, each call once.
//!
//! In: what the application server says of its calls, and what earlier processes of this node left open. Out: words for the shared
//! table, many at a time, in the order of the calls' ends. Elsewhere: the journal (`store::Store`), whose word counts
//! (`store::config::CallTable`), whether a call is alive somewhere (whoever starts this).

#[cfg(test)]
pub(crate) mod tests;

use crate::apart::Apart;
use crate::node::{StartError, unix_us};
use appserver::CallLog;
use cluster::ids::CallId;
use model::{Cdr, OpenCall};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use store::config::{CallStanding, CallStory, CallTable, CallWord, ConfigPlace};
use store::{CallNote, EndedCall, Record, Store, StoreError, UnsentKey};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Words that are written at once.
const GROUP: usize = 1000;
/// Keys in one record of the journal, which is a fraction of what one may hold.
const KEYS: usize = 500;
/// The table does not answer for so long: the attempt is given up and begun again.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Pauses between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Calls that are looked for in the table at once, and those whose servers are asked at once.
const LOOK: usize = 500;
const ASK: usize = 32;
/// Who does not say for so long whether a call is alive may have it.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether a custodian or another application server still has a call.
pub(crate) type IsAlive = Arc<dyn Fn(CallId) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

type Done = Box<dyn FnOnce(bool) + Send>;

/// How long what is waited for, and how much waits in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A record is taken as durable when the table has it, or when the table has not answered for so long and the journal has it.
    pub(crate) table: Duration,
    /// What comes within this time after the first word after a silence is written with it.
    pub(crate) gather: Duration,
    /// Words that wait in memory; what is beyond waits in the data directory alone.
    pub(crate) waiting: usize,
    /// Calls that an earlier process left are looked at after so long, when others have had time to take them over...
    pub(crate) grace: Duration,
    /// ...and again and again after so long, while somebody has them.
    pub(crate) again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            table: Duration::from_secs(2),
            gather: Duration::from_millis(3),
            waiting: 20_000,
            grace: Duration::from_secs(60),
            again: Duration::from_secs(30),
        }
    }
}

/// The log of calls of a node of a cluster.
pub(crate) struct ClusterRecords {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    store: Store,
    table: CallTable,
    node: u16,
    patience: Patience,
    queue: Mutex<Queue>,
    /// What earlier processes left and nobody has decided upon. Held while the journal is told of a call, so that it hears of
    /// whoever takes a call up again after whoever gives it up.
    left: Mutex<HashMap<String, CallNote>>,
    news: Notify,
    rest: Notify,
    closing: watch::Sender<bool>,
}

/// Words that are in the journal and not in the table.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// So many are being written.
    under_way: usize,
    /// Some records wait in the data directory alone, and all newer ones join them.
    has_backlog: bool,
    /// There was no room for some marks of calls that were taken over: they are read from the data directory when there is.
    owes_marks: bool,
    /// The table has not answered for a while.
    is_away: bool,
}

struct Waiting {
    word: CallWord,
    /// Whoever wants to know that it is durable, and does not know yet.
    done: Option<Done>,
    /// Its place in the data directory; a mark has none.
    key: Option<UnsentKey>,
}

/// What to do next.
enum Work {
    Words(Vec<Waiting>),
    Backlog,
    Marks,
    Nothing,
}

impl ClusterRecords {
    /// Begins to bring records to the table of `place`, those that an earlier process has not brought there first; looks after a
    /// while at the calls that it left open. `store` must be opened as one of a cluster's ([`store::Options::is_clustered`]). The
    /// work is done apart.
    ///
    /// # Errors
    /// The configuration is in a file of this node, or the data directory cannot be read.
    pub(crate) async fn start(
        store: Store,
        place: &ConfigPlace,
        node: u16,
        is_alive: IsAlive,
        patience: Patience,
        apart: &Apart,
    ) -> Result<Arc<Self>, StartError> {
        let ConfigPlace::Postgres(place) = place else {
            return Err(StartError(
                "store.url is missing: nodes of a cluster share their call records in PostgreSQL; write url = \"postgresql://…\" \
                 into [store]"
                    .to_owned(),
            ));
        };
        let table = CallTable::at(place, ATTEMPT)?;
        let reading = store.clone();
        let read = move || Ok::<_, StoreError>((reading.open_calls()?, reading.unsent_count()?));
        let (left, unsent) = spawn_blocking(read).await??;
        if !left.is_empty() || unsent > 0 {
            info!(
                calls = left.len(),
                records = unsent,
                "calls and records of an earlier process are looked after"
            );
        }
        let shared = Arc::new(Shared {
            store,
            table,
            node,
            patience,
            queue: Mutex::new(Queue { has_backlog: unsent > 0, ..Queue::default() }),
            left: Mutex::new(left.into_iter().map(|note| (note.call.call.clone(), note)).collect()),
            news: Notify::new(),
            rest: Notify::new(),
            closing: watch::channel(false).0,
        });
        let tasks = vec![
            apart.spawn(until_closed(Arc::clone(&shared), Shared::write)),
            apart.spawn(until_closed(Arc::clone(&shared), move |shared| shared.look_after(is_alive))),
        ];
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks) }))
    }

    /// Records that are in the journal and not known to be in the table; at least, where some are in the data directory alone.
    pub(crate) fn waiting(&self) -> usize {
        let queue = self.shared.queue.lock();
        queue.waiting.len() + queue.under_way + usize::from(queue.has_backlog || queue.owes_marks)
    }

    /// Whether the table does not answer, so that records are only in this node's data directory.
    pub(crate) fn is_away(&self) -> bool {
        self.shared.queue.lock().is_away
    }

    /// Ends the work when nothing waits any more, or the table is away. What is not in the table then comes there after the next
    /// start; what is said from now on, too.
    pub(crate) async fn stop(&self) {
        loop {
            let rest = self.shared.rest.notified();
            let mut rest = pin!(rest);
            rest.as_mut().enable();
            if self.is_away() || self.waiting() == 0 {
                break;
            }
            rest.await;
        }
        self.shared.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if task.await.is_err() {
                warn!("the work on call records ended by a mistake of ours; the next start goes on with it");
            }
        }
    }
}

impl Drop for ClusterRecords {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

impl CallLog for ClusterRecords {
    fn began(&self, call: OpenCall, epoch: u32, done: Done) {
        let shared = Arc::clone(&self.shared);
        let story = || CallStory::Open(Box::new(call.clone()));
        // Owners of before learn by it that the call is not theirs any more.
        let mark = (epoch > 0).then(|| CallWord { epoch, node: shared.node, story: story() });
        let mut left = self.shared.left.lock();
        left.remove(&call.call);
        let note = Record::CallNoted(Box::new(CallNote { call, epoch, node: shared.node, left_us: None }));
        self.shared.store.append(note, move |kept| {
            report("the note of a call", &kept);
            if let Some(word) = mark.filter(|_| kept.is_ok()) {
                shared.enqueue(Waiting { word, done: None, key: None });
            }
            done(kept.is_ok());
        });
    }

    fn ended(&self, cdr: Cdr, epoch: u32, done: Done) {
        let mut left = self.shared.left.lock();
        left.remove(&cdr.call);
        self.shared.settle(EndedCall { cdr, epoch, node: self.shared.node, is_lost: false }, done);
    }

    fn let_go(&self, call: CallId) {
        let mut left = self.shared.left.lock();
        let call = call.to_string();
        left.remove(&call);
        self.shared.give_up(call);
    }
}

/// Does work until it is done or the node ends.
async fn until_closed<F: Future<Output = ()> + Send>(
    shared: Arc<Shared>,
    work: impl FnOnce(Arc<Shared>) -> F + Send,
) {
    let mut closing = shared.closing.subscribe();
    tokio::select! {
        () = work(shared) => {}
        _ = closing.wait_for(|is_closing| *is_closing) => {}
    }
}

impl Shared {
    /// A record on its way: to the journal, then to the table.
    fn settle(self: &Arc<Self>, ended: EndedCall, done: Done) {
        let (key, word, shared) = (ended.key(), word_of(ended.clone()), Arc::clone(self));
        self.store.append(Record::CallSettled(Box::new(ended)), move |kept| {
            report("a call record", &kept);
            match kept {
                Ok(()) => shared.enqueue(Waiting { word, done: Some(done), key: Some(key) }),
                Err(_) => done(false),
            }
        });
    }

    /// What was noted of a call is void.
    fn give_up(&self, call: String) {
        self.store.append(Record::CallMoved { call }, |kept| report("that a call goes on elsewhere", &kept));
    }

    /// Something is in the journal.
    fn enqueue(&self, mut waiting: Waiting) {
        let mut queue = self.queue.lock();
        let mut done = None;
        if queue.has_backlog || queue.waiting.len() >= self.patience.waiting || *self.closing.borrow() {
            done = waiting.done;
            queue.has_backlog |= waiting.key.is_some();
            queue.owes_marks |= waiting.key.is_none();
        } else {
            if queue.is_away {
                done = waiting.done.take();
            }
            queue.waiting.push_back(waiting);
        }
        drop(queue);
        self.news.notify_one();
        if let Some(done) = done {
            done(true);
        }
    }

    /// Brings words to the table, for ever.
    async fn write(self: Arc<Self>) {
        loop {
            match self.next() {
                Work::Words(some) => self.bring(some).await,
                Work::Backlog => self.bring_backlog().await,
                Work::Marks => self.bring_marks().await,
                Work::Nothing => {
                    self.rest.notify_waiters();
                    self.news.notified().await;
                    sleep(self.patience.gather).await;
                }
            }
        }
    }

    /// What is in memory is older than what is not.
    fn next(&self) -> Work {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(GROUP);
        queue.under_way = count;
        if queue.owes_marks && !queue.has_backlog && queue.waiting.len() <= self.patience.waiting / 2 {
            // There is room again, also for those that come.
            (queue.owes_marks, queue.under_way) = (false, GROUP);
            Work::Marks
        } else if count > 0 {
            Work::Words(queue.waiting.drain(..count).collect())
        } else if queue.has_backlog {
            // What comes from now on waits in memory: should the next page be the last one, it has all that came before.
            (queue.has_backlog, queue.under_way) = (false, GROUP);
            Work::Backlog
        } else {
            Work::Nothing
        }
    }

    async fn bring(&self, some: Vec<Waiting>) {
        let (mut words, mut told, mut keys) = (Vec::with_capacity(some.len()), Vec::new(), Vec::new());
        for Waiting { word, done, key } in some {
            words.push(word);
            told.extend(done);
            keys.extend(key);
        }
        self.insist(&words, &mut told).await;
        told.into_iter().for_each(|done| done(true));
        for keys in keys.chunks(KEYS) {
            // Where it fails the records are brought again after the next start, and change nothing.
            self.store.append(Record::CallsSent { keys: keys.to_vec() }, |kept| {
                report("that records are in the shared table", &kept);
            });
        }
    }

    /// A page of what is in the data directory alone.
    async fn bring_backlog(&self) {
        let store = self.store.clone();
        let unsent = match spawn_blocking(move || store.unsent(GROUP)).await {
            Ok(Ok(unsent)) => unsent,
            Ok(Err(error)) => {
                self.queue.lock().has_backlog = true;
                warn!(%error, "call records that wait for the shared table cannot be read");
                return sleep(PAUSE.1).await;
            }
            Err(_) => return, // the node ends
        };
        let is_last = unsent.len() < GROUP;
        self.queue.lock().has_backlog |= !is_last;
        if unsent.is_empty() {
            return;
        }
        let keys: Vec<UnsentKey> = unsent.iter().map(EndedCall::key).collect();
        let words: Vec<CallWord> = unsent.into_iter().map(word_of).collect();
        self.insist(&words, &mut Vec::new()).await;
        for keys in keys.chunks(KEYS) {
            let (tell, told) = oneshot::channel();
            self.store.append(Record::CallsSent { keys: keys.to_vec() }, |kept| drop(tell.send(kept)));
            if !matches!(told.await, Ok(Ok(()))) && !is_last {
                return sleep(PAUSE.1).await; // the same page again
            }
        }
    }

    /// Says again which calls this node has taken over.
    async fn bring_marks(&self) {
        let store = self.store.clone();
        let adopted = match spawn_blocking(move || store.adopted_calls()).await {
            Ok(Ok(adopted)) => adopted,
            Ok(Err(error)) => {
                self.queue.lock().owes_marks = true;
                warn!(%error, "notes of calls cannot be read");
                return sleep(PAUSE.1).await;
            }
            Err(_) => return, // the node ends
        };
        let word = |CallNote { call, epoch, node, .. }| CallWord {
            epoch,
            node,
            story: CallStory::Open(Box::new(call)),
        };
        let words: Vec<CallWord> = adopted.into_iter().map(word).collect();
        for words in words.chunks(GROUP) {
            self.insist(words, &mut Vec::new()).await;
        }
    }

    /// Returns when the table has these words. Who waits hears earlier that his are durable, if the table is away.
    async fn insist(&self, words: &[CallWord], told: &mut Vec<Done>) {
        let until = Instant::now() + self.patience.table;
        let mut pause = PAUSE.0;
        loop {
            let mut put = pin!(self.table.put(words));
            let outcome = match tokio::time::timeout_at(until, put.as_mut()).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    self.note_absence(told);
                    put.await
                }
            };
            match outcome {
                Ok(()) => break,
                Err(error) => {
                    debug!(%error, "call records are not in the shared table yet");
                    if Instant::now() + pause > until && !self.queue.lock().is_away {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the shared table of call records fails"
                        );
                        self.note_absence(told);
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        if std::mem::take(&mut self.queue.lock().is_away) {
            info!("the shared table takes call records again");
        }
    }

    /// The table does not answer: the journal's word is enough from now on.
    fn note_absence(&self, told: &mut Vec<Done>) {
        let mut queue = self.queue.lock();
        let was_away = std::mem::replace(&mut queue.is_away, true);
        let more: Vec<Done> = queue.waiting.iter_mut().filter_map(|waiting| waiting.done.take()).collect();
        drop(queue);
        if !was_away {
            warn!(
                "the shared table of call records does not answer; they wait in this node's data directory"
            );
        }
        self.rest.notify_waiters();
        told.drain(..).chain(more).for_each(|done| done(true));
    }

    /// Decides upon the calls that earlier processes left open.
    async fn look_after(self: Arc<Self>, is_alive: IsAlive) {
        sleep(self.patience.grace).await;
        loop {
            let notes: Vec<CallNote> = self.left.lock().values().cloned().collect();
            for some in notes.chunks(LOOK) {
                self.decide(some, &is_alive).await;
            }
            if self.left.lock().is_empty() {
                return;
            }
            sleep(self.patience.again).await;
        }
    }

    async fn decide(self: &Arc<Self>, notes: &[CallNote], is_alive: &IsAlive) {
        let names: Vec<&str> = notes.iter().map(|note| note.call.call.as_str()).collect();
        let standings = match self.table.standings(&names).await {
            Ok(standings) => standings,
            Err(error) => return debug!(%error, "calls of an earlier process are looked at later"),
        };
        let is_settled = |note: &&CallNote| {
            standings.get(&note.call.call).is_some_and(|standing| is_anothers(standing, note))
        };
        let (settled, open): (Vec<&CallNote>, Vec<&CallNote>) = notes.iter().partition(is_settled);
        for note in settled {
            let mut left = self.left.lock();
            if left.remove(&note.call.call).is_some() {
                debug!(call = note.call.call, "a call of an earlier process went on at another node");
                self.give_up(note.call.call.clone());
            }
        }
        for some in open.chunks(ASK) {
            let mut asked = JoinSet::new();
            for note in some {
                let call = note.call.call.clone();
                // What has no name of ours is nobody's.
                let answer = call.parse::<CallId>().ok().map(|id| is_alive(id));
                asked.spawn(async move {
                    let is_alive = match answer {
                        Some(answer) => timeout(ANSWER, answer).await.unwrap_or(true),
                        None => false,
                    };
                    (call, is_alive)
                });
            }
            let mut lost = Vec::new();
            for (call, is_alive) in asked.join_all().await {
                if !is_alive {
                    lost.extend(self.lose(&call));
                }
            }
            for (note, kept) in lost {
                if !kept.await.unwrap_or(false) {
                    self.left.lock().entry(note.call.call.clone()).or_insert(note);
                }
            }
        }
    }

    /// Nobody has this call: it gets its record. Nothing, if somebody has taken it up meanwhile.
    fn lose(self: &Arc<Self>, call: &str) -> Option<(CallNote, oneshot::Receiver<bool>)> {
        let mut left = self.left.lock();
        let note = left.remove(call)?;
        info!(call, "a call is lost with the process that had it");
        let cdr = note.call.clone().into_lost_cdr(note.left_us.unwrap_or_else(unix_us));
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |kept| {
            let _ = tell.send(kept); // the node ends
        });
        self.settle(EndedCall { cdr, epoch: note.epoch, node: note.node, is_lost: true }, done);
        Some((note, told))
    }
}

/// Whether what was noted of a call is void: somebody had it after this node, or it has its record.
fn is_anothers(standing: &CallStanding, note: &CallNote) -> bool {
    let CallStanding { epoch, node: owner, has_ended } = *standing;
    (epoch, owner) > (note.epoch, note.node) || (has_ended && epoch == note.epoch)
}

fn word_of(ended: EndedCall) -> CallWord {
    let cdr = Box::new(ended.cdr);
    let story = if ended.is_lost { CallStory::Lost(cdr) } else { CallStory::Ended(cdr) };
    CallWord { epoch: ended.epoch, node: ended.node, story }
}

fn report(what: &str, kept: &Result<(), StoreError>) {
    if let Err(error) = kept {
        warn!(%error, "{what} is not written");
    }
}
