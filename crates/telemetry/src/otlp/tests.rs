//! The exporter against a collector that speaks OTLP, rejects, or is away.

use super::*;
use crate::metrics::Histogram as Counts;
use crate::span::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tonic::{Request, Response};

/// A collector that hands on what it gets.
#[derive(Clone)]
struct Collector {
    spans: mpsc::UnboundedSender<ExportTraceServiceRequest>,
    metrics: mpsc::UnboundedSender<ExportMetricsServiceRequest>,
    rejects: i64,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        self.spans.send(request.into_inner()).unwrap();
        let part = ExportTracePartialSuccess { rejected_spans: self.rejects, ..Default::default() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(part) }))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.metrics.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

struct Taken {
    spans: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    metrics: mpsc::UnboundedReceiver<ExportMetricsServiceRequest>,
}

async fn collect(rejects: i64) -> (SocketAddr, Taken) {
    let (spans, taken_spans) = mpsc::unbounded_channel();
    let (metrics, taken_metrics) = mpsc::unbounded_channel();
    let collector = Collector { spans, metrics, rejects };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector));
    tokio::spawn(server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
    (address, Taken { spans: taken_spans, metrics: taken_metrics })
}

fn config(address: SocketAddr) -> Config {
    Config {
        endpoint: format!("http://{address}"),
        share_ppm: 1_000_000,
        node: "7".to_owned(),
        version: "1.2.3",
        every: Duration::from_secs(3600),
    }
}

fn span(call: u64) -> Span {
    Span {
        trace: TraceId::of_call(call),
        id: SpanId::of_leg(9),
        parent: Some(SpanId::of_call(call)),
        name: "leg",
        start_ns: 2_000,
        end_ns: 1_000,
        attributes: vec![("sip.call_id", "abc".into()), ("sip.status", Attribute::from(486_u16))],
        failed: true,
    }
}

#[tokio::test]
async fn a_collector_gets_spans_with_their_names_and_metrics_with_their_kinds() {
    let (address, mut taken) = collect(0).await;
    let registry = Arc::new(Registry::default());
    let counts = Counts::new(&[0.1]);
    counts.observe(Duration::from_secs(2));
    registry.add(move |page| {
        page.count("carillon_calls", "Calls.", 3);
        page.counter_of("carillon_refused_total", "Refused.", &[("cause", "junk")], 4);
        page.histogram("carillon_setup_seconds", "Set-up.", &[], &counts);
    });
    let (tracer, work) = start(config(address), registry).unwrap();
    tokio::spawn(work);
    (0..BATCH as u64 + 1).for_each(|call| tracer.end(span(call)));
    tracer.flush(Duration::from_secs(60)).await;
    let first = taken.spans.recv().await.unwrap().resource_spans.remove(0);
    let names: Vec<String> = first.resource.unwrap().attributes.into_iter().map(|pair| pair.key).collect();
    assert_eq!(names, ["service.name", "service.version", "service.instance.id"]);
    assert_eq!(first.scope_spans[0].spans.len(), BATCH);
    let sent = &first.scope_spans[0].spans[5];
    assert_eq!(sent.trace_id, TraceId::of_call(5).0);
    assert_eq!(sent.parent_span_id, SpanId::of_call(5).0);
    assert_eq!(
        (sent.start_time_unix_nano, sent.end_time_unix_nano),
        (2_000, 2_000),
        "never before its start"
    );
    assert_eq!(sent.status.as_ref().unwrap().code(), status::StatusCode::Error);
    assert_eq!(sent.attributes[0], text("sip.call_id", "abc"));
    let second = taken.spans.recv().await.unwrap();
    assert_eq!(second.resource_spans[0].scope_spans[0].spans.len(), 1);
    assert_eq!((tracer.exported(), tracer.dropped()), (BATCH as u64 + 1, 0));

    let metrics =
        taken.metrics.recv().await.unwrap().resource_metrics.remove(0).scope_metrics.remove(0).metrics;
    assert_eq!(metrics.len(), 3);
    assert!(matches!(&metrics[0].data, Some(metric::Data::Gauge(gauge)) if gauge.data_points.len() == 1));
    let Some(metric::Data::Sum(sum)) = &metrics[1].data else { panic!("{metrics:?}") };
    assert!(sum.is_monotonic && sum.data_points[0].attributes == [text("cause", "junk")]);
    let Some(metric::Data::Histogram(histogram)) = &metrics[2].data else { panic!("{metrics:?}") };
    assert_eq!((metrics[2].unit.as_str(), &histogram.data_points[0].bucket_counts[..]), ("s", &[0, 1][..]));
}

#[tokio::test]
async fn what_a_collector_rejects_is_counted_as_dropped() {
    let (address, _taken) = collect(2).await;
    let (tracer, work) = start(config(address), Arc::default()).unwrap();
    tokio::spawn(work);
    (0..3).for_each(|call| tracer.end(span(call)));
    tracer.flush(Duration::from_secs(60)).await;
    assert_eq!((tracer.exported(), tracer.dropped()), (1, 2));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (tracer, work) = start(config(address), Arc::default()).unwrap();
    tokio::spawn(work);
    tracer.end(span(1));
    tracer.flush(Duration::from_secs(60)).await;
    assert_eq!((tracer.exported(), tracer.dropped()), (0, 1));
}

#[tokio::test]
async fn a_collector_that_shall_speak_tls_gets_nothing_without_it() {
    let (address, mut taken) = collect(0).await;
    let endpoint = format!("https://{address}");
    let (tracer, work) = start(Config { endpoint, ..config(address) }, Arc::default()).unwrap();
    tokio::spawn(work);
    tracer.end(span(1));
    tracer.flush(Duration::from_secs(60)).await;
    assert_eq!((tracer.exported(), tracer.dropped()), (0, 1));
    assert!(taken.spans.try_recv().is_err() && taken.metrics.try_recv().is_err());
}

#[test]
fn an_endpoint_is_a_place_and_nothing_more() {
    for right in
        ["http://127.0.0.1:4317", "http://collector:4317/", "https://otel.example.com", "http://[::1]:4317"]
    {
        assert!(check(right).is_ok(), "{right}");
    }
    for wrong in [
        "",
        "127.0.0.1:4317",
        "http://",
        "http://a b",
        "http://me:word@a",
        "http://a/v1/traces",
        "grpc://a:1",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}
