//! Metrics at one point in time.

use std::borrow::Cow;

use backend_settings::metrics::Metric;

/// A metric with all its series.
#[derive(Debug, Clone)]
pub struct Family {
    /// Which metric.
    pub metric: &'static Metric,
    /// One for each combination of labels.
    pub series: Vec<Series>,
}

impl Family {
    /// A metric without labels.
    pub fn number(metric: &'static Metric, value: f64) -> Self {
        Self { metric, series: vec![Series { labels: Vec::new(), value: Value::Number(value) }] }
    }

    /// The sum of all series; of a histogram, the number of its values.
    pub fn sum(&self) -> f64 {
        let number = |series: &Series| match &series.value {
            Value::Number(number) => *number,
            Value::Distribution(distribution) => distribution.count() as f64,
        };
        self.series.iter().map(number).sum()
    }
}

/// One combination of labels.
#[derive(Debug, Clone)]
pub struct Series {
    /// Values of the metric's labels, in their order.
    pub labels: Vec<Cow<'static, str>>,
    /// What was measured.
    pub value: Value,
}

/// What was measured.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// How often values fell into which range.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bounds of the ranges but the last, which has none. A value that equals a bound is within it.
    pub bounds: &'static [f64],
    /// Values in each range, not summed up.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
}

impl Distribution {
    /// No values yet.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Adds a value.
    pub fn record(&mut self, value: f64) {
        let range = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[range] += 1;
        self.sum += value;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
