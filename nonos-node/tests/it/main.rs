//! Integration tests of the composition.

mod demo;
mod disclosure;
mod domains;
mod fields;
mod key;
mod openings;
mod records;
