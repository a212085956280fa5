//! Hidden fields and disclosures between real nodes on loopback.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::HEXLOWER;
use nonos_capsule::{
    Capsule, CapsuleId, Field, FieldOpening, HiddenFields, Manifest, Policy, Recipient, Release,
};
use nonos_identity::wire;
use nonos_identity::{Digest, Identity, NetworkId, StaticSecret, Timestamp, WideDigest};
use nonos_node::openings::{self, Kept, OpeningFile, Openings, Reading, Shown};
use nonos_node::records::Disclosure;
use nonos_node::{Config, Event, FieldView, Node, Request, Response, Roles, init, pack};
use nonos_zk::Profile;

const NETWORK: &str = "nonos-openings";

/// The publisher, a stranger, a peer that the rules name, and the relays between any two of them.
const NODES: usize = 6;
const PUBLISHER: usize = 0;
const STRANGER: usize = 1;
const PEER: usize = 2;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    Timestamp::from_secs(since.as_secs())
}

struct Mesh {
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
    keys: Vec<StaticSecret>,
    author: Identity,
}

impl Mesh {
    /// Nodes that know each other; the peer may be an executor, with the stranger as its auditor.
    async fn start(has_executor: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut nodes, mut keys, mut author) = (Vec::new(), Vec::new(), None);
        for index in 0..NODES {
            let is_executor = index == PEER && has_executor;
            let auditor = keys.get(STRANGER).filter(|_| is_executor);
            let config = Config {
                network: NETWORK.into(),
                roles: Roles { executor: is_executor, ..Roles::default() },
                auditors: auditor
                    .map(|key| HEXLOWER.encode(&StaticSecret::public(key)))
                    .into_iter()
                    .collect(),
                operator: format!("operator-{index}"),
                sync_interval_secs: 1,
                beacon_min_ms: 250,
                allow_insecure_dev_keys: true,
                profile: Profile::Lite,
                key_cache: Some(env!("CARGO_TARGET_TMPDIR").into()),
                ..Config::default()
            };
            let data_dir = dir.path().join(index.to_string());
            let identity = init::create(&data_dir, "a passphrase", &config).expect("a fresh directory");
            keys.push(identity.static_secret(0));
            if index == PUBLISHER {
                author = Some(init::identity(&data_dir, "a passphrase").expect("just made"));
            }
            let node = Node::builder(config, identity).data_dir(&data_dir).serve_control(true).start().await;
            nodes.push(node.expect("a node starts"));
        }
        let mesh = Self { dir, nodes, keys, author: author.expect("the publisher") };
        let Response::Ticket { ticket } = mesh.ask(0, Request::Ticket).await else { panic!("no ticket") };
        for index in 1..NODES {
            mesh.ask(index, Request::Join { ticket: ticket.clone() }).await;
        }
        mesh.until("all to know all", async |mesh| {
            for index in 0..NODES {
                let Response::Status(status) = mesh.ask(index, Request::Status).await else { return false };
                let known = [status.links.len(), status.relays, status.enrolled - 1];
                if known.iter().any(|count| *count < NODES - 1) {
                    return false;
                }
            }
            true
        })
        .await;
        mesh
    }

    fn node(&self, index: usize) -> &Node {
        self.nodes.get(index).expect("a node of the mesh")
    }

    fn data_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(index.to_string())
    }

    async fn ask(&self, index: usize, request: Request) -> Response {
        self.node(index).handle(request).await
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self).await {
            let is_late = begin.elapsed() > Duration::from_secs(90);
            assert!(!is_late, "waited in vain for {what}: {:?}", self.failures());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Packs, signs and publishes a capsule with these fields; all nodes have its head afterwards.
    async fn publish(&self, name: &str, fields: &HiddenFields) -> CapsuleId {
        self.publish_as(Manifest::new(name, "0.1.0"), fields).await
    }

    async fn publish_as(&self, mut manifest: Manifest, fields: &HiddenFields) -> CapsuleId {
        let file = self.dir.path().join(format!("{}.mod", manifest.name));
        manifest.hidden = Some(fields.commit().expect("within the rules"));
        let capsule = capsule(manifest, &self.author);
        std::fs::write(&file, capsule.to_bytes()).expect("written");
        openings::write_secret(&openings::secret_path(&file), fields).expect("written");
        let input = self.dir.path().join("input");
        std::fs::write(&input, b"input").expect("written");
        let published = self.ask(PUBLISHER, Request::Publish { capsule: file, input }).await;
        assert!(matches!(published, Response::Published { .. }), "{published:?}");
        let id = *capsule.id().as_digest();
        self.until("all to see the job", async |mesh| {
            let seen = |event: &Event| matches!(event, Event::JobSeen { capsule, .. } if *capsule == id);
            mesh.nodes.iter().skip(1).all(|node| node.events().since(0).iter().any(|it| seen(&it.event)))
        })
        .await;
        capsule.id()
    }

    /// What a node learns of these fields, from whom it takes for the publisher.
    async fn fields(&self, index: usize, capsule: &CapsuleId, fields: &[u8]) -> Vec<FieldView> {
        match self.ask(index, fields_of(capsule, fields)).await {
            Response::Fields { from, fields, .. } => {
                assert_eq!(from, self.node(PUBLISHER).id());
                fields
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the nodes could not do.
    fn failures(&self) -> Vec<Event> {
        let all = self.nodes.iter().flat_map(|node| node.events().since(0)).map(|entry| entry.event);
        all.filter(|event| matches!(event, Event::Failed { .. } | Event::Refused { .. })).collect()
    }

    fn refusals(&self, index: usize) -> Vec<(String, String)> {
        let entries = self.node(index).events().since(0);
        let refused = entries.into_iter().filter_map(|entry| match entry.event {
            Event::Refused { what, check, from } if from == self.node(PUBLISHER).id() => Some((what, check)),
            _ => None,
        });
        refused.collect()
    }

    async fn score(&self, index: usize) -> u32 {
        let Response::Books(books) = self.ask(index, Request::Books).await else { panic!("no books") };
        books.trust.get(&self.node(PUBLISHER).id()).map_or(0, |trust| trust.permille)
    }
}

fn fields_of(capsule: &CapsuleId, fields: &[u8]) -> Request {
    Request::Fields { capsule: *capsule.as_digest(), fields: fields.to_vec(), from: None }
}

fn capsule(manifest: Manifest, author: &Identity) -> Capsule {
    let wasm = pack::to_wasm(WAT.as_bytes());
    let mut capsule = Capsule::pack(manifest, Policy::default(), wasm.expect("text")).expect("a capsule");
    pack::sign(&mut capsule, author, NETWORK, now()).expect("room for a signature");
    capsule
}

/// Counts to a hundred thousand: a run for nothing would pay nothing.
const WAT: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (local i32)
    (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100000))))))"#;

fn field(name: &str, release: Release) -> Field {
    Field { name: name.into(), value: format!("value of {name}"), release }
}

fn hidden_fields(fields: Vec<Field>) -> HiddenFields {
    HiddenFields::new([7; 32], fields).expect("within the rules")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// The name and value of an opened field.
fn opened(view: &FieldView) -> (&str, &str) {
    match view {
        FieldView::Opened { name, value, .. } => (name, value),
        other => panic!("{other:?}"),
    }
}

fn opening_file(view: &FieldView) -> OpeningFile {
    let (FieldView::Opened { opening, .. } | FieldView::Sealed { opening, .. }) = view else {
        panic!("{view:?}")
    };
    wire::from_bytes(&HEXLOWER.decode(opening.as_bytes()).expect("hex")).expect("a file")
}

#[test]
fn each_reader_learns_what_the_rules_allow_when_they_allow_it() {
    runtime().block_on(async {
        let mesh = Mesh::start(false).await;
        let after = |secs| Timestamp::from_secs(now().as_secs() + secs);
        // One of these comes soon after the first question, however slow the machine is.
        let times = [8, 16, 32, 64].map(after);
        let fields = hidden_fields(vec![
            field("licence", Release::Public),
            field("customer", Release::Peers(vec![Recipient::from_bytes(mesh.keys[PEER].public())])),
            field("note", Release::Author),
            field("source", Release::After(after(86_400))),
            field("price", Release::After(times[0])),
            field("price", Release::After(times[1])),
            field("price", Release::After(times[2])),
            field("price", Release::After(times[3])),
        ]);
        let id = mesh.publish("tool", &fields).await;

        let peer = mesh.fields(PEER, &id, &[]).await;
        assert_eq!(peer.len(), 7, "without places, all that somebody but the author may see");
        assert_eq!(opened(&peer[0]), ("licence", "value of licence"));
        assert_eq!(opened(&peer[1]), ("customer", "value of customer"));
        assert_eq!(peer[2], FieldView::Withheld { field: 3 });

        // A stranger gets the same box, which nobody but the peer opens.
        let stranger = mesh.fields(STRANGER, &id, &[0, 1, 2]).await;
        assert_eq!(opened(&stranger[0]), ("licence", "value of licence"));
        assert!(matches!(stranger[1], FieldView::Sealed { field: 1, .. }), "{stranger:?}");
        assert_eq!(stranger[2], FieldView::Withheld { field: 2 });
        let OpeningFile { capsule: of, shown, .. } = opening_file(&stranger[1]);
        assert_eq!(of, id);
        let hidden = fields.commit().expect("valid");
        for index in 0..NODES {
            let reading = openings::open(&shown, &id, &hidden, 1, &mesh.keys[index]);
            assert_eq!(matches!(reading, Ok(Reading::Opened(_))), index == PEER, "{index}: {reading:?}");
        }

        let asked = now();
        let views = mesh.fields(PEER, &id, &[4, 5, 6, 7]).await;
        let withheld = |view: &FieldView| matches!(view, FieldView::Withheld { .. });
        for (view, time) in views.iter().zip(times) {
            assert!(if withheld(view) { asked < time } else { now() >= time }, "{view:?} of {time}");
        }
        let next = views.iter().position(withheld).expect("the machine was too slow for this test");
        mesh.until("the time to come", async |_| now() >= times[next]).await;
        for index in [PEER, STRANGER] {
            let place = u8::try_from(next + 4).expect("small");
            let views = mesh.fields(index, &id, &[place, 3]).await;
            assert_eq!(opened(&views[0]), ("price", "value of price"));
            assert_eq!(views[1], FieldView::Withheld { field: 3 });
        }
        assert!(mesh.refusals(PEER).is_empty() && mesh.refusals(STRANGER).is_empty());

        // The stranger shows what it was given to whoever asks it, sealed as it is.
        let mut carried = Openings { capsule: id, fields: Vec::new() };
        for view in &stranger[..2] {
            carried.insert(&hidden, opening_file(view)).expect("as the rules say");
        }
        carried.save(&mesh.data_dir(STRANGER)).expect("kept");
        let from = mesh.node(STRANGER).id();
        let request = Request::Fields { capsule: *id.as_digest(), fields: vec![0, 1, 4], from: Some(from) };
        let Response::Fields { fields: views, .. } = mesh.ask(PEER, request).await else {
            panic!("no answer")
        };
        assert_eq!(opened(&views[1]), ("customer", "value of customer"));
        assert_eq!(views[2], FieldView::Withheld { field: 4 });

        // As an operator asks: through the running node, by the capsule's file.
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nonos"));
        command.current_dir(mesh.dir.path()).args(["capsule", "open", "tool.mod", "1", "2", "--json"]);
        let output = command.arg("--data-dir").arg(mesh.data_dir(PEER)).output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["from"], mesh.node(PUBLISHER).id().to_string());
        assert_eq!(report["fields"][0]["value"], "value of customer");
        assert_eq!(report["fields"][1]["state"], "withheld");

        for (request, reason) in [
            (fields_of(&id, &[64]), "no hidden field 64"),
            (fields_of(&CapsuleId::from_digest(WideDigest::of_bytes(b"other")), &[]), "not known here"),
        ] {
            let response = mesh.ask(PEER, request).await;
            assert!(
                matches!(&response, Response::Error { message } if message.contains(reason)),
                "{response:?}"
            );
        }
    });
}

/// A payload whose digest the manifest hides is for the holders of one field. Their receipts hold for
/// everybody, and nobody else gets a chunk.
#[test]
fn a_hidden_payload_goes_to_those_who_are_permitted_and_is_proven_to_all() {
    runtime().block_on(async {
        let mesh = Mesh::start(true).await;
        let permitted = Release::Peers(vec![Recipient::from_bytes(mesh.keys[PEER].public())]);
        // Another field is no permit, though everybody may open it.
        let fields =
            hidden_fields(vec![field("licence", Release::Public), field(Manifest::PERMIT_FIELD, permitted)]);
        let mut manifest = Manifest::new("tool", "0.1.0");
        manifest.payload = manifest.payload.hidden();
        let id = mesh.publish_as(manifest, &fields).await;

        let capsule = *id.as_digest();
        assert!(matches!(mesh.ask(STRANGER, Request::Fetch { capsule }).await, Response::Done));
        mesh.until("the stranger to be refused", async |mesh| {
            let refused = |event: &Event| {
                matches!(event, Event::Failed { reason, .. } if reason.contains("not among them"))
            };
            mesh.node(STRANGER).events().since(0).iter().any(|it| refused(&it.event))
        })
        .await;
        mesh.until("all to verify the receipt of the peer", async |mesh| {
            let verified = |event: &Event| matches!(event, Event::ReceiptVerified { .. });
            mesh.nodes.iter().all(|node| node.events().since(0).iter().any(|it| verified(&it.event)))
        })
        .await;
        let fetched = |index: usize| {
            let got = |event: &Event| matches!(event, Event::ChunkFetched { .. });
            mesh.node(index).events().since(0).iter().any(|it| got(&it.event))
        };
        assert!(fetched(PEER) && !fetched(STRANGER));

        // What the mesh has of it leads to the digest for none of the others.
        let payload = pack::to_wasm(WAT.as_bytes()).expect("text");
        let digest = WideDigest::of_bytes(&payload);
        for (index, holds_it) in [(PUBLISHER, true), (STRANGER, false), (PEER, true), (3, false)] {
            let found = files_below(&mesh.data_dir(index)).iter().any(|bytes| {
                let has = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
                has(digest.as_bytes()) || has(&payload)
            });
            assert_eq!(found, holds_it, "node {index}");
        }
    });
}

/// The contents of all files of a directory.
fn files_below(dir: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        // A socket is no file.
        false => std::fs::read(path).into_iter().collect(),
    };
    entries.flat_map(read).collect()
}

/// The payer carries what the executor discloses; the executor does not say that it ran.
#[test]
fn an_auditor_fetches_a_disclosure_from_the_payer_and_learns_who_ran() {
    runtime().block_on(async {
        let mesh = Mesh::start(true).await;
        let fields = hidden_fields(vec![field("licence", Release::Public)]);
        mesh.publish("tool", &fields).await;
        let (executor, network) = (mesh.node(PEER).id(), NetworkId::from_name(NETWORK));
        mesh.until("the fee to be posted on both sides", async |mesh| {
            let paid = |event: &Event| matches!(event, Event::Posted { code, .. } if code == "execution");
            [PUBLISHER, PEER]
                .iter()
                .all(|at| mesh.node(*at).events().since(0).iter().any(|it| paid(&it.event)))
        })
        .await;
        let events = mesh.node(PEER).events().since(0);
        let receipt = events.iter().find_map(|entry| match &entry.event {
            Event::Proved { nullifier, .. } => Some(*nullifier),
            _ => None,
        });
        let receipt = receipt.expect("a proof");
        mesh.until("the auditor to have the receipt", async |mesh| {
            let seen = |event: &Event| matches!(event, Event::ReceiptVerified { .. });
            mesh.node(STRANGER).events().since(0).iter().any(|it| seen(&it.event))
        })
        .await;

        let mut fetched = None;
        let request = Request::Disclosure { receipt, from: None };
        mesh.until("the payer to carry the disclosure", async |mesh| {
            match mesh.ask(STRANGER, request.clone()).await {
                Response::Disclosure { from, disclosure } => {
                    assert_eq!(from, mesh.node(PUBLISHER).id());
                    fetched = Some(HEXLOWER.decode(disclosure.as_bytes()).expect("hex"));
                    true
                }
                _ => false,
            }
        })
        .await;
        let disclosure: Disclosure = wire::from_bytes(&fetched.expect("fetched")).expect("canonical");
        let (body, opening) = disclosure.open(&mesh.keys[STRANGER], &network, None).expect("an auditor");
        assert_eq!(opening.run.node, executor);
        assert_eq!(body.publisher, mesh.node(PUBLISHER).id());
        assert!(disclosure.open(&mesh.keys[3], &network, None).is_err(), "for auditors alone");
        assert_eq!(disclosure.opening.recipients(), 8, "the number of auditors names nobody");

        let other = Digest::of_bytes(b"another receipt");
        for (receipt, from) in [(receipt, executor), (other, mesh.node(PUBLISHER).id())] {
            let response = mesh.ask(STRANGER, Request::Disclosure { receipt, from: Some(from) }).await;
            let withheld =
                matches!(&response, Response::Error { message } if message.contains("does not show it"));
            assert!(withheld, "{response:?}");
        }

        // What the payer carries under another receipt's name is refused, and it is named.
        let carried = mesh.data_dir(PUBLISHER).join("carried");
        let file = |receipt: &Digest| carried.join(format!("{receipt}.disclosure"));
        std::fs::copy(file(&receipt), file(&other)).expect("copied");
        let from = Some(mesh.node(PUBLISHER).id());
        let response = mesh.ask(STRANGER, Request::Disclosure { receipt: other, from }).await;
        assert!(
            matches!(&response, Response::Error { message } if message.contains("forged")),
            "{response:?}"
        );
        assert_eq!(mesh.refusals(STRANGER), [("disclosure".to_owned(), "receipt".to_owned())]);
    });
}

#[test]
fn a_forged_opening_is_refused_and_its_sender_named() {
    runtime().block_on(async {
        let mesh = Mesh::start(false).await;
        let peers = || Release::Peers(vec![Recipient::from_bytes(mesh.keys[PEER].public())]);
        let fields = hidden_fields(vec![field("licence", Release::Public), field("customer", peers())]);
        let id = mesh.publish("tool", &fields).await;
        let other = hidden_fields(vec![field("permit", Release::Public), field("client", peers())]);
        let elsewhere = mesh.publish("other", &other).await;
        let me = mesh.node(PUBLISHER).id().to_string();

        let show = |kept: Vec<(u8, Shown)>| {
            let kept = kept.into_iter().map(|(field, shown)| Kept { field, from: now(), shown });
            let openings = Openings { capsule: id, fields: kept.collect() };
            openings.save(&mesh.data_dir(PUBLISHER)).expect("written");
        };
        let seal = |opening: &FieldOpening| {
            let to = [Recipient::from_bytes(mesh.keys[PEER].public())];
            openings::seal(opening, &id, &to).expect("a key")
        };
        let mut altered = fields.open(0).expect("a field");
        altered.value = "another licence".into();
        let mut sealed = fields.open(1).expect("a field");
        sealed.value = "another customer".into();

        let mut trust = mesh.score(PEER).await;
        // Its value, its place, and its capsule: each lie is one about what the author signed.
        let lies = [
            (0, Shown::Plain(altered), "hidden_commitment"),
            (0, Shown::Plain(fields.open(1).expect("a field")), "hidden_commitment"),
            (0, Shown::Plain(other.open(0).expect("a field")), "hidden_commitment"),
            (1, seal(&sealed), "sealed_opening"),
            (1, seal(&other.open(1).expect("a field")), "sealed_opening"),
        ];
        for (told, (place, lie, check)) in lies.into_iter().enumerate() {
            show(vec![(place, lie)]);
            let response = mesh.ask(PEER, fields_of(&id, &[place])).await;
            let Response::Error { message } = &response else { panic!("{response:?}") };
            assert!(message.contains(&me) && message.contains("forged"), "{message}");
            let refusals = mesh.refusals(PEER);
            assert_eq!(refusals.len(), told + 1);
            assert_eq!(refusals.last(), Some(&("opening".to_owned(), check.to_owned())));
            // Who carries a box cannot look into it, and pays for what everybody can see alone.
            let score = mesh.score(PEER).await;
            assert_eq!(score < trust, check == "hidden_commitment", "{score} after {trust}");
            trust = score;
        }
        // Fields of another packing, left beside the capsule, are not published with it.
        let again = HiddenFields::new([8; 32], fields.fields().to_vec()).expect("within the rules");
        let file = mesh.dir.path().join("tool.mod");
        openings::write_secret(&openings::secret_path(&file), &again).expect("written");
        let input = mesh.dir.path().join("input");
        let response = mesh.ask(PUBLISHER, Request::Publish { capsule: file, input }).await;
        assert!(matches!(&response, Response::Error { message } if message.contains("packed with another")));

        // The other capsule's fields are what they were.
        assert_eq!(opened(&mesh.fields(PEER, &elsewhere, &[0]).await[0]).0, "permit");
    });
}
