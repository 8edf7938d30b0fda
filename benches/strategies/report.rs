//! The record as one HTML page.

use crate::record::Record;

/// The page.
pub fn html(record: &Record) -> String {
    format!(
        "<!doctype html><title>Lock strategies</title><p>{} rows\n",
        record.rows.len()
    )
}
