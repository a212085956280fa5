//! What a payload may contain: the deterministic profile v1 and the structural caps.
//!
//! Profile v1 is WASM 1.0 with sign extension, saturating float conversion, multiple values, bulk
//! memory, mutable globals and fixed-width SIMD; one memory of its own; imports of functions only;
//! tables that nothing changes after instantiation.

use wasmparser::{
    ConstExpr, ElementItems, ExternalKind, FuncType, FuncValidatorAllocations, FunctionBody, Operator,
    OperatorsReader, Parser, Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures,
};

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;

use crate::cpu_feature::{CpuFeature, CpuFeatureSet};
use crate::instrument::{RESERVED, TICK_MODULE};
use crate::interface::{self, Function};
use crate::operator;

/// Structural caps: what compiling a module may cost, checked before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Functions; 100 000 empty ones cost a compiler 6 s and 550 MiB.
    pub functions_max: u32,
    /// Bytes of one function body.
    pub body_bytes_max: u32,
    /// Parameters and locals of one function.
    pub locals_max: u32,
    /// Nesting of blocks in one function.
    pub nesting_max: u32,
    /// Targets of one `br_table`.
    pub br_targets_max: u32,
    /// Bytes of all function bodies; bounds the time of a compilation.
    pub code_bytes_max: u64,
    /// Entries of the type, import, global, export and element sections each.
    pub entries_max: u32,
    /// Data segments; interpreters with a large read-only image have some ten thousands.
    pub data_segments_max: u32,
    /// Mutable globals; every checkpoint hashes them.
    pub mutable_globals_max: u32,
}

impl Caps {
    /// Every cap in the order of the fields: what a cache tells modules under other caps by.
    pub(crate) fn to_array(&self) -> [u64; 9] {
        let Self {
            functions_max,
            body_bytes_max,
            locals_max,
            nesting_max,
            br_targets_max,
            code_bytes_max,
            entries_max,
            data_segments_max,
            mutable_globals_max,
        } = *self;
        let small = [functions_max, body_bytes_max, locals_max, nesting_max, br_targets_max].map(u64::from);
        let [a, b, c, d, e] = small;
        [
            a,
            b,
            c,
            d,
            e,
            code_bytes_max,
            entries_max.into(),
            data_segments_max.into(),
            mutable_globals_max.into(),
        ]
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            functions_max: 20_000,
            body_bytes_max: 256 * 1_024,
            locals_max: 4_096,
            nesting_max: 1_024,
            br_targets_max: 16_384,
            code_bytes_max: 16 << 20,
            entries_max: 20_000,
            data_segments_max: 100_000,
            mutable_globals_max: 256,
        }
    }
}

/// Why a payload is not a module of profile v1. Its author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not a valid WASM module of the profile's features.
    #[error("invalid module at byte {offset}: {message}")]
    Invalid {
        /// Where.
        offset: u64,
        /// What, in the validator's words.
        message: String,
    },
    /// A valid module with an instruction outside the profile.
    #[error("{operator} in function {function} at byte {offset} is not allowed: {hint}")]
    Operator {
        /// Name of the instruction.
        operator: &'static str,
        /// Index of the function, imports counted.
        function: u32,
        /// Where.
        offset: u64,
        /// What to do about it.
        hint: &'static str,
    },
    /// A part of the module outside the profile.
    #[error("{what} is not allowed: {hint}")]
    Feature {
        /// The part.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// Larger than a cap.
    #[error("{what}: {found} exceeds the cap of {limit}{}", function.map(|f| format!(" in function {f}")).unwrap_or_default())]
    Cap {
        /// Which cap.
        what: &'static str,
        /// Found in the module.
        found: u64,
        /// The cap.
        limit: u64,
        /// Index of the function, for caps on functions.
        function: Option<u32>,
    },
    /// A name that the metering uses.
    #[error("name {0:?} is reserved")]
    ReservedName(String),
}

impl From<wasmparser::Error> for ProfileError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid { offset: error.offset() as u64, message: error.message().to_owned() }
    }
}

/// What the transformation and the loader must know about a module.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) types: Vec<FuncType>,
    pub(crate) imports: Vec<(String, String, FuncType)>,
    /// Type index of every defined function.
    pub(crate) functions: Vec<u32>,
    /// Stack slots of a frame of every defined function.
    pub(crate) frame_slots: Vec<u32>,
    pub(crate) memory_pages_min: Option<u64>,
    pub(crate) table_elems: u64,
    pub(crate) global_count: u32,
    pub(crate) mutable_globals: Vec<u32>,
    /// Exported functions: name and function index.
    pub(crate) function_exports: Vec<(String, u32)>,
    pub(crate) cpu_features: CpuFeatureSet,
}

/// What a loader must know about a module that was metered, also when that was long ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Outline {
    #[n(0)]
    pub(crate) imports: Vec<Function>,
    /// Exported functions.
    #[n(1)]
    pub(crate) exports: Vec<Function>,
    #[n(2)]
    pub(crate) memory_pages_min: Option<u64>,
    #[n(3)]
    pub(crate) table_elems: u64,
    #[n(4)]
    pub(crate) mutable_globals: Vec<u32>,
    #[n(5)]
    pub(crate) cpu_features: CpuFeatureSet,
}

impl Wire for Outline {
    /// Never received: read back only under a seal of our own.
    const MAX_BYTES: usize = 64 << 20;
}

impl Facts {
    pub(crate) fn outline(&self) -> Outline {
        let export = |(name, index): &(String, u32)| Function {
            module: String::new(),
            name: name.clone(),
            signature: self.function_type(*index).map(interface::signature).unwrap_or_default(),
        };
        let import = |(module, name, ty): &(String, String, FuncType)| Function {
            module: module.clone(),
            name: name.clone(),
            signature: interface::signature(ty),
        };
        Outline {
            imports: self.imports.iter().map(import).collect(),
            exports: self.function_exports.iter().map(export).collect(),
            memory_pages_min: self.memory_pages_min,
            table_elems: self.table_elems,
            mutable_globals: self.mutable_globals.clone(),
            cpu_features: self.cpu_features,
        }
    }

    pub(crate) fn import_count(&self) -> u32 {
        u32::try_from(self.imports.len()).unwrap_or(u32::MAX)
    }

    /// The type of a function by its index, imports counted.
    pub(crate) fn function_type(&self, index: u32) -> Option<&FuncType> {
        match index.checked_sub(self.import_count()) {
            None => self.imports.get(index as usize).map(|(_, _, ty)| ty),
            Some(defined) => self.types.get(*self.functions.get(defined as usize)? as usize),
        }
    }
}

/// The features of profile v1, in the validator's terms. `REFERENCE_TYPES` is there for the
/// encoding that current compilers emit; the instructions behind it are refused one by one.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
}

/// Slots that every frame takes beside its locals and operands: saved registers and the return
/// address.
pub(crate) const FRAME_SLOTS: u32 = 16;

/// Checks a module against caps and profile; nothing is compiled.
///
/// # Errors
/// [`ProfileError`] names the first part that breaks a rule.
pub(crate) fn check(wasm: &[u8], caps: &Caps) -> Result<Facts, ProfileError> {
    let mut facts = Facts::default();
    let mut code_index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        check_payload(payload?, caps, &mut facts, &mut code_index)?;
    }
    facts.frame_slots = validate(wasm)?;
    Ok(facts)
}

/// Validates by the book, and tells the stack slots of every function.
pub(crate) fn validate(wasm: &[u8]) -> Result<Vec<u32>, ProfileError> {
    let mut validator = Validator::new_with_features(features());
    let mut allocations = FuncValidatorAllocations::default();
    let mut frame_slots = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(allocations);
            let mut reader = body.get_binary_reader();
            function.read_locals(&mut reader)?;
            let mut operators = OperatorsReader::new(reader);
            let mut height = 0;
            while !operators.eof() {
                let (operator, offset) = operators.read_with_offset()?;
                function.op(offset, &operator)?;
                height = height.max(function.operand_stack_height());
            }
            operators.finish()?;
            frame_slots.push(FRAME_SLOTS + function.len_locals() + height);
            allocations = function.into_allocations();
        }
    }
    Ok(frame_slots)
}

fn check_payload(
    payload: Payload<'_>,
    caps: &Caps,
    facts: &mut Facts,
    code_index: &mut u32,
) -> Result<(), ProfileError> {
    let entries = |what, count: u32| cap(what, u64::from(count), u64::from(caps.entries_max), None);
    match payload {
        Payload::TypeSection(section) => {
            entries("types", section.count())?;
            for ty in section.into_iter_err_on_gc_types() {
                facts.types.push(ty?);
            }
        }
        Payload::ImportSection(section) => {
            entries("imports", section.count())?;
            for import in section.into_imports() {
                let import = import?;
                let TypeRef::Func(ty) = import.ty else {
                    return Err(ProfileError::Feature {
                        what: "an import that is no function",
                        hint: "define memory, tables and globals inside the module",
                    });
                };
                entries("imports", facts.import_count())?;
                reserved(import.module)?;
                let ty = facts.types.get(ty as usize).cloned().ok_or_else(|| invalid("unknown type"))?;
                facts.imports.push((import.module.to_owned(), import.name.to_owned(), ty));
            }
        }
        Payload::FunctionSection(section) => {
            cap("functions", u64::from(section.count()), u64::from(caps.functions_max), None)?;
            facts.functions = section.into_iter().collect::<Result<_, _>>()?;
        }
        Payload::TableSection(section) => {
            entries("tables", section.count())?;
            for table in section {
                let table = table?;
                if !table.ty.element_type.is_func_ref() || table.ty.table64 || table.ty.shared {
                    return Err(ProfileError::Feature {
                        what: "a table of anything but functions",
                        hint: "build without reference types",
                    });
                }
                facts.table_elems = facts.table_elems.saturating_add(table.ty.initial);
            }
        }
        Payload::MemorySection(section) => {
            if section.count() > 1 {
                return Err(ProfileError::Feature { what: "a second memory", hint: "use one memory" });
            }
            for memory in section {
                let memory = memory?;
                if memory.shared || memory.memory64 || memory.page_size_log2.is_some() {
                    return Err(ProfileError::Feature {
                        what: "a memory that is shared, 64-bit or of another page size",
                        hint: "build for wasm32 without threads",
                    });
                }
                facts.memory_pages_min = Some(memory.initial);
            }
        }
        Payload::GlobalSection(section) => {
            entries("globals", section.count())?;
            for global in section {
                let global = global?;
                if matches!(global.ty.content_type, ValType::Ref(_)) || global.ty.shared {
                    return Err(ProfileError::Feature {
                        what: "a global that holds a reference",
                        hint: "build without reference types",
                    });
                }
                if global.ty.mutable {
                    facts.mutable_globals.push(facts.global_count);
                }
                facts.global_count += 1;
            }
            let mutable = facts.mutable_globals.len() as u64;
            cap("mutable globals", mutable, u64::from(caps.mutable_globals_max), None)?;
        }
        Payload::ExportSection(section) => {
            entries("exports", section.count())?;
            for export in section {
                let export = export?;
                reserved(export.name)?;
                if export.kind == ExternalKind::Func {
                    facts.function_exports.push((export.name.to_owned(), export.index));
                }
            }
        }
        Payload::ElementSection(section) => {
            entries("element segments", section.count())?;
            for element in section {
                check_element(&element?.items)?;
            }
        }
        Payload::DataSection(section) => {
            let limit = u64::from(caps.data_segments_max);
            cap("data segments", u64::from(section.count()), limit, None)?;
        }
        Payload::TagSection(_) => {
            return Err(ProfileError::Feature { what: "an exception tag", hint: "build without exceptions" });
        }
        Payload::CodeSectionStart { count, size, .. } => {
            cap("functions", u64::from(count), u64::from(caps.functions_max), None)?;
            cap("bytes of code", u64::from(size), caps.code_bytes_max, None)?;
        }
        Payload::CodeSectionEntry(body) => {
            let params = facts
                .functions
                .get(*code_index as usize)
                .and_then(|ty| facts.types.get(*ty as usize))
                .map_or(0, |ty| ty.params().len() as u64);
            let index = facts.import_count().saturating_add(*code_index);
            facts.cpu_features = facts.cpu_features.union(check_body(&body, index, params, caps)?);
            *code_index += 1;
        }
        _ => {}
    }
    Ok(())
}

/// Element segments may hold functions, listed by index or by `ref.func`; null entries too.
fn check_element(items: &ElementItems<'_>) -> Result<(), ProfileError> {
    let refused = ProfileError::Feature {
        what: "an element segment of anything but functions",
        hint: "build without reference types",
    };
    let ElementItems::Expressions(ty, items) = items else { return Ok(()) };
    if !ty.is_func_ref() {
        return Err(refused);
    }
    let is_function = |item: ConstExpr<'_>| -> Result<bool, ProfileError> {
        let first = item.get_operators_reader().read()?;
        Ok(matches!(first, Operator::RefFunc { .. } | Operator::RefNull { .. }))
    };
    for item in items.clone() {
        if !is_function(item?)? {
            return Err(refused);
        }
    }
    Ok(())
}

/// Checks one body; tells what it asks of the processor.
fn check_body(
    body: &FunctionBody<'_>,
    function: u32,
    params: u64,
    caps: &Caps,
) -> Result<CpuFeatureSet, ProfileError> {
    let at = Some(function);
    let bytes = body.range().len() as u64;
    cap("bytes of code", bytes, u64::from(caps.body_bytes_max), at)?;
    let mut locals = params;
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        if matches!(ty, ValType::Ref(_)) {
            return Err(ProfileError::Feature {
                what: "a local that holds a reference",
                hint: "build without reference types",
            });
        }
        locals = locals.saturating_add(u64::from(count));
        cap("parameters and locals", locals, u64::from(caps.locals_max), at)?;
    }
    cap("parameters and locals", locals, u64::from(caps.locals_max), at)?;
    let mut features = CpuFeatureSet::EMPTY;
    let mut nesting = 0u64;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset()?;
        let about = operator::describe(&operator);
        if let Some(hint) = operator::refusal(&operator, &about) {
            return Err(ProfileError::Operator {
                operator: about.name,
                function,
                offset: offset as u64,
                hint,
            });
        }
        features = features
            .with_if(CpuFeature::Float, operator::is_float(&about))
            .with_if(CpuFeature::Simd, about.proposal == "simd")
            .with_if(CpuFeature::BulkMemory, about.proposal == "bulk_memory");
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                nesting += 1;
                cap("nesting of blocks", nesting, u64::from(caps.nesting_max), at)?;
            }
            Operator::End => nesting = nesting.saturating_sub(1),
            Operator::BrTable { targets } => {
                cap("br_table targets", u64::from(targets.len()), u64::from(caps.br_targets_max), at)?;
            }
            _ => {}
        }
    }
    Ok(features)
}

fn cap(what: &'static str, found: u64, limit: u64, function: Option<u32>) -> Result<(), ProfileError> {
    if found > limit { Err(ProfileError::Cap { what, found, limit, function }) } else { Ok(()) }
}

fn reserved(name: &str) -> Result<(), ProfileError> {
    if name.starts_with(RESERVED) || name == TICK_MODULE {
        return Err(ProfileError::ReservedName(name.to_owned()));
    }
    Ok(())
}

fn invalid(message: &str) -> ProfileError {
    ProfileError::Invalid { offset: 0, message: message.to_owned() }
}
