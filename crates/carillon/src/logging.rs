//! Log lines on standard error. Whatever stands behind it, a full disk or a pipe that nobody reads, no thread of the node
//! waits for it or fails with it.
//!
//! In: lines from any thread, into one bounded buffer. Out: one thread writes them. What does not fit or cannot be written
//! is lost, and its number is told when lines can be written again.

use std::io::{self, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Lines that wait are this long together at most, in bytes.
const WAITING_MAX: usize = 1024 * 1024;

/// The end of the program waits this long for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

static LINES: Lines = Lines::new();

/// Log lines on standard error. `RUST_LOG` goes before the configuration. The actor library's own spans, one for each actor,
/// cost more than they tell.
pub(crate) fn start(filter: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(format!("ractor=warn,{filter}")))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal(); // a log file is no place for escape sequences
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .log_internal_errors(false) // they go to standard error with a panic when it fails
        .with_writer(|| Line(&LINES));
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    if started.is_err() {
        return; // logging was started before
    }
    let work = move || LINES.write_to(&mut io::stderr(), json);
    if let Err(error) = thread::Builder::new().name("log".to_owned()).spawn(work) {
        crate::complain(&format!("carillon: nothing will be logged: {error}"));
    }
}

/// Returns when the lines so far are written, or cannot be in a second.
pub(crate) fn finish() {
    LINES.wait_until_written(Instant::now() + PATIENCE);
}

/// Takes one line.
struct Line(&'static Lines);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
