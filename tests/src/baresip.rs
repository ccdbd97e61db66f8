//! baresip as a peer: a phone that plays a file and writes down what it hears.
//!
//! In: a user, samples to play. Out: its events, the samples it heard. Elsewhere: melodies (`audio`), its configuration
//! (`baresip/`).
//!
//! What Debian's baresip 1.0.0 is like: its RTP sockets are not bound to `net_interface`, so only loopback's own address,
//! 127.0.0.1, serves as one; it fails at a challenge with an algorithm other than MD5 even beside one with MD5, as SIPp 3.6 does; a file
//! that comes to its end ends the call with BYE; without a player the decoded sound is still filtered, which is where
//! sndfile writes it to `dump-*-dec.wav`; its jitter buffer keeps the last packets for itself.

use crate::audio::{read_wav, write_wav};
use crate::node::Node;
use crate::process::Process;
use crate::{DOMAIN, PATIENCE};
use std::path::{Path, PathBuf};
use std::process::Command;

/// It quits by itself after so many seconds.
const LIMIT_S: &str = "60";
/// First port for these phones on 127.0.0.1, below those that the system gives out, and the count of ports of each.
const PORTS: (u16, u16) = (26_000, 10);
/// Sets of ports.
const SETS: u16 = 300;

/// A running baresip.
pub struct Baresip {
    process: Process,
    folder: PathBuf,
}

impl Baresip {
    /// Starts a phone of `user` that plays `samples` in its call and answers by itself; waits until it is registered.
    /// `number` tells the phones of one test apart.
    ///
    /// # Panics
    /// When it does not register.
    pub fn start(node: &Node, number: u16, user: &str, transport: &str, samples: &[i16]) -> Baresip {
        Self::start_with(node, number, user, transport, samples, &[])
    }

    /// The same; calls `callee` as soon as it is up.
    ///
    /// # Panics
    /// When it does not register.
    pub fn start_calling(
        node: &Node,
        number: u16,
        user: &str,
        transport: &str,
        samples: &[i16],
        callee: &str,
    ) -> Baresip {
        Self::start_with(node, number, user, transport, samples, &["-e", &format!("/dial {callee}")])
    }

    fn start_with(
        node: &Node,
        number: u16,
        user: &str,
        transport: &str,
        samples: &[i16],
        arguments: &[&str],
    ) -> Baresip {
        let folder = node.folder().join(format!("baresip-{number}"));
        std::fs::create_dir(&folder).expect("each phone of a test has its own number");
        write_wav(&folder.join("play.wav"), samples);
        let first = PORTS.0 + (node.place().number() % (SETS / 2) * 2 + number) * PORTS.1;
        let values = [
            ("sip-port", first.to_string()),
            ("rtp-ports", format!("{}-{}", first + 2, first + PORTS.1 - 1)),
            ("folder", folder.display().to_string()),
            ("user", user.to_owned()),
            ("domain", DOMAIN.to_owned()),
            ("node", node.sip().to_string()),
            ("transport", transport.to_owned()),
        ];
        for file in ["config", "accounts"] {
            let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("baresip").join(file);
            let text = std::fs::read_to_string(template).expect("the template is there");
            let fill =
                |text: String, (key, value): &(&str, String)| text.replace(&format!("{{{{{key}}}}}"), value);
            std::fs::write(folder.join(file), values.iter().fold(text, fill)).expect("it can be written");
        }
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&folder).args(["-s", "-t", LIMIT_S]).args(arguments).current_dir(&folder);
        let process = Process::start(format!("baresip of {user}"), &mut command);
        let phone = Baresip { process, folder };
        phone.wait_for("200 OK () [1 binding]");
        phone
    }

    /// Waits for a line of its output.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for(&self, part: &str) {
        let line = self.process.line_with(part, PATIENCE);
        assert!(line.is_some(), "waited in vain for {part:?}; {}", self.process.tail(150));
    }

    /// Ends it, and tells what it heard.
    ///
    /// # Panics
    /// When it does not end, or heard nothing.
    pub fn stop(mut self) -> Vec<i16> {
        self.process.terminate();
        let ended = self.process.ended(PATIENCE);
        assert!(ended.is_some(), "it does not end; {}", self.process.tail(40));
        let files = std::fs::read_dir(&self.folder).expect("the folder is there").filter_map(Result::ok);
        let recording =
            files.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with("-dec.wav"));
        read_wav(&recording.unwrap_or_else(|| panic!("nothing was recorded; {}", self.process.tail(80))))
    }
}
