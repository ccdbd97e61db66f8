//! The configuration file of a node: read, checked as a whole, every mistake listed with key, value and remedy.
//!
//! In: TOML text. Out: a [`NodeConfig`], or all mistakes. Elsewhere: what tenants configure (crate `model`).

mod api_tls;
mod cluster;
mod sip_tls;
mod trunks;
mod watch;

pub(crate) use trunks::TrunksConfig;
pub(crate) use watch::{WatchConfig, hep_password};

use ::cluster::node::{Role, Roles};

use ipnet::IpNet;
use sip::digest::Algorithm;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

pub(crate) use cluster::{ClusterConfig, Overrides, ROLES, TlsFiles, overrides};

/// A node's configuration with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeConfig {
    /// Number of this node, from 1.
    pub(crate) node: u16,
    /// The number is whichever is free in the cluster.
    pub(crate) auto_id: bool,
    /// What people call it; empty: as its host is called.
    pub(crate) name: String,
    /// What it does.
    pub(crate) roles: Roles,
    /// Where it stands.
    pub(crate) zone: String,
    /// Its weight among nodes of the same role.
    pub(crate) capacity: u32,
    /// `None`: it stands alone.
    pub(crate) cluster: Option<ClusterConfig>,
    /// Where everything durable lives.
    pub(crate) data: PathBuf,
    /// Worker threads for signalling; 0: one for each core.
    pub(crate) threads: usize,
    /// Where SIP is heard.
    pub(crate) listeners: Vec<ListenerConfig>,
    /// Where carriers and DDI providers are heard, and how they are watched.
    pub(crate) trunks: TrunksConfig,
    /// Certificates for SIP over TLS.
    pub(crate) tls: proxy::TlsConfig,
    /// Who is asked for the addresses of carriers and DDI providers; none: whom the system asks.
    pub(crate) nameservers: Vec<SocketAddr>,
    /// SIP worker tasks; 0: chosen by the number of cores.
    pub(crate) sip_workers: usize,
    pub(crate) user_agent: String,
    /// A phone that answers an INVITE by nothing at all for so long is given up; zero: after timer B.
    pub(crate) unreachable: Duration,
    /// A call that nobody answers ends after so long.
    pub(crate) ring: Duration,
    pub(crate) media: MediaConfig,
    pub(crate) registrar: RegistrarConfig,
    /// Challenge INVITEs; switching it off is a benchmark's affair and needs loopback listeners.
    pub(crate) challenge_invite: bool,
    /// What challenges offer, the preferred one first.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) limits: LimitsConfig,
    pub(crate) store: StoreConfig,
    /// Where the API is served; `None`: nowhere.
    pub(crate) api: Option<SocketAddr>,
    /// Where it speaks TLS: by these files.
    pub(crate) api_tls: Option<api::tls::Files>,
    /// What it allows.
    pub(crate) api_limits: api::serving::Limits,
    /// Host names by which everybody comes to it.
    pub(crate) api_hosts: Vec<String>,
    /// How much uploaded files may take.
    pub(crate) files: api::FileLimits,
    /// Brands, clients, terminals, users and extensions to load at start; `None` keeps what the store holds.
    pub(crate) users: Option<PathBuf>,
    pub(crate) log: LogConfig,
    /// How it is watched.
    pub(crate) watch: WatchConfig,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerConfig {
    pub(crate) transport: sip::flow::Transport,
    pub(crate) bind: SocketAddr,
    /// `host[:port]` that Via and Contact show instead of the bound address.
    pub(crate) advertise: Option<String>,
    /// Number of the trunk address whose socket it is; `None`: the users'.
    pub(crate) trunk: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaConfig {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) ports: (u16, u16),
    pub(crate) workers: usize,
    pub(crate) silence: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistrarConfig {
    pub(crate) min_expires: u32,
    pub(crate) max_expires: u32,
    pub(crate) default_expires: u32,
    pub(crate) ping: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitsConfig {
    pub(crate) calls: usize,
    pub(crate) tcp_connections: usize,
    pub(crate) tcp_connections_per_ip: usize,
    pub(crate) udp_surplus_per_second: u32,
    pub(crate) udp_surplus_burst: u32,
    pub(crate) udp_sources: usize,
}

/// Where the configuration is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreConfig {
    /// The address of a PostgreSQL database, without a password; `None`: a file of the data directory.
    pub(crate) url: Option<String>,
    /// The file with the database's password.
    pub(crate) password_file: Option<PathBuf>,
    /// The file with certificates of authorities that may have signed the database's: TLS, and nothing else.
    pub(crate) ca_file: Option<PathBuf>,
    /// The file with the key that seals secrets; `None`: `secret.key` in the data directory.
    pub(crate) key_file: Option<PathBuf>,
    /// How long the change log tells who changed what.
    pub(crate) keep_log: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) filter: String,
    pub(crate) json: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            node: 1,
            auto_id: false,
            name: String::new(),
            roles: Roles::ALL,
            zone: String::new(),
            capacity: 100,
            cluster: None,
            data: PathBuf::from("carillon-data"),
            threads: 0,
            listeners: Vec::new(),
            trunks: TrunksConfig::default(),
            tls: proxy::TlsConfig::default(),
            nameservers: Vec::new(),
            sip_workers: 0,
            user_agent: concat!("Carillon/", env!("CARGO_PKG_VERSION")).to_owned(),
            unreachable: Duration::from_secs(8),
            ring: Duration::from_secs(30),
            media: MediaConfig {
                addresses: Vec::new(),
                advertise: None,
                ports: (13_000, 19_000), // the range that operators' firewalls know from such platforms
                workers: 0,
                silence: Duration::from_secs(60),
            },
            registrar: RegistrarConfig {
                min_expires: 60,
                max_expires: 3600,
                default_expires: 3600,
                ping: Duration::from_secs(30), // below the 60 s after which many NATs forget a UDP mapping
            },
            challenge_invite: true,
            // What every telephone understands. RFC 8760 section 2.4 has clients skip what they do not know, yet many that
            // are in use fail at any challenge beside MD5's.
            algorithms: vec![Algorithm::MD5],
            limits: LimitsConfig {
                calls: 50_000,
                tcp_connections: 20_000,
                tcp_connections_per_ip: 200,
                udp_surplus_per_second: 32_768,
                udp_surplus_burst: 262_144,
                udp_sources: 16_384,
            },
            store: StoreConfig {
                url: None,
                password_file: None,
                ca_file: None,
                key_file: None,
                // A year's changes can be looked through after its end, with a month for it.
                keep_log: Duration::from_secs(400 * 86_400),
            },
            api: None,
            api_tls: None,
            api_limits: api::serving::Limits::default(),
            api_hosts: Vec::new(),
            files: api::FileLimits::default(),
            users: None,
            log: LogConfig { filter: "info".to_owned(), json: false },
            watch: WatchConfig::default(),
        }
    }
}

impl NodeConfig {
    /// Every listener is on the loopback interface, so that no default password can face a network.
    pub(crate) fn is_local(&self) -> bool {
        self.listeners.iter().chain(&self.trunks.listeners).all(|listener| listener.bind.ip().is_loopback())
    }
}

/// One thing wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    key: String,
    value: String,
    remedy: String,
}

impl Mistake {
    pub(crate) fn new(key: &str, value: &str, remedy: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: {}", self.key, self.remedy)
        } else {
            write!(f, "{} = {}: {}", self.key, self.value, self.remedy)
        }
    }
}

/// All mistakes in something, for the operator.
pub(crate) fn list<M: fmt::Display>(mistakes: &[M], place: &str) -> String {
    let noun = if mistakes.len() == 1 { "mistake" } else { "mistakes" };
    let lines: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    format!("{} {noun} in {place}:{lines}", mistakes.len())
}

/// Reads and checks a configuration file's text. What is wrong has its default in the result, which then serves only to look
/// for more mistakes.
#[cfg(test)]
pub(crate) fn read(text: &str) -> (NodeConfig, Vec<Mistake>) {
    read_with(text, &Overrides::new())
}

/// The same, where variables of the environment go before the file.
pub(crate) fn read_with(text: &str, overrides: &Overrides) -> (NodeConfig, Vec<Mistake>) {
    let mut reader = Reader { mistakes: Vec::new() };
    let config = match text.parse::<Table>() {
        Ok(mut table) => {
            let (from, strange) = cluster::apply(&mut table, overrides);
            for name in strange {
                reader.wrong(&name, "", "no key has this name; write CARILLON__SECTION__KEY");
            }
            let config = reader.node_config(&table);
            for mistake in &mut reader.mistakes {
                if let Some(name) = from.get(mistake.key.split('[').next().unwrap_or_default()) {
                    mistake.remedy = format!("{} ({name} says so)", mistake.remedy);
                }
            }
            config
        }
        Err(error) => {
            let remedy = format!("not readable as TOML: {}", error.to_string().trim());
            reader.wrong("the file", "", &remedy);
            NodeConfig::default()
        }
    };
    (config, reader.mistakes)
}

/// Sections of the file.
const SECTIONS: [&str; 15] = [
    "node",
    "cluster",
    "sip",
    "trunks",
    "dns",
    "media",
    "registrar",
    "auth",
    "limits",
    "store",
    "api",
    "users",
    "log",
    "operate",
    "telemetry",
];

struct Reader {
    mistakes: Vec<Mistake>,
}

/// One table of the file, which remembers the keys that were asked for: the rest is unknown.
struct Section<'a> {
    name: &'static str,
    table: Option<&'a Table>,
    known: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.table?.get(key)
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

impl Reader {
    fn node_config(&mut self, table: &Table) -> NodeConfig {
        let mut config = NodeConfig::default();
        for (key, value) in table {
            if !SECTIONS.contains(&key.as_str()) {
                self.mistake(key, value, &format!("unknown section; there are {}", SECTIONS.join(", ")));
            }
        }
        let mut node = self.section(table, "node");
        self.identity(&mut node, &mut config);
        self.text(&mut node, "data", |text| config.data = PathBuf::from(text));
        self.number(&mut node, "threads", 0..=1024, |n| config.threads = n as usize);
        self.finish(node);

        let mut sip = self.section(table, "sip");
        self.listeners(&mut sip, &mut config);
        self.number(&mut sip, "workers", 0..=64, |n| config.sip_workers = n as usize);
        self.text(&mut sip, "user_agent", |text| config.user_agent = text.to_owned());
        self.number(&mut sip, "unreachable_seconds", 0..=32, |n| config.unreachable = Duration::from_secs(n));
        self.number(&mut sip, "ring_seconds", 1..=3600, |n| config.ring = Duration::from_secs(n));
        config.tls.own = self.certificate(&mut sip);
        self.finish(sip);

        self.trunks(table, &mut config);

        let mut media = self.section(table, "media");
        self.media(&mut media, &mut config.media);
        self.finish(media);

        let mut registrar = self.section(table, "registrar");
        let expires = 1..=86_400 * 365;
        self.number(&mut registrar, "min_expires", expires.clone(), |n| {
            config.registrar.min_expires = n as u32
        });
        self.number(&mut registrar, "max_expires", expires.clone(), |n| {
            config.registrar.max_expires = n as u32
        });
        self.number(&mut registrar, "default_expires", expires, |n| {
            config.registrar.default_expires = n as u32
        });
        self.number(&mut registrar, "ping_seconds", 0..=3600, |n| {
            config.registrar.ping = Duration::from_secs(n)
        });
        self.finish(registrar);
        let times = &config.registrar;
        if !(times.min_expires <= times.default_expires && times.default_expires <= times.max_expires) {
            let all = format!("{} / {} / {}", times.min_expires, times.default_expires, times.max_expires);
            self.wrong(
                "registrar.min_expires / default_expires / max_expires",
                &all,
                "the default must lie between the smallest and the largest time",
            );
        }

        let mut auth = self.section(table, "auth");
        self.flag(&mut auth, "invite", |flag| config.challenge_invite = flag);
        self.algorithms(&mut auth, &mut config.algorithms);
        self.finish(auth);
        if !config.challenge_invite && !config.is_local() {
            self.wrong(
                "auth.invite",
                "false",
                "calls without a password are possible on loopback listeners only; remove it",
            );
        }

        let mut limits = self.section(table, "limits");
        self.number(&mut limits, "max_calls", 1..=1_000_000, |n| config.limits.calls = n as usize);
        let connections = 1..=1_000_000;
        self.number(&mut limits, "tcp_connections", connections.clone(), |n| {
            config.limits.tcp_connections = n as usize
        });
        self.number(&mut limits, "tcp_connections_per_ip", connections, |n| {
            config.limits.tcp_connections_per_ip = n as usize;
        });
        self.number(&mut limits, "udp_surplus_per_second", 1000..=1_000_000_000, |n| {
            config.limits.udp_surplus_per_second = n as u32;
        });
        self.number(&mut limits, "udp_surplus_burst", 10_000..=1_000_000_000, |n| {
            config.limits.udp_surplus_burst = n as u32;
        });
        self.number(&mut limits, "udp_sources", 64..=4_194_304, |n| config.limits.udp_sources = n as usize);
        self.finish(limits);

        let mut store = self.section(table, "store");
        self.store(&mut store, &mut config.store);
        self.finish(store);

        let mut api = self.section(table, "api");
        let mut listen = String::new();
        self.text(&mut api, "listen", |text| text.clone_into(&mut listen));
        match listen.parse() {
            Ok(address) => config.api = Some(address),
            Err(_) if listen.is_empty() => {}
            Err(_) => self.wrong(
                "api.listen",
                &listen,
                "write an IP address and a port, such as \"127.0.0.1:8080\"",
            ),
        }
        self.api_tls(&mut api, &mut config);
        self.number(&mut api, "connections", 16..=1_000_000, |n| config.api_limits.connections = n as usize);
        self.number(&mut api, "connections_per_ip", 1..=1_000_000, |n| {
            config.api_limits.per_address = n as usize;
        });
        let remedy =
            "write a host name such as \"api.example.com\", without scheme and port, or a list of them";
        for host in self.texts(&mut api, "hosts", remedy) {
            let name = host.trim_end_matches('.');
            if model::checks::host_name(name) && !model::checks::ip(name) {
                config.api_hosts.push(host);
            } else {
                self.wrong("api.hosts", &host, remedy);
            }
        }
        self.number(&mut api, "client_files_mib", 0..=1 << 30, |n| config.files.client = n << 20);
        self.number(&mut api, "brand_files_mib", 0..=1 << 30, |n| config.files.brand = n << 20);
        let remedy = "write the address or the network of a proxy, such as \"10.0.0.0/8\", or a list of them";
        for text in self.texts(&mut api, "behind", remedy) {
            match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => config.api_limits.behind.push(network),
                Err(_) => self.wrong("api.behind", &text, remedy),
            }
        }
        self.finish(api);

        let mut users = self.section(table, "users");
        self.text(&mut users, "file", |text| config.users = Some(PathBuf::from(text)));
        self.finish(users);

        let mut log = self.section(table, "log");
        self.text(&mut log, "filter", |text| config.log.filter = text.to_owned());
        self.filter(&config.log.filter);
        let mut format = "text".to_owned();
        self.text(&mut log, "format", |text| format = text.to_owned());
        match format.as_str() {
            "text" => {}
            "json" => config.log.json = true,
            other => self.wrong("log.format", other, "write \"text\" or \"json\""),
        }
        self.finish(log);
        self.cluster(table, &mut config);
        self.sip_tls(&config);
        config.watch = self.watch(table);
        if config.media.addresses.is_empty() {
            config.media.addresses = default_media_addresses(&config.listeners);
        }
        if !config.roles.has(Role::Relay) {
            return config;
        }
        if config.media.addresses.is_empty() && !config.roles.has(Role::Proxy) {
            self.wrong("media.address", "", "missing; write the IP address where media are heard, for there is no listener to take it from");
        }
        if !self.mistakes.iter().any(|mistake| mistake.key.starts_with("media.a")) {
            self.media_is_reachable(&config.media);
        }
        config
    }

    fn store(&mut self, section: &mut Section<'_>, store: &mut StoreConfig) {
        self.text(section, "url", |text| store.url = Some(text.to_owned()));
        self.text(section, "password_file", |text| store.password_file = Some(PathBuf::from(text)));
        self.text(section, "ca_file", |text| store.ca_file = Some(PathBuf::from(text)));
        self.text(section, "key_file", |text| store.key_file = Some(PathBuf::from(text)));
        self.number(section, "keep_log_days", 1..=36_500, |days| {
            store.keep_log = Duration::from_secs(days * 86_400)
        });
        if store.url.is_none() {
            for (key, file) in
                [("store.password_file", &store.password_file), ("store.ca_file", &store.ca_file)]
            {
                if let Some(file) = file {
                    let remedy =
                        "is for a database, and store.url names none; name one there, or remove this";
                    self.wrong(key, &file.display().to_string(), remedy);
                }
            }
        }
        // Files are looked at and the address is read where it is used (`place`).
        self.mistakes.extend(crate::place::mistakes(store));
    }

    fn filter(&mut self, filter: &str) {
        if let Err(remedy) = log_filter(filter) {
            self.wrong("log.filter", filter, &remedy);
        }
    }

    /// Every address of the relay has one to show in session descriptions, and the one to show belongs to an address.
    fn media_is_reachable(&mut self, media: &MediaConfig) {
        let shown = media.advertise;
        if let Some(shown) = shown
            && !media.addresses.is_empty()
            && !media.addresses.iter().any(|ip| ip.is_ipv4() == shown.is_ipv4())
        {
            let remedy = format!(
                "media is heard on {} only, of the other IP version; write an address of the same one, or add one to media.address",
                joined(&media.addresses)
            );
            self.wrong("media.advertise", &shown.to_string(), &remedy);
        }
        for ip in media.addresses.iter().filter(|ip| ip.is_unspecified()) {
            if shown.is_none_or(|shown| shown.is_ipv4() != ip.is_ipv4()) {
                let remedy = format!(
                    "missing for media on {ip} (media.address, else that of sip.listen): write the IP address that phones reach, or name \
                     one of this machine in media.address"
                );
                self.wrong("media.advertise", "", &remedy);
            }
        }
    }

    fn listeners(&mut self, sip: &mut Section<'_>, config: &mut NodeConfig) {
        let entries = match sip.get("listen") {
            Some(Value::Array(entries)) if !entries.is_empty() => entries.as_slice(),
            Some(other) => {
                return self.mistake("sip.listen", other, "write a list such as [\"udp:192.0.2.1:5060\"]");
            }
            None if !config.roles.has(Role::Proxy) => return,
            None => {
                return self.wrong(
                    "sip.listen",
                    "",
                    "missing; write a list such as [\"udp:192.0.2.1:5060\"]",
                );
            }
        };
        for (number, entry) in entries.iter().enumerate() {
            let key = format!("sip.listen[{number}]");
            if let Some(listener) = self.listener(&key, entry, None) {
                if config
                    .listeners
                    .iter()
                    .any(|l| l.transport == listener.transport && l.bind == listener.bind)
                {
                    self.mistake(&key, entry, "named twice; remove one");
                }
                config.listeners.push(listener);
            }
        }
    }

    /// `"udp:ADDRESS:PORT"`, or `{ bind = "udp:ADDRESS:PORT", advertise = "HOST[:PORT]" }`. `trunk`: it is one of a trunk address,
    /// of this one where it names none by `trunk = NUMBER`.
    fn listener(&mut self, key: &str, entry: &Value, mut trunk: Option<u32>) -> Option<ListenerConfig> {
        let (bind, advertise) = match entry {
            Value::String(bind) => (bind.as_str(), None),
            Value::Table(table) => {
                for (name, value) in table {
                    let key = format!("{key}.{name}");
                    match (name.as_str(), trunk) {
                        ("bind" | "advertise", _) => {}
                        ("trunk", Some(_)) => match value.as_integer().and_then(|n| u32::try_from(n).ok()) {
                            Some(number) if number > 0 => trunk = Some(number),
                            _ => self.mistake(&key, value, "write the number of a trunk address, from 1"),
                        },
                        (_, None) => self.mistake(&key, value, "unknown; there are bind and advertise"),
                        (_, Some(_)) => {
                            self.mistake(&key, value, "unknown; there are bind, advertise and trunk")
                        }
                    }
                }
                let text = |name: &str| table.get(name).and_then(Value::as_str);
                let Some(bind) = text("bind") else {
                    self.mistake(key, entry, "needs bind = \"udp:ADDRESS:PORT\"");
                    return None;
                };
                (bind, text("advertise").map(str::to_owned))
            }
            other => {
                self.mistake(key, other, "write \"udp:ADDRESS:PORT\"");
                return None;
            }
        };
        let parsed = bind.split_once(':').and_then(|(transport, address)| {
            let transport = sip::flow::Transport::from_token(transport)?;
            Some((transport, SocketAddr::from_str(address).ok()?))
        });
        let Some((transport, bind)) = parsed else {
            self.mistake(
                key,
                entry,
                "write TRANSPORT:ADDRESS:PORT, such as \"udp:192.0.2.1:5060\" or \"tcp:[2001:db8::1]:5060\"",
            );
            return None;
        };
        if matches!(transport, sip::flow::Transport::Ws | sip::flow::Transport::Wss) {
            self.mistake(key, entry, "this transport is not served yet; use udp, tcp or tls");
            return None;
        }
        if let Some(advertise) = advertise.as_deref().filter(|text| !proxy::is_advertisable(text)) {
            let key = format!("{key}.advertise");
            self.wrong(
                &key,
                advertise,
                "write HOST or HOST:PORT as phones reach it, not an unspecified address",
            );
        }
        if bind.ip().is_unspecified() && advertise.is_none() {
            self.mistake(
                key,
                entry,
                "an unspecified address needs `advertise`: write { bind = \"…\", advertise = \"HOST\" } with the address that phones reach",
            );
        }
        Some(ListenerConfig { transport, bind, advertise, trunk })
    }

    fn algorithms(&mut self, auth: &mut Section<'_>, algorithms: &mut Vec<Algorithm>) {
        const REMEDY: &str =
            "write a list of \"SHA-256\", \"SHA-512-256\" and \"MD5\", the preferred one first";
        let entries = match auth.get("algorithms") {
            Some(Value::Array(entries)) if !entries.is_empty() => entries,
            Some(other) => return self.mistake("auth.algorithms", other, REMEDY),
            None => return,
        };
        algorithms.clear();
        for (number, entry) in entries.iter().enumerate() {
            let known = entry.as_str().and_then(|token| Algorithm::from_token(token.as_bytes()));
            match known.filter(|algorithm| !algorithm.session) {
                Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
                Some(_) => {
                    self.mistake(&format!("auth.algorithms[{number}]"), entry, "named twice; remove one")
                }
                None => self.mistake(&format!("auth.algorithms[{number}]"), entry, REMEDY),
            }
        }
    }

    fn media(&mut self, media: &mut Section<'_>, config: &mut MediaConfig) {
        let remedy = "write an address, or a list of one IPv4 and one IPv6 address";
        for address in self.texts(media, "address", remedy) {
            match address.parse::<IpAddr>() {
                Ok(address) if config.addresses.iter().any(|a| a.is_ipv4() == address.is_ipv4()) => {
                    self.wrong(
                        "media.address",
                        &address.to_string(),
                        "one address for each IP version; remove this one",
                    );
                }
                Ok(address) => config.addresses.push(address),
                Err(_) => self.wrong("media.address", &address, "not an IP address"),
            }
        }
        let mut advertise = None;
        self.text(media, "advertise", |text| advertise = Some(text.to_owned()));
        if let Some(text) = advertise {
            match text.parse::<IpAddr>() {
                Ok(address) if !address.is_unspecified() => config.advertise = Some(address),
                Ok(_) | Err(_) => {
                    self.wrong("media.advertise", &text, "write the IP address that phones reach, not a name")
                }
            }
        }
        let mut ports = None;
        self.text(media, "ports", |text| ports = Some(text.to_owned()));
        if let Some(text) = ports {
            match parse_ports(&text) {
                Some(range) => config.ports = range,
                None => self.wrong("media.ports", &text, PORTS_REMEDY),
            }
        }
        self.number(media, "workers", 0..=64, |n| config.workers = n as usize);
        self.number(media, "silence_seconds", 0..=86_400, |n| config.silence = Duration::from_secs(n));
    }

    /// A text, or a list of them.
    fn texts(&mut self, section: &mut Section<'_>, key: &'static str, remedy: &str) -> Vec<String> {
        match section.get(key) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => several
                .iter()
                .map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect(),
            Some(other) => {
                self.mistake(&section.key(key), other, remedy);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn section<'a>(&mut self, table: &'a Table, name: &'static str) -> Section<'a> {
        let table = match table.get(name) {
            Some(Value::Table(table)) => Some(table),
            Some(other) => {
                self.mistake(name, other, &format!("write a section [{name}]"));
                None
            }
            None => None,
        };
        Section { name, table, known: BTreeSet::new() }
    }

    fn finish(&mut self, section: Section<'_>) {
        let known: Vec<_> = section.known.iter().copied().collect();
        for (key, value) in section.table.into_iter().flatten() {
            if !section.known.contains(key.as_str()) {
                self.mistake(
                    &section.key(key),
                    value,
                    &format!("unknown key; there are {}", known.join(", ")),
                );
            }
        }
    }

    fn number(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
        set: impl FnOnce(u64),
    ) {
        match section.get(key) {
            Some(Value::Integer(n)) if u64::try_from(*n).is_ok_and(|n| range.contains(&n)) => {
                set(n.unsigned_abs())
            }
            Some(other) => {
                let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
                self.mistake(&section.key(key), other, &remedy);
            }
            None => {}
        }
    }

    fn text(&mut self, section: &mut Section<'_>, key: &'static str, set: impl FnOnce(&str)) {
        match section.get(key) {
            Some(Value::String(text)) if !text.is_empty() && !text.contains(['\r', '\n']) => set(text),
            Some(other) => self.mistake(&section.key(key), other, "write a text of one line in quotes"),
            None => {}
        }
    }

    fn flag(&mut self, section: &mut Section<'_>, key: &'static str, set: impl FnOnce(bool)) {
        match section.get(key) {
            Some(Value::Boolean(flag)) => set(*flag),
            Some(other) => self.mistake(&section.key(key), other, "write true or false"),
            None => {}
        }
    }

    fn mistake(&mut self, key: &str, value: &Value, remedy: &str) {
        self.wrong(key, &value.to_string(), remedy);
    }

    fn wrong(&mut self, key: &str, value: &str, remedy: &str) {
        self.mistakes.push(Mistake::new(key, value, remedy));
    }
}

/// Most octets of a filter of the log.
const LONGEST_FILTER: usize = 1000;

/// Whether this can be the filter of the log; otherwise what to do. A word that is no level would be taken for a module, of
/// which there is none, and silence everything.
pub(crate) fn log_filter(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part.trim()));
    if filter.len() > LONGEST_FILTER {
        return Err(format!("longer than {LONGEST_FILTER} octets; name fewer modules"));
    }
    let wrong = match EnvFilter::try_new(filter) {
        Err(error) => error.to_string(),
        Ok(_) => match filter.split(',').find(|part| !part.contains(['=', '[']) && !is_level(part)) {
            Some(part) => format!("{:?} is no level", part.trim()),
            None => return Ok(()),
        },
    };
    Err(format!("{wrong}; write one of {}, or MODULE=LEVEL parts with commas", LEVELS.join(", ")))
}

/// What to write for [`parse_ports`].
pub(crate) const PORTS_REMEDY: &str = "write FROM-TO from 1024 up with at least two pairs of an even port and the odd one above it, such as 13000-19000";

/// `FROM-TO`, at least two pairs of RTP, on an even port, and RTCP: one call.
pub(crate) fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (from.trim().parse::<u16>().ok()?, to.trim().parse::<u16>().ok()?);
    let first_even = u32::from(from).next_multiple_of(2);
    (from >= 1024 && u32::from(to) >= first_even + 3).then_some((from, to))
}

fn joined(addresses: &[IpAddr]) -> String {
    let all: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    all.join(", ")
}

/// Media goes where signalling goes unless told otherwise: the first listener address of each IP version.
fn default_media_addresses(listeners: &[ListenerConfig]) -> Vec<IpAddr> {
    let first = |v4: bool| listeners.iter().map(|listener| listener.bind.ip()).find(|ip| ip.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeConfig, Vec<Mistake>> {
        let (config, mistakes) = read(text);
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    #[test]
    fn the_smallest_file_gets_every_default() {
        let config = parse("[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"tcp:[::1]:5060\"]").unwrap();
        assert_eq!(config.media.ports, (13_000, 19_000));
        assert_eq!(config.media.addresses, ["127.0.0.1", "::1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(config.listeners[1].transport, sip::flow::Transport::Tcp);
        assert_eq!(config.algorithms, [Algorithm::MD5]);
        assert!(config.is_local());
    }

    #[test]
    fn hosts_of_the_api_are_names() {
        let with =
            |hosts: &str| parse(&format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n[api]\nhosts = {hosts}"));
        assert_eq!(with("\"api.example.com\"").unwrap().api_hosts, ["api.example.com"]);
        assert_eq!(with("[\"a.example\", \"b.example.\"]").unwrap().api_hosts, ["a.example", "b.example."]);
        for wrong in ["https://api.example.com", "api.example.com:443", "192.0.2.1", "::1", "a b", ""] {
            let listed = with(&format!("[\"{wrong}\"]")).unwrap_err()[0].to_string();
            assert!(listed.starts_with("api.hosts") && listed.contains("without scheme"), "{listed}");
        }
    }

    #[test]
    fn digest_algorithms_are_offered_in_the_order_of_the_file() {
        let text =
            "[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n[auth]\nalgorithms = [\"md5\", \"SHA-512-256\"]";
        assert_eq!(parse(text).unwrap().algorithms, [Algorithm::MD5, Algorithm::SHA_512_256]);
    }

    #[test]
    fn every_mistake_is_listed_with_key_value_and_remedy() {
        let text = r#"
            [node]
            id = 0
            color = "red"
            [sip]
            listen = ["udp:5060", "carrier-pigeon:127.0.0.1:1", "udp:0.0.0.0:5060", { bind = "udp:192.0.2.1:5060", adverts = 1 }, { bind = "udp:192.0.2.2:5060", advertise = "a b" }, { bind = "udp:192.0.2.3:5060", advertise = "0.0.0.0" }]
            [media]
            address = "here"
            ports = "19000-13000"
            [registrar]
            min_expires = 7200
            [auth]
            invite = false
            algorithms = ["MD5", "ROT13", "md5"]
            [limits]
            udp_surplus_per_second = 0
            udp_surplus_burst = "much"
            udp_sources = -1
            [log]
            format = "xml"
            filter = "carillon=loud"
            [tls]
        "#;
        let mistakes = parse(text).unwrap_err();
        let listed: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for (key, value) in [
            ("tls", ""),
            ("node.id", "0"),
            ("node.color", "red"),
            ("sip.listen[0]", "udp:5060"),
            ("sip.listen[1]", "carrier-pigeon"),
            ("sip.listen[2]", "0.0.0.0"),
            ("sip.listen[3].adverts", "1"),
            ("media.address", "here"),
            ("media.ports", "19000-13000"),
            ("registrar.min_expires", "7200"),
            ("auth.invite", "false"),
            ("auth.algorithms[1]", "ROT13"),
            ("auth.algorithms[2]", "md5"),
            ("limits.udp_surplus_per_second", "0"),
            ("limits.udp_surplus_burst", "much"),
            ("limits.udp_sources", "-1"),
            ("log.format", "xml"),
            ("log.filter", "carillon=loud"),
            ("sip.listen[4].advertise", "a b"),
            ("sip.listen[5].advertise", "0.0.0.0"),
        ] {
            assert!(
                listed.iter().any(|line| line.starts_with(key) && line.contains(value)),
                "{key} in {listed:#?}"
            );
        }
        assert_eq!(listed.len(), 20, "{listed:#?}");
    }

    #[test]
    fn a_start_that_would_fail_for_want_of_an_address_is_a_mistake() {
        let everywhere =
            "[sip]\nlisten = [{ bind = \"udp:0.0.0.0:5060\", advertise = \"sip.example.com\" }]\n";
        let only = |media: &str| {
            let listed = parse(&format!("{everywhere}[media]\n{media}\n")).unwrap_err();
            assert_eq!(listed.len(), 1, "{media}: {listed:#?}");
            listed[0].to_string()
        };
        let missing = only("");
        assert!(missing.starts_with("media.advertise: missing") && missing.contains("0.0.0.0"), "{missing}");
        for wrong in ["sip.example.com", "::", "0.0.0.0", "2001:db8::1"] {
            let listed = parse(&format!("{everywhere}[media]\nadvertise = \"{wrong}\"\n")).unwrap_err();
            let first = listed[0].to_string();
            assert!(first.starts_with(&format!("media.advertise = {wrong}: ")), "{first}");
        }
        let two = only("address = [\"0.0.0.0\", \"::\"]\nadvertise = \"2001:db8::1\"");
        assert!(two.starts_with("media.advertise: missing for media on 0.0.0.0"), "{two}");
        let right = parse(&format!("{everywhere}[media]\nadvertise = \"192.0.2.1\"\n"));
        assert_eq!(right.unwrap().media.advertise, "192.0.2.1".parse().ok());
        assert!(parse(&format!("{everywhere}[media]\naddress = \"192.0.2.1\"\n")).is_ok());
    }

    #[test]
    fn a_log_filter_is_made_of_levels() {
        let with = |filter: &str| {
            parse(&format!("[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n[log]\nfilter = \"{filter}\""))
        };
        for right in ["off", "WARN", "warn,proxy=debug", "proxy::leg=trace, info", "[call],[leg{id=1}]=debug"]
        {
            assert!(with(right).is_ok(), "{right}");
        }
        for wrong in ["loud", "info,loud", "proxy=loud"] {
            let listed = with(wrong).unwrap_err()[0].to_string();
            assert!(
                listed.starts_with(&format!("log.filter = {wrong}: ")) && listed.contains("off, error"),
                "{listed}"
            );
        }
    }

    #[test]
    fn a_range_of_ports_holds_a_call() {
        for right in ["13000-19000", "23000-23003", "23001-23005", "65532-65535"] {
            assert!(parse_ports(right).is_some(), "{right}");
        }
        for wrong in ["23001-23004", "23000-23002", "1023-2000", "9-8", "2000-1999", "65533-65535", "-", ""] {
            assert_eq!(parse_ports(wrong), None, "{wrong}");
        }
    }

    /// Operators copy it, and believe its comments.
    #[test]
    fn the_example_has_every_key_with_its_default() {
        let text = include_str!("../../../deploy/carillon.toml");
        let example = parse(text).unwrap();
        let loopback: SocketAddr = "127.0.0.1:5060".parse().unwrap();
        let listener = |transport| ListenerConfig { transport, bind: loopback, advertise: None, trunk: None };
        let mut default = NodeConfig {
            listeners: vec![listener(sip::flow::Transport::Udp), listener(sip::flow::Transport::Tcp)],
            ..NodeConfig::default()
        };
        default.media.addresses = vec![loopback.ip()]; // follows the listeners
        assert_eq!(example, default);
        // The reader lists the keys that it knows when there is one that it does not.
        for section in SECTIONS {
            let listed = read(&format!("[{section}]\nno_such_key = 1\n")).1;
            let unknown = listed.iter().find(|mistake| mistake.key.ends_with("no_such_key")).unwrap();
            let (_, keys) = unknown.remedy.split_once("there are ").unwrap();
            let start = text.find(&format!("\n[{section}]\n")).unwrap();
            let part = text[start + 2..].split("\n[").next().unwrap();
            for key in keys.split(", ") {
                let is_there = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
                assert!(part.lines().any(is_there), "[{section}] {key} is not in the example");
            }
        }
    }

    #[test]
    fn one_mistake_is_one() {
        assert_eq!(list(&["a: b"], "f"), "1 mistake in f:\n  a: b");
        assert_eq!(list(&["a: b", "c: d"], "f"), "2 mistakes in f:\n  a: b\n  c: d");
    }

    #[test]
    fn what_is_not_toml_says_where() {
        let listed = parse("[sip\n").unwrap_err()[0].to_string();
        assert!(listed.contains("not readable as TOML") && listed.contains("line 1"), "{listed}");
    }
}
