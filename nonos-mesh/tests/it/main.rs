//! Integration tests.
#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests know their own data")]

mod driver;
mod fetch;
mod links;
mod properties;
mod sim;
mod support;
