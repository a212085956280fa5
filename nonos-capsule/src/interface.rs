use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use serde::Serialize;
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

/// A function that a payload imports or exports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct Function {
    /// The module it is imported from; empty for an export.
    #[n(0)]
    pub module: String,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Parameters, a colon, results; a letter each: `i` and `I` for `i32` and `i64`, `f` and `F`
    /// for `f32` and `f64`, `v` for `v128`, `?` for anything else.
    #[n(2)]
    pub signature: String,
}

/// What a payload needs around it and offers: read from its import and export sections when it
/// is packed, so that a peer can tell from the head alone whether it can run a capsule.
///
/// Wire form: `[imports, exports]`, each in the order of the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
pub struct Interface {
    /// Imported functions.
    #[n(0)]
    pub imports: Vec<Function>,
    /// Exported functions.
    #[n(1)]
    pub exports: Vec<Function>,
}

impl Wire for Interface {
    const MAX_BYTES: usize = 8 * 1_024;
}

impl Interface {
    /// Most functions listed of each kind; a module with more lists its first ones. Keeps a head
    /// small, whatever a payload exports.
    pub const MAX_FUNCTIONS: usize = 128;

    /// Longest name listed, in bytes; a function with a longer name is left out.
    pub const MAX_NAME_BYTES: usize = 64;

    /// Reads the interface of a module. A payload that is no module, or breaks off, has what was
    /// read until there: the profile says what is wrong with it when it is loaded.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut reader = Reader::default();
        if payload.starts_with(b"\0asm") {
            // A fault ends the reading; it is reported by the profile.
            let _ = reader.read(payload);
        }
        reader.interface
    }
}

#[derive(Default)]
struct Reader {
    interface: Interface,
    types: Vec<String>,
    /// Type index of every function, imports first.
    functions: Vec<u32>,
}

impl Reader {
    fn read(&mut self, payload: &[u8]) -> wasmparser::Result<()> {
        for part in Parser::new(0).parse_all(payload) {
            match part? {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter_err_on_gc_types() {
                        self.types.push(signature(&ty?));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(ty) = import.ty {
                            self.functions.push(ty);
                            let function = self.function(import.module, import.name, ty);
                            list(&mut self.interface.imports, function);
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        self.functions.push(ty?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let ty = self.functions.get(export.index as usize).copied();
                        if let (ExternalKind::Func, Some(ty)) = (export.kind, ty) {
                            let function = self.function("", export.name, ty);
                            list(&mut self.interface.exports, function);
                        }
                    }
                }
                // Both sections of interest come before the code.
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&self, module: &str, name: &str, ty: u32) -> Option<Function> {
        let signature = self.types.get(ty as usize)?;
        let is_short = |text: &str| text.len() <= Interface::MAX_NAME_BYTES;
        [module, name, signature].into_iter().all(is_short).then(|| Function {
            module: module.to_owned(),
            name: name.to_owned(),
            signature: signature.clone(),
        })
    }
}

fn list(functions: &mut Vec<Function>, function: Option<Function>) {
    // Half the section each, whatever the names.
    let held: usize = functions.iter().map(bytes).sum();
    if let Some(function) = function
        && functions.len() < Interface::MAX_FUNCTIONS
        && held + bytes(&function) < Interface::MAX_BYTES / 2 - 16
    {
        functions.push(function);
    }
}

/// An upper bound of the encoded length.
fn bytes(function: &Function) -> usize {
    function.module.len() + function.name.len() + function.signature.len() + 7
}

/// The letters of a function type.
pub(crate) fn signature(ty: &FuncType) -> String {
    let letter = |ty: &ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        ValType::F32 => 'f',
        ValType::F64 => 'F',
        ValType::V128 => 'v',
        ValType::Ref(_) => '?',
    };
    let results = ty.results().iter().map(letter);
    ty.params().iter().map(letter).chain([':']).chain(results).collect()
}

#[cfg(test)]
mod tests {
    use nonos_identity::wire;

    use super::*;

    #[test]
    fn imports_and_exports_are_listed_with_their_types() {
        let wasm = wat::parse_str(
            r#"(module (import "a" "b" (func (param i32 i64 f32 f64 v128) (result i32)))
              (memory (export "memory") 1)
              (func (export "_start")) (func (export "two") (result i32 i64) (i32.const 0) (i64.const 0)))"#,
        )
        .unwrap();
        let interface = Interface::of(&wasm);
        let function = |module: &str, name: &str, signature: &str| Function {
            module: module.to_owned(),
            name: name.to_owned(),
            signature: signature.to_owned(),
        };
        assert_eq!(interface.imports, [function("a", "b", "iIfFv:i")]);
        assert_eq!(interface.exports, [function("", "_start", ":"), function("", "two", ":iI")]);
        assert_eq!(wire::from_bytes::<Interface>(&wire::to_bytes(&interface)), Ok(interface));
    }

    #[test]
    fn the_largest_interface_fits_its_section() {
        let name = |n: u32| format!("{n:064}");
        let imports: String =
            (0..500).map(|n| format!(r#"(import "{}" "{}" (func))"#, name(n), name(n))).collect();
        let exports: String = (0..500).map(|n| format!(r#"(func (export "{}"))"#, name(n))).collect();
        let wasm = wat::parse_str(format!("(module {imports} {exports})")).unwrap();
        let interface = Interface::of(&wasm);
        assert!(interface.imports.len() > 20 && interface.exports.len() > 20);
        assert_eq!(wire::from_bytes::<Interface>(&wire::to_bytes(&interface)), Ok(interface));
    }

    #[test]
    fn what_is_no_module_has_none() {
        for payload in [&b""[..], b"text", b"\0asm", b"\0asm\x01\0\0\0\x02\xff"] {
            assert_eq!(Interface::of(payload), Interface::default());
        }
    }
}
