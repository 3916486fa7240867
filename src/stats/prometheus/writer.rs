//! Text format 0.0.4, written.

use std::fmt::Write as _;

use imperator_worker::scoreboard::BOUNDS;

use crate::stats::Histogram;

#[derive(Default)]
pub(super) struct Writer {
    pub text: String,
    /// Of the family that is being written.
    name: String,
}

// Writing to a string cannot fail.
impl Writer {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", help.replace('\\', "\\\\").replace('\n', "\\n"));
    }

    pub fn row(&mut self, labels: &[(&str, &str)], value: f64) {
        self.sample("", labels, value);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.row(&[], value);
    }

    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "counter", help);
        self.row(&[], value);
    }

    /// In seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let mut count = 0u64;
        let bounds = BOUNDS.iter().map(|micros| (*micros as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        for (bound, n) in bounds.zip(histogram.buckets) {
            count = count.saturating_add(n);
            self.sample("_bucket", &[("le", &bound)], count as f64);
        }
        self.sample("_sum", &[], histogram.sum as f64 / 1e6);
        self.sample("_count", &[], count as f64);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// The value of a label, between its quotation marks.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_escaped_and_families_are_told_once() {
        let mut page = Writer::default();
        page.family("uwsgi_x", "gauge", "a\nb");
        page.row(&[("socket", "a\"b\\c\nd"), ("n", "1")], 2.5);
        page.row(&[], 3.0);
        assert_eq!(page.text, "# HELP uwsgi_x a\\nb\n# TYPE uwsgi_x gauge\nuwsgi_x{socket=\"a\\\"b\\\\c\\nd\",n=\"1\"} 2.5\nuwsgi_x 3\n");
    }

    #[test]
    fn buckets_add_up() {
        let mut page = Writer::default();
        let mut histogram = Histogram { sum: 1_500_000, ..Histogram::default() };
        (histogram.buckets[0], histogram.buckets[1], histogram.buckets[13]) = (3, 2, 1);
        page.histogram("uwsgi_d", "Durations.", &histogram);
        for line in [
            "# TYPE uwsgi_d histogram\nuwsgi_d_bucket{le=\"0.001\"} 3\nuwsgi_d_bucket{le=\"0.0025\"} 5\n",
            "uwsgi_d_bucket{le=\"10\"} 5\nuwsgi_d_bucket{le=\"+Inf\"} 6\nuwsgi_d_sum 1.5\nuwsgi_d_count 6\n",
        ] {
            assert!(page.text.contains(line), "{}", page.text);
        }
    }
}
