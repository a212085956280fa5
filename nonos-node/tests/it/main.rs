//! Integration tests of the composition.

mod demo;
mod disclosure;
mod domains;
mod fields;
mod key;
mod opening_records;
mod openings;
mod records;
