//! The sections `[trunks]` and `[dns]`: where carriers and DDI providers are heard, how they are watched and found.
//!
//! In: their tables. Out: values with defaults, mistakes by their keys. Elsewhere: the other keys (`config`), what is done with them
//! (crate `proxy`, room `trunks`).

use super::{ListenerConfig, NodeConfig, Reader};
use routing::StatusCodes;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::{Table, Value};

/// The trunk address that a listener is of when it names none: the main one.
const MAIN_TRUNK: u32 = 1;

/// How carriers and DDI providers are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrunksConfig {
    /// Where they are heard; empty: by the users' sockets.
    pub(crate) listeners: Vec<ListenerConfig>,
    /// Pause between OPTIONS to carriers' servers; zero: none are sent.
    pub(crate) ping: Duration,
    /// So many missing answers in a row take a server down.
    pub(crate) misses: u32,
    /// Failures of a carrier that make the next one be tried.
    pub(crate) next_on: StatusCodes,
}

impl Default for TrunksConfig {
    fn default() -> Self {
        let proxy::TrunksConfig { ping, misses, .. } = proxy::TrunksConfig::default();
        Self { listeners: Vec::new(), ping, misses, next_on: StatusCodes::default() }
    }
}

impl Reader {
    pub(super) fn trunks(&mut self, table: &Table, config: &mut NodeConfig) {
        let mut trunks = self.section(table, "trunks");
        match trunks.get("listen") {
            Some(Value::Array(entries)) => {
                for (number, entry) in entries.iter().enumerate() {
                    self.trunk_listener(&format!("trunks.listen[{number}]"), entry, config);
                }
            }
            Some(other) => {
                self.mistake("trunks.listen", other, "write a list such as [\"udp:192.0.2.2:5060\"]");
            }
            None => {}
        }
        let settings = &mut config.trunks;
        self.number(&mut trunks, "ping_seconds", 0..=3600, |n| settings.ping = Duration::from_secs(n));
        self.number(&mut trunks, "misses", 1..=100, |n| settings.misses = n as u32);
        match trunks.get("next_carrier_on") {
            None => {}
            Some(value) => match value.as_str().map(str::parse) {
                Some(Ok(codes)) => settings.next_on = codes,
                _ => self.mistake(
                    "trunks.next_carrier_on",
                    value,
                    "write SIP status codes of failures and ranges of them, such as \"408 500-599\"; \"\" for none",
                ),
            },
        }
        config.tls.trunks = self.certificate(&mut trunks);
        config.tls.authorities = self.file(&mut trunks, "tls_ca_file");
        self.finish(trunks);

        let mut dns = self.section(table, "dns");
        let remedy = "write the IP address of a nameserver, such as \"192.0.2.53\" or \"192.0.2.53:5353\", or a list of them";
        for text in self.texts(&mut dns, "servers", remedy) {
            let address =
                text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)));
            match address {
                Some(address) => config.nameservers.push(address),
                None => self.wrong("dns.servers", &text, remedy),
            }
        }
        self.finish(dns);
    }

    fn trunk_listener(&mut self, key: &str, entry: &Value, config: &mut NodeConfig) {
        let Some(listener) = self.listener(key, entry, Some(MAIN_TRUNK)) else { return };
        let mut others = config.listeners.iter().chain(&config.trunks.listeners);
        if others.any(|other| other.transport == listener.transport && other.bind == listener.bind) {
            self.mistake(key, entry, "named twice, here or in sip.listen; remove one");
        }
        config.trunks.listeners.push(listener);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NodeConfig, read};

    fn with(lines: &str) -> Result<NodeConfig, Vec<String>> {
        let (config, mistakes) = read(&format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n{lines}"));
        let listed: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        if listed.is_empty() { Ok(config) } else { Err(listed) }
    }

    #[test]
    fn listeners_of_trunks_are_of_the_main_address_unless_they_name_another() {
        let config = with(
            "[trunks]\nlisten = [\"udp:192.0.2.2:5060\", { bind = \"tcp:192.0.2.3:5060\", advertise = \"203.0.113.3\", trunk = 7 }]",
        )
        .unwrap();
        let of: Vec<_> = config.trunks.listeners.iter().map(|listener| listener.trunk).collect();
        assert_eq!(of, [Some(1), Some(7)]);
        assert_eq!(config.trunks.listeners[1].advertise.as_deref(), Some("203.0.113.3"));
        assert!(config.listeners.iter().all(|listener| listener.trunk.is_none()));
        assert!(!config.is_local(), "they face a network");
    }

    #[test]
    fn mistakes_name_the_key_and_the_way_out() {
        for (lines, begin, part) in [
            ("[trunks]\nlisten = 5060", "trunks.listen = 5060: ", "write a list"),
            ("[trunks]\nlisten = [\"udp:127.0.0.1:5060\"]", "trunks.listen[0] = ", "named twice"),
            (
                "[trunks]\nlisten = [{ bind = \"udp:192.0.2.2:5060\", trunk = 0 }]",
                "trunks.listen[0].trunk = 0: ",
                "number of a trunk address",
            ),
            (
                "[trunks]\nlisten = [{ bind = \"udp:192.0.2.2:5060\", adverts = 1 }]",
                "trunks.listen[0].adverts = 1: ",
                "bind, advertise and trunk",
            ),
            ("[trunks]\nping_seconds = -1", "trunks.ping_seconds = -1: ", "from 0 to 3600"),
            ("[trunks]\nmisses = 0", "trunks.misses = 0: ", "from 1 to 100"),
            ("[trunks]\nnext_carrier_on = \"200\"", "trunks.next_carrier_on = \"200\": ", "such as"),
            ("[trunks]\nnext_carrier_on = 503", "trunks.next_carrier_on = 503: ", "such as"),
            ("[dns]\nservers = [\"ns.example.com\"]", "dns.servers = ns.example.com: ", "IP address"),
        ] {
            let listed = with(lines).unwrap_err();
            assert_eq!(listed.len(), 1, "{listed:?}");
            assert!(listed[0].starts_with(begin) && listed[0].contains(part), "{listed:?}");
        }
    }

    #[test]
    fn nameservers_have_port_53_unless_they_name_another() {
        let config =
            with("[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\", \"2001:db8::54\"]").unwrap();
        let shown: Vec<String> = config.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::54]:53"]);
    }
}
