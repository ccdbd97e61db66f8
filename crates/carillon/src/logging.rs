//! Log lines on standard error. Whatever stands behind it, a full disk or a pipe that nobody reads, no thread of the node
//! waits for it or fails with it.
//!
//! In: lines from any thread, into one bounded buffer. Out: one thread writes them. What does not fit or cannot be written
//! is lost, and its number is told when lines can be written again. What is logged can be changed while the node runs.

use api::outside::{LogFilter, NotChanged, NotHere};
use std::io::{self, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Lines that wait are this long together at most, in bytes.
const WAITING_MAX: usize = 1024 * 1024;

/// The end of the program waits this long for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

static LINES: Lines = Lines::new();

/// What is logged, once logging was started.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// The node that each line is of.
static NODE: OnceLock<String> = OnceLock::new();

/// Log lines on standard error. `RUST_LOG` goes before the configuration. The actor library's own spans, one for each actor,
/// cost more than they tell.
pub(crate) fn start(filter: &str, json: bool) {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let first = from_environment.and_then(|text| EnvFilter::try_new(&text).ok().map(|read| (text, read)));
    let (configured, first) =
        first.unwrap_or_else(|| (filter.to_owned(), read(filter).unwrap_or_else(|_| EnvFilter::new("info"))));
    let colours = io::stderr().is_terminal(); // a log file is no place for escape sequences
    let builder = tracing_subscriber::fmt()
        .with_env_filter(first)
        .with_ansi(colours)
        .log_internal_errors(false) // they go to standard error with a panic when it fails
        .with_writer(move || Line { lines: &LINES, json });
    let (started, change): (_, Change) = if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    };
    if started.is_err() {
        return; // logging was started before
    }
    let _ = FILTER.set(Filter::new(configured, change));
    let work = move || LINES.write_to(&mut io::stderr(), json);
    if let Err(error) = thread::Builder::new().name("log".to_owned()).spawn(work) {
        crate::complain(&format!("carillon: nothing will be logged: {error}"));
    }
}

/// A filter of the configuration, with what nobody wants to read left out.
fn read(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("ractor=warn,{filter}")).map_err(|error| error.to_string())
}

/// Says which node each line is of from now on; only the first word counts.
pub(crate) fn name_node(node: u16) {
    let _ = NODE.set(node.to_string());
}

/// What is logged; none: logging was not started.
pub(crate) fn filter() -> Option<LogFilter> {
    FILTER.get().map(Filter::shown)
}

/// Logs this from now on; none: what is configured. After `lasts` it is what is configured again, by a task of the caller's
/// runtime.
pub(crate) fn set_filter(wished: Option<&str>, lasts: Option<Duration>) -> Result<LogFilter, NotChanged> {
    let filter = FILTER.get().ok_or_else(|| NotHere("this node writes no log".to_owned()))?;
    let (shown, turn) = filter.set(wished, lasts).map_err(NotChanged::Wrong)?;
    if let Some(lasts) = shown.lasts {
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            if filter.fall_back(turn) {
                tracing::info!("what is logged is as configured again");
            }
        });
    }
    Ok(shown)
}

type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// What is logged, and how to change it.
struct Filter {
    configured: String,
    change: Change,
    now: Mutex<Now>,
}

struct Now {
    filter: String,
    until: Option<Instant>,
    /// Grows with each change, so that an old end does not end what came after.
    turn: u64,
}

impl Filter {
    fn new(configured: String, change: Change) -> Self {
        let now = Mutex::new(Now { filter: configured.clone(), until: None, turn: 0 });
        Self { configured, change, now }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> LogFilter {
        self.shown_of(&self.lock())
    }

    fn shown_of(&self, now: &Now) -> LogFilter {
        let lasts = now.until.map(|until| until.saturating_duration_since(Instant::now()));
        LogFilter { filter: now.filter.clone(), configured: self.configured.clone(), lasts }
    }

    /// Out: what is logged now, and the number of this change.
    fn set(&self, wished: Option<&str>, lasts: Option<Duration>) -> Result<(LogFilter, u64), String> {
        let (text, filter) = match wished {
            Some(text) => {
                crate::config::log_filter(text)?;
                (text, read(text)?)
            }
            // It was taken at the start, with or without what nobody wants to read.
            None => (self.configured.as_str(), read(&self.configured)?),
        };
        self.put(&mut self.lock(), filter, text, lasts.filter(|_| wished.is_some()))
    }

    fn put(
        &self,
        now: &mut Now,
        filter: EnvFilter,
        text: &str,
        lasts: Option<Duration>,
    ) -> Result<(LogFilter, u64), String> {
        (self.change)(filter)?;
        let until = lasts.map(|lasts| Instant::now() + lasts);
        *now = Now { filter: text.to_owned(), until, turn: now.turn + 1 };
        Ok((self.shown_of(now), now.turn))
    }

    /// Logs what is configured, unless something was changed after this turn. Out: whether it did.
    fn fall_back(&self, turn: u64) -> bool {
        let mut now = self.lock();
        let Ok(filter) = read(&self.configured) else { return false };
        now.turn == turn && self.put(&mut now, filter, &self.configured, None).is_ok()
    }
}

/// Returns when the lines so far are written, or cannot be in a second.
pub(crate) fn finish() {
    LINES.wait_until_written(Instant::now() + PATIENCE);
}

/// Takes one line.
struct Line {
    lines: &'static Lines,
    json: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match NODE.get() {
            Some(node) => self.lines.push(&of_node(line, node, self.json)),
            None => self.lines.push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line with the number of its node.
fn of_node(line: &[u8], node: &str, json: bool) -> Vec<u8> {
    let (start, end) = match (json, line) {
        (true, [b'{', rest @ ..]) => return [b"{\"node\":", node.as_bytes(), b",", rest].concat(),
        (_, [start @ .., b'\n']) => (start, &b"\n"[..]),
        (_, line) => (line, &b""[..]),
    };
    [start, b" node=", node.as_bytes(), end].concat()
}

/// Lines on their way to the thread that writes them.
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<u8>,
    /// Lines that are neither written nor waiting, and of which nobody was told.
    lost: usize,
    /// The thread is at work.
    writing: bool,
    closed: bool,
}

impl Lines {
    const fn new() -> Self {
        let state = State { waiting: Vec::new(), lost: 0, writing: false, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING_MAX {
            state.lost += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        self.changed.notify_all();
    }

    /// The thread's work, for ever; tests close it.
    fn write_to(&self, out: &mut impl Write, json: bool) {
        let mut lines = Vec::new();
        loop {
            let lost = {
                let mut state = self.lock();
                state.writing = false;
                self.changed.notify_all();
                while state.waiting.is_empty() {
                    if state.closed {
                        return;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.writing = true;
                lines.clear();
                std::mem::swap(&mut lines, &mut state.waiting);
                std::mem::take(&mut state.lost)
            };
            if lost > 0 && out.write_all(lost_line(lost, json).as_bytes()).is_err() {
                self.lock().lost += lost;
            }
            if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
                self.lock().lost += lines.iter().filter(|byte| **byte == b'\n').count();
            }
        }
    }

    fn wait_until_written(&self, deadline: Instant) {
        let mut state = self.lock();
        while state.writing || !state.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is behind the lock is whole after every step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost_line(lost: usize, json: bool) -> String {
    let text = format!("{lost} log lines were lost: standard error was full, slow or failed");
    if json {
        format!(
            "{{\"level\":\"WARN\",\"fields\":{{\"message\":\"{text}\"}},\"target\":\"carillon::logging\"}}\n"
        )
    } else {
        format!("WARN carillon::logging: {text}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Each write says that it began, and waits for its outcome.
    struct Out {
        began: Sender<String>,
        outcome: Receiver<bool>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.began.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            if self.outcome.recv().unwrap_or(true) {
                Ok(bytes.len())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs a test beside a writer whose writes the test sees and decides.
    fn with_writer(test: impl FnOnce(&Lines, &Receiver<String>, Sender<bool>)) {
        let lines = Lines::new();
        let (began, writes) = channel();
        let (decide, outcome) = channel();
        thread::scope(|scope| {
            scope.spawn(|| lines.write_to(&mut Out { began, outcome }, false));
            test(&lines, &writes, decide);
            lines.lock().closed = true;
            lines.changed.notify_all();
        });
    }

    #[test]
    fn a_standard_error_that_nobody_reads_costs_lines_and_no_waiting() {
        with_writer(|lines, writes, decide| {
            lines.push(b"first\n");
            assert_eq!(writes.recv().unwrap(), "first\n"); // and it hangs there
            let long = [b'x'; 1024];
            (0..2000).for_each(|_| lines.push(&long));
            let waiting = lines.lock().waiting.len();
            let lost = lines.lock().lost;
            assert_eq!((waiting, lost), (WAITING_MAX, 2000 - WAITING_MAX / 1024));
            lines.wait_until_written(Instant::now());
            drop(decide); // from now on all is taken at once
            assert_eq!(
                writes.recv().unwrap(),
                "WARN carillon::logging: 976 log lines were lost: standard error was full, slow or failed\n"
            );
            assert_eq!(writes.recv().unwrap().len(), WAITING_MAX);
            lines.wait_until_written(Instant::now() + Duration::from_secs(60));
            assert!(lines.lock().waiting.is_empty());
        });
    }

    #[test]
    fn a_line_says_whose_it_is() {
        let with = |line: &str, json| String::from_utf8(of_node(line.as_bytes(), "7", json)).unwrap();
        assert_eq!(with("INFO a: b c=1\n", false), "INFO a: b c=1 node=7\n");
        assert_eq!(with("{\"level\":\"INFO\"}\n", true), "{\"node\":7,\"level\":\"INFO\"}\n");
        assert_eq!(with("half", true), "half node=7");
    }

    #[test]
    fn what_is_logged_can_be_changed_and_falls_back_unless_it_was_changed_again() {
        let (tell, told) = channel();
        let change =
            Box::new(move |filter: EnvFilter| tell.send(filter.to_string()).map_err(|e| e.to_string()));
        let filter = Filter::new("warn".to_owned(), change);
        let now = || (filter.shown().filter, filter.shown().lasts.is_some());
        assert_eq!(now(), ("warn".to_owned(), false));
        let wrong = filter.set(Some("loud"), None).unwrap_err();
        assert!(wrong.contains("\"loud\" is no level"), "{wrong}");
        assert!(filter.set(Some(&"a=info,".repeat(1000)), None).is_err());
        assert!(told.try_recv().is_err(), "nothing was changed");

        let (shown, first) = filter.set(Some("proxy=trace"), Some(Duration::from_secs(60))).unwrap();
        assert!(shown.lasts.unwrap() > Duration::ZERO && shown.configured == "warn");
        assert!(told.try_recv().unwrap().contains("proxy=trace"));
        let (_, second) = filter.set(Some("debug"), Some(Duration::from_secs(60))).unwrap();
        assert!(!filter.fall_back(first), "something newer holds");
        assert_eq!(now(), ("debug".to_owned(), true));
        assert!(filter.fall_back(second) && !filter.fall_back(second));
        assert_eq!(now(), ("warn".to_owned(), false));
        filter.set(Some("info"), None).unwrap();
        assert_eq!(now(), ("info".to_owned(), false), "for good");
        assert_eq!(filter.set(None, Some(Duration::from_secs(60))).unwrap().0.lasts, None);
    }

    #[test]
    fn a_standard_error_that_fails_stops_nothing() {
        with_writer(|lines, writes, decide| {
            for outcome in [false, false] {
                lines.push(b"a line\n");
                while !writes.recv().unwrap().starts_with("a line") {
                    decide.send(outcome).unwrap();
                }
                decide.send(outcome).unwrap();
                lines.wait_until_written(Instant::now() + Duration::from_secs(60));
            }
            drop(decide);
            lines.push(b"space again\n");
            assert!(writes.recv().unwrap().starts_with("WARN carillon::logging: 2 log lines were lost"));
            assert_eq!(writes.recv().unwrap(), "space again\n");
        });
    }
}
