//! What must hold for any input. Each function takes any bytes and panics if something does not
//! hold; the fuzz targets and the corpus tests call the same ones.

pub mod connection;
pub mod decoder;
pub mod encoder;
pub mod headers;
pub mod info;
mod recipe;
