//! A page of metrics as Prometheus reads it: its text format, version 0.0.4.
//!
//! In: a [`Page`]. Out: text. Elsewhere: serving it (crate `carillon`).

use crate::metrics::{Buckets, Family, Kind, Page, Sample, Value};
use std::fmt::{self, Write as _};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.families().iter().try_for_each(|family| write_family(f, family))
    }
}

fn write_family(f: &mut fmt::Formatter<'_>, family: &Family) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let name = family.name;
    f.write_str("# HELP ")?;
    f.write_str(name)?;
    f.write_char(' ')?;
    escaped(f, family.help, false)?;
    write!(f, "\n# TYPE {name} {kind}\n")?;
    for sample in &family.samples {
        match &sample.value {
            Value::Number(number) => line(f, name, "", sample, None, *number)?,
            Value::Buckets(buckets) => write_buckets(f, name, sample, buckets)?,
        }
    }
    Ok(())
}

fn write_buckets(f: &mut fmt::Formatter<'_>, name: &str, sample: &Sample, buckets: &Buckets) -> fmt::Result {
    let bounds = buckets.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    let mut total = 0;
    for (bound, count) in bounds.zip(&buckets.counts) {
        total += count;
        line(f, name, "_bucket", sample, Some(&bound), total as f64)?;
    }
    line(f, name, "_sum", sample, None, buckets.sum)?;
    line(f, name, "_count", sample, None, total as f64)
}

fn line(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    suffix: &str,
    sample: &Sample,
    bound: Option<&str>,
    value: f64,
) -> fmt::Result {
    write!(f, "{name}{suffix}")?;
    let labels = sample.labels.iter().map(|(name, value)| (*name, &**value));
    let mut open = '{';
    for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        write!(f, "{open}{label}=\"")?;
        escaped(f, value, true)?;
        f.write_char('"')?;
        open = ',';
    }
    if open == ',' {
        f.write_char('}')?;
    }
    writeln!(f, " {value}")
}

fn escaped(f: &mut fmt::Formatter<'_>, text: &str, quotes: bool) -> fmt::Result {
    for letter in text.chars() {
        match letter {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '"' if quotes => f.write_str("\\\"")?,
            other => f.write_char(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;
    use std::time::Duration;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let histogram = Histogram::new(&[0.005, 1.0]);
        [1, 2, 700, 9000].into_iter().for_each(|ms| histogram.observe(Duration::from_millis(ms)));
        let mut page = Page::default();
        page.count("calls", "Calls now.\nOr \\soon.", 3);
        page.counter_of("refused_total", "Refusals.", &[("cause", "a \"b\"\\\n")], 7);
        page.counter_of("refused_total", "Refusals.", &[("cause", "c"), ("way", "in")], u64::from(u32::MAX));
        page.histogram("setup_seconds", "Set-up.", &[("to", "ringing")], &histogram);
        page.gauge("load", "Load.", 0.25);
        let expected = r#"# HELP calls Calls now.\nOr \\soon.
# TYPE calls gauge
calls 3
# HELP refused_total Refusals.
# TYPE refused_total counter
refused_total{cause="a \"b\"\\\n"} 7
refused_total{cause="c",way="in"} 4294967295
# HELP setup_seconds Set-up.
# TYPE setup_seconds histogram
setup_seconds_bucket{to="ringing",le="0.005"} 2
setup_seconds_bucket{to="ringing",le="1"} 3
setup_seconds_bucket{to="ringing",le="+Inf"} 4
setup_seconds_sum{to="ringing"} 9.703
setup_seconds_count{to="ringing"} 4
# HELP load Load.
# TYPE load gauge
load 0.25
"#;
        assert_eq!(page.to_string(), expected);
    }
}
