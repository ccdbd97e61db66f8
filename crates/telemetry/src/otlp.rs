//! The way to a collector of OpenTelemetry: OTLP over gRPC (opentelemetry.io/docs/specs/otlp), spans as they end and metrics from time to time.
//!
//! In: spans of the queue (`span`), pages (`metrics`). Out: requests to the collector. One that is away costs dropped spans and
//! missing points, which are counted, and nothing else. Elsewhere: what the spans and numbers are.

use crate::metrics::{Family, Kind, Page, Registry, Sample, Value};
use crate::span::{Attribute, Fates, Item, Span, Tracer, unix_ns};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as Written, Status, span, status,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::{info, warn};

/// Spans of one request.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take to be there, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// After a failure the collector is left alone this long, then twice as long, and so on.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where telemetry goes, and whose it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The collector: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// Millionths of calls that are traced.
    pub share_ppm: u32,
    /// The name of this node.
    pub node: String,
    /// The version of the program.
    pub version: &'static str,
    /// How often metrics are sent.
    pub every: Duration,
}

/// Why an endpoint cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// Not a URL of that kind.
    #[error("no address of a collector; write http://HOST:PORT, or https://HOST:PORT for TLS")]
    Endpoint,
    /// TLS cannot be had.
    #[error("TLS to the collector is not possible")]
    Tls(#[source] tonic::transport::Error),
}

/// Whether this can be the address of a collector.
///
/// # Errors
/// Why it cannot.
pub fn check(endpoint: &str) -> Result<(), OtlpError> {
    endpoint_of(endpoint).map(drop)
}

fn endpoint_of(text: &str) -> Result<Endpoint, OtlpError> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let place = rest.map(|rest| rest.trim_end_matches('/'));
    if place.is_none_or(|place| place.is_empty() || place.contains(['/', '@', '?', '#'])) {
        return Err(OtlpError::Endpoint);
    }
    let endpoint = Endpoint::from_shared(text.to_owned()).map_err(|_| OtlpError::Endpoint)?;
    Ok(endpoint.connect_timeout(CONNECT).timeout(ANSWER))
}

/// Makes a tracer, and the work of sending what it and the registry have. The work ends when the tracer is gone.
///
/// # Errors
/// The endpoint cannot be used.
pub fn start(
    config: Config,
    registry: Arc<Registry>,
) -> Result<(Arc<Tracer>, impl Future<Output = ()> + Send), OtlpError> {
    let mut endpoint = endpoint_of(&config.endpoint)?;
    if config.endpoint.starts_with("https://") {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint.tls_config(tls).map_err(OtlpError::Tls)?;
    }
    let (tracer, spans, fates) = Tracer::new(config.share_ppm);
    let work = async move {
        let channel = endpoint.connect_lazy();
        let resource = resource(&config);
        tokio::select! {
            () = send_spans(spans, &fates, channel.clone(), &resource) => {}
            () = send_metrics(&registry, channel, &resource, config.every) => {}
        }
    };
    Ok((Arc::new(tracer), work))
}

fn resource(config: &Config) -> Resource {
    let attributes = vec![
        text("service.name", "carillon"),
        text("service.version", config.version),
        text("service.instance.id", &config.node),
    ];
    Resource { attributes, ..Resource::default() }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "carillon".to_owned(), ..InstrumentationScope::default() })
}

/// Tells the log when a collector goes and comes, once each.
struct Trouble {
    what: &'static str,
    pause: Option<Duration>,
}

impl Trouble {
    fn none(what: &'static str) -> Self {
        Self { what, pause: None }
    }

    fn failed(&mut self, status: &tonic::Status) -> Duration {
        if self.pause.is_none() {
            warn!(
                what = self.what,
                why = first_cause(status),
                "the collector of telemetry.otlp takes nothing"
            );
        }
        let pause = self.pause.map_or(PAUSE_FIRST, |pause| (pause * 2).min(PAUSE_MAX));
        self.pause = Some(pause);
        pause
    }

    fn worked(&mut self) {
        if self.pause.take().is_some() {
            info!(what = self.what, "the collector of telemetry.otlp takes them again");
        }
    }
}

/// What all of it comes from: errors of connections stand behind several that say less.
fn first_cause(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if std::ptr::addr_eq(cause, status) { status.message().to_owned() } else { cause.to_string() }
}

async fn send_spans(mut spans: mpsc::Receiver<Item>, fates: &Fates, channel: Channel, resource: &Resource) {
    let mut client = TraceServiceClient::new(channel);
    let mut trouble = Trouble::none("spans");
    loop {
        let Some(first) = spans.recv().await else { return };
        let mut batch = Vec::new();
        let mut flush = None;
        let mut next = Some(first);
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while let Some(item) = next.take() {
            match item {
                Item::Span(span) => batch.push(written(span)),
                Item::Flush(teller) => {
                    flush = Some(teller);
                    break;
                }
            }
            if batch.len() < BATCH {
                tokio::select! {
                    item = spans.recv() => next = item,
                    () = &mut linger => {}
                }
            }
        }
        let count = batch.len() as u64;
        let pause = if batch.is_empty() {
            Duration::ZERO
        } else {
            let (lost, pause) = match client.export(request(batch, resource)).await {
                Ok(answer) => {
                    trouble.worked();
                    let rejected = answer.into_inner().partial_success.map_or(0, |part| part.rejected_spans);
                    (u64::try_from(rejected).unwrap_or(0).min(count), Duration::ZERO)
                }
                Err(status) => (count, trouble.failed(&status)),
            };
            fates.dropped.fetch_add(lost, Ordering::Relaxed);
            fates.exported.fetch_add(count - lost, Ordering::Relaxed);
            pause
        };
        drop(flush);
        tokio::time::sleep(pause).await;
    }
}

fn request(spans: Vec<Written>, resource: &Resource) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
    let resource = Some(resource.clone());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

fn written(span: Span) -> Written {
    let Span { trace, id, parent, name, start_ns, end_ns, attributes, failed } = span;
    let code = if failed { status::StatusCode::Error } else { status::StatusCode::Unset };
    Written {
        trace_id: trace.0.to_vec(),
        span_id: id.0.to_vec(),
        parent_span_id: parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: span::SpanKind::Internal.into(),
        start_time_unix_nano: start_ns,
        end_time_unix_nano: end_ns.max(start_ns),
        attributes: attributes.into_iter().map(attribute).collect(),
        status: Some(Status { code: code.into(), ..Status::default() }),
        ..Written::default()
    }
}

fn attribute((key, value): (&'static str, Attribute)) -> KeyValue {
    match value {
        Attribute::Text(value) => text(key, &value),
        Attribute::Number(number) => {
            let value = AnyValue { value: Some(any_value::Value::IntValue(number)) };
            KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
        }
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

async fn send_metrics(registry: &Registry, channel: Channel, resource: &Resource, every: Duration) {
    let mut client = MetricsServiceClient::new(channel);
    let mut trouble = Trouble::none("metrics");
    let began = unix_ns();
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let metrics = points(&registry.page(), began, unix_ns());
        let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
        let resource = Some(resource.clone());
        let all = ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() };
        match client.export(ExportMetricsServiceRequest { resource_metrics: vec![all] }).await {
            Ok(_) => trouble.worked(),
            Err(status) => drop(trouble.failed(&status)),
        }
    }
}

/// A page as the collector reads it.
fn points(page: &Page, began: u64, now: u64) -> Vec<Metric> {
    page.families().iter().map(|family| metric_of(family, began, now)).collect()
}

fn metric_of(family: &Family, began: u64, now: u64) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || family.samples.iter().filter_map(|sample| number(sample, began, now)).collect();
    let data = match family.kind {
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: family.samples.iter().filter_map(|sample| spread(sample, began, now)).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    let unit = ["_seconds", "_bytes"]
        .into_iter()
        .find(|unit| family.name.strip_suffix("_total").unwrap_or(family.name).ends_with(unit));
    let unit = match unit {
        Some("_seconds") => "s",
        Some(_) => "By",
        None => "1",
    };
    Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn labels(sample: &Sample) -> Vec<KeyValue> {
    sample.labels.iter().map(|(key, value)| text(key, value)).collect()
}

fn number(sample: &Sample, began: u64, now: u64) -> Option<NumberDataPoint> {
    let Value::Number(number) = sample.value else { return None };
    Some(NumberDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: began,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(number)),
        ..NumberDataPoint::default()
    })
}

fn spread(sample: &Sample, began: u64, now: u64) -> Option<HistogramDataPoint> {
    let Value::Buckets(buckets) = &sample.value else { return None };
    Some(HistogramDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: began,
        time_unix_nano: now,
        count: buckets.counts.iter().sum(),
        sum: Some(buckets.sum),
        bucket_counts: buckets.counts.clone(),
        explicit_bounds: buckets.bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

#[cfg(test)]
mod tests;
