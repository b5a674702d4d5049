//! Reading Prometheus' text format.

/// The value of a series, such as `dfml_rejected_total{reason="overloaded"}`.
///
/// # Panics
/// If it is not there.
pub fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("{series} is missing from\n{text}"));
    value.parse().unwrap_or_else(|error| panic!("{series} {value}: {error}"))
}
