//! A child process whose every line is kept and can be waited for. It never outlives its owner.
//!
//! In: a command. Out: its lines, its end. Elsewhere: what the commands are (`node`, `sipp`, `baresip`).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Lines kept of each process; the oldest go first.
const LINES_MAX: usize = 20_000;

/// A running or ended child.
pub struct Process {
    name: String,
    child: Child,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    dropped: usize,
    /// Output streams that are at their end; with both the process is as good as gone.
    closed: usize,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn follow(self: Arc<Self>, stream: impl Read + Send + 'static) {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut state = self.lock();
                if state.lines.len() == LINES_MAX {
                    state.lines.remove(0);
                    state.dropped += 1;
                }
                state.lines.push(text);
                self.news.notify_all();
                line.clear();
            }
            self.lock().closed += 1;
            self.news.notify_all();
        });
    }
}

impl Process {
    /// Starts a command; `name` is for failure messages.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Process {
        let name = name.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let heard = Arc::new(Heard::default());
        Arc::clone(&heard).follow(child.stdout.take().expect("it is piped"));
        Arc::clone(&heard).follow(child.stderr.take().expect("it is piped"));
        Process { name, child, heard }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `part`, past or future; `None` when the process ends or time runs out before.
    pub fn line_with(&self, part: &str, patience: Duration) -> Option<String> {
        self.line_where(|line| line.contains(part), patience)
    }

    /// The same with a free condition.
    pub fn line_where(&self, wanted: impl Fn(&str) -> bool, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut state = self.heard.lock();
        let mut seen: usize = 0;
        loop {
            let from = seen.saturating_sub(state.dropped).min(state.lines.len());
            if let Some(line) = state.lines[from..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.dropped + state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed == 2 {
                return None;
            }
            state = self
                .heard
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the end; `None` when it lives on.
    pub fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        let mut state = self.heard.lock();
        while state.closed < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .heard
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        drop(state);
        self.child.wait().ok()
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its standard input.
    pub fn write(&mut self, text: &str) {
        let input: Option<&mut ChildStdin> = self.child.stdin.as_mut();
        if let Some(input) = input {
            // A process that is gone shows in what the test waits for next.
            let _ = input.write_all(text.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to {}", self.name);
    }

    /// The last lines that it wrote.
    pub fn tail(&self, count: usize) -> String {
        let state = self.heard.lock();
        let from = state.lines.len().saturating_sub(count);
        format!("last lines of {}:\n{}\n", self.name, state.lines[from..].join("\n"))
    }

    /// All lines that it wrote, as far as they are kept.
    pub fn lines(&self) -> Vec<String> {
        self.heard.lock().lines.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
