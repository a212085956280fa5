//! The compiling process for embedders that have no program of their own to start: see
//! `nonos_capsule::Compiler::Child`. It reads one job from standard input and is of no use by hand.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nonos_capsule::compile_worker()
}
