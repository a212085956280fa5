"""Holds a report of `nonos demo --json` against what its run must show."""
import json
import sys

expectation, path = sys.argv[1:3]
report = json.load(open(path))
nodes = [node["name"] for node in report["nodes"]]
publisher, executor = nodes[0], nodes[1]


def settled():
    assert report["digests_converged"] is True
    assert report["ledger"]["sum"] == 0 == sum(report["ledger"]["balances"].values())
    assert report["ledger"]["chain_ok"] is True
    assert report["elapsed_ms"]["total"] < 120_000


def circuits():
    assert report["circuits"], "no circuits"
    for circuit in report["circuits"]:
        assert circuit["hops"] == 3 == len(set(circuit["relays"])), circuit
        assert not {publisher, circuit["owner"]} & set(circuit["relays"]), circuit
        assert circuit["destination"] not in circuit["relays"], circuit


def worked():
    settled()
    circuits()
    for field in ("capsule_id", "exec_hash", "output", "gas", "checkpoints"):
        assert report[field] not in (None, ""), field
    receipt = report["receipt"]
    gates = report["gates"]
    assert set(gates) == {"hash", "state", "identity"}, gates
    proven = {gate for gate, view in gates.items() if view["proven"]}
    of_profile = {"full": {"hash", "state", "identity"}, "lite": {"state", "identity"}}
    assert proven == of_profile[receipt["profile"]], (receipt["profile"], gates)
    assert all((view["constraints"] > 0) == (gate in proven) for gate, view in gates.items()), gates
    assert receipt["profile"] and receipt["proof_bytes"] > 0 and receipt["prove_ms"] >= 0
    assert len(receipt["nullifier"]) == 64
    assert len(report["verified_by"]) >= len(nodes) - 2
    trust = report["trust"][publisher][executor]
    assert trust["after"] > trust["before"], trust
    assert any(report["ledger"]["balances"].values()), "no fee was posted"
    assert not report["refused"], report["refused"]


def refused(culprit, check):
    settled()
    honest = set(nodes) - {culprit}
    assert {r["by"] for r in report["refused"]} == honest, report["refused"]
    assert {r["check"] for r in report["refused"]} == {check}, report["refused"]
    assert {r["culprit"] for r in report["refused"]} == {culprit}
    for observer in honest:
        trust = report["trust"][observer][culprit]
        assert trust["after"] < trust["before"], (observer, trust)
    assert not any(report["ledger"]["balances"].values()), "a fee was posted"


if expectation in ("whole", "lite"):
    worked()
    assert report["receipt"]["profile"] == ("lite" if expectation == "lite" else "full")
elif expectation == "killed":
    worked()
    assert report["killed"] in nodes and report["rebuilt"], report["rebuilt"]
elif expectation == "failed":
    assert sys.argv[3] in report["error"], report["error"]
    assert all(node["alive"] for node in report["nodes"])
elif expectation == "tamper-payload":
    refused(publisher, "chunk_proof")
elif expectation == "tamper-proof":
    refused(executor, "proof")
elif expectation == "tamper-nonce":
    refused(executor, "nonce")
elif expectation == "tamper-identity":
    refused(executor, "identity")
else:
    sys.exit(f"no such expectation: {expectation}")
