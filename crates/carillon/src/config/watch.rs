//! The sections `[operate]` and `[telemetry]`: how a node is watched.
//!
//! In: their tables. Out: a [`WatchConfig`], mistakes by their keys. Elsewhere: watching (`watching`).

use super::{Reader, Section};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How a node is watched; by default nobody can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchConfig {
    /// Where health and metrics are served by HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// The collector of traces and metrics, a URL.
    pub(crate) otlp: Option<String>,
    /// How many of a million calls are traced.
    pub(crate) sample_ppm: u32,
    /// The collector of SIP messages, HOST:PORT by UDP.
    pub(crate) hep: Option<String>,
    /// Our number there.
    pub(crate) hep_id: u32,
    /// The file with what lets us in there.
    pub(crate) hep_password_file: Option<PathBuf>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            listen: None,
            otlp: None,
            sample_ppm: 1_000_000,
            hep: None,
            hep_id: 2001, // what agents of Homer begin with
            hep_password_file: None,
        }
    }
}

/// Most octets of the password of a collector.
const LONGEST: usize = 256;

/// The password of the collector of SIP messages: a file's only line.
pub(crate) fn hep_password(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|open| {
        std::io::Read::read_to_string(&mut std::io::Read::take(open, LONGEST as u64 + 3), &mut text)
    });
    read.map_err(|error| format!("{error}; name a file that this user can read"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > LONGEST || password.contains(['\r', '\n']) {
        return Err(format!(
            "not one line of 1 to {LONGEST} octets; write the password there and nothing else"
        ));
    }
    Ok(password.to_owned())
}

impl Reader {
    /// Reads both sections.
    pub(super) fn watch(&mut self, table: &Table) -> WatchConfig {
        let mut watch = WatchConfig::default();
        let mut operate = self.section(table, "operate");
        let mut listen = None;
        self.text(&mut operate, "listen", |text| listen = Some(text.to_owned()));
        if let Some(text) = listen {
            match text.parse() {
                Ok(address) => watch.listen = Some(address),
                Err(_) => self.wrong(
                    "operate.listen",
                    &text,
                    "write an IP address and a port, such as \"127.0.0.1:9090\"",
                ),
            }
        }
        self.finish(operate);

        let mut telemetry = self.section(table, "telemetry");
        self.text(&mut telemetry, "otlp", |text| watch.otlp = Some(text.to_owned()));
        if let Some(url) = &watch.otlp
            && let Err(error) = telemetry::otlp::check(url)
        {
            self.wrong("telemetry.otlp", url, &error.to_string());
        }
        self.sample(&mut telemetry, &mut watch);
        self.hep(&mut telemetry, &mut watch);
        self.finish(telemetry);
        watch
    }

    fn sample(&mut self, telemetry: &mut Section<'_>, watch: &mut WatchConfig) {
        let Some(value) = telemetry.get("sample") else { return };
        let share = match value {
            Value::Float(share) => *share,
            Value::Integer(share) => *share as f64,
            _ => f64::NAN,
        };
        if (0.0..=1.0).contains(&share) {
            watch.sample_ppm = (share * 1e6).round() as u32;
        } else {
            self.mistake("telemetry.sample", value, "write a share from 0.0 (no call) to 1.0 (every call)");
        }
    }

    fn hep(&mut self, telemetry: &mut Section<'_>, watch: &mut WatchConfig) {
        let mut collector = None;
        self.text(telemetry, "hep", |text| collector = Some(text.to_owned()));
        if let Some(text) = collector {
            match text.strip_prefix("udp:").filter(|place| is_place(place)) {
                Some(place) => watch.hep = Some(place.to_owned()),
                None => self.wrong(
                    "telemetry.hep",
                    &text,
                    "write udp:HOST:PORT of Homer's listener, such as \"udp:127.0.0.1:9060\"",
                ),
            }
        }
        self.number(telemetry, "hep_id", 0..=u64::from(u32::MAX), |n| watch.hep_id = n as u32);
        self.text(telemetry, "hep_password_file", |text| watch.hep_password_file = Some(PathBuf::from(text)));
        if let Some(file) = &watch.hep_password_file
            && let Err(why) = hep_password(file)
        {
            self.wrong("telemetry.hep_password_file", &file.display().to_string(), &why);
        }
    }
}

/// `HOST:PORT`, an address of IPv6 in brackets.
fn is_place(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return true;
    }
    text.rsplit_once(':').is_some_and(|(host, port)| {
        model::checks::host_name(host) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sections: &str) -> (WatchConfig, Vec<String>) {
        let text = format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n{sections}");
        let (config, mistakes) = crate::config::read(&text);
        (config.watch, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nobody_watches_unless_told() {
        assert_eq!(read(""), (WatchConfig::default(), Vec::new()));
    }

    #[test]
    fn a_node_is_watched_as_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hep");
        std::fs::write(&file, "hush\n").unwrap();
        let (watch, mistakes) = read(&format!(
            "[operate]\nlisten = \"[::1]:9090\"\n[telemetry]\notlp = \"https://otel.example.com:4317\"\nsample = 0.25\n\
             hep = \"udp:homer.example.com:9060\"\nhep_id = 7\nhep_password_file = {file:?}"
        ));
        assert_eq!(mistakes, Vec::<String>::new());
        let expected = WatchConfig {
            listen: Some("[::1]:9090".parse().unwrap()),
            otlp: Some("https://otel.example.com:4317".to_owned()),
            sample_ppm: 250_000,
            hep: Some("homer.example.com:9060".to_owned()),
            hep_id: 7,
            hep_password_file: Some(file.clone()),
        };
        assert_eq!(watch, expected);
        assert_eq!(hep_password(&file).unwrap(), "hush");
    }

    #[test]
    fn what_cannot_be_watched_by_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hep");
        std::fs::write(&file, "two\nlines").unwrap();
        for (section, line, start, remedy) in [
            ("operate", "listen = \"9090\"", "operate.listen = 9090: ", "127.0.0.1:9090"),
            ("operate", "port = 9090", "operate.port = 9090: ", "there are listen"),
            (
                "telemetry",
                "otlp = \"localhost:4317\"",
                "telemetry.otlp = localhost:4317: ",
                "http://HOST:PORT",
            ),
            ("telemetry", "sample = 50", "telemetry.sample = 50: ", "0.0"),
            ("telemetry", "sample = \"all\"", "telemetry.sample = \"all\": ", "0.0"),
            (
                "telemetry",
                "hep = \"tcp:127.0.0.1:9060\"",
                "telemetry.hep = tcp:127.0.0.1:9060: ",
                "udp:HOST:PORT",
            ),
            ("telemetry", "hep = \"udp:127.0.0.1\"", "telemetry.hep = udp:127.0.0.1: ", "udp:HOST:PORT"),
            ("telemetry", "hep_id = -1", "telemetry.hep_id = -1: ", "0 to 4294967295"),
            (
                "telemetry",
                "hep_password_file = \"/nowhere/hep\"",
                "telemetry.hep_password_file = /nowhere/hep: ",
                "name a file",
            ),
            (
                "telemetry",
                &format!("hep_password_file = {file:?}"),
                "telemetry.hep_password_file = ",
                "one line",
            ),
        ] {
            let mistakes = read(&format!("[{section}]\n{line}")).1;
            let is_named = |text: &String| text.starts_with(start) && text.contains(remedy);
            assert!(mistakes.len() == 1 && is_named(&mistakes[0]), "{line}: {mistakes:?}");
        }
    }
}
