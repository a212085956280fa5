//! From a metered module to machine code: in a process of its own under limits, once, and then
//! from a cache.
//!
//! Whatever a module costs Cranelift, the node pays in a child that the kernel stops. The
//! child seals what it made with a key that it gets for this one job, so the pipe between the
//! two is no way in for other machine code.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use nonos_capsule_aot::{Artifact, SealKey};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::wasmtime::compiler_engine;

/// What compiling one module may cost. The base covers any attack that passes the structural
/// caps; the rest grows with the code, so that an interpreter of 20 MB compiles too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Processor time for a module of any size, in seconds.
    pub cpu_secs: u64,
    /// Processor time per MiB of metered module, in seconds.
    pub cpu_secs_per_mib: u64,
    /// Memory for a module of any size, in bytes.
    pub memory_bytes: u64,
    /// Memory per byte of metered module, in bytes.
    pub memory_bytes_per_byte: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { cpu_secs: 2, cpu_secs_per_mib: 6, memory_bytes: 256 << 20, memory_bytes_per_byte: 64 }
    }
}

impl CompileLimits {
    fn cpu(&self, wasm_bytes: usize) -> u64 {
        let mib = (wasm_bytes as u64) >> 20;
        self.cpu_secs.saturating_add(mib.saturating_mul(self.cpu_secs_per_mib))
    }

    fn memory(&self, wasm_bytes: usize) -> u64 {
        self.memory_bytes.saturating_add((wasm_bytes as u64).saturating_mul(self.memory_bytes_per_byte))
    }
}

/// Where modules are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// In the embedder's own process: the structural caps are the only limit, and a fault in the
    /// compiler is one of the node.
    #[default]
    InProcess,
    /// In a child: the program and its arguments must lead to
    /// [`compile_worker`](crate::compile_worker), as the program `nonos-capsule-compiler` of this
    /// crate does.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// What one module may cost.
        limits: CompileLimits,
    },
}

/// Why a module has no machine code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The compiler does not take the module.
    #[error("the compiler refuses the module: {0}")]
    Refused(String),
    /// More processor time or memory than [`CompileLimits`] grant. Its author's fault, or that of
    /// an operator with low limits.
    #[error("compiling {wasm_bytes} bytes took more than {cpu_secs} s or {} MiB", memory_bytes >> 20)]
    Limit {
        /// Length of the metered module.
        wasm_bytes: usize,
        /// Processor time granted, in seconds.
        cpu_secs: u64,
        /// Memory granted, in bytes.
        memory_bytes: u64,
    },
    /// The child could not be started or does not speak our protocol. The operator's to mend.
    #[error("compiling process: {0}")]
    Process(String),
}

/// A job for a child: `version u8 | is_canonical u8 | cpu_secs u64 | memory_bytes u64 | seal key
/// 32 | module`. The answer: `1 | sealed code` or `0 | message`.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 32;
const COMPILED: u8 = 1;
const REFUSED: u8 = 0;

/// What the seal between child and parent says beside the key, which is of one job.
const CONTEXT: &[u8] = b"job";

/// Longest answer per byte of module; machine code is 2 to 6 times as long as its module.
const ANSWER_BYTES_PER_BYTE: u64 = 64;
const ANSWER_BYTES: u64 = 16 << 20;

/// A child gets this many times its processor time on the wall clock, and some seconds.
const WALL_PER_CPU: u32 = 8;
const WALL_SLACK: Duration = Duration::from_secs(10);

impl Compiler {
    pub(super) fn compile(
        &self,
        engine: &wasmtime::Engine,
        is_canonical: bool,
        wasm: &[u8],
    ) -> Result<Artifact, CompileError> {
        match self {
            Self::InProcess => {
                Artifact::compile(engine, wasm).map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
            Self::Child { program, args, limits } => Job { program, args, limits, is_canonical, wasm }.run(),
        }
    }
}

struct Job<'a> {
    program: &'a PathBuf,
    args: &'a [OsString],
    limits: &'a CompileLimits,
    is_canonical: bool,
    wasm: &'a [u8],
}

impl Job<'_> {
    fn run(&self) -> Result<Artifact, CompileError> {
        let process = |error: io::Error| CompileError::Process(error.to_string());
        let key = job_key().map_err(process)?;
        let mut child = Command::new(self.program)
            .args(self.args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| CompileError::Process(format!("{}: {error}", self.program.display())))?;
        let answer = self.converse(&mut child, &key);
        // Whatever happened, no child stays behind.
        let _ = child.kill();
        let status = child.wait().map_err(process)?;
        match answer.map_err(process)?.split_first() {
            Some((&COMPILED, _)) if !status.success() && status.code().is_some() => {
                Err(CompileError::Process(status.to_string()))
            }
            Some((&COMPILED, sealed)) => Artifact::open(&SealKey::from_bytes(key), CONTEXT, sealed.to_vec())
                .map_err(|error| CompileError::Process(error.to_string())),
            Some((&REFUSED, message)) => {
                Err(CompileError::Refused(String::from_utf8_lossy(message).into_owned()))
            }
            // It never came to an answer: a limit ended it, by a signal or for lack of memory.
            None if status.code().is_none() => Err(self.limit()),
            _ => Err(CompileError::Process(format!("ended without an answer: {status}"))),
        }
    }

    fn limit(&self) -> CompileError {
        let wasm_bytes = self.wasm.len();
        CompileError::Limit {
            wasm_bytes,
            cpu_secs: self.limits.cpu(wasm_bytes),
            memory_bytes: self.limits.memory(wasm_bytes),
        }
    }

    /// Sends the job and reads the answer, for a bounded time.
    fn converse(&self, child: &mut Child, key: &[u8; 32]) -> io::Result<Vec<u8>> {
        let missing = || io::Error::other("no pipe");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let cpu_secs = self.limits.cpu(self.wasm.len());
        let limit =
            (self.wasm.len() as u64).saturating_mul(ANSWER_BYTES_PER_BYTE).saturating_add(ANSWER_BYTES);
        let deadline = now() + Duration::from_secs(cpu_secs) * WALL_PER_CPU + WALL_SLACK;
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut answer = Vec::new();
                stdout.take(limit).read_to_end(&mut answer).map(|_| answer)
            });
            let header = [
                &[VERSION, u8::from(self.is_canonical)][..],
                &cpu_secs.to_le_bytes(),
                &self.limits.memory(self.wasm.len()).to_le_bytes(),
                key,
            ];
            // A child that ended early closes the pipe; its status says why.
            let _ = stdin.write_all(&header.concat()).and_then(|()| stdin.write_all(self.wasm));
            drop(stdin);
            while !reader.is_finished() {
                if now() > deadline {
                    child.kill()?;
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
            reader.join().unwrap_or_else(|_| Err(io::Error::other("reader panicked")))
        })
    }
}

/// The body of the compiling process: one job from standard input, its result to standard
/// output. It limits itself before it reads a byte of the module.
#[must_use]
pub fn compile_worker() -> ExitCode {
    match work(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn work(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header)?;
    let (version, rest) = header.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let (is_canonical, rest) = rest.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let (cpu_secs, rest) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    let (memory, key) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| io::ErrorKind::InvalidData)?;
    if *version != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    confine(u64::from_le_bytes(*cpu_secs), u64::from_le_bytes(*memory))?;

    let mut wasm = Vec::new();
    input.read_to_end(&mut wasm)?;
    let compiled = compiler_engine(*is_canonical == 1).and_then(|engine| Artifact::compile(&engine, &wasm));
    match compiled {
        Ok(artifact) => {
            output.write_all(&[COMPILED])?;
            output.write_all(&artifact.seal(&SealKey::from_bytes(key), CONTEXT))?;
        }
        Err(error) => {
            output.write_all(&[REFUSED])?;
            output.write_all(format!("{error:#}").as_bytes())?;
        }
    }
    output.flush()
}

/// Limits of the kernel: processor time, memory beyond what the program takes by itself, no core
/// file, no file written, no further process.
fn confine(cpu_secs: u64, memory_bytes: u64) -> io::Result<()> {
    let exactly = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Cpu, exactly(cpu_secs))?;
    setrlimit(Resource::As, exactly(own_bytes()?.saturating_add(memory_bytes)))?;
    setrlimit(Resource::Core, exactly(0))?;
    setrlimit(Resource::Fsize, exactly(0))?;
    // Root is exempt from this one.
    setrlimit(Resource::Nproc, exactly(0))?;
    Ok(())
}

/// Address space of this process, in bytes.
fn own_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.ok_or(io::ErrorKind::InvalidData)?.saturating_mul(rustix::param::page_size() as u64))
}

/// A key for one job. Only the child gets it, through a pipe.
#[expect(clippy::disallowed_methods, reason = "the seal of one pipe; it enters no result")]
fn job_key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(key)
}

#[expect(clippy::disallowed_methods, reason = "a deadline for a child process; it enters no result")]
fn now() -> Instant {
    Instant::now()
}
