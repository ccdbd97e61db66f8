//! Those who watch a node: a scraper that believes nothing, a collector of OpenTelemetry, a reader of what sngrep wrote.
//!
//! In: a node's listeners, its requests, files. Out: pages of metrics, spans, packets. Elsewhere: the tests (`tests/watching.rs`).

use crate::PATIENCE;
use crate::api::logged_address;
use crate::node::Node;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tonic::{Request, Response, Status};

/// The section that lets a node tell machines how it is.
pub const OPERATED: &str = "[operate]\nlisten = \"127.0.0.1:0\"";

/// Where a node tells machines how it is.
///
/// # Panics
/// When it does not.
pub fn address(node: &mut Node) -> SocketAddr {
    let line = node.process().line_with(" health and metrics address=", PATIENCE);
    logged_address(&line.expect("the node serves health and metrics"))
}

/// Status, media type and body of what is at a path.
///
/// # Panics
/// When nobody answers.
pub fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (status, kind.to_owned(), body.to_owned())
}

/// A page of metrics, read as strictly as Prometheus' text format (version 0.0.4) says.
#[derive(Debug, Default)]
pub struct Page {
    samples: BTreeMap<String, f64>,
    /// Kinds by the names of families.
    pub families: BTreeMap<String, String>,
}

impl Page {
    /// Asks for it.
    ///
    /// # Panics
    /// When it is not a right one.
    pub fn of(address: SocketAddr) -> Page {
        let (status, kind, body) = get(address, "/metrics");
        assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        Page::read(&body)
    }

    /// A sample by its name with labels, as it stands on the page.
    ///
    /// # Panics
    /// When there is none.
    pub fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }

    /// Reads one.
    ///
    /// # Panics
    /// When it is not a right one.
    pub fn read(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut page = Page::default();
        let mut family: Option<(String, String)> = None;
        let mut told: Option<String> = None;
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
                assert!(is_name(name) && !text.is_empty(), "{line}");
                told = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no kind: {line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(told.take().as_deref(), Some(name), "help stands before: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let before = page.families.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "a family stands in one place: {line}");
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let (name, kind) = family.as_ref().unwrap_or_else(|| panic!("no family: {line}"));
                let base = sample.split('{').next().unwrap_or_default();
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let fits = suffixes.iter().any(|suffix| base.strip_suffix(suffix) == Some(name));
                assert!(fits, "not of the family {name}: {line}");
                check_labels(&sample[base.len()..]);
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(page.samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        page.check_histograms();
        page
    }

    /// Buckets grow, and the last one has all.
    fn check_histograms(&self) {
        for (family, _) in self.families.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
            for (sample, count) in &self.samples {
                let Some(labels) = sample.strip_prefix(&format!("{family}_bucket{{")) else { continue };
                let (rest, bound) = labels.rsplit_once("le=\"").expect("a bucket has a bound");
                let bound = bound.trim_end_matches("\"}").replace("+Inf", "inf").parse().expect("a bound");
                series.entry(rest.trim_end_matches(',').to_owned()).or_default().push((bound, *count));
            }
            assert!(!series.is_empty(), "{family} has buckets");
            for (labels, mut buckets) in series {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1), "{family}");
                let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                let last = buckets.last().expect("it has one");
                assert_eq!(*last, (f64::INFINITY, self.value(&format!("{family}_count{braced}"))));
                assert!(self.value(&format!("{family}_sum{braced}")) >= 0.0);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    text.starts_with(is_letter) && text.chars().all(|letter| is_letter(letter) || letter.is_ascii_digit())
}

/// `{name="value",…}`, or nothing.
fn check_labels(text: &str) {
    if text.is_empty() {
        return;
    }
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix("\"}"));
    let mut names = BTreeSet::new();
    for label in inner.unwrap_or_else(|| panic!("no labels: {text}")).split("\",") {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        assert!(is_name(name) && names.insert(name) && !value.contains(['"', '\\', '\n']), "{text}");
    }
}

/// A collector of OpenTelemetry that keeps what it gets.
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Kept {
    state: Mutex<(Vec<Span>, BTreeSet<String>)>,
    news: Condvar,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, (Vec<Span>, BTreeSet<String>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Service(Arc<Kept>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let all = request.into_inner().resource_spans.into_iter().flat_map(|part| part.scope_spans);
        self.0.lock().0.extend(all.flat_map(|part| part.spans));
        self.0.news.notify_all();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let all = request.into_inner().resource_metrics.into_iter().flat_map(|part| part.scope_metrics);
        self.0.lock().1.extend(all.flat_map(|part| part.metrics).map(|metric| metric.name));
        self.0.news.notify_all();
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("it has an address");
        let kept = Arc::new(Kept::default());
        let service = Service(Arc::clone(&kept));
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(service.clone()))
            .add_service(MetricsServiceServer::new(service));
        runtime.spawn(server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
        Collector { address, kept, _runtime: runtime }
    }

    /// The section that names it.
    pub fn section(&self) -> String {
        format!("[telemetry]\notlp = \"http://{}\"", self.address)
    }

    /// All spans, once there are so many.
    ///
    /// # Panics
    /// When they do not come.
    pub fn spans(&self, count: usize) -> Vec<Span> {
        self.wait(|(spans, _)| (spans.len() >= count).then(|| spans.clone()))
    }

    /// Waits for a metric of this name.
    ///
    /// # Panics
    /// When it does not come.
    pub fn metric(&self, name: &str) {
        self.wait(|(_, metrics)| metrics.contains(name).then_some(()));
    }

    fn wait<T>(&self, wanted: impl Fn(&(Vec<Span>, BTreeSet<String>)) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.kept.lock();
        loop {
            if let Some(found) = wanted(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not come: {state:#?}");
            state = self.kept.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What a span says of itself under this key; empty: nothing.
pub fn attribute(span: &Span, key: &str) -> String {
    let pair = span.attributes.iter().find(|pair| pair.key == key);
    match pair.and_then(|pair| pair.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// A trace as text: each span below its parent, those of one parent by name, with these attributes.
///
/// # Panics
/// When the spans are not one trace with one root.
pub fn tree(spans: &[Span], keys: &[&str]) -> String {
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1, "one trace: {spans:#?}");
    let names: BTreeSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(names.len(), spans.len(), "each span once: {spans:#?}");
    let mut text = String::new();
    below(spans, &[], 0, keys, &mut text);
    assert_eq!(text.lines().count(), spans.len(), "each has a parent:\n{text}\n{spans:#?}");
    text
}

fn below(spans: &[Span], parent: &[u8], depth: usize, keys: &[&str], text: &mut String) {
    let mut children: Vec<(String, &Span)> = spans
        .iter()
        .filter(|span| span.parent_span_id == parent)
        .map(|span| {
            let told: Vec<String> =
                keys.iter().map(|key| attribute(span, key)).filter(|v| !v.is_empty()).collect();
            (format!("{} {}", span.name, told.join(" ")).trim_end().to_owned(), span)
        })
        .collect();
    children.sort_by(|one, other| one.0.cmp(&other.0));
    for (line, span) in children {
        text.push_str(&format!("{}{line}\n", "  ".repeat(depth)));
        below(spans, &span.span_id, depth + 1, keys, text);
    }
}

/// A datagram that sngrep wrote.
#[derive(Debug)]
pub struct Packet {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Its content.
    pub text: String,
}

/// What a file that sngrep writes (pcap with Ethernet) has by now.
///
/// # Panics
/// When it is another file.
pub fn packets(file: &Path) -> Vec<Packet> {
    const HEAD: usize = 24;
    const HEAD_OF_ONE: usize = 16;
    const ETHERNET: usize = 14;
    let bytes = std::fs::read(file).unwrap_or_default();
    if bytes.len() < HEAD {
        return Vec::new();
    }
    assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "a pcap file of this machine");
    let mut rest = &bytes[HEAD..];
    let mut packets = Vec::new();
    while rest.len() >= HEAD_OF_ONE {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("four octets")) as usize;
        if rest.len() < HEAD_OF_ONE + length {
            break;
        }
        let ip = &rest[HEAD_OF_ONE + ETHERNET..HEAD_OF_ONE + length];
        let udp = &ip[usize::from(ip[0] & 15) * 4..];
        let at = |ip: &[u8], port: &[u8]| {
            let ip = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be_bytes([port[0], port[1]])))
        };
        packets.push(Packet {
            from: at(&ip[12..16], &udp[..2]),
            to: at(&ip[16..20], &udp[2..4]),
            text: String::from_utf8_lossy(&udp[8..]).into_owned(),
        });
        rest = &rest[HEAD_OF_ONE + length..];
    }
    packets
}
