//! Integration tests.

mod driver;
mod fetch;
mod links;
mod properties;
mod sim;
mod support;
