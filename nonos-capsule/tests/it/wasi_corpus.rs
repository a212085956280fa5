//! Third-party programs from the folder that `NONOS_CORPUS` names: the preview 1 part of
//! wasi-testsuite, and interpreters.
#![expect(clippy::print_stdout, reason = "the tables are what these tests are run for")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Execution, HostCallSet, Image, Invocation, Loaded, Policy, Preopen, Runtime, Status, replay,
};

use crate::support::{interpreter, invocation, runtime, signed, verified};

fn corpus(part: &str) -> PathBuf {
    let folder = std::env::var_os("NONOS_CORPUS").expect("NONOS_CORPUS names the folder of the corpora");
    Path::new(&folder).join(part)
}

/// As much as any policy may grant.
fn generous() -> Policy {
    Policy {
        gas_limit: 1 << 40,
        memory_pages_max: Policy::MAX_MEMORY_PAGES,
        table_elems_max: Policy::MAX_TABLE_ELEMS,
        wall_ms_max: Policy::MAX_WALL_MS,
        host_calls: HostCallSet::ALL,
        output_max_bytes: Policy::MAX_OUTPUT_BYTES,
        fs_max_bytes: Policy::MAX_FS_BYTES,
        fs_max_files: Policy::MAX_FS_FILES,
        ..Policy::default()
    }
}

fn load(runtime: &Runtime, wasm: &[u8]) -> Result<Loaded, String> {
    let policy = generous();
    let capsule = verified(signed(wasm, policy.clone()));
    runtime.load(&capsule, &policy).map_err(|error| error.to_string())
}

fn run(loaded: &Loaded, invocation: &Invocation) -> Execution {
    loaded.run(invocation, &MemoryNonceStore::default()).unwrap()
}

/// Everything under a folder of the machine, as an image.
fn image(folder: &Path) -> Image {
    let mut files = Vec::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(at) = ahead.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    Image::from_files(files).unwrap()
}

/// What a test of the suite says about itself beside its module.
struct Sidecar(serde_json::Value);

impl Sidecar {
    fn read(module: &Path) -> Self {
        let text = fs::read_to_string(module.with_extension("json")).unwrap_or_else(|_| "{}".to_owned());
        Self(serde_json::from_str(&text).unwrap())
    }

    fn invocation(&self, module: &Path) -> Invocation {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let field = |name| self.0.get(name);
        let mut invocation = invocation(b"");
        invocation.args = vec![module.file_name().unwrap().to_str().unwrap().to_owned()];
        if let Some(args) = field("args").and_then(|args| args.as_array()) {
            invocation.args.extend(args.iter().map(text));
        }
        if let Some(env) = field("env").and_then(|env| env.as_object()) {
            invocation.env = env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        }
        if let Some(root) = field("root").and_then(|root| root.as_str()) {
            let image = image(&module.parent().unwrap().join(root));
            invocation.preopens = vec![Preopen { path: "/".to_owned(), image }];
        }
        invocation
    }

    fn judge(&self, execution: &Execution) -> Result<(), String> {
        let code = self.0.get("exit_code").and_then(|code| code.as_u64()).unwrap_or(0);
        if execution.status != Status::Exit(u32::try_from(code).unwrap()) {
            let said = String::from_utf8_lossy(&execution.stderr).replace('\n', " ");
            return Err(format!("{}; {said}", execution.status));
        }
        match self.0.get("stdout").and_then(|stdout| stdout.as_str()) {
            Some(stdout) if stdout.as_bytes() != execution.output => Err("another output".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Runs every test of the suite twice and compares; prints a line for each. The executions come
/// back for a comparison with those of another runtime.
fn testsuite(runtime: &Runtime) -> Vec<Execution> {
    let mut modules = Vec::new();
    for language in ["assemblyscript", "c", "rust"] {
        let folder = corpus("wasi-testsuite/tests").join(language).join("testsuite/wasm32-wasip1");
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        modules.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")));
    }
    modules.sort();
    assert_eq!(modules.len(), 72, "modules of the suite");
    let mut passed = 0;
    let mut executions = Vec::new();
    for module in &modules {
        let sidecar = Sidecar::read(module);
        let result = load(runtime, &fs::read(module).unwrap()).and_then(|loaded| {
            let invocation = sidecar.invocation(module);
            let execution = run(&loaded, &invocation);
            assert_eq!(execution, run(&loaded, &invocation), "{}", module.display());
            sidecar.judge(&execution)?;
            executions.push(execution);
            // Where the suite takes the errno of several systems, ours is that of Unix.
            let mut strict = invocation;
            strict.env.push(("ERRNO_MODE_UNIX".to_owned(), String::new()));
            if module.parent().is_some_and(|folder| folder.ends_with("rust/testsuite/wasm32-wasip1")) {
                sidecar.judge(&run(&loaded, &strict)).map_err(|error| format!("strict: {error}"))?;
            }
            Ok(())
        });
        let name = module.file_stem().unwrap().to_str().unwrap();
        println!(
            "{name:40} {}",
            result.as_ref().map_or_else(|error| format!("FAIL: {error}"), |()| "ok".into())
        );
        passed += u32::from(result.is_ok());
    }
    println!("{passed} of {} with {runtime:?}", modules.len());
    assert_eq!(passed, 72);
    executions
}

#[test]
#[ignore = "needs wasi-testsuite in NONOS_CORPUS"]
fn wasi_testsuite() {
    let (compiled, interpreted) = (testsuite(&runtime()), testsuite(&interpreter()));
    assert_eq!(compiled, interpreted, "the engines agree on gas, checkpoints and output");
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs a script twice, replays it, runs it on the other engine, and gives back what it wrote.
fn interpret(module: &str, args: &[&str], env: &[(&str, &str)], image: Image) -> String {
    let wasm = fs::read(corpus("runno").join(module)).unwrap();
    let loaded = load(&runtime(), &wasm).unwrap();
    let mut invocation = invocation(b"");
    invocation.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    invocation.env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    invocation.preopens = vec![Preopen { path: "/".to_owned(), image }];
    let first = run(&loaded, &invocation);
    let stderr = String::from_utf8_lossy(&first.stderr);
    println!(
        "{module}: {}, {} gas, {} checkpoints, {} pages, exec_hash {:.16}",
        first.status,
        first.gas_used,
        first.checkpoints.len(),
        first.peak_pages,
        first.exec_hash.to_string()
    );
    assert!(first.status.is_success(), "{}: {stderr}", first.status);
    assert_eq!(first, run(&loaded, &invocation), "two runs are one execution");
    replay(&loaded, &invocation, &first).unwrap();
    let interpreted = run(&load(&interpreter(), &wasm).unwrap(), &invocation);
    assert_eq!(first, interpreted, "the engines agree");
    String::from_utf8(first.output).unwrap()
}

#[test]
#[ignore = "needs runno/python-3.11.3 in NONOS_CORPUS"]
fn interpreters_python() {
    let library = unzipped(&corpus("runno/python-3.11.3.tar.gz"));
    let script = "import json, sys, os, hashlib, random, time, tempfile\n\
        open('/note.txt', 'w').write('kept')\n\
        os.mkdir('/d'); os.rename('/note.txt', '/d/note')\n\
        print(json.dumps({'version': sys.version_info[:2], 'files': sorted(os.listdir('/')),\n\
            'note': open('/d/note').read(), 'sha': hashlib.sha256(b'x').hexdigest()[:8],\n\
            'time': int(time.time()), 'sum': sum(range(100000))}))\n";
    let output = interpret(
        "python-3.11.3.wasm",
        &["python", "-c", script],
        &[("PYTHONHOME", "/usr/local")],
        Image::from_tar(&library).unwrap(),
    );
    println!("{output}");
    assert!(output.contains(r#""version": [3, 11]"#) && output.contains(r#""note": "kept""#), "{output}");
    assert!(output.contains(r#""files": ["d", "usr"]"#) && output.contains("4999950000"), "{output}");
}

#[test]
#[ignore = "needs runno/php-cgi-8.2.0 in NONOS_CORPUS"]
fn interpreters_php() {
    let script = "<?php file_put_contents('/n', 'kept'); echo json_encode(['v' => PHP_VERSION, \
        'n' => file_get_contents('/n'), 's' => scandir('/'), 'sum' => array_sum(range(1, 1000))]), \"\\n\";";
    let image = Image::from_files([("main.php", script.as_bytes())]).unwrap();
    let output = interpret("php-cgi-8.2.0.wasm", &["php", "-q", "/main.php"], &[], image);
    println!("{output}");
    assert!(
        output.contains(r#""v":"8.2.0","n":"kept","s":[".","..","main.php","n"],"sum":500500"#),
        "{output}"
    );
}

#[test]
#[ignore = "needs runno/ruby-3.2.0 in NONOS_CORPUS"]
fn interpreters_ruby() {
    let script = "File.write('/n', 'kept'); puts [RUBY_VERSION, File.read('/n'), Dir.children('/').sort, (1..1000).sum].inspect";
    let output = interpret("ruby-3.2.0.wasm", &["ruby", "-e", script], &[], Image::default());
    println!("{output}");
    assert!(output.contains(r#"["3.2.0", "kept", ["n"], 500500]"#), "{output}");
}
