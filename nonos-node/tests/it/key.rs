//! `nonos key`, as an operator runs it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command;

fn key<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["key"], args].concat()
}

fn nonos(dir: &Path, args: &[&str]) -> Command {
    command::nonos(dir, &key(args))
}

fn json(dir: &Path, args: &[&str]) -> Value {
    command::json(dir, &key(args))
}

fn refused(dir: &Path, args: &[&str]) -> String {
    command::refused(dir, &key(args))
}

fn ids(slots: &Value) -> Vec<String> {
    let slots = slots.as_array().expect("slots");
    slots.iter().map(|slot| slot["id"].as_str().expect("id").to_owned()).collect()
}

#[test]
fn slots_come_and_go_and_the_node_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let node = json(dir, &["init"])["node"].clone();
    assert!(refused(dir, &["init"]).contains("stored here already"));
    let phrase = ["--with", "phrase", "--phrase-file", "words.txt"];
    let added = json(dir, &["slots", "add", "phrase", "--label", "paper", "--phrase-out", "words.txt"]);
    let words = fs::read_to_string(dir.join("words.txt")).expect("words");
    assert_eq!(words.split_whitespace().count(), 24);
    json(dir, &["slots", "add", "recovery-key", "--recovery-key-out", "safe.key"]);
    json(dir, &["slots", "add", "passphrase"]);

    let listed = json(dir, &["slots", "list"]);
    let kinds: Vec<_> = listed.as_array().expect("slots").iter().map(|slot| slot["kind"].clone()).collect();
    assert_eq!(kinds, ["passphrase", "recovery-phrase", "recovery-key", "passphrase"]);
    assert_eq!(listed[1]["label"], "paper");
    assert_eq!(listed[1]["id"], added["added"]);
    let shown = json(dir, &[&["show"], &phrase[..]].concat());
    assert_eq!((&shown["node"], &shown["keys"]["root-sign"]), (&node, &node));
    assert_eq!(shown["generation"], 3);
    assert!(shown["onion_address"].as_str().is_some_and(|address| address.len() > 50));
    let by_key = json(dir, &["show", "--with", "recovery-key", "--recovery-key-file", "safe.key"]);
    assert_eq!(by_key["node"], node);

    // Every secret went to a file of its owner.
    for file in ["words.txt", "safe.key"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(dir.join(file)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(refused(dir, &["slots", "add", "phrase", "--phrase-out", "words.txt"]).contains("not replaced"));
    assert!(refused(dir, &["slots", "add", "phrase", "--json"]).contains("--phrase-out"));

    let [first, paper, safe, second] = &ids(&listed)[..] else { panic!("{listed}") };
    let renewed = json(dir, &[&["slots", "rewrap", first, "passphrase"], &phrase[..]].concat());
    json(dir, &[&["slots", "remove", second], &phrase[..]].concat());
    json(dir, &[&["slots", "remove", safe], &phrase[..]].concat());
    let wrong = refused(dir, &["show"]);
    assert!(wrong.contains("wrong passphrase") && wrong.contains("nonos key slots list"), "{wrong}");
    let renewed = renewed["renewed"].as_str().expect("id");
    json(dir, &[&["slots", "remove", renewed], &phrase[..]].concat());
    let last = refused(dir, &[&["slots", "remove", paper], &phrase[..]].concat());
    assert!(last.contains("the keys would be lost"), "{last}");
}

#[test]
fn a_backup_comes_back_and_replaces_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let node = json(dir, &["init"])["node"].clone();
    let paper = json(dir, &["slots", "add", "phrase", "--phrase-out", "words.txt"])["added"].clone();
    assert_eq!(json(dir, &["backup", "whole.nnks"])["node"], node);
    let safe = json(dir, &["backup", "safe.nnks", "--slot", paper.as_str().expect("id")]);
    assert_eq!(ids(&safe["slots"]).len(), 1);
    assert!(refused(dir, &["backup", "safe.nnks"]).contains("not replaced"));

    assert_eq!(json(dir, &["restore", "whole.nnks", "--data-dir", "one"])["node"], node);
    assert!(refused(dir, &["restore", "whole.nnks", "--data-dir", "one"]).contains("never replaced"));
    assert!(refused(dir, &["restore", "safe.nnks", "--data-dir", "two"]).contains("no passphrase slot"));
    assert!(!dir.join("two").exists(), "nothing is made from what does not open");
    let phrase = ["--with", "phrase", "--phrase-file", "words.txt"];
    let restored = json(dir, &[&["restore", "safe.nnks", "--data-dir", "two"], &phrase[..]].concat());
    assert_eq!(restored["node"], node);
    fs::write(dir.join("bad.nnks"), b"NNKS").expect("write");
    assert!(refused(dir, &["restore", "bad.nnks", "--data-dir", "three"]).contains("malformed"));
}

#[test]
fn an_older_copy_is_named_where_an_anchor_remembers() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    json(dir, &["init"]);
    let anchored = ["--anchor", "anchor"];
    assert!(refused(dir, &[&["show"], &anchored[..]].concat()).contains("--start-anchor"));
    json(dir, &[&["show", "--start-anchor"], &anchored[..]].concat());
    let path = dir.join("nonos-data/identity.nnks");
    let old = fs::read(&path).expect("keystore");
    json(dir, &[&["slots", "add", "passphrase"], &anchored[..]].concat());
    json(dir, &[&["show"], &anchored[..]].concat());
    fs::write(&path, old).expect("put back");
    let older = refused(dir, &[&["show"], &anchored[..]].concat());
    assert!(older.contains("older copy"), "{older}");
    json(dir, &["show"]);
}

#[test]
fn words_are_asked_back_before_they_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    json(dir, &["init"]);
    for knows_them in [false, true] {
        let mut command = nonos(dir, &["slots", "add", "phrase"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut process = command.spawn().expect("runs");
        let mut words = Vec::new();
        let mut asked = Vec::new();
        for line in BufReader::new(process.stderr.take().expect("piped")).lines() {
            let line = line.expect("text");
            let mut fields = line.split_whitespace();
            match (fields.next(), fields.next(), fields.next()) {
                (Some(at), Some(word), None) if at == (words.len() + 1).to_string() => {
                    words.push(word.to_owned())
                }
                (Some("type"), ..) => {
                    let numbers = line.split(|letter: char| !letter.is_ascii_digit());
                    asked.extend(numbers.filter_map(|number| number.parse::<usize>().ok()));
                    break;
                }
                _ => {}
            }
        }
        assert_eq!((words.len(), asked.len()), (24, 3));
        let mut answer: Vec<_> = asked.iter().map(|number| words[number - 1].clone()).collect();
        if !knows_them {
            answer[1] = "nonos".into();
        }
        let mut stdin = process.stdin.take().expect("piped");
        writeln!(stdin, "{}", answer.join(" ")).expect("written");
        drop(stdin);
        assert_eq!(process.wait().expect("ends").success(), knows_them);
        let slots = json(dir, &["slots", "list"]);
        assert_eq!(ids(&slots).len(), if knows_them { 2 } else { 1 });
    }
}
