//! `nonos capsule fields`, `disclose` and `open --opening`, as an author and a reader run them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::command::{json, refused, run};

const RECIPE: &str = r#"
[manifest]
name = "tool"
version = "1.0.0"

[[hidden]]
name = "licence"
value = "EUPL-1.2"
release = "public"

[[hidden]]
name = "customer"
value = "Example Ltd"
release = { peers = ["KEY"] }

[[hidden]]
name = "source"
value = "https://example.org/"
release = { after = 4000000000 }

[[hidden]]
name = "note"
value = "the second machine"
"#;

#[test]
fn fields_are_packed_listed_disclosed_and_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for node in ["alice", "bob", "carol"] {
        run(dir, &["init", "--data-dir", node, "--network", "lab"]);
    }
    let key = |node: &str| {
        let shown = json(dir, &["key", "open-receipt", "--show-key", "--data-dir", node]);
        shown["x25519"].as_str().expect("a key").to_owned()
    };
    fs::write(dir.join("tool.wat"), "(module (memory (export \"memory\") 1) (func (export \"_start\")))")
        .expect("written");
    fs::write(dir.join("capsule.toml"), RECIPE.replace("KEY", &key("bob"))).expect("written");
    json(dir, &["capsule", "pack", "tool.wat", "--recipe", "capsule.toml"]);
    let mode = fs::metadata(dir.join("tool.hidden")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    json(dir, &["capsule", "sign", "tool.mod", "--data-dir", "alice"]);

    // The author sees names; whoever has the capsule alone sees rules.
    let listed = json(dir, &["capsule", "fields", "tool.mod"]);
    assert_eq!(listed["fields"][1]["name"], "customer");
    fs::create_dir(dir.join("elsewhere")).expect("made");
    fs::copy(dir.join("tool.mod"), dir.join("elsewhere/tool.mod")).expect("copied");
    let listed = json(dir, &["capsule", "fields", "elsewhere/tool.mod"]);
    assert_eq!(
        (&listed["fields"][1]["name"], &listed["fields"][0]["release"]),
        (&Value::Null, &"public".into())
    );
    assert_eq!(listed["fields"][2]["release"]["after"], 4_000_000_000_u64);
    let text = run(dir, &["capsule", "fields", "elsewhere/tool.mod"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("field 1  the holders of 1 keys, sealed to them"));

    let shown = json(dir, &["capsule", "disclose", "tool.mod", "--data-dir", "alice"]);
    assert_eq!(shown["shown"], serde_json::json!([0, 1, 2]), "the author's own field is not kept");
    assert!(
        refused(dir, &["capsule", "disclose", "tool.mod", "--data-dir", "nobody"]).contains("--data-dir")
    );
    let away = ["capsule", "disclose", "elsewhere/tool.mod", "--data-dir", "alice"];
    assert!(refused(dir, &away).contains("--secret"));

    let write = |field: &str, file: &str, more: &[&str]| {
        let args = ["capsule", "disclose", "tool.mod", "--field", field, "--output", file];
        [&args[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let made = |args: Vec<String>| json(dir, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(made(write("customer", "customer.opening", &[]))["sealed"], true);
    assert_eq!(made(write("0", "licence.opening", &[]))["sealed"], false);
    assert_eq!(made(write("note", "note.opening", &["--to", &key("carol")]))["sealed"], true);
    for field in ["note", "source"] {
        let args = write(field, "x.opening", &[]);
        assert!(refused(dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).contains("--plain"));
    }
    assert_eq!(made(write("source", "source.opening", &["--plain"]))["sealed"], false);

    let open = |file: &str, node: &str| {
        let args = ["capsule", "open", "tool.mod", "--opening", file, "--network", "lab", "--data-dir", node];
        let output = run(dir, &[&args[..], &["--json"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), report["fields"][0]["value"].clone(), output)
    };
    assert_eq!(open("licence.opening", "carol").1, "EUPL-1.2");
    assert_eq!(open("customer.opening", "bob").1, "Example Ltd");
    assert_eq!(open("note.opening", "carol").1, "the second machine");
    assert_eq!(open("source.opening", "carol").1, "https://example.org/");
    let (code, value, _) = open("customer.opening", "carol");
    assert_eq!((code, value), (Some(1), Value::Null), "sealed to bob");

    // A node that carries what it got; what the rules do not allow, it does not take.
    let carry = |file| ["capsule", "disclose", "tool.mod", "--carry", file, "--data-dir", "carol"];
    json(dir, &carry("licence.opening"));
    assert_eq!(json(dir, &carry("customer.opening"))["shown"], serde_json::json!([0, 1]));
    assert!(refused(dir, &carry("note.opening")).contains("rule"));

    // A byte of a name or value that changes makes a forgery.
    let mut bytes = fs::read(dir.join("licence.opening")).expect("there");
    let at = bytes.windows(4).position(|part| part == b"EUPL").expect("plain");
    bytes[at] = b'F';
    fs::write(dir.join("licence.opening"), bytes).expect("written");
    let (code, _, output) = open("licence.opening", "carol");
    assert_eq!(code, Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("does not fit the signed manifest"),
        "{output:?}"
    );
    fs::write(dir.join("licence.opening"), vec![0; 100_000]).expect("written");
    assert!(String::from_utf8_lossy(&open("licence.opening", "carol").2.stderr).contains("an opening"));

    // A capsule that is packed again has other salts: the old file opens nothing of it.
    let old = fs::read(dir.join("tool.hidden")).expect("there");
    json(dir, &["capsule", "pack", "tool.wat", "--recipe", "capsule.toml"]);
    fs::write(dir.join("tool.hidden"), old).expect("written");
    let stale = ["capsule", "disclose", "tool.mod", "--data-dir", "alice"];
    assert!(refused(dir, &stale).contains("another packing"));
}
