//! What is measured with, from any thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backend_settings::metrics::Metric;

use super::snapshot::{Distribution, Family, Series, Value};

/// Most series of one metric. What comes later is counted as `other`: a label that grows without end would fill the memory of
/// whoever collects.
const MAX_SERIES: usize = 200;
const OTHER: &str = "other";

/// The value of a label.
pub type Label = Cow<'static, str>;

/// A number that grows.
#[derive(Debug)]
pub struct Counter {
    metric: &'static Metric,
    value: AtomicU64,
}

impl Counter {
    /// From 0 on.
    pub const fn new(metric: &'static Metric) -> Self {
        Self { metric, value: AtomicU64::new(0) }
    }

    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    pub fn collect(&self) -> Family {
        Family::number(self.metric, self.value.load(Ordering::Relaxed) as f64)
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge {
    metric: &'static Metric,
    value: AtomicI64,
}

impl Gauge {
    /// From 0 on.
    pub const fn new(metric: &'static Metric) -> Self {
        Self { metric, value: AtomicI64::new(0) }
    }

    /// Replaces the number.
    pub fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// Changes the number by so much.
    pub fn add(&self, difference: i64) {
        self.value.fetch_add(difference, Ordering::Relaxed);
    }

    /// The number.
    pub fn collect(&self) -> Family {
        Family::number(self.metric, self.value.load(Ordering::Relaxed) as f64)
    }
}

/// Numbers that grow, one for each combination of labels.
#[derive(Debug)]
pub struct CounterSet {
    metric: &'static Metric,
    values: Mutex<BTreeMap<Vec<Label>, u64>>,
}

impl CounterSet {
    /// Empty.
    pub const fn new(metric: &'static Metric) -> Self {
        Self { metric, values: Mutex::new(BTreeMap::new()) }
    }

    /// One more with these labels, which are as many as the metric has.
    pub fn increment<const N: usize>(&self, labels: [Label; N]) {
        let mut values = lock(&self.values);
        *entry(&mut values, labels, || 0) += 1;
    }

    /// The numbers.
    pub fn collect(&self) -> Family {
        let values = lock(&self.values);
        let series = values
            .iter()
            .map(|(labels, value)| Series { labels: labels.clone(), value: Value::Number(*value as f64) });
        Family { metric: self.metric, series: series.collect() }
    }
}

/// A distribution without labels. Recording neither waits nor allocates: the main thread does it in every frame.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    metric: &'static Metric,
    bounds: &'static [f64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    /// Bits of a floating-point number.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// Empty.
    pub const fn new(metric: &'static Metric, bounds: &'static [f64; N]) -> Self {
        let counts = [const { AtomicU64::new(0) }; N];
        Self { metric, bounds, counts, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Adds a value.
    pub fn record(&self, value: f64) {
        let range = self.bounds.iter().position(|bound| value <= *bound);
        let count = range.and_then(|range| self.counts.get(range)).unwrap_or(&self.above);
        count.fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The function always gives a number.
        let _infallible = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The distribution. No series before the first value.
    pub fn collect(&self) -> Family {
        let counts = self.counts.iter().chain([&self.above]).map(|count| count.load(Ordering::Relaxed));
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let distribution = Distribution { bounds: self.bounds, counts: counts.collect(), sum };
        let series = (distribution.count() > 0)
            .then(|| Series { labels: Vec::new(), value: Value::Distribution(distribution) });
        Family { metric: self.metric, series: series.into_iter().collect() }
    }
}

/// Distributions, one for each combination of labels.
#[derive(Debug)]
pub struct HistogramSet {
    metric: &'static Metric,
    bounds: &'static [f64],
    values: Mutex<BTreeMap<Vec<Label>, Distribution>>,
}

impl HistogramSet {
    /// Empty.
    pub const fn new(metric: &'static Metric, bounds: &'static [f64]) -> Self {
        Self { metric, bounds, values: Mutex::new(BTreeMap::new()) }
    }

    /// Adds a value with these labels, which are as many as the metric has.
    pub fn record<const N: usize>(&self, labels: [Label; N], value: f64) {
        let mut values = lock(&self.values);
        entry(&mut values, labels, || Distribution::new(self.bounds)).record(value);
    }

    /// The distributions.
    pub fn collect(&self) -> Family {
        let values = lock(&self.values);
        let series = values.iter().map(|(labels, value)| Series {
            labels: labels.clone(),
            value: Value::Distribution(value.clone()),
        });
        Family { metric: self.metric, series: series.collect() }
    }
}

fn entry<const N: usize, T>(
    values: &mut BTreeMap<Vec<Label>, T>,
    labels: [Label; N],
    new: impl FnOnce() -> T,
) -> &mut T {
    let is_new = values.len() >= MAX_SERIES && !values.contains_key(labels.as_slice());
    let labels = if is_new { vec![Cow::Borrowed(OTHER); N] } else { labels.into() };
    values.entry(labels).or_insert_with(new)
}

fn lock<T>(values: &Mutex<T>) -> MutexGuard<'_, T> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use backend_settings::metrics::{FRAME_SECONDS, PEERS_REFUSED, REQUEST_SECONDS};

    use super::*;

    #[test]
    fn labels_without_end_become_other() {
        let set = CounterSet::new(&PEERS_REFUSED);
        for number in 0..MAX_SERIES + 50 {
            set.increment([number.to_string().into()]);
        }
        set.increment(["0".into()]);
        let family = set.collect();
        assert_eq!(family.series.len(), MAX_SERIES + 1);
        assert!((family.sum() - (MAX_SERIES + 51) as f64).abs() < 0.5);
        let other = family.series.iter().find(|series| series.labels == [OTHER]).expect("other");
        assert!(matches!(other.value, Value::Number(count) if (count - 50.0).abs() < 0.5));
    }

    #[test]
    fn a_value_at_a_bound_is_within_it() {
        let set = HistogramSet::new(&REQUEST_SECONDS, &[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 1.0, 2.0] {
            set.record(["/v1/rooms".into()], value);
        }
        let Value::Distribution(found) = &set.collect().series[0].value else { panic!("no distribution") };
        assert_eq!(found.counts, [2, 2, 1]);
        assert_eq!(found.count(), 5);
    }

    #[test]
    fn a_histogram_without_labels_counts_from_every_thread() {
        static FRAMES: Histogram<2> = Histogram::new(&FRAME_SECONDS, &[0.125, 1.0]);
        assert!(FRAMES.collect().series.is_empty());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| [0.0625, 0.125, 0.5, 2.0].map(|value| FRAMES.record(value)));
            }
        });
        let Value::Distribution(found) = &FRAMES.collect().series[0].value else { panic!("no distribution") };
        assert_eq!(found.counts, [8, 4, 4]);
        assert!((found.sum - 10.75).abs() < 1e-9, "{}", found.sum);
    }
}
