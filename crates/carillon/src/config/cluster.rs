//! The parts of the configuration file that make a node one of many: its roles, and the cluster that it joins.
//!
//! In: the sections `[node]` and `[cluster]`, variables of the environment. Out: [`ClusterConfig`] and what is wrong. Elsewhere: what is
//! done with it (`node`, `clustered`), the other sections (`config`).

use super::{NodeConfig, Reader, Section};
use cluster::node::{Role, Roles};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::{Table, Value};

/// Variables of this name override keys of the file: `CARILLON__NODE__ROLES` is `roles` of `[node]`.
const PREFIX: &str = "CARILLON__";
/// The argument that goes before all of them.
pub(crate) const ROLES: &str = "--roles";
/// Keys whose value is a list: a variable has it with commas.
const LISTS: [&str; 7] = ["roles", "listen", "etcd", "address", "hosts", "behind", "algorithms"];

/// How a node is one of many.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClusterConfig {
    /// Addresses of etcd, as URLs.
    pub(crate) etcd: Vec<String>,
    pub(crate) etcd_user: Option<String>,
    pub(crate) etcd_password_file: Option<PathBuf>,
    pub(crate) etcd_tls: TlsFiles,
    /// What all keys of this cluster begin with.
    pub(crate) prefix: String,
    pub(crate) lease: Duration,
    /// Where other nodes are heard.
    pub(crate) listen: SocketAddr,
    /// Where they reach this one.
    pub(crate) advertise: String,
    /// Nodes know each other by these; none: they said `plain = true`.
    pub(crate) tls: Option<TlsFiles>,
    /// A node that is told to stop hands its work over for so long.
    pub(crate) drain: Duration,
}

/// PEM files of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Who signs the others' certificates.
    pub(crate) ca: Option<PathBuf>,
    /// The own certificate and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("prefix", &self.prefix)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Who the node is: `[node]`, but for the keys of every node.
    pub(super) fn identity(&mut self, node: &mut Section<'_>, config: &mut NodeConfig) {
        match node.get("id") {
            Some(Value::Integer(id)) if (1..=65_534).contains(id) => config.node = id.unsigned_abs() as u16,
            Some(Value::String(text)) if text == "auto" => config.auto_id = true,
            Some(other) => {
                self.mistake(
                    "node.id",
                    other,
                    "write a whole number from 1 to 65534, or \"auto\" in a cluster",
                );
            }
            None => {}
        }
        self.text(node, "name", |text| config.name = text.to_owned());
        self.text(node, "zone", |text| config.zone = text.to_owned());
        for (key, text) in [("node.name", &config.name), ("node.zone", &config.zone)] {
            if text.len() > 64 || text.chars().any(char::is_control) {
                self.wrong(key, text, "write a name of at most 64 characters");
            }
        }
        self.number(node, "capacity", 1..=1_000_000, |n| config.capacity = n as u32);
        let remedy = "write a list of \"proxy\", \"as\", \"relay\" and \"portal\"";
        let roles = self.texts(node, "roles", remedy);
        if !roles.is_empty() {
            config.roles = Roles::default();
            for role in roles.iter().flat_map(|text| text.split(',')) {
                match role.parse::<Role>() {
                    Ok(role) => config.roles = config.roles.with(role),
                    Err(_) => self.wrong("node.roles", role, remedy),
                }
            }
        }
    }

    /// `[cluster]`; without it a node stands alone.
    pub(super) fn cluster(&mut self, table: &Table, config: &mut NodeConfig) {
        let mut section = self.section(table, "cluster");
        let is_there = section.table.is_some_and(|table| !table.is_empty());
        let etcd = self.texts(&mut section, "etcd", "write a list such as [\"http://192.0.2.5:2379\"]");
        for url in &etcd {
            let is_url = ["http://", "https://"]
                .iter()
                .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
            if !is_url || url.len() > 300 {
                self.wrong(
                    "cluster.etcd",
                    url,
                    "write an address such as \"http://192.0.2.5:2379\", or one with https",
                );
            }
        }
        let mut etcd_user = None;
        self.text(&mut section, "etcd_user", |text| etcd_user = Some(text.to_owned()));
        let etcd_password_file = self.file(&mut section, "etcd_password_file");
        let etcd_tls = self.tls(&mut section, ["etcd_ca_file", "etcd_cert_file", "etcd_key_file"]);
        let mut prefix = "/carillon".to_owned();
        self.text(&mut section, "prefix", |text| prefix = text.to_owned());
        if !prefix.starts_with('/')
            || prefix.ends_with('/')
            || prefix.len() > 200
            || prefix.bytes().any(|byte| !byte.is_ascii_graphic())
        {
            self.wrong(
                "cluster.prefix",
                &prefix,
                "write a path such as \"/carillon\", without a slash at its end",
            );
        }
        let mut lease = Duration::from_secs(10);
        // Shorter ones end by a pause of etcd's disk; with longer ones it takes as long until others own what a lost node owned.
        self.number(&mut section, "lease_seconds", 5..=120, |n| lease = Duration::from_secs(n));
        let mut listen = None;
        self.text(&mut section, "listen", |text| listen = Some(text.to_owned()));
        let mut advertise = None;
        self.text(&mut section, "advertise", |text| advertise = Some(text.to_owned()));
        let tls = self.tls(&mut section, ["ca_file", "cert_file", "key_file"]);
        let mut plain = false;
        self.flag(&mut section, "plain", |flag| plain = flag);
        let mut drain = Duration::from_secs(120);
        self.number(&mut section, "drain_seconds", 0..=86_400, |n| drain = Duration::from_secs(n));
        self.finish(section);
        if !is_there {
            return self.alone(config);
        }
        if etcd.is_empty() {
            self.wrong(
                "cluster.etcd",
                "",
                "missing; write the addresses of etcd, such as [\"http://192.0.2.5:2379\"]",
            );
        }
        if config.store.url.is_none() {
            self.wrong(
                "store.url",
                "",
                "missing; the nodes of a cluster share a PostgreSQL database: name it, or remove [cluster]",
            );
        }
        let has_tls = tls.ca.is_some() && tls.own.is_some();
        if plain == has_tls || !has_tls && tls != TlsFiles::default() {
            let remedy = "nodes know each other by certificates: write ca_file, cert_file and key_file, or plain = true where nobody else \
                          reaches them, not both";
            self.wrong("cluster.plain", &plain.to_string(), remedy);
        }
        let heard = listen.as_deref().map(str::parse::<SocketAddr>);
        let remedy = "write the IP address and port where other nodes are heard, such as \"192.0.2.11:7400\"";
        let listen = match (heard, listen) {
            (Some(Ok(address)), _) => address,
            (_, text) => {
                self.wrong("cluster.listen", &text.unwrap_or_default(), remedy);
                ([127, 0, 0, 1], 0).into()
            }
        };
        let advertise = match advertise {
            Some(text)
                if text.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
                }) =>
            {
                text
            }
            Some(text) => {
                self.wrong("cluster.advertise", &text, "write HOST:PORT by which other nodes reach this one");
                text
            }
            None if listen.ip().is_unspecified() => {
                self.wrong("cluster.advertise", "", "missing, for cluster.listen is an unspecified address: write HOST:PORT by which other nodes reach this one");
                String::new()
            }
            None => listen.to_string(),
        };
        let tls = has_tls.then_some(tls);
        config.cluster = Some(ClusterConfig {
            etcd,
            etcd_user,
            etcd_password_file,
            etcd_tls,
            prefix,
            lease,
            listen,
            advertise,
            tls,
            drain,
        });
    }

    fn alone(&mut self, config: &NodeConfig) {
        if config.auto_id {
            self.wrong(
                "node.id",
                "auto",
                "is for a cluster, and there is no section [cluster]; write a number, or remove it",
            );
        }
        if config.roles != Roles::ALL {
            let roles = config.roles.to_string();
            self.wrong(
                "node.roles",
                &roles,
                "a node that stands alone has every role; add a section [cluster], or remove it",
            );
        }
    }

    pub(super) fn file(&mut self, section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
        let mut file = None;
        self.text(section, key, |text| file = Some(PathBuf::from(text)));
        file
    }

    /// Three keys: authorities, certificate, key.
    fn tls(&mut self, section: &mut Section<'_>, keys: [&'static str; 3]) -> TlsFiles {
        let [ca, cert, key] = keys.map(|key| self.file(section, key));
        let own = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (cert, _) => {
                let missing = if cert.is_some() { keys[2] } else { keys[1] };
                self.wrong(
                    &format!("cluster.{missing}"),
                    "",
                    "missing; a certificate and its key go together",
                );
                None
            }
        };
        TlsFiles { ca, own }
    }
}

/// What the environment says in place of the file: section, key and value, by the variable's name.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The variables of this process that override keys.
pub(crate) fn overrides() -> Overrides {
    let named = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    named.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// Puts overrides into the file's table. Out: keys, and the variables that they come from; names that are none.
pub(super) fn apply(table: &mut Table, overrides: &Overrides) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut from, mut strange) = (BTreeMap::new(), Vec::new());
    // The argument sorts before the variables, and goes before them.
    for (name, value) in overrides.iter().rev() {
        let path = if name == ROLES { "node__roles" } else { name.trim_start_matches(PREFIX) };
        let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let [section, key] = &parts[..] else {
            strange.push(name.clone());
            continue;
        };
        let entry = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(entry) = entry else {
            strange.push(name.clone());
            continue;
        };
        entry.insert(key.clone(), read(key, value));
        from.insert(format!("{section}.{key}"), name.clone());
    }
    (from, strange)
}

/// A variable's value as the file would have it: what reads as TOML, else a text, else a list of texts.
fn read(key: &str, value: &str) -> Value {
    let as_toml = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    match as_toml {
        Some(value) if !LISTS.contains(&key) || value.is_array() => value,
        _ if LISTS.contains(&key) => {
            Value::Array(value.split(',').map(|part| Value::String(part.trim().to_owned())).collect())
        }
        _ => Value::String(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mistake, read_with};

    const CLUSTER: &str = r#"
        [node]
        id = "auto"
        name = "proxy-a"
        roles = ["proxy", "relay"]
        zone = "a"
        capacity = 50
        [sip]
        listen = ["udp:192.0.2.1:5060"]
        [store]
        url = "postgresql://carillon@db.example.com/carillon"
        [cluster]
        etcd = ["http://192.0.2.5:2379", "https://192.0.2.6:2379"]
        prefix = "/carillon/one"
        listen = "192.0.2.1:7400"
        plain = true
    "#;

    fn with(text: &str, overrides: &[(&str, &str)]) -> (NodeConfig, Vec<String>) {
        let overrides =
            overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (config, mistakes) = read_with(text, &overrides);
        (config, mistakes.iter().map(Mistake::to_string).collect())
    }

    #[test]
    fn a_node_of_a_cluster_says_who_it_is() {
        let (config, mistakes) = with(CLUSTER, &[]);
        assert_eq!(mistakes, Vec::<String>::new());
        assert!(config.auto_id && config.roles.has(Role::Proxy) && !config.roles.has(Role::As));
        assert_eq!((config.name.as_str(), config.zone.as_str(), config.capacity), ("proxy-a", "a", 50));
        let cluster = config.cluster.unwrap();
        assert_eq!((cluster.etcd.len(), cluster.prefix.as_str()), (2, "/carillon/one"));
        assert_eq!((cluster.advertise.as_str(), cluster.tls), ("192.0.2.1:7400", None));
        assert_eq!((cluster.lease.as_secs(), cluster.drain.as_secs()), (10, 120));
    }

    #[test]
    fn a_node_without_a_cluster_has_every_role() {
        let alone = "[sip]\nlisten = [\"udp:127.0.0.1:5060\"]";
        let (config, mistakes) = with(alone, &[]);
        assert_eq!((config.roles, config.cluster, mistakes), (Roles::ALL, None, Vec::new()));
        let (_, mistakes) = with(&format!("{alone}\n[node]\nid = \"auto\"\nroles = \"proxy\""), &[]);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes.iter().all(|mistake| mistake.contains("[cluster]")), "{mistakes:?}");
    }

    #[test]
    fn only_a_proxy_needs_listeners() {
        let text = CLUSTER
            .replace("[\"proxy\", \"relay\"]", "\"as,portal\"")
            .replace("listen = [\"udp:192.0.2.1:5060\"]", "");
        assert_eq!(with(&text, &[]).1, Vec::<String>::new());
        let text = text.replace("as,portal", "as,relay");
        let (_, mistakes) = with(&text, &[]);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("media.address"), "{mistakes:?}");
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let variables = [
            ("CARILLON__NODE__ROLES", "as, portal"),
            ("CARILLON__NODE__ID", "7"),
            ("CARILLON__NODE__NAME", "as-b"),
            ("CARILLON__CLUSTER__ETCD", "http://192.0.2.9:2379"),
            ("CARILLON__SIP__LISTEN", "udp:192.0.2.2:5060,tcp:192.0.2.2:5060"),
        ];
        let (config, mistakes) = with(CLUSTER, &variables);
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!((config.node, config.auto_id, config.name.as_str()), (7, false, "as-b"));
        assert_eq!(config.roles.to_string(), "as,portal");
        assert_eq!(
            (config.listeners.len(), config.cluster.unwrap().etcd),
            (2, vec!["http://192.0.2.9:2379".to_owned()])
        );
        let (_, mistakes) = with(
            CLUSTER,
            &[("CARILLON__NODE__ZONES", "x"), ("CARILLON__ODD", "1"), ("CARILLON__NODE__CAPACITY", "much")],
        );
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        let (config, _) = with(CLUSTER, &[("CARILLON__NODE__ROLES", "as"), (ROLES, "relay,portal")]);
        assert_eq!(config.roles.to_string(), "relay,portal", "an argument goes before a variable");
        for name in ["CARILLON__NODE__ZONES", "CARILLON__ODD", "CARILLON__NODE__CAPACITY"] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(name)), "{name} in {mistakes:?}");
        }
    }

    #[test]
    fn mistakes_of_a_cluster_are_listed_with_key_value_and_remedy() {
        for (from, to, key) in [
            ("plain = true", "", "cluster.plain"),
            (
                "plain = true",
                "plain = true\nca_file = \"ca\"\ncert_file = \"c\"\nkey_file = \"k\"",
                "cluster.plain",
            ),
            ("plain = true", "plain = true\ncert_file = \"c\"", "cluster.key_file"),
            ("prefix = \"/carillon/one\"", "prefix = \"carillon\"", "cluster.prefix"),
            ("listen = \"192.0.2.1:7400\"", "", "cluster.listen"),
            ("listen = \"192.0.2.1:7400\"", "listen = \"0.0.0.0:7400\"", "cluster.advertise"),
            ("plain = true", "plain = true\nadvertise = \"host\"", "cluster.advertise"),
            ("plain = true", "plain = true\nlease_seconds = 1", "cluster.lease_seconds"),
            ("\"http://192.0.2.5:2379\"", "\"192.0.2.5:2379\"", "cluster.etcd"),
            ("url = \"postgresql://carillon@db.example.com/carillon\"", "", "store.url"),
            ("capacity = 50", "capacity = 0", "node.capacity"),
            ("[\"proxy\", \"relay\"]", "[\"proxy\", \"registrar\"]", "node.roles"),
            ("id = \"auto\"", "id = 0", "node.id"),
        ] {
            assert!(CLUSTER.contains(from), "{from}");
            let (_, mistakes) = with(&CLUSTER.replace(from, to), &[]);
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(key)), "{to}: {mistakes:?}");
        }
    }
}
