//! Metering: a WASM module in, the same module with gas, depth and ticks out.
//!
//! Every stretch of straight-line code subtracts its gas from a local; the local is written to
//! the exported global `__nonos_gas` before calls and at the end of a function, and read back
//! after. Loop heads, entries of functions that call or are long, bulk operations and
//! `memory.grow` call the import `nonos.tick` when the local is below zero; the host answers by
//! granting the next slice or by stopping the run. `__nonos_depth` holds the stack slots left; an
//! entry that brings it below zero traps. A function that calls nothing takes no slots unless its
//! frame is large, and if it is straight-line code its callers pay for it. Nothing depends on the
//! engine, so gas, ticks and everything committed at them are the same wherever the module runs.
//!
//! Two things are there for compilers alone: hints that ticks are unlikely, and globals that hold
//! the floats of a loop during its tick, so that no float has to survive a call in a hot loop.

mod body;
mod leaf;
mod sections;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{ConstExpr, EntityType, ExportKind, GlobalType, ValType};

pub(crate) use self::leaf::LEAF_SLOTS;
pub(crate) use self::sections::Sections;
use crate::cpu_feature::CpuFeature;
use crate::profile::{self, Caps, Facts, ProfileError};

/// Version of the transformation; it enters every checkpoint chain.
pub const VERSION: u16 = 3;
/// Number of the price table.
pub const GAS_SCHEDULE: u16 = 1;
/// Prefix of the exports that the transformation adds; a module that uses it is refused.
pub const RESERVED: &str = "__nonos_";
/// Exported mutable `i64`: gas left in the slice, negative when it is overdrawn.
pub const GAS_EXPORT: &str = "__nonos_gas";
/// Exported mutable `i32`: stack slots left.
pub const DEPTH_EXPORT: &str = "__nonos_depth";
/// Exported memory, if the module has one.
pub const MEMORY_EXPORT: &str = "__nonos_memory";
/// Exported start function, if the module has one: the host calls it before the entry.
pub const START_EXPORT: &str = "__nonos_start";
/// Prefix of the exports of the module's own mutable globals; their index follows.
pub const GLOBAL_EXPORT: &str = "__nonos_global_";
/// Module of the one import that the transformation adds, of type `() -> ()`.
pub const TICK_MODULE: &str = "nonos";
/// Name of that import.
pub const TICK_NAME: &str = "tick";

/// A metered module of profile v1, validated after the transformation.
#[derive(Debug)]
pub struct Metered {
    wasm: Vec<u8>,
    pub(crate) facts: Facts,
}

impl Metered {
    /// The transformed module.
    #[must_use]
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// Whether it computes with floats, so that an engine must canonicalise NaNs.
    #[must_use]
    pub const fn has_floats(&self) -> bool {
        self.facts.cpu_features.contains(CpuFeature::Float)
    }

    /// Names of the exports that hold the module's own mutable globals, in their order.
    pub fn global_exports(&self) -> impl Iterator<Item = String> {
        self.facts.mutable_globals.iter().map(|index| global_export(*index))
    }
}

pub(crate) fn global_export(index: u32) -> String {
    format!("{GLOBAL_EXPORT}{index}")
}

/// Checks a module against the caps and profile v1, meters it, and validates the result.
///
/// # Errors
/// [`ProfileError`] names the first part of the module that breaks a rule.
pub fn meter(wasm: &[u8], caps: &Caps) -> Result<Metered, ProfileError> {
    meter_with(wasm, caps, true)
}

/// As [`meter`], but the depth of the stack is not counted: for measurements of what that costs. No
/// runtime takes such a module.
///
/// # Errors
/// [`ProfileError`] names the first part of the module that breaks a rule.
#[cfg(feature = "testing")]
pub fn meter_gas_only(wasm: &[u8], caps: &Caps) -> Result<Vec<u8>, ProfileError> {
    Ok(meter_with(wasm, caps, false)?.wasm)
}

fn meter_with(wasm: &[u8], caps: &Caps, counts_depth: bool) -> Result<Metered, ProfileError> {
    let facts = profile::check(wasm, caps)?;
    let wasm = transform(wasm, &facts, counts_depth)?;
    profile::validate(&wasm)?;
    Ok(Metered { wasm, facts })
}

/// Where the things that the transformation adds have their index.
struct Added<'a> {
    facts: &'a Facts,
    tick: u32,
    gas: u32,
    depth: u32,
    prepaid: Vec<Option<u64>>,
    counts_depth: bool,
    /// Types of the globals that hold floats during a tick.
    saves: Vec<ValType>,
}

/// Most locals that a loop saves around its tick: there are no more registers for them.
const SAVED_MAX: usize = 16;

impl Added<'_> {
    /// For each of some locals of float types a global to hold it during a tick. A call in a loop
    /// would otherwise keep its floats out of registers, though it is hardly ever made.
    fn saved(&mut self, locals: impl Iterator<Item = (u32, ValType)>) -> Vec<(u32, u32)> {
        let mut saved: Vec<(u32, u32)> = Vec::new();
        for (local, ty) in locals {
            let first = self.depth + 1;
            let is_taken = |global: u32| saved.iter().any(|(_, taken)| *taken == global);
            let mut places = (first..).zip(&self.saves);
            let global = match places.find(|(global, save)| **save == ty && !is_taken(*global)) {
                Some((global, _)) => global,
                None => {
                    self.saves.push(ty);
                    // The range ends behind what was there.
                    (first..).zip(&self.saves).last().map_or(first, |(global, _)| global)
                }
            };
            saved.push((local, global));
        }
        saved
    }

    /// The gas that a caller of this function pays for it, if it does.
    fn prepaid(&self, function_index: u32) -> Option<u64> {
        let defined = function_index.checked_sub(self.tick)?;
        self.prepaid.get(defined as usize).copied().flatten()
    }
}

/// Shifts the indices of defined functions past the one import more.
impl Reencode for Added<'_> {
    type Error = core::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, ReencodeError> {
        Ok(if index < self.tick { index } else { index + 1 })
    }
}

type ReencodeError = wasm_encoder::reencode::Error;

impl From<ReencodeError> for ProfileError {
    fn from(error: ReencodeError) -> Self {
        Self::Invalid { offset: 0, message: error.to_string() }
    }
}

fn transform(wasm: &[u8], facts: &Facts, counts_depth: bool) -> Result<Vec<u8>, ProfileError> {
    let tick = facts.import_count();
    let prepaid = leaf::prepaid(wasm, facts)?;
    let (gas, depth) = (facts.global_count, facts.global_count + 1);
    let mut added = Added { facts, tick, gas, depth, prepaid, counts_depth, saves: Vec::new() };
    let (mut out, bodies) = Sections::read(&mut added, wasm)?;

    // Types beyond the module's own: that of the tick, and one per function for the block that
    // its body is wrapped into, which takes nothing and gives what the function gives.
    let tick_type = out.types.len();
    out.types.ty().function([], []);
    out.imports.import(TICK_MODULE, TICK_NAME, EntityType::Function(tick_type));
    for (val_type, initial) in
        [(ValType::I64, ConstExpr::i64_const(0)), (ValType::I32, ConstExpr::i32_const(0))]
    {
        out.globals.global(GlobalType { val_type, mutable: true, shared: false }, &initial);
    }
    out.exports.export(GAS_EXPORT, ExportKind::Global, added.gas);
    out.exports.export(DEPTH_EXPORT, ExportKind::Global, added.depth);
    for index in &facts.mutable_globals {
        out.exports.export(&global_export(*index), ExportKind::Global, *index);
    }
    if facts.memory_pages_min.is_some() {
        out.exports.export(MEMORY_EXPORT, ExportKind::Memory, 0);
    }
    if let Some(start) = out.start.take() {
        out.exports.export(START_EXPORT, ExportKind::Func, start);
    }
    for (body, defined) in bodies.iter().zip(0..) {
        let (function, hints) = body::transform(&mut added, &mut out.types, body, defined)?;
        out.code.function(&function);
        if !hints.is_empty() {
            out.hints.function_hints(tick + 1 + defined, hints);
        }
    }
    for ty in added.saves {
        let zero = match ty {
            ValType::F32 => ConstExpr::f32_const(0.0.into()),
            ValType::F64 => ConstExpr::f64_const(0.0.into()),
            _ => ConstExpr::v128_const(0),
        };
        out.globals.global(GlobalType { val_type: ty, mutable: true, shared: false }, &zero);
    }
    Ok(out.finish())
}
