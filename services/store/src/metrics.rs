//! Figures of the database and of the search index, read when they are asked for.

use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::engine::RocksEngine;
use crate::search::TextIndex;

/// Name, help, and RocksDB's name.
const FIGURES: [(&str, &str, &str); 5] = [
    (
        "mox_store_memtable_bytes",
        "Recent changes in memory",
        "rocksdb.cur-size-all-mem-tables",
    ),
    (
        "mox_store_table_bytes",
        "Files of tables",
        "rocksdb.total-sst-files-size",
    ),
    (
        "mox_store_live_table_bytes",
        "Files of tables that are not about to be removed",
        "rocksdb.live-sst-files-size",
    ),
    (
        "mox_store_pending_compaction_bytes",
        "Waiting to be reorganized",
        "rocksdb.estimate-pending-compaction-bytes",
    ),
    (
        "mox_store_background_errors",
        "Failures in the background",
        "rocksdb.background-errors",
    ),
];

/// Does not keep the database open.
#[derive(Debug)]
struct Figures(Weak<RocksEngine>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(engine) = self.0.upgrade() else { return Ok(()) };
        for (name, help, property) in FIGURES {
            let gauge = ConstGauge::new(i64::try_from(engine.property(property)).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Registers the figures of a database.
pub(crate) fn register(engine: &Arc<RocksEngine>, metrics: &mut Registry) {
    metrics.register_collector(Box::new(Figures(Arc::downgrade(engine))));
}

/// Name and help of what [`TextIndex::written`] tells.
const SEARCH_WRITTEN: [(&str, &str); 4] = [
    ("mox_store_search_indexed_messages", "Messages put into search indices"),
    (
        "mox_store_search_segments",
        "Segments of search indices made of new messages",
    ),
    (
        "mox_store_search_written_bytes",
        "Segments of search indices written, merged ones included",
    ),
    ("mox_store_search_merges", "Merges of segments of search indices"),
];

#[derive(Debug)]
struct SearchFigures(TextIndex);

impl Collector for SearchFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauges = [
            (
                "mox_store_search_waiting_messages",
                "Messages that are not in the search index yet: searches read them",
                self.0.waiting_messages(),
            ),
            (
                "mox_store_search_cache_bytes",
                "Parts of search indices in memory",
                self.0.cached_bytes() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for ((name, help), value) in SEARCH_WRITTEN.iter().zip(self.0.written()) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// Registers the figures of the search index.
pub(crate) fn register_search(text: &TextIndex, metrics: &mut Registry) {
    metrics.register_collector(Box::new(SearchFigures(text.clone())));
}
