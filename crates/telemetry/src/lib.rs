//! How a node is watched: metrics as text and by OTLP, traces of calls, SIP messages for Homer. No room here makes a call wait.
//!
//! In: numbers of whoever counts ([`Registry`]), ended spans ([`Tracer`]), SIP messages ([`Hep`]). Out: a page of metrics, spans and
//! metrics for a collector ([`otlp`]), HEP3 datagrams. Rooms: `metrics` (pages, histograms), `text` (Prometheus), `span` (names of
//! traces, the queue of spans), `otlp` (the collector), `hep`, `process`. Elsewhere: what is counted (the crates of the roles).

pub mod hep;
mod metrics;
pub mod otlp;
mod process;
mod span;
mod text;

pub use hep::Hep;
pub use metrics::{Buckets, Family, Histogram, Kind, Labels, Page, Registry, Sample, Value};
pub use process::process;
pub use span::{Attribute, Span, SpanId, TraceId, Tracer, unix_ns};
pub use text::CONTENT_TYPE;
