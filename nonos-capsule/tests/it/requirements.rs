//! What a policy asks of payload and run beside limits: features of the processor, and walls.

use nonos_capsule::{
    CpuFeature, CpuFeatureSet, HostCall, Image, LoadError, MeshPolicy, Policy, Preopen, RunError, Wall,
    WallSet, replay,
};

use crate::support::{command, import, invocation, load, policy, run, run_wat, try_load, wasm};

const FLOAT: &str = "(drop (f32.add (f32.const 1) (f32.const 2)))";
const SIMD: &str = "(drop (v128.not (v128.const i64x2 1 2)))";
const BULK: &str = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 2))";
const FLOAT_IN_VECTORS: &str = "(drop (f32x4.add (v128.const i64x2 1 2) (v128.const i64x2 1 2)))";

fn features(features: &[CpuFeature]) -> CpuFeatureSet {
    features.iter().fold(CpuFeatureSet::EMPTY, |set, feature| set.with_if(*feature, true))
}

fn walled(wall: Wall) -> Policy {
    Policy { isolation: WallSet::EMPTY.with_if(wall, true), ..policy() }
}

#[test]
fn an_execution_tells_what_its_payload_asks_of_the_processor() {
    let told = |body: &str| run_wat(&command("", body), b"").cpu_features;
    assert_eq!(told(""), CpuFeatureSet::EMPTY);
    assert_eq!(told("(drop (f32.const 1))"), CpuFeatureSet::EMPTY, "a constant is no arithmetic");
    assert_eq!(told(FLOAT), features(&[CpuFeature::Float]));
    assert_eq!(told(SIMD), features(&[CpuFeature::Simd]));
    assert_eq!(told(BULK), features(&[CpuFeature::BulkMemory]));
    assert_eq!(told(FLOAT_IN_VECTORS), features(&[CpuFeature::Float, CpuFeature::Simd]));
    assert_eq!(told(&[FLOAT, SIMD, BULK].concat()), CpuFeatureSet::ALL);
    assert_ne!(told(FLOAT), told(SIMD));
}

#[test]
fn a_payload_that_asks_for_more_is_not_loaded() {
    for (body, feature) in
        [(FLOAT, CpuFeature::Float), (SIMD, CpuFeature::Simd), (BULK, CpuFeature::BulkMemory)]
    {
        let wasm = wasm(&command("", body));
        let allowed = |cpu_features| Policy { cpu_features, ..policy() };
        let all_others = CpuFeature::ALL.iter().copied().filter(|other| *other != feature);
        let others = features(&all_others.collect::<Vec<_>>());
        assert_eq!(try_load(&wasm, allowed(others)).unwrap_err(), LoadError::CpuFeature(feature));
        assert!(try_load(&wasm, allowed(features(&[feature]))).is_ok());
    }
}

#[test]
fn an_execution_tells_which_walls_stood() {
    let execution = run_wat(&command("", ""), b"");
    assert_eq!(execution.isolation, WallSet::ALL);

    let loaded = load(&command("", ""), policy());
    let mut with_files = invocation(b"");
    let image = Image::from_files([("a", b"b".to_vec())]).unwrap();
    with_files.preopens = vec![Preopen { path: "/".to_owned(), image }];
    let execution = run(&loaded, &with_files).unwrap();
    assert!(!execution.isolation.contains(Wall::Files));
    assert!(execution.isolation.contains(Wall::Mesh) && execution.isolation.contains(Wall::Libraries));

    // A call to the mesh, whatever came of it.
    let calls = "(drop (call $mesh_send (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))";
    let execution = run_wat(&command(&import(HostCall::MeshSend), calls), b"");
    assert!(!execution.isolation.contains(Wall::Mesh), "{:?}", execution.isolation);

    // What is told is part of the hash: nobody tells it otherwise later.
    let mut other = execution.clone();
    other.isolation = WallSet::ALL;
    assert_ne!(other.compute_hash(), execution.exec_hash);
    assert_eq!(execution.compute_hash(), execution.exec_hash);
}

#[test]
fn a_required_wall_takes_away_what_is_behind_it() {
    let loaded = load(&command("", ""), walled(Wall::Files));
    let mut with_files = invocation(b"");
    let plain = run(&loaded, &with_files).unwrap();
    let image = Image::from_files([("a", b"b".to_vec())]).unwrap();
    with_files.preopens = vec![Preopen { path: "/".to_owned(), image }];
    assert!(matches!(run(&loaded, &with_files), Err(RunError::Invocation(_))));
    assert!(replay(&loaded, &with_files, &plain).is_err());

    let talks = Policy {
        mesh: MeshPolicy { services: ["prices".to_owned()].into(), bytes_max: 1 << 16, messages_max: 4 },
        ..policy()
    };
    // Whoever of the two requires it.
    for narrowed in [talks.intersect(&walled(Wall::Mesh)), walled(Wall::Mesh).intersect(&talks)] {
        assert_eq!(narrowed.mesh, MeshPolicy::default());
        assert!(narrowed.isolation.contains(Wall::Mesh));
    }
    assert_eq!(talks.intersect(&talks).mesh, talks.mesh);
}

#[test]
fn names_and_bits_are_read_and_no_others() {
    let toml = "cpu_features = [\"float\"]\nisolation = [\"mesh\", \"files\"]\n";
    let read: Policy = toml::from_str(toml).unwrap();
    assert_eq!(read.cpu_features, features(&[CpuFeature::Float]));
    assert!(read.isolation.contains(Wall::Files) && !read.isolation.contains(Wall::Libraries));
    assert!(toml::from_str::<Policy>("cpu_features = [\"mmx\"]").is_err());
    assert_eq!(toml::from_str::<Policy>("").unwrap().cpu_features, CpuFeatureSet::ALL);

    let bytes = minicbor::to_vec(8_u64).unwrap();
    assert!(
        minicbor::decode::<CpuFeatureSet>(&bytes).is_err() && minicbor::decode::<WallSet>(&bytes).is_err()
    );
    let bytes = minicbor::to_vec(u64::MAX).unwrap();
    assert!(minicbor::decode::<CpuFeatureSet>(&bytes).is_err());
    let bytes = minicbor::to_vec(CpuFeatureSet::ALL).unwrap();
    assert_eq!(minicbor::decode::<CpuFeatureSet>(&bytes).unwrap(), CpuFeatureSet::ALL);
}
