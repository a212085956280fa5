//! Files that a capsule brings along as capsules of their own.

use nonos_capsule::testing::MemoryCapsuleStore;
use nonos_capsule::{
    Capsule, CapsuleStore as _, Dependency, HostCall, Kind, LoadError, Manifest, Resolved, SignaturePolicy,
    SignerRole, Status,
};

use crate::support::{
    DAY, NOW, author, command, import, invocation, network, policy, run, runtime, verified, wasm,
};

fn seal(manifest: Manifest, needs: Vec<Dependency>, payload: Vec<u8>) -> Capsule {
    let mut capsule = Capsule::pack_with(manifest, policy(), needs, payload).unwrap();
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
    capsule
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Opens `greeting` in the first preopened directory and copies it to standard output.
fn reader() -> Vec<u8> {
    let calls = [HostCall::PathOpen, HostCall::FdRead, HostCall::FdWrite, HostCall::ProcExit];
    let body = r#"
      (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 8) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))
        (then (call $proc_exit (i32.const 9))))
      (i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (i32.const 64))
      (drop (call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
      (i32.store (i32.const 12) (i32.load (i32.const 16)))
      (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))"#;
    let wat = command(&calls.map(import).concat(), body);
    wasm(&wat.replace("(func (export", r#"(data (i32.const 512) "greeting") (func (export"#))
}

fn load(image: &Capsule) -> Result<nonos_capsule::Loaded, LoadError> {
    let store = MemoryCapsuleStore::default();
    store.put(&verified(image.clone())).unwrap();
    let need = Dependency { name: "files".to_owned(), capsule: image.id(), mount: Some("/data".to_owned()) };
    let main = verified(seal(Manifest::new("reader", "1.0.0"), vec![need], reader()));
    assert!(matches!(runtime().load(&main, &policy()), Err(LoadError::Unresolved(1))));
    let resolved = Resolved::resolve(main, &store, &SignaturePolicy::new(network()), NOW).unwrap();
    runtime().load_resolved(&resolved, &policy())
}

fn image(payload: Vec<u8>) -> Capsule {
    seal(Manifest::dependency(Kind::Image, "greetings", "1.0.0"), Vec::new(), payload)
}

#[test]
fn the_files_of_an_image_are_there() {
    let loaded = load(&image(archive(&[("greeting", b"hello"), ("other", b"x")]))).unwrap();
    let execution = run(&loaded, &invocation(b"")).unwrap();
    assert_eq!((execution.status, &execution.output[..]), (Status::Exit(0), &b"hello"[..]));
    // The id of the capsule covers the image, so other files are another run from the start.
    let other = load(&image(archive(&[("greeting", b"hallo")]))).unwrap();
    let other = run(&other, &invocation(b"")).unwrap();
    assert_eq!(other.output, b"hallo");
    assert_ne!(execution.checkpoints[0], other.checkpoints[0]);
}

#[test]
fn what_is_no_plain_archive_is_refused() {
    let outside = {
        let mut bytes = archive(&[("aa/greeting", b"hello")]);
        bytes[..2].copy_from_slice(b"..");
        bytes
    };
    for payload in [b"\x1f\x8b\x08 compressed".to_vec(), vec![7; 2_000], outside, wasm("(module)")] {
        assert!(matches!(load(&image(payload)), Err(LoadError::Image { .. })));
    }
}

#[test]
fn an_image_does_not_run() {
    let image = verified(image(archive(&[])));
    assert!(matches!(runtime().load(&image, &policy()), Err(LoadError::Kind(Kind::Image))));
}
