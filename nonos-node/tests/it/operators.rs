//! Trees of operators: published by anybody, named in the settings of those who go by them.

use std::time::Duration;

use nonos_node::{Config, Node, Request, Response, StartError, init};
use nonos_zk::Profile;

fn config(operator_roots: Vec<String>) -> Config {
    Config {
        network: "operators".into(),
        profile: Profile::Lite,
        operator_roots,
        allow_insecure_dev_keys: true,
        key_cache: Some(env!("CARGO_TARGET_TMPDIR").into()),
        ..Config::default()
    }
}

async fn start(folder: &std::path::Path, config: Config) -> Result<Node, StartError> {
    let identity = match init::exists(folder) {
        true => init::identity(folder, "a passphrase"),
        false => init::create(folder, "a passphrase", &config),
    };
    Node::builder(config, identity.expect("a fresh folder")).data_dir(folder).start().await
}

fn trees(response: Response) -> Vec<nonos_node::OperatorTreeView> {
    match response {
        Response::Operators { trees } => trees,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_one_is_published_listed_and_says_that_it_hides_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(folder.path(), config(Vec::new())).await.expect("starts");
    assert_eq!(trees(node.handle(Request::Operators).await), []);
    let published = trees(node.handle(Request::PublishOperators).await);
    let tree = &published[0];
    assert_eq!((tree.members, tree.publisher, tree.accepted), (1, node.id(), true));
    assert!(tree.hides.contains("nobody"), "{tree:?}");
    // It is on the list once the node's own check has passed it.
    let listed = async || loop {
        let listed = trees(node.handle(Request::Operators).await);
        if !listed.is_empty() {
            break listed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let patience = Duration::from_secs(20);
    assert_eq!(tokio::time::timeout(patience, listed()).await.expect("listed"), published);
    let root = tree.root.clone();
    node.stop().await;

    // Settings that name another root do not go by this one, and the record outlives a restart.
    for (named, accepted) in [(root.clone(), true), ("00".repeat(32), false)] {
        let node = start(folder.path(), config(vec![named])).await.expect("starts");
        let listed = trees(node.handle(Request::Operators).await);
        assert_eq!(listed.iter().map(|tree| tree.accepted).collect::<Vec<_>>(), [accepted]);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_none_stops_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = start(folder.path(), config(vec!["root".into()])).await.expect_err("no root");
    assert!(error.to_string().contains("operator_roots"), "{error}");
}
