//! What is kept of a run when it has ended.

mod series;

pub(crate) use series::SeriesReport;
