//! Programs of other people: what they print is what their authors expect, and both engines give
//! the same execution. They are not a part of this repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nonos_capsule::{Caps, Policy, Status};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, ImportSection, Instruction, Module};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, FunctionSectionReader, ImportSectionReader, Parser,
};

use crate::support::{interpreter_with, invocation, policy, run, runtime_with, signed, verified};

/// Gas of a program; an interpreter takes seconds for it.
const GAS: u64 = 400_000_000;

/// Makes the imports that mark where a measurement begins and ends functions that do nothing.
#[derive(Default)]
struct Unmarked {
    /// New index of every imported function.
    imports: Vec<u32>,
    marks: u32,
    mark_type: u32,
}

type Result<T = ()> = core::result::Result<T, Error<core::convert::Infallible>>;

impl Reencode for Unmarked {
    type Error = core::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.imports.get(index as usize).copied().unwrap_or(index))
    }

    fn parse_custom_section(&mut self, _: &mut Module, _: CustomSectionReader<'_>) -> Result {
        Ok(())
    }

    fn parse_import_section(&mut self, to: &mut ImportSection, section: ImportSectionReader<'_>) -> Result {
        let imports: Vec<_> = section.into_imports().collect::<core::result::Result<_, _>>()?;
        let is_mark = |import: &wasmparser::Import<'_>| import.module == "bench";
        self.marks = u32::try_from(imports.iter().filter(|import| is_mark(import)).count()).unwrap();
        let mut kept = 0;
        let mut mark = u32::try_from(imports.len()).unwrap() - self.marks;
        for import in imports {
            let next = if is_mark(&import) { &mut mark } else { &mut kept };
            self.imports.push(*next);
            *next += 1;
            match import.ty {
                wasmparser::TypeRef::Func(ty) if is_mark(&import) => self.mark_type = ty,
                _ => self.parse_import(to, import)?,
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        to: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result {
        for _ in 0..self.marks {
            to.function(self.mark_type);
        }
        utils::parse_function_section(self, to, section)
    }

    fn parse_code_section(&mut self, to: &mut CodeSection, section: CodeSectionReader<'_>) -> Result {
        for _ in 0..self.marks {
            to.function(Function::new([]).instruction(&Instruction::End));
        }
        utils::parse_code_section(self, to, section)
    }
}

fn unmarked(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::new();
    Unmarked::default().parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

fn modules(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modules(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "wasm") {
            found.insert(path);
        }
    }
}

#[test]
#[ignore = "needs sightglass, a folder of WASM programs, in NONOS_CORPUS"]
fn programs_of_others_run_the_same_everywhere() {
    let corpus = std::env::var("NONOS_CORPUS").expect("NONOS_CORPUS names the folder of the corpora");
    let folder = Path::new(&corpus).join("sightglass");
    let mut paths = BTreeSet::new();
    modules(&folder, &mut paths);
    // One of Sightglass's has a switch of 1 025 cases, each in the block of the one before.
    let caps = Caps { nesting_max: 2_048, ..Caps::default() };
    let policy = Policy {
        gas_limit: GAS,
        memory_pages_max: 4_096,
        checkpoint_interval_gas: 20_000_000,
        output_max_bytes: 4 << 20,
        wall_ms_max: Policy::MAX_WALL_MS,
        ..policy()
    };
    let (mut finished, mut expected, mut limited) = (0, 0, 0);
    let [compiler, interpreter] = [runtime_with(&caps), interpreter_with(&caps)];
    for path in paths {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let wasm = std::fs::read(&path).unwrap();
        let Ok(wasm) = unmarked(&wasm) else {
            println!("{name}: not a core module");
            continue;
        };
        let capsule = verified(signed(&wasm, policy.clone()));
        let loaded = match (compiler.load(&capsule, &policy), interpreter.load(&capsule, &policy)) {
            (Ok(compiled), Ok(interpreted)) => [compiled, interpreted],
            (Err(error), _) | (_, Err(error)) => {
                println!("{name}: {error}");
                continue;
            }
        };
        let [compiled, interpreted] = loaded.map(|loaded| run(&loaded, &invocation(b"")).unwrap());
        assert_eq!(compiled, interpreted, "{name}");
        println!(
            "{name}: {}, gas {}, {} checkpoints, {} bytes of output",
            compiled.status,
            compiled.gas_used,
            compiled.checkpoints.len(),
            compiled.output.len()
        );
        match compiled.status {
            Status::Exit(0) => finished += 1,
            _ => limited += 1,
        }
        if let (Ok(output), Status::Exit(0)) =
            (std::fs::read(path.with_extension("stdout.expected")), compiled.status)
        {
            assert_eq!(
                String::from_utf8_lossy(&compiled.output),
                String::from_utf8_lossy(&output),
                "{name} prints what it should"
            );
            expected += 1;
        }
    }
    println!(
        "{finished} ran to their end, {limited} to a trap or the limit of gas; {expected} printed as expected"
    );
    assert!(finished >= 30);
}
