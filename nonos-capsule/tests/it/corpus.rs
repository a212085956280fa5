//! Programs of other people: metered under our host they show what they show raw under another, and
//! what their authors expect; both engines give the same execution. They are not a part of this
//! repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nonos_capsule::{Caps, ClockMode, Image, Invocation, Policy, Preopen, Status};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, ImportSection, Instruction, Module};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, FunctionSectionReader, ImportSectionReader, Parser,
};
use wasmtime::{Linker, Store};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::support::{NOW, interpreter_with, invocation, policy, run, runtime_with, signed, verified};

/// Gas of a program; an interpreter takes seconds for it.
const GAS: u64 = 400_000_000;
const OUTPUT_BYTES: usize = 4 << 20;

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

/// What a program shows of itself.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    code: u32,
    output: String,
    errors: String,
}

impl Shown {
    fn new(code: u32, output: &[u8], errors: &[u8]) -> Self {
        let [output, errors] = [output, errors].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Self { code, output, errors }
    }
}

/// The clock of both hosts: some programs print how long they took.
struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(NOW.as_secs())
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        NOW.as_secs() * 1_000_000_000
    }
}

/// A raw run: no metering, another WASI host, files on disk.
fn run_raw(engine: &wasmtime::Engine, wasm: &[u8], files: &[(String, Vec<u8>)]) -> wasmtime::Result<Shown> {
    let folder = tempfile::tempdir()?;
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes)?;
    }
    let [stdout, stderr] = [(); 2].map(|()| MemoryOutputPipe::new(OUTPUT_BYTES));
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(stdout.clone()).stderr(stderr.clone()).wall_clock(Stopped).monotonic_clock(Stopped);
    wasi.preopened_dir(folder.path(), ".", FsPerms::ReadWrite)?;
    let mut linker = Linker::<WasiP1Ctx>::new(engine);
    p1::add_to_linker_sync(&mut linker, |wasi| wasi)?;
    let mut store = Store::new(engine, wasi.build_p1());
    let instance = linker.instantiate(&mut store, &wasmtime::Module::new(engine, wasm)?)?;
    let code = match instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ()) {
        Ok(()) => 0,
        Err(error) => error.downcast::<I32Exit>()?.0.cast_unsigned(),
    };
    Ok(Shown::new(code, &stdout.contents(), &stderr.contents()))
}

/// What lies beside a program: its input among others.
fn files_beside(program: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir(program.parent().unwrap()).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "wasm"));
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
#[ignore = "needs sightglass, a folder of WASM programs, in NONOS_CORPUS"]
fn programs_of_others_run_the_same_everywhere() {
    let corpus = std::env::var("NONOS_CORPUS").expect("NONOS_CORPUS names the folder of the corpora");
    let folder = Path::new(&corpus).join("sightglass");
    let mut paths = BTreeSet::new();
    modules(&folder, &mut paths);
    // One of Sightglass's has a switch of many cases, each in the block of the one before; another
    // has a function of 272 KiB.
    let caps = Caps { nesting_max: 1 << 16, body_bytes_max: 1 << 20, ..Caps::default() };
    let policy = Policy {
        gas_limit: GAS,
        memory_pages_max: 4_096,
        checkpoint_interval_gas: 20_000_000,
        output_max_bytes: OUTPUT_BYTES as u64,
        fs_max_bytes: Policy::MAX_FS_BYTES,
        clock: ClockMode::Frozen,
        wall_ms_max: Policy::MAX_WALL_MS,
        ..policy()
    };
    let (mut finished, mut expected, mut limited) = (0, 0, 0);
    let [compiler, interpreter] = [runtime_with(&caps), interpreter_with(&caps)];
    let engine = wasmtime::Engine::default();
    for path in paths {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let Ok(wasm) = unmarked(&std::fs::read(&path).unwrap()) else {
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
        let files = files_beside(&path);
        let image = Image::from_files(files.clone()).unwrap();
        let invocation =
            Invocation { preopens: vec![Preopen { path: ".".to_owned(), image }], ..invocation(b"") };
        let [compiled, interpreted] = loaded.map(|loaded| run(&loaded, &invocation).unwrap());
        assert_eq!(compiled, interpreted, "{name}");
        println!(
            "{name}: {}, gas {}, {} checkpoints, {} bytes of output",
            compiled.status,
            compiled.gas_used,
            compiled.checkpoints.len(),
            compiled.output.len()
        );
        let Status::Exit(code) = compiled.status else {
            limited += 1;
            continue;
        };
        finished += 1;
        let shown = Shown::new(code, &compiled.output, &compiled.stderr);
        assert_eq!(shown, run_raw(&engine, &wasm, &files).unwrap(), "{name}, metered and raw");
        if let (Ok(output), 0) = (std::fs::read_to_string(path.with_extension("stdout.expected")), code) {
            assert_eq!(shown.output, output, "{name} prints what it should");
            expected += 1;
        }
    }
    println!(
        "{finished} ran to their end as their raw modules do, {limited} to a trap or the limit of gas; \
         {expected} printed what their authors expect"
    );
    assert!(finished >= 30);
}
