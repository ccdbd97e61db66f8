//! Messages that phones sent and received, and their drawing as a call ladder.
//!
//! In: messages with their time. Out: text. Bounded: the oldest messages are forgotten.

use bytes::Bytes;
use parking_lot::Mutex;
use sip::msg::Message;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

const MESSAGES_MAX: usize = 1000;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the phone.
    Sent,
    /// To the phone.
    Received,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Whose message.
    pub phone: String,
    /// When.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// Method and Request-URI's user, or status and reason; what matters of the session description.
    pub text: String,
    /// Its Call-ID.
    pub call_id: String,
}

pub(crate) struct Trace {
    phone: String,
    messages: Mutex<VecDeque<Traced>>,
}

impl Trace {
    pub(crate) fn new(phone: &str) -> Self {
        Self { phone: phone.to_owned(), messages: Mutex::default() }
    }

    /// What is no SIP message leaves no trace.
    pub(crate) fn note(&self, direction: Direction, octets: &Bytes) {
        let Ok(message) = Message::parse(octets.clone()) else { return };
        let mut messages = self.messages.lock();
        if messages.len() == MESSAGES_MAX {
            messages.pop_front();
        }
        messages.push_back(Traced {
            phone: self.phone.clone(),
            at: Instant::now(),
            direction,
            text: summary(&message),
            call_id: String::from_utf8_lossy(message.call_id()).into_owned(),
        });
    }

    pub(crate) fn all(&self) -> Vec<Traced> {
        self.messages.lock().iter().cloned().collect()
    }
}

fn summary(message: &Message) -> String {
    let mut text = if message.is_request() {
        String::from_utf8_lossy(message.method().as_bytes()).into_owned()
    } else {
        format!("{} {}", message.status(), String::from_utf8_lossy(message.reason()))
    };
    if message.sdp().is_some() {
        text.push_str(" (SDP)");
    }
    text
}

/// Draws the messages of two phones with the platform between them. Times count from the first message.
pub fn ladder(left: &str, middle: &str, right: &str, messages: &[Traced]) -> String {
    const WIDTH: usize = 30;
    let mut ordered: Vec<&Traced> = messages.iter().collect();
    ordered.sort_by_key(|message| message.at);
    let start = ordered.first().map(|message| message.at);
    let mut text = String::new();
    let _ = writeln!(text, "{:>9}  {left:<w$}{middle:^m$}{right:>w$}", "", w = WIDTH - 8, m = 20);
    for message in ordered {
        let since = start.map_or(Duration::ZERO, |start| message.at - start);
        let to_the_right = (message.phone == left) == (message.direction == Direction::Sent);
        let arrow = arrow(&message.text, WIDTH, to_the_right);
        let _ = if message.phone == left {
            writeln!(text, "{:>7.3} s  |{arrow}|{:WIDTH$}|", since.as_secs_f64(), "")
        } else {
            writeln!(text, "{:>7.3} s  |{:WIDTH$}|{arrow}|", since.as_secs_f64(), "")
        };
    }
    text
}

fn arrow(label: &str, width: usize, to_the_right: bool) -> String {
    let label: String = label.chars().take(width - 6).collect();
    let (left, right) = if to_the_right { ("-", ">") } else { ("<", "-") };
    let dashes = width - 4 - label.chars().count();
    format!("{left}- {label} {}{right}", "-".repeat(dashes - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ladder_has_arrows_from_and_to_each_phone() {
        let start = Instant::now();
        let message = |phone: &str, ms: u64, direction, text: &str| Traced {
            phone: phone.to_owned(),
            at: start + Duration::from_millis(ms),
            direction,
            text: text.to_owned(),
            call_id: String::new(),
        };
        let drawn = ladder(
            "alice",
            "carillon",
            "bob",
            &[
                message("bob", 3, Direction::Received, "INVITE (SDP)"),
                message("alice", 0, Direction::Sent, "INVITE (SDP)"),
                message("bob", 5, Direction::Sent, "180 Ringing"),
                message("alice", 6, Direction::Received, "180 Ringing"),
            ],
        );
        let lines: Vec<&str> = drawn.lines().collect();
        let expected = [
            "           alice                       carillon                         bob",
            "  0.000 s  |-- INVITE (SDP) ------------->|                              |",
            "  0.003 s  |                              |-- INVITE (SDP) ------------->|",
            "  0.005 s  |                              |<- 180 Ringing ---------------|",
            "  0.006 s  |<- 180 Ringing ---------------|                              |",
        ];
        assert_eq!(lines[1..], expected[1..], "\n{drawn}");
        assert!(lines.iter().skip(1).all(|line| line.chars().count() == lines[1].chars().count()));
    }
}
