//! `/metrics`: the state as OpenMetrics text, encoded by `prometheus-client`. Any worker can answer
//! for all workers, including dead ones: their counts remain in their slots.

use crate::histogram::{Durations, bounds};
use crate::shared_state::{Activity, Route, STATUSES, SharedState, Worker};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use pshared::SharedCounter;
use std::fmt;

/// The media type of the text.
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns the current values of all metrics.
pub fn text(state: &'static SharedState) -> String {
    let mut registry = Registry::with_prefix("prefork");
    registry.register_collector(Box::new(Metrics(state)));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

struct Metrics(&'static SharedState);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Metrics(state) = *self;
        let total = |of: &dyn Fn(&Worker) -> u64| -> u64 {
            state.workers.slots().map(|slot| of(slot.data)).sum()
        };
        let mut out = Encoder(&mut encoder);
        out.counters(
            "requests",
            "Requests counted, by route; each was answered unless its worker died before the answer",
            Route::ALL.into_iter().map(|route| {
                let count = total(&|worker| worker.requests[route as usize].get());
                ([("route", route.name().to_owned())], count)
            }),
        )?;
        out.counters(
            "responses",
            "Requests counted, by status",
            STATUSES.iter().enumerate().map(|(number, status)| {
                let count = total(&|worker| worker.statuses[number].get());
                ([("code", status.to_string())], count)
            }),
        )?;
        out.durations(state)?;
        out.counter(
            "connections",
            "Connections accepted",
            total(&|worker| worker.connections.get()),
        )?;
        out.counter("hits", "The count of /count", state.hits.get())?;
        out.counter(
            "cache_hits",
            "Answers found in the cache",
            total(&|worker| worker.cache_hits.get()),
        )?;
        out.counter(
            "cache_misses",
            "Answers not found in the cache",
            total(&|worker| worker.cache_misses.get()),
        )?;
        out.counter("worker_deaths", "Workers that died", state.deaths())?;
        out.counter(
            "workers_stuck",
            "Workers killed because they gave no heartbeat",
            state.stuck.get(),
        )?;
        out.counter(
            "workers_replaced",
            "Workers replaced on SIGHUP",
            state.replaced.get(),
        )?;
        let reported = &state.reported;
        out.counters(
            "recoveries",
            "Deaths of an owner that were reported to the next owner, by what it held",
            [
                ("accept", &reported.accept),
                ("limiter", &reported.limiter),
                ("cache", &reported.cache),
                ("slot", &reported.slot),
            ]
            .map(|(what, count): (&str, &SharedCounter)| ([("of", what.to_owned())], count.get())),
        )?;
        out.gauges(
            "workers",
            "Workers in their slots, by activity",
            Activity::ALL.into_iter().map(|activity| {
                let slots = state
                    .occupied()
                    .filter(|worker| worker.activity() == activity);
                (
                    [("doing", activity.name().to_owned())],
                    slots.count() as i64,
                )
            }),
        )
    }
}

/// Encodes the kinds of metrics that this page has.
struct Encoder<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Encoder<'_, '_> {
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.describe(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, None, MetricType::Counter)?;
        for (labels, count) in counts {
            let mut one = metric.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        levels: impl IntoIterator<Item = (L, i64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, None, MetricType::Gauge)?;
        for (labels, level) in levels {
            metric.encode_family(&labels)?.encode_gauge(&level)?;
        }
        Ok(())
    }

    fn durations(&mut self, state: &SharedState) -> fmt::Result {
        let sum = Durations::of(state.workers.slots().map(|slot| &slot.data.durations));
        let bounds = bounds()
            .map(|bound| bound as f64 / 1e9)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(sum.buckets).collect();
        let mut metric = self.describe(
            "request_duration",
            "Time from the receipt of a request until its answer is ready to send",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let count = sum.buckets.iter().sum();
        metric.encode_histogram::<NoLabelSet>(sum.seconds, count, &buckets, None)
    }
}
