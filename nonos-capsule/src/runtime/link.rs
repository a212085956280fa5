//! Libraries: which instances a run has, what they may import, and the code between them.
//!
//! Every capsule of the graph is one instance. A call from one to another goes through a shim, a
//! module of ours for each instance that imports: it tells the host, which moves gas and stack
//! slots to the callee, calls, and tells the host again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    Instruction, Module, TypeSection, ValType,
};

use super::cache::ModuleKey;
use super::engine::Part;
use super::error::LoadError;
use super::session::{Code, Command, Instances};
use super::{Loaded, Runtime, check_declared, check_entry, check_mounts, effective, host_call};
use crate::capsule::{Capsule, CapsuleId};
use crate::cpu_feature::CpuFeatureSet;
use crate::execution::Preopen;
use crate::host_call::HostCall;
use crate::instrument::{self, Metered, TICK_MODULE};
use crate::interface;
use crate::isolation::Wall;
use crate::manifest::Kind;
use crate::policy::Policy;
use crate::profile::{FRAME_SLOTS, Outline};
use crate::resolve::Resolved;
use nonos_identity::Verified;

/// Most libraries of a run: each is an instance, with a memory that takes address space and a
/// part in every checkpoint.
const LIBRARIES_MAX: usize = 64;

/// Most stack slots of the shims of one module, all its imported functions together: bounds the
/// code that calling a thousand functions of a thousand parameters would have us write.
const SHIM_SLOTS_MAX: u32 = 1 << 16;

/// The host function of a shim before its call: `(from, to, slots)`.
pub(super) const ENTER: &str = "enter";
/// The host function of a shim after its call, with the same operands.
pub(super) const LEAVE: &str = "leave";
/// The module of the two; no payload may import from it.
pub(super) const LINK_MODULE: &str = TICK_MODULE;
/// Module that a shim imports the functions of libraries from, by their positions.
pub(super) const CALLEES: &str = "";

impl Runtime {
    pub(super) fn load_linked(
        &self,
        resolved: &Resolved,
        mounts: Arc<[Preopen]>,
        operator: &Policy,
    ) -> Result<Loaded, LoadError> {
        let (policy, entry) = effective(resolved.capsule(), operator)?;
        let nodes = nodes(resolved)?;
        let mut modules = Vec::new();
        for node in &nodes {
            let module = instrument::meter(node.capsule.payload(), &self.caps);
            modules.push(module.map_err(|error| node.blame(error.into()))?);
        }
        let cpu_features = check(&nodes, &modules, &policy)?;
        if nodes.len() > 1 && policy.isolation.contains(Wall::Libraries) {
            return Err(LoadError::Isolation(Wall::Libraries));
        }
        check_mounts(&mounts, &policy)?;
        if let Some(module) = modules.first() {
            check_entry(&module.facts.outline(), &entry)?;
        }
        let instances = nodes.iter().map(|node| node.libraries.iter().map(|(_, place)| *place).collect());
        let instances: Instances = instances.collect();
        let part = |(node, module)| {
            let Node { capsule, libraries, .. } = node;
            Part { key: ModuleKey::of(&capsule.payload_digest(), &self.caps), module, libraries }
        };
        let parts: Vec<Part<'_>> = nodes.into_iter().zip(&modules).map(part).collect();
        let program = self.engine.link(&parts)?;
        let code = Code { payload: resolved.capsule().payload_digest(), cpu_features };
        let command = Command::new(resolved.capsule().id(), code, policy, entry);
        Ok(Loaded::new(command.with_mounts(mounts).with_instances(instances), program))
    }
}

/// An instance of a run.
struct Node<'a> {
    /// The name that the first dependent capsule gives it; nothing for the command.
    name: Option<&'a str>,
    capsule: &'a Verified<Capsule>,
    /// Name and place of its libraries, by ascending name.
    libraries: Vec<(String, usize)>,
}

impl Node<'_> {
    /// An error about its payload.
    fn blame(&self, error: LoadError) -> LoadError {
        match self.name {
            Some(name) => LoadError::Library { name: name.to_owned(), error: Box::new(error) },
            None => error,
        }
    }
}

/// The instances of a run: each before its libraries, the command first.
fn nodes(resolved: &Resolved) -> Result<Vec<Node<'_>>, LoadError> {
    let mut done = Vec::new();
    visit(None, resolved, &mut BTreeSet::new(), &mut done)?;
    done.reverse();
    let place = |id| done.iter().position(|(_, resolved)| resolved.capsule().id() == id);
    let mut nodes = Vec::new();
    for (name, resolved) in &done {
        let libraries = resolved.dependencies().iter().filter(|(dependency, _)| dependency.mount.is_none());
        let libraries = libraries.filter_map(|(one, _)| Some((one.name.clone(), place(one.capsule)?)));
        nodes.push(Node { name: *name, capsule: resolved.capsule(), libraries: libraries.collect() });
    }
    Ok(nodes)
}

/// Callees first; a capsule that several need is there once. The graph is a few levels deep.
fn visit<'a>(
    name: Option<&'a str>,
    resolved: &'a Resolved,
    seen: &mut BTreeSet<CapsuleId>,
    done: &mut Vec<(Option<&'a str>, &'a Resolved)>,
) -> Result<(), LoadError> {
    let is_library = resolved.capsule().manifest().kind == Kind::Library;
    for (dependency, needed) in resolved.dependencies() {
        if dependency.mount.is_some() {
            if is_library {
                return Err(LoadError::LibraryImage { name: dependency.name.clone() });
            }
        } else if seen.insert(dependency.capsule) {
            if seen.len() > LIBRARIES_MAX {
                return Err(LoadError::TooManyLibraries { limit: LIBRARIES_MAX });
            }
            visit(Some(&dependency.name), needed, seen, done)?;
        }
    }
    done.push((name, resolved));
    Ok(())
}

/// Checks that what every module imports is there, and that all of them together keep to the
/// policy. Returns what they ask of the processor.
fn check(nodes: &[Node<'_>], modules: &[Metered], policy: &Policy) -> Result<CpuFeatureSet, LoadError> {
    let outlines: Vec<Outline> = modules.iter().map(|module| module.facts.outline()).collect();
    let exports: Vec<Exports<'_>> = outlines
        .iter()
        .map(|outline| outline.exports.iter().map(|export| (&*export.name, &*export.signature)).collect())
        .collect();
    let mut sum = Outline::default();
    for (node, outline) in nodes.iter().zip(&outlines) {
        let pages = sum.memory_pages_min.unwrap_or(0).saturating_add(outline.memory_pages_min.unwrap_or(0));
        sum.memory_pages_min = Some(pages);
        sum.table_elems = sum.table_elems.saturating_add(outline.table_elems);
        sum.cpu_features = sum.cpu_features.union(outline.cpu_features);
        check_imports(node, outline, &exports).map_err(|error| node.blame(error))?;
    }
    check_declared(&sum, policy)?;
    Ok(sum.cpu_features)
}

/// Exported functions: names and types.
type Exports<'a> = BTreeMap<&'a str, &'a str>;

fn check_imports(node: &Node<'_>, outline: &Outline, exports: &[Exports<'_>]) -> Result<(), LoadError> {
    let mut slots: u32 = 0;
    for import in &outline.imports {
        let interface::Function { module, name, signature } = import;
        let library = node.libraries.iter().find(|(library, _)| library == module);
        let Some(exports) = library.and_then(|(_, place)| exports.get(*place)) else {
            let call = host_call(import);
            if node.name.is_some() && !matches!(call, Ok(HostCall::LibraryRead | HostCall::LibraryWrite)) {
                return Err(LoadError::LibraryImport { module: module.clone(), name: name.clone() });
            }
            call?;
            continue;
        };
        let (library, function) = (module.clone(), name.clone());
        let Some(export) = exports.get(&**name) else {
            return Err(LoadError::LibraryFunction { library, function });
        };
        let types = shim_type(signature).filter(|_| export == signature);
        let Some((params, results)) = types else {
            let (import, export) = (signature.clone(), (*export).to_owned());
            return Err(LoadError::LibrarySignature { library, function, import, export });
        };
        slots = slots.saturating_add(shim_slots(&params, &results));
    }
    if slots > SHIM_SLOTS_MAX {
        return Err(LoadError::LibraryCalls { slots, limit: SHIM_SLOTS_MAX });
    }
    Ok(())
}

/// A function that a module imports from a library.
pub(super) struct Shim {
    /// The module and name it is imported under; the library exports it by the same name.
    pub(super) library: String,
    pub(super) name: String,
    /// The instance that exports it.
    pub(super) callee: usize,
}

/// What stands between one instance and its libraries.
pub(super) struct Shims {
    /// Imports [`ENTER`] and [`LEAVE`] of [`LINK_MODULE`], and from [`CALLEES`] the function of
    /// each library by the position of its shim; exports the shim under the same position.
    pub(super) wasm: Vec<u8>,
    pub(super) functions: Vec<Shim>,
}

impl Shims {
    /// For the module at a place, whose imports were checked; nothing if it calls no library.
    pub(super) fn new(place: usize, module: &Metered, libraries: &[(String, usize)]) -> Option<Self> {
        let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
        let (mut functions, mut exports, mut code) =
            (FunctionSection::new(), ExportSection::new(), CodeSection::new());
        types.ty().function([ValType::I32; 3], []);
        for name in [ENTER, LEAVE] {
            imports.import(LINK_MODULE, name, EntityType::Function(0));
        }
        let outline = module.facts.outline();
        let mut seen = BTreeSet::new();
        let wanted: Vec<_> = outline
            .imports
            .iter()
            .filter(|import| seen.insert((&import.module, &import.name)))
            .filter_map(|import| {
                let (_, callee) = libraries.iter().find(|(library, _)| *library == import.module)?;
                Some((import, *callee, shim_type(&import.signature)?))
            })
            .collect();
        let count = u32::try_from(wanted.len()).ok()?;
        let mut shims = Vec::new();
        for ((import, callee, (params, results)), position) in wanted.into_iter().zip(0..) {
            let slots = shim_slots(&params, &results);
            let param_count = u32::try_from(params.len()).ok()?;
            types.ty().function(params, results);
            imports.import(CALLEES, &position.to_string(), EntityType::Function(1 + position));
            functions.function(1 + position);
            exports.export(&position.to_string(), ExportKind::Func, 2 + count + position);
            let (from, to) = (i32::try_from(place).ok()?, i32::try_from(callee).ok()?);
            let operands = [from, to, slots.cast_signed()].map(Instruction::I32Const);
            let mut body = Function::new([]);
            operands.iter().for_each(|operand| {
                body.instruction(operand);
            });
            body.instruction(&Instruction::Call(0));
            for param in 0..param_count {
                body.instruction(&Instruction::LocalGet(param));
            }
            body.instruction(&Instruction::Call(2 + position));
            operands.iter().for_each(|operand| {
                body.instruction(operand);
            });
            body.instruction(&Instruction::Call(1)).instruction(&Instruction::End);
            code.function(&body);
            shims.push(Shim { library: import.module.clone(), name: import.name.clone(), callee });
        }
        if shims.is_empty() {
            return None;
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
        Some(Self { wasm: module.finish(), functions: shims })
    }
}

/// Parameters and results of a signature of numbers.
fn shim_type(signature: &str) -> Option<(Vec<ValType>, Vec<ValType>)> {
    let (params, results) = signature.split_once(':')?;
    let numbers = |letters: &str| letters.chars().map(number).collect::<Option<Vec<_>>>();
    Some((numbers(params)?, numbers(results)?))
}

const fn number(letter: char) -> Option<ValType> {
    Some(match letter {
        'i' => ValType::I32,
        'I' => ValType::I64,
        'f' => ValType::F32,
        'F' => ValType::F64,
        'v' => ValType::V128,
        _ => return None,
    })
}

/// Stack slots of the frame of a shim, as of any frame: operands are the parameters and the host
/// call's, and results beside the host call's.
fn shim_slots(params: &[ValType], results: &[ValType]) -> u32 {
    let values = 2 * params.len() + results.len() + 3;
    u32::try_from(values).unwrap_or(u32::MAX).saturating_add(FRAME_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{self, Caps};

    fn metered(wat: &str) -> Metered {
        instrument::meter(&wat::parse_str(wat).unwrap(), &Caps::default()).unwrap()
    }

    #[test]
    fn shims_are_valid_modules() {
        let module = metered(
            r#"(module (import "b" "f" (func (param i32 i64 f32 f64 v128) (result i64 v128)))
              (import "a" "g" (func)) (import "b" "f" (func (param i32 i64 f32 f64 v128) (result i64 v128)))
              (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))"#,
        );
        let libraries = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        let shims = Shims::new(0, &module, &libraries).unwrap();
        let listed: Vec<_> =
            shims.functions.iter().map(|shim| (&shim.library[..], &shim.name[..], shim.callee)).collect();
        assert_eq!(listed, [("b", "f", 1), ("a", "g", 2)]);
        profile::validate(&shims.wasm).unwrap();
        assert!(Shims::new(0, &module, &[]).is_none());
        assert!(Shims::new(0, &metered("(module)"), &libraries).is_none());
    }

    #[test]
    fn only_numbers_cross() {
        assert_eq!(shim_type("iI:v"), Some((vec![ValType::I32, ValType::I64], vec![ValType::V128])));
        assert_eq!(shim_type(":"), Some((Vec::new(), Vec::new())));
        assert_eq!(shim_type("?:"), None);
        assert_eq!(shim_type("i"), None);
    }
}
