#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod audit;
mod board;
mod builder;
mod chains;
mod circuits;
mod clock;
mod config;
mod control;
mod control_socket;
pub mod demo;
mod directory;
mod discloser;
mod dispute;
pub mod domains;
mod event;
mod executor;
mod expiry;
mod fees;
mod fetch;
mod files;
mod gate;
mod guards;
mod hops;
pub mod init;
pub mod inquiry;
pub mod keys;
mod node;
pub mod openings;
mod operators;
pub mod pack;
mod promises;
mod proofs;
mod publisher;
pub mod records;
mod requests;
mod seeder;
mod services;
mod slots;
mod store;
mod submit;
mod tasks;
mod transit;
mod wasm_prover;

pub use crate::builder::{NodeBuilder, StartError};
pub use crate::config::{Config, ConfigError, Prices, ProverModule, Roles, Tamper};
pub use crate::control::{
    Books, DisputeOutcome, DisputeParty, DisputeReport, DisputeRound, FieldView, LINE_BYTES_MAX, Lost,
    OperatorTreeView, PeerTrust, Request, Response, SOCKET, ServiceView, Status, TransitView,
};
pub use crate::control_socket::{Client, ClientError};
pub use crate::event::{Circuit, Entry, Event, EventLog};
pub use crate::hops::{Circuits, CircuitsError};
pub use crate::init::InitError;
pub use crate::node::Node;
pub use crate::operators::OperatorsError;
pub use crate::services::{Forward, OnionService, ServiceError};
pub use crate::store::ItemFile;
pub use crate::wasm_prover::{ModuleFault, WasmLimits, WasmProver, WasmProverError};
